import io
import os
import shutil
import stat
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from app import entries, unpacking
from app.entries import ArchiveInvalid, ArchiveTooLarge, Limits
from app.unpacking import GivenUp, unpack

pytestmark = pytest.mark.promise(
    "An uploaded archive is taken as it says or refused, and nothing is written elsewhere"
)

LIMITS = Limits(unpacked_bytes=2**20, files=100)
IMAGE = b"an image, or so"
SOUND = {"train/ants/1.jpg": IMAGE, "train/bees/2.jpg": IMAGE * 100, "val/ants/3.jpg": b""}


def zipped(content: dict[str, bytes], method: int = zipfile.ZIP_STORED, **attributes: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in content.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            archive.writestr(info, data)
    return buffer.getvalue()


def renamed(archive: bytes, old: str, new: str) -> bytes:
    """The archive with another name in both of an entry's headers; zipfile itself would mend it."""
    assert len(old) == len(new)
    return archive.replace(old.encode(), new.encode())


@pytest.fixture
def unpacked(tmp_path: Path) -> Iterator[Callable[..., dict[str, bytes]]]:
    """Unpacks an archive and gives what is there by then; sees to it that nothing is anywhere else."""
    folder = tmp_path / "root" / "new"
    folder.mkdir(parents=True)
    file = tmp_path / "root" / "archive.zip"

    def run(archive: bytes, limits: Limits = LIMITS, **more: Any) -> dict[str, bytes]:
        file.write_bytes(archive)
        unpack(file, folder, limits, **more)
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    yield run
    assert [p.name for p in tmp_path.iterdir()] == ["root"]
    assert {p.name for p in (tmp_path / "root").iterdir()} <= {"new", "archive.zip"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_sound_archive_is_unpacked_as_it_is(unpacked, method):
    assert unpacked(zipped(SOUND, method)) == SOUND


def test_what_is_unpacked_has_plain_permissions(unpacked, tmp_path):
    before = os.umask(0o077)
    try:
        unpacked(zipped(SOUND, external_attr=(stat.S_IFREG | 0o6777) << 16))
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "root" / "new").rglob("*") if p.is_file()}
    assert modes == {0o644}
    assert stat.S_IMODE((tmp_path / "root" / "new" / "train").stat().st_mode) == 0o755


def test_folders_may_have_entries_of_their_own_and_be_empty(unpacked, tmp_path):
    unpacked(zipped({"train/": b"", "train/ants/1.jpg": IMAGE, "train/ants/": b"", "val/bees/": b""}))
    assert (tmp_path / "root" / "new" / "val" / "bees").is_dir()


def test_what_systems_leave_behind_is_left_out(unpacked):
    junk = [
        "__MACOSX/train/ants/._1.jpg",
        ".DS_Store",
        "train/.DS_Store",
        "train/ants/Thumbs.db",
        ".git/HEAD",
    ]
    assert unpacked(zipped(SOUND | dict.fromkeys(junk, b"junk"))) == SOUND


def test_needless_parts_of_a_name_are_left_out(unpacked):
    assert unpacked(zipped({"./train//ants/1.jpg": IMAGE})) == {"train/ants/1.jpg": IMAGE}


@pytest.mark.parametrize(("raw", "name"), [("Bär".encode(), "Bär"), ("Bär".encode("cp437"), "Bär")])
def test_names_of_other_systems_are_read_as_they_were_meant(unpacked, raw, name):
    """A Mac writes UTF-8 and Windows the code page of DOS; neither says so."""
    archive = zipped({f"{'_' * len(raw)}/1.jpg": IMAGE}).replace(b"_" * len(raw), raw)
    assert unpacked(archive) == {f"{name}/1.jpg": IMAGE}


