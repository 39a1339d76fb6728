"""Uploads without a server around them, where a server would only take time."""

import asyncio
import errno
import io
import os
import resource
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app import uploads
from app.callers import OPERATOR, Caller
from app.errors import ApiError, Forbidden, Invalid, NoSpace, TimedOut, TooLarge
from app.own_datasets import OwnDatasets
from app.quotas import Quota
from app.rights import Rights
from app.settings import Settings
from app.staging import Staging
from app.store.database import Database
from app.store.migrate import migrate
from app.store.scopes import Scope
from app.store.uploads import get_upload
from app.unpacking import GivenUp
from app.uploads import upload


def archive(size: int = 1000) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name in ("a/1.jpg", "b/2.jpg"):
            opened.writestr(name, os.urandom(size))
    return buffer.getvalue()


async def pieces(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@pytest.fixture
def rights(tmp_path: Path) -> Iterator[Callable[..., Rights]]:
    """What an operator may; with an owner, what its key allows."""
    migrate(Settings(home_dir=tmp_path / "home").database_url)
    db = Database(Settings(home_dir=tmp_path / "home").database_url)

    def make(settings: Settings, owner: str | None = None) -> Rights:
        caller = OPERATOR if owner is None else Caller(Scope.SUBMIT, owner, "key_1")
        own = OwnDatasets(settings.data_dir, db, caller)
        return Rights(db, caller, own, Quota(settings, db, caller))

    yield make
    db.dispose()


@pytest.fixture
def put(tmp_path: Path, rights: Callable[..., Rights]) -> Callable[..., bool]:
    def run(
        body: AsyncIterator[bytes],
        name: str = "zoo",
        length: int | None = None,
        owner: str | None = None,
        **limits: Any,
    ) -> bool:
        made = Settings(home_dir=tmp_path / "home", **({"data_dir": tmp_path / "data"} | limits))
        return asyncio.run(upload(made, rights(made, owner), name, length, body, False))

    return run


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk with so little room, as far as this process can tell."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_upload_is_put_in_its_place(put, tmp_path):
    assert put(pieces(archive())) is False
    assert sorted(p.name for p in (tmp_path / "data" / "zoo").iterdir()) == ["a", "b"]
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["zoo"]


def test_a_server_that_takes_no_uploads_says_so(put, tmp_path):
    with pytest.raises(Forbidden, match="takes no uploads"):
        put(pieces(archive()), upload_bytes=0)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-rf", "a/b", "a\\b", "a b", "ä", "x" * 101, "a\0", "a\n", "zoo\x1b"]
)
def test_a_name_that_is_no_plain_one_is_refused(put, tmp_path, name):
    with pytest.raises(Invalid, match="name: has 1 to 100 letters"):
        put(pieces(archive()), name)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["a", "_", "0", "Zoo.v1-2_3", "x" * 100, "labels.csv"])
def test_a_plain_name_is_taken(put, tmp_path, name):
    assert put(pieces(archive()), name) is False
    assert (tmp_path / "data" / name).is_dir()


def test_a_length_above_the_limit_is_refused_before_anything_is_read(put, tmp_path):
    async def unread() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    with pytest.raises(TooLarge, match=r"at most 999 bytes .*THAW_UPLOAD_BYTES"):
        put(unread(), length=1000, upload_bytes=999)
    assert not (tmp_path / "data").exists()


def test_a_body_that_goes_on_above_the_limit_is_cut_off(put, tmp_path):
    with pytest.raises(TooLarge, match="at most 5,000,000 bytes"):
        put(pieces(archive(3_000_000)), upload_bytes=5_000_000)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_body_that_is_given_up_leaves_nothing(put, tmp_path):
    async def too_slow() -> AsyncIterator[bytes]:
        yield archive()[:500]
        raise TimedOut("the body came too slowly")

    with pytest.raises(TimedOut, match="too slowly"):
        put(too_slow())
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("room", [1_000_000, 2_500_000], ids=["packed", "unpacked"])
def test_a_full_disk_is_said_and_nothing_is_left(put, tmp_path, room):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a/noise.jpg", os.urandom(2_000_000))
        opened.writestr("a/flat.bmp", bytes(3_000_000))
    with largest_file(room), pytest.raises(NoSpace, match="no room"):
        put(pieces(content.getvalue()))
    assert list((tmp_path / "data").iterdir()) == []


def test_a_data_folder_that_cannot_be_written_to_is_no_fault_of_the_server(put, tmp_path):
    (tmp_path / "file").touch()
    for place in (Path("/sys"), Path("/proc/self"), tmp_path / "file"):
        with pytest.raises(Forbidden, match="cannot write to its data folder") as caught:
            put(pieces(archive()), data_dir=place)
        assert str(place) not in str(caught.value)


def test_a_disk_that_fails_is_no_fault_of_the_client(put, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(uploads, "unpack", fail)
    with pytest.raises(ApiError, match="does not work: Input/output error") as caught:
        put(pieces(archive()))
    assert caught.value.status == 503


def test_a_dataset_is_noted_as_its_owners_before_it_is_there(put, tmp_path, monkeypatch):
    seen = []

    def look(self: Staging, replace: bool) -> bool:
        db = Database(Settings(home_dir=tmp_path / "home").database_url)
        seen.append((get_upload(db, "zoo"), (tmp_path / "data" / "zoo").exists()))
        db.dispose()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Staging, "put", look)
    with pytest.raises(ApiError, match="does not work"):
        put(pieces(archive()), owner="farm")
    ((noted, there),) = seen
    assert noted is not None
    assert (noted.owner, noted.size, there) == ("farm", 2000, False)
    db = Database(Settings(home_dir=tmp_path / "home").database_url)
    assert get_upload(db, "zoo") is None  # it has not got there
    db.dispose()


def test_a_length_above_the_owners_quota_is_refused_before_anything_is_read(put, tmp_path):
    async def unread() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    with pytest.raises(TooLarge, match=r"farm may have 999 bytes stored here \(THAW_OWNER_BYTES\)"):
        put(unread(), length=1000, owner="farm", owner_bytes=999)
    with pytest.raises(TooLarge, match="farm may have 0 bytes"):
        put(unread(), owner="farm", owner_bytes=0)
    assert not (tmp_path / "data").exists()


def test_a_server_that_ends_while_it_unpacks_leaves_nothing(tmp_path, monkeypatch, rights):
    begun, ended = threading.Event(), threading.Event()
    settings = Settings(home_dir=tmp_path / "home", data_dir=tmp_path / "data")

    def unpack(file, folder, limits, given_up):
        (folder / "half").write_text("of it")
        begun.set()
        assert ended.wait(10)
        assert given_up()
        raise GivenUp

    monkeypatch.setattr(uploads, "unpack", unpack)

    async def stop() -> None:
        task = asyncio.create_task(upload(settings, rights(settings), "zoo", None, pieces(archive()), False))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ended.set()

    asyncio.run(stop())
    for thread in threading.enumerate():
        if "AnyIO" in thread.name:
            thread.join(10)
    assert list((tmp_path / "data").iterdir()) == []
