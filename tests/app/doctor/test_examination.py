"""`thaw doctor` as a whole, by its command."""

import json
import sys

import pytest

from app.doctor import device, examination
from app.doctor.findings import error, warning, well

ABOUT = {"versions", "device", "backbones", "folders", "database", "jobs", "artifacts", "server"}


@pytest.fixture(scope="module")
def house(make_house, draw_shapes):
    house = make_house()
    house.settings["THAW_BACKBONES"] = "tiny_net:backbone,tiny_net:wide"
    draw_shapes(house.data / "shapes", train=2, val=2)
    return house


def _examine(house, *options):
    done = house.run(sys.executable, "-m", "client", "doctor", *options)
    assert "Traceback" not in done.stderr
    return done


def _levels(findings):
    return {(finding["about"], finding["level"]) for finding in findings if finding["level"] != "ok"}


def test_a_thaw_that_works_is_healthy(house):
    house.serve()
    house.work()
    done = _examine(house, "--json")
    said = json.loads(done.stdout)
    assert {finding["about"] for finding in said["findings"]} == ABOUT
    # SQLite's version and the disk's room are the machine's.
    assert _levels(said["findings"]) <= {("versions", "warning"), ("folders", "warning")}
    assert (said["healthy"], done.returncode) == (True, 0)


def test_what_is_wrong_is_told_with_what_mends_it_and_by_the_exit_code(make_house, draw_shapes):
    house = make_house()
    house.settings |= {"THAW_BACKBONES": "no_such_module:backbone", "THAW_DEVICE": "cuda:77"}
    done = _examine(house)
    assert done.returncode == 1
    assert "error    device: THAW_DEVICE=cuda:77 does not work: " in done.stdout
    assert "error    backbones: no_such_module:backbone cannot be used: " in done.stdout
    assert f"warning  server: no server answers at {house.url}: " in done.stdout
    assert "         → `thaw up` starts one\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 errors, ")


def test_a_setting_that_is_not_valid_is_a_finding(make_house):
    house = make_house()
    house.settings["THAW_LEASE_SECONDS"] = "soon"
    done = _examine(house, "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["healthy"]) == (1, False)
    (finding,) = said["findings"]
    assert "THAW_LEASE_SECONDS is 'soon'" in finding["message"]


def test_an_examination_makes_nothing(make_house):
    house = make_house()
    for file in house.home.iterdir():
        file.unlink()
    house.settings["THAW_HOME_DIR"] = house.root / "new"
    house.settings["THAW_DATABASE_URL"] = f"sqlite:///{house.root / 'new' / 'thaw.db'}"
    before = sorted(house.root.rglob("*"))
    done = _examine(house)
    assert "there is no database" in done.stdout
    assert "`thaw up` makes it" in done.stdout
    after = [path for path in sorted(house.root.rglob("*")) if "__pycache__" not in path.parts]
    assert after == before


def test_a_database_whose_driver_is_missing_is_told(settings, monkeypatch):
    def refuse(url):
        raise ModuleNotFoundError("No module named 'psycopg'")

    monkeypatch.setattr(examination, "Database", refuse)
    monkeypatch.setattr(device, "look", lambda settings: [])
    found = [finding for finding in examination.examine(settings) if finding.about == "database"]
    assert [finding.level for finding in found] == ["error"]
    assert "psycopg" in found[0].message
    assert found[0].remedy == "install it: `pip install 'thaw[postgresql]'`"


def test_warnings_do_not_make_it_ill():
    assert examination.is_healthy([well("a", "b"), warning("a", "b", "c")])
    assert not examination.is_healthy([well("a", "b"), error("a", "b", "c")])