def test_an_archive_within_an_archive_is_a_file(unpacked):
    inner = zipped({"../x": b"x"})
    assert unpacked(zipped({"a/inner.zip": inner})) == {"a/inner.zip": inner}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.jpg", "leads out"),
        ("train/../../evil.jpg", "leads out"),
        ("/etc/evil.jpg", "begins at a root"),
        ("C:/evil.jpg", "begins at a root or a drive"),
        ("c:evil.jpg", "begins at a root or a drive"),
        ("..\\evil.jpg", "backslash"),
        ("train\\ants\\1.jpg", "backslash"),
        ("train/a\nb.jpg", "cannot be shown"),
        ("train/\x1b[2Jb.jpg", "cannot be shown"),
        ("train/\u2028b.jpg", "cannot be shown"),
        ("train/" + "x" * 256, "too long"),
        ("train/" + "ä" * 128, "too long"),
        ("d/" * 600 + "1.jpg", "too long"),
    ],
)
def test_a_name_that_no_file_should_have_is_refused_by_name(unpacked, name, reason):
    with pytest.raises(ArchiveInvalid, match=reason) as caught:
        unpacked(zipped({"train/ants/1.jpg": IMAGE, name: IMAGE}))
    assert repr(name)[:20] in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_name_with_a_nul_is_refused_and_not_cut(unpacked):
    with pytest.raises(ArchiveInvalid, match="cannot be shown"):
        unpacked(renamed(zipped({"train/a_b.jpg": IMAGE}), "train/a_b.jpg", "train/a\0b.jpg"))


def test_an_entry_without_a_name_is_refused(unpacked):
    with pytest.raises(ArchiveInvalid, match="no name"):
        unpacked(zipped({"a": b"a", "": b"b"}))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (stat.S_IFLNK, "symbolic link"),
        (stat.S_IFCHR, "device"),
        (stat.S_IFIFO, "pipe"),
        (stat.S_IFSOCK, "socket"),
    ],
)
def test_links_and_special_files_are_refused_by_name(unpacked, kind, reason):
    with pytest.raises(ArchiveInvalid, match=f"'train/ants/link' is a.*{reason}"):
        unpacked(zipped({"train/ants/link": b"/etc/passwd"}, external_attr=(kind | 0o777) << 16))


def test_an_encrypted_entry_is_refused_by_name(unpacked):
    archive = bytearray(zipped({"a/1.jpg": IMAGE}))
    archive[archive.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ArchiveInvalid, match=r"'a/1.jpg' is encrypted"):
        unpacked(bytes(archive))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_unpacks_without_bounds_is_refused(unpacked, method):
    with pytest.raises(ArchiveInvalid, match="method that is not taken"):
        unpacked(zipped({"a/1.jpg": IMAGE}, method))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("twin", ["a/1.jpg", "./a/1.jpg", "a//1.jpg"])
def test_a_name_that_stands_twice_is_refused(unpacked, twin):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a/1.jpg", b"one")
        opened.writestr(twin, b"other")
    with pytest.raises(ArchiveInvalid, match="stands twice"):
        unpacked(archive.getvalue())


@pytest.mark.parametrize("names", [("a", "a/1.jpg"), ("a/1.jpg", "a"), ("a/1.jpg", "a/1.jpg/2.jpg")])
def test_a_file_that_is_also_a_folder_is_refused(unpacked, names):
    with pytest.raises(ArchiveInvalid, match="another file or folder"):
        unpacked(zipped(dict.fromkeys(names, IMAGE)))


@pytest.mark.parametrize(
    "twins", [("Ants/1.jpg", "ants/2.jpg"), ("a/1.jpg", "a/1.JPG"), ("\u00e4/1.jpg", "a\u0308/1.jpg")]
)
def test_names_that_the_file_system_takes_for_the_same_never_become_one(unpacked, tmp_path, twins):
    for name in twins:
        (tmp_path / "root" / PurePosixPath(name).parts[0]).mkdir(exist_ok=True)
        (tmp_path / "root" / name).touch()
    found = len([p for p in (tmp_path / "root").rglob("*") if p.is_file()])
    folders = {PurePosixPath(name).parts[0] for name in twins}
    same = found < 2 or len([p for p in (tmp_path / "root").iterdir() if p.name != "new"]) < len(folders)
    for name in folders:
        shutil.rmtree(tmp_path / "root" / name, ignore_errors=True)
    if same:
        with pytest.raises(ArchiveInvalid, match="another file or folder"):
            unpacked(zipped(dict.fromkeys(twins, IMAGE)))
    else:
        assert len(unpacked(zipped(dict.fromkeys(twins, IMAGE)))) == 2


