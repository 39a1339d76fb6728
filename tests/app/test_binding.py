import socket
import sqlite3
import sys
from pathlib import Path

import httpx
import pytest

from app.binding import BindingRefused, check_binding, is_loopback
from app.settings import Settings
from app.store import keys
from app.store.database import Database
from app.store.migrate import migrate
from app.store.scopes import Scope

PROMISE = "Without a key that lets somebody in the server listens on this machine alone"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_what_is_this_machine_alone(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.7", "10.0.0.1", "::ffff:192.0.2.7", "0", "x" * 70, "\0"]
)
def test_what_others_may_reach_or_nobody_knows_is_not_this_machine_alone(host):
    assert not is_loopback(host)


@pytest.fixture
def settings(tmp_path):
    made = Settings(home_dir=tmp_path / "home", host="0.0.0.0")
    migrate(made.database_url)
    return made


@pytest.mark.promise(PROMISE)
def test_a_key_lets_the_server_listen_for_others_until_it_ends(settings):
    db = Database(settings.database_url)
    with pytest.raises(
        BindingRefused, match=r"THAW_HOST is '0\.0\.0\.0', which others may reach, and there is no"
    ):
        check_binding(settings)
    keys.create_key(db, sha256="cd" * 32, scope=Scope.ADMIN, owner="", lifetime_seconds=-1)
    with pytest.raises(BindingRefused, match="thaw keys create"):
        check_binding(settings)
    made = keys.create_key(db, sha256="ab" * 32, scope=Scope.READ, owner="")
    check_binding(settings)
    keys.revoke_key(db, made.id)
    with pytest.raises(BindingRefused):
        check_binding(settings)
    db.dispose()


def test_this_machine_alone_needs_no_key_and_no_database(tmp_path):
    check_binding(Settings(home_dir=tmp_path / "home"))
    assert not (tmp_path / "home").exists()


def test_a_database_of_another_version_is_said(tmp_path):
    (tmp_path / "home").mkdir()
    with pytest.raises(BindingRefused, match="not of this version: run `python -m app migrate`"):
        check_binding(Settings(home_dir=tmp_path / "home", host="0.0.0.0"))


@pytest.mark.promise(PROMISE)
@pytest.mark.parametrize("command", ["server", "up"])
def test_a_server_for_others_without_a_key_does_not_start(make_house, command):
    house = make_house(host="0.0.0.0")
    modules = {"server": ("app", "serve"), "up": ("client", "up")}
    ended = house.run(sys.executable, "-m", *modules[command], timeout=60)
    assert ended.returncode == {"server": 2, "up": 1}[command]
    said = "make one with `thaw keys create --scope admin`, or leave THAW_HOST out to listen on this machine"
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.promise("A server for others demands a key also where its database has lost them")
def test_a_server_for_others_demands_a_key_whatever_its_database_says(make_house):
    house = make_house(host="0.0.0.0")
    made = house.run(sys.executable, "-m", "client", "keys", "create", "--scope", "admin")
    assert made.returncode == 0, made.stderr
    house.serve()
    key = {"Authorization": f"Bearer {made.stdout.strip()}"}
    with httpx.Client(base_url=house.url, trust_env=False) as anyone:
        assert anyone.get("/v1/jobs").status_code == 401
        assert anyone.get("/v1/jobs", headers=key).status_code == 200
        with sqlite3.connect(house.home / "thaw.db") as file:
            file.execute("DELETE FROM api_keys")
        file.close()
        assert anyone.get("/v1/jobs").status_code == 401
        assert anyone.get("/v1/jobs", headers=key).status_code == 401


@pytest.mark.promise(PROMISE)
def test_a_server_without_a_setting_is_not_reached_from_elsewhere(guarded):
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [line[1] for line in listening if line[3] == "0A" and line[1].endswith(f":{guarded.port:04X}")]
    (address,) = [socket.inet_ntoa(bytes.fromhex(one.split(":")[0])[::-1]) for one in ours]
    assert address == "127.0.0.1"
