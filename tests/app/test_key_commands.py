import json
import re
import sys
from datetime import UTC, datetime, timedelta

import pytest

from app import key_commands
from app.keys import is_whole, sha256_of
from app.settings import Settings
from app.store import keys
from app.store.database import Database
from app.store.scopes import Scope


@pytest.fixture
def settings(tmp_path):
    return Settings(home_dir=tmp_path / "home")


@pytest.fixture
def run(settings, capsys):
    """Runs a command; gives its exit code, what it printed, and what it said beside it."""

    def run(*arguments):
        code = key_commands.run(settings, arguments)
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def db(settings):
    opened = Database(settings.database_url)
    yield opened
    opened.dispose()


def test_the_first_key_comes_from_a_database_that_is_not_there_yet(run, db, settings):
    code, printed, said = run("create", "--scope", "submit", "--owner", "zoo", "--expires", "90d")
    assert code == 0
    key = printed.removesuffix("\n")
    assert is_whole(key)
    found = keys.find_key(db, sha256_of(key))
    assert found is not None
    assert (found.scope, found.owner, found.usable) == (Scope.SUBMIT, "zoo", True)
    assert found.expires_at == pytest.approx(found.created_at + 90 * 86400, abs=5)
    assert said.startswith(f"{found.id}: submit, owner zoo, until 20")
    assert str(settings.home_dir / "thaw.db") in said
    assert key not in said


def test_a_key_may_be_without_owner_and_end(run, db):
    code, printed, said = run("create", "--scope", "read")
    found = keys.find_key(db, sha256_of(printed.strip()))
    assert found is not None
    assert (code, found.owner, found.expires_at) == (0, "", None)
    assert "no owner, without an end" in said


def test_keys_are_listed_and_revoked_by_their_ids(run):
    made = [run("create", "--scope", "admin")[1].strip() for _ in range(2)]
    run("create", "--scope", "read", "--owner", "zoo@farm.example", "--expires", "2w")
    code, printed, _ = run("list")
    assert code == 0
    assert len(printed.splitlines()) == 4
    assert re.search(r"^key_[0-9a-f]{16}  read   zoo@farm\.example  .*  until 20", printed, re.MULTILINE)
    first = "key_" + sha256_of(made[0])[:16]
    assert run("revoke", first)[:2] == (0, f"{first} opens nothing any more\n")
    rows = {row["id"]: row for row in json.loads(run("list", "--json")[1])}
    assert [row["usable"] for name, row in rows.items() if name == first] == [False]
    assert sum(row["usable"] for row in rows.values()) == 2
    assert re.search(rf"{first}  admin  –  .*  revoked 20", run("list")[1])
    for key in made:
        assert key not in printed + json.dumps(rows)
        assert sha256_of(key) not in printed + json.dumps(rows)


def test_a_key_that_is_not_there_cannot_be_revoked(run):
    run("create", "--scope", "read")
    code, printed, said = run("revoke", "key_0")
    assert (code, printed) == (1, "")
    assert said == "thaw: there is no key key_0; `thaw keys list` shows all\n"


@pytest.mark.parametrize("command", [["list"], ["revoke", "key_0"]])
def test_a_place_without_a_database_is_said(run, command):
    code, printed, said = run(*command)
    assert (code, printed) == (1, "")
    assert said.startswith("thaw: the database sqlite:///")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["make"],
        ["create"],
        ["create", "--scope", "root"],
        ["create", "--scope", "read", "--owner", ""],
        ["create", "--scope", "read", "--owner", "a/b"],
        ["create", "--scope", "read", "--owner", "x" * 101],
        ["create", "--scope", "read", "--expires", "0d"],
        ["create", "--scope", "read", "--expires", "soon"],
        ["create", "--scope", "read", "--expires", "2001-01-01"],
        ["create", "--scope", "read", "--expires", "9999-12-31"],
        ["create", "--scope", "read", "--expires", "999999w"],
        ["revoke"],
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_stored(run, settings, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    assert "usage: thaw keys" in capsys.readouterr().err
    assert not settings.home_dir.exists()


def test_a_date_is_the_end(run, db):
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    for text in (end.isoformat(), end.astimezone().isoformat(), end.replace(tzinfo=None).isoformat()):
        found = keys.find_key(db, sha256_of(run("create", "--scope", "read", "--expires", text)[1].strip()))
        assert found is not None
        assert found.expires_at == pytest.approx(end.timestamp(), abs=5)


def test_a_password_of_the_database_is_not_shown(capsys):
    settings = Settings(database_url="postgresql+psycopg://thaw:hidden@127.0.0.1:1/thaw")
    assert key_commands.run(settings, ["list"]) == 1
    said = capsys.readouterr().err
    assert "postgresql+psycopg://thaw:***@127.0.0.1:1/thaw does not answer" in said
    assert "hidden" not in said


def test_thaw_keys_works_on_the_database_that_the_server_has(make_house):
    house = make_house()
    thaw = [sys.executable, "-m", "client", "keys"]
    made = house.run(*thaw, "create", "--scope", "admin", "--owner", "zoo")
    assert made.returncode == 0, made.stderr
    assert is_whole(made.stdout.strip())
    listed = house.run(*thaw, "list", "--json")
    assert [row["owner"] for row in json.loads(listed.stdout)] == ["zoo"]


def test_what_there_is_to_say_is_helped_with(run, capsys):
    for arguments, word in ((["--help"], "create | list | revoke"), (["create", "--help"], "--expires WHEN")):
        with pytest.raises(SystemExit) as ended:
            run(*arguments)
        assert ended.value.code == 0
        assert word in capsys.readouterr().out