def test_an_archive_without_files_is_refused(unpacked):
    for archive in (zipped({}), zipped({"train/": b""}), zipped({".DS_Store": b"x"})):
        with pytest.raises(ArchiveInvalid, match="no files"):
            unpacked(archive)


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"no archive at all" * 100, b"\x89PNG\r\n\x1a\n" + bytes(999)]
)
def test_what_is_no_archive_is_refused(unpacked, content):
    with pytest.raises(ArchiveInvalid, match="no whole zip archive"):
        unpacked(content)


def test_an_archive_that_was_cut_off_is_refused(unpacked):
    whole = zipped(SOUND)
    for length in range(1, len(whole) - 1, 97):
        with pytest.raises(ArchiveInvalid, match="no whole zip archive"):
            unpacked(whole[:length])


def test_a_changed_byte_in_a_file_is_noticed_by_its_checksum(unpacked):
    with pytest.raises(ArchiveInvalid, match=r"'train/ants/1.jpg' is damaged: Bad CRC-32"):
        unpacked(zipped(SOUND).replace(IMAGE, IMAGE[:-1] + b"!", 1))


# ---- limits


def test_an_archive_at_its_limits_is_taken_and_one_above_is_not(unpacked):
    archive = zipped({"a/1.jpg": bytes(1000), "b/2.jpg": bytes(24)})
    with pytest.raises(ArchiveTooLarge, match="more than 1,023 bytes, unpacked"):
        unpacked(archive, Limits(1023, 4))
    with pytest.raises(ArchiveTooLarge, match="more than 3 files and folders"):
        unpacked(archive, Limits(1024, 3))
    assert len(unpacked(archive, Limits(1024, 4))) == 2


def test_folders_that_have_no_entry_of_their_own_count(unpacked):
    with pytest.raises(ArchiveTooLarge, match="more than 100 files and folders"):
        unpacked(zipped({"d/" * 101 + "1.jpg": IMAGE}))


def test_a_directory_without_end_is_refused_before_it_is_read_into_objects(unpacked, monkeypatch):
    archive = zipped({f"{n}": b"" for n in range(1300)})
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *_: pytest.fail("an entry was read"))
    with pytest.raises(ArchiveTooLarge, match="more than 1,200 entries"):
        unpacked(archive)


def test_no_more_comes_out_than_the_directory_says(unpacked):
    archive = bytearray(zipped({"a/1.jpg": bytes(200_000)}, zipfile.ZIP_DEFLATED))
    central = archive.index(b"PK\x01\x02")
    archive[central + 24 : central + 28] = struct.pack("<I", 4)
    with pytest.raises(ArchiveInvalid, match="Bad CRC-32"):
        unpacked(bytes(archive), Limits(1000, 10))
    archive[central + 24 : central + 28] = struct.pack("<I", 1001)
    with pytest.raises(ArchiveTooLarge, match="1,000 bytes, unpacked"):
        unpacked(bytes(archive), Limits(1000, 10))


def test_bytes_are_counted_as_they_come_out(unpacked, monkeypatch):
    """Even were the directory's own sum not looked at."""
    monkeypatch.setattr(entries, "sum", lambda _: 0, raising=False)
    with pytest.raises(ArchiveTooLarge, match="1,000 bytes, unpacked"):
        unpacked(zipped({"a/1.jpg": bytes(600), "a/2.jpg": bytes(600)}), Limits(1000, 10))


