import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from client import packing
from client.errors import SourceUnusable
from client.packing import pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "zoo"
    for name in ("train/ants/1.jpg", "train/bees/2.jpg", "val/ants/ü 3.jpg"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


@pytest.fixture
def sent() -> Callable[..., dict[str, bytes]]:
    """What a server finds in what is sent."""

    def read(source: Path, *report: packing.Report) -> dict[str, bytes]:
        content = b"".join(pack(source, *report).pieces)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.testzip() is None
            return {info.filename: archive.read(info) for info in archive.infolist()}

    return read


NAMES = ["train/ants/1.jpg", "train/bees/2.jpg", "val/ants/ü 3.jpg"]


def test_a_folder_is_sent_with_all_its_files(folder, sent):
    assert sent(folder) == {name: name.encode() for name in NAMES}


def test_a_folder_is_packed_while_it_is_sent(folder):
    large = os.urandom(5 * packing.CHUNK)
    (folder / "train" / "ants" / "large.png").write_bytes(large)
    packed = pack(folder)
    assert packed.length is None
    pieces = list(packed.pieces)
    assert len(pieces) >= 5
    assert max(map(len, pieces)) < 2 * packing.CHUNK


def test_the_same_files_are_sent_as_the_same_bytes(folder):
    first = b"".join(pack(folder).pieces)
    os.utime(folder / NAMES[0], (1, 1))
    assert b"".join(pack(folder).pieces) == first


def test_an_archive_is_sent_as_it_is(tmp_path):
    with zipfile.ZipFile(tmp_path / "zoo.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.jpg", b"x" * 1000)
    content = (tmp_path / "zoo.zip").read_bytes()
    packed = pack(tmp_path / "zoo.zip")
    assert packed.length == len(content)
    assert b"".join(packed.pieces) == content


def test_progress_ends_with_all_of_it(folder, sent, tmp_path):
    seen: list[tuple[int, int | None]] = []
    sent(folder, lambda done, total: seen.append((done, total)))
    size = sum(len(name.encode()) for name in NAMES)
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)


def test_what_is_hidden_or_junk_stays_at_home(folder, sent):
    for name in (".DS_Store", "train/.cache/x.jpg", "train/ants/Thumbs.db", "__MACOSX/a.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("junk")
    assert set(sent(folder)) == set(NAMES)


def test_a_link_within_the_folder_is_followed(folder, sent):
    (folder / "val" / "bees").symlink_to(folder / "train" / "bees")
    (folder / "val" / "ants" / "4.jpg").symlink_to("../../train/ants/1.jpg")
    files = sent(folder)
    assert files["val/bees/2.jpg"] == b"train/bees/2.jpg"
    assert files["val/ants/4.jpg"] == b"train/ants/1.jpg"


def test_the_folder_itself_may_be_a_link(folder, sent, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert set(sent(tmp_path / "link")) == set(NAMES)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("../outside.jpg", "leads out of the folder"),
        ("nothing.jpg", "leads nowhere"),
        (".", "that it lies in"),
    ],
)
def test_a_link_that_cannot_be_followed_is_named(folder, tmp_path, target, reason):
    (tmp_path / "outside.jpg").touch()
    (folder / "train" / "link").symlink_to(folder / target if target != "." else folder)
    with pytest.raises(SourceUnusable, match=f"zoo/train/link is a link .*{reason}"):
        pack(folder)


def test_links_in_a_circle_are_named(folder):
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    with pytest.raises(SourceUnusable, match="leads nowhere"):
        pack(folder)


def test_what_is_no_file_is_named(folder):
    os.mkfifo(folder / "train" / "pipe")
    with pytest.raises(SourceUnusable, match="train/pipe is neither a file nor a folder"):
        pack(folder)


def test_a_name_that_is_no_text_is_named(folder):
    (folder / os.fsdecode(b"train/ants/\xff.jpg")).touch()
    with pytest.raises(SourceUnusable, match="no text") as caught:
        pack(folder)
    assert caught.value.lines()[0].isprintable()


def test_what_can_be_no_dataset_is_said_to_be_none(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no archive")
    for name, reason in (
        ("empty", "has no files"),
        ("absent", "is not there"),
        ("text.zip", "neither a folder nor a zip archive"),
    ):
        with pytest.raises(SourceUnusable, match=reason) as caught:
            pack(tmp_path / name)
        assert caught.value.exit_code == 2