def test_a_file_that_unpacks_to_hundreds_of_its_size_is_a_bomb(unpacked, tmp_path):
    bomb = zipped({"a/1.bmp": bytes(60 * 2**20)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    with pytest.raises(ArchiveTooLarge, match="as only a bomb does"):
        unpacked(bomb, Limits(2**30, 10))
    written = (tmp_path / "root" / "new" / "a" / "1.bmp").stat().st_size
    assert written <= unpacking.ALWAYS_ALLOWED


def test_a_bomb_hides_in_no_large_archive(unpacked):
    noise = os.urandom(2 * 2**20)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a/noise.jpg", noise)
        opened.writestr("a/bomb.bmp", bytes(60 * 2**20), zipfile.ZIP_DEFLATED)
    with pytest.raises(ArchiveTooLarge, match=r"'a/bomb.bmp' unpacks to more than 100 times its size"):
        unpacked(archive.getvalue(), Limits(2**30, 10))


def test_many_small_bombs_are_one(unpacked):
    bombs = {f"a/{n}.bmp": bytes(8 * 2**20) for n in range(4)}
    with pytest.raises(ArchiveTooLarge, match="the archive unpacks to more than 100 times its size"):
        unpacked(zipped(bombs, zipfile.ZIP_DEFLATED), Limits(2**30, 10))


def test_flat_images_are_no_bomb(unpacked):
    flat = {f"a/{n}.bmp": bytes(2**20) for n in range(10)}
    assert unpacked(zipped(flat, zipfile.ZIP_DEFLATED), Limits(2**24, 20)) == flat


def test_entries_that_share_their_bytes_are_refused(unpacked):
    """The bomb of overlapping entries: many names for the same packed bytes."""
    archive = zipped({"a/1": os.urandom(50_000)})
    start = archive.index(b"PK\x01\x02")
    entry, end = archive[start : archive.index(b"PK\x05\x06")], archive[archive.index(b"PK\x05\x06") :]
    many = b"".join(entry.replace(b"a/1", f"a/{n}".encode()) for n in range(1, 10))
    end = end[:8] + struct.pack("<HHI", 9, 9, len(many)) + end[16:]
    with pytest.raises(ArchiveInvalid, match="overlap"):
        unpacked(archive[:start] + many + end)


def test_whoever_is_gone_is_not_waited_for(unpacked):
    with pytest.raises(GivenUp):
        unpacked(zipped(SOUND), given_up=lambda: True)


# ---- whatever is sent

NAMES = some.text(some.characters(exclude_categories=["Cs"]), min_size=1, max_size=30) | some.lists(
    some.sampled_from(["..", ".", "", "a", "C:", "\\", "..\\..", "~", "\0", "a" * 300, "con", "é"]),
    min_size=1,
).map("/".join)


@settings(max_examples=150, deadline=None)
@given(some.lists(NAMES, min_size=1, max_size=5, unique=True))
@example(["../x"])
@example(["a", "a/b"])
@example(["x/../../y"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_whatever_its_names_an_archive_writes_nothing_outside(names):
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "outer" / "data"
        (root / "new").mkdir(parents=True)
        try:
            (root / "archive.zip").write_bytes(zipped(dict.fromkeys(names, b"x")))
        except UnicodeEncodeError:
            return
        with suppress(ArchiveInvalid):
            unpack(root / "archive.zip", root / "new", LIMITS)
        assert {p.relative_to(place).as_posix() for p in Path(place).rglob("*")} == {
            "outer",
            "outer/data",
            "outer/data/archive.zip",
            *(p.relative_to(place).as_posix() for p in [root / "new", *(root / "new").rglob("*")]),
        }
        assert not any(p.is_symlink() for p in root.rglob("*"))


@settings(max_examples=300, deadline=None)
@given(some.data())
def test_whatever_bytes_are_changed_an_archive_is_unpacked_or_refused(data):
    archive = bytearray(zipped(SOUND, zipfile.ZIP_DEFLATED))
    for _ in range(data.draw(some.integers(1, 4))):
        archive[data.draw(some.integers(0, len(archive) - 1))] = data.draw(some.integers(0, 255))
    with tempfile.TemporaryDirectory() as place:
        file, folder = Path(place) / "archive.zip", Path(place) / "new"
        file.write_bytes(archive)
        folder.mkdir()
        said = ""
        try:
            unpack(file, folder, LIMITS)
        except (ArchiveInvalid, ArchiveTooLarge) as error:
            said = str(error)
        assert place not in said
        assert said.isprintable()


def test_a_directory_of_gigabytes_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(entries, "MOST_DIRECTORY_BYTES", 1000)
    (tmp_path / "archive.zip").write_bytes(zipped({f"{n}": b"" for n in range(50)}))
    with pytest.raises(ArchiveTooLarge, match="directory is longer"):
        unpack(tmp_path / "archive.zip", tmp_path, LIMITS)
