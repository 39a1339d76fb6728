import errno
import hashlib
import os
import struct
import zlib

import pytest
from PIL import Image

from finetune.data import facts as module
from finetune.data.facts import examine, stamp_of
from finetune.data.looks import Look


@pytest.fixture
def photo(tmp_path, photograph):
    """A JPEG file."""
    photograph(1, (64, 48)).save(tmp_path / "photo.jpg", quality=90)
    return tmp_path / "photo.jpg"


def png_of(width, height):
    """A PNG file that claims a size and has no pixels."""

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b""))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def test_a_sound_image_is_known_by_size_content_and_look(photo):
    facts = examine(photo, photo.parent)
    assert (facts.verdict, facts.reason, facts.sound, facts.lasts) == ("sound", "", True, True)
    assert (facts.width, facts.height, facts.format) == (64, 48, "JPEG")
    assert facts.sha256 == hashlib.sha256(photo.read_bytes()).hexdigest()
    assert facts.stamp == stamp_of(photo.stat())
    assert facts.look.entropy > 2
    assert (len(facts.look.hash), len(facts.look.thumbnail)) == (8, 192)


def test_sizes_are_those_of_the_upright_image(tmp_path, photograph):
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph(1, (64, 48)).save(tmp_path / "x.jpg", exif=exif)
    facts = examine(tmp_path / "x.jpg", tmp_path)
    assert (facts.width, facts.height) == (48, 64)


BAD = {
    "text": (b"this is no image", "not_an_image", "its content is none"),
    "empty": (b"", "not_an_image", "it is empty"),
    "page": (b"<!doctype html><title>404</title>", "not_an_image", "its content is none"),
    "PostScript": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n",
        "unreadable",
        "it is PostScript: JPEG, PNG",
    ),
    "TIFF": (b"II*\x00" + bytes(60), "unreadable", "it is TIFF: JPEG, PNG, WebP, GIF and BMP are read"),
    "HEIC": (b"\x00\x00\x00\x18ftypheic" + bytes(60), "unreadable", "it is HEIC"),
    "archive": (b"PK\x03\x04" + bytes(60), "not_an_image", "its content is none"),
    "start of a JPEG": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "unreadable", "Truncated"),
    "start of a PNG": (b"\x89PNG\r\n\x1a\n\x00\x00", "unreadable", "it ends before the image begins"),
    "bomb": (png_of(60_000, 60_000), "unreadable", "60000 × 60000 pixels; at most 100,000,000 are read"),
    "no pixels": (png_of(60, 60), "unreadable", "truncated"),
}


@pytest.mark.parametrize(("content", "verdict", "reason"), BAD.values(), ids=BAD)
def test_a_file_that_is_no_whole_image_is_named_with_its_kind(tmp_path, content, verdict, reason):
    (tmp_path / "x.jpg").write_bytes(content)
    facts = examine(tmp_path / "x.jpg", tmp_path)
    assert facts.verdict == verdict
    assert reason in facts.reason
    assert str(tmp_path) not in facts.reason
    assert not facts.sound
    assert facts.lasts


def test_a_truncated_image_is_unreadable_wherever_it_ends(photo):
    whole = photo.read_bytes()
    for length in (3, 100, 300, 700, len(whole) // 2, len(whole) - 20):
        photo.write_bytes(whole[:length])
        assert examine(photo, photo.parent).verdict == "unreadable", length


def test_what_is_no_file_is_no_image_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "folder.jpg"):
        facts = examine(tmp_path / name, tmp_path)
        assert (facts.verdict, facts.reason, facts.lasts) == ("not_an_image", "it is no regular file", False)


def test_a_file_that_vanished_is_unreadable_and_that_is_not_kept(tmp_path):
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    for name in ("absent.jpg", "link.jpg"):
        facts = examine(tmp_path / name, tmp_path)
        assert (facts.verdict, facts.reason) == ("unreadable", os.strerror(errno.ENOENT))
        assert not facts.lasts


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_unreadable_and_that_is_not_kept(photo):
    photo.chmod(0)
    facts = examine(photo, photo.parent)
    assert (facts.verdict, facts.reason) == ("unreadable", os.strerror(errno.EACCES))
    assert not facts.lasts


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EIO, os.strerror(errno.EIO)), os.strerror(errno.EIO)),
        (MemoryError(), "there is not enough memory to decode it"),
    ],
)
def test_what_disk_or_memory_failed_at_is_not_kept(photo, monkeypatch, error, reason):
    def fail(source, formats):
        raise error

    monkeypatch.setattr("finetune.data.opening.Image.open", fail)
    facts = examine(photo, photo.parent)
    assert (facts.verdict, facts.reason, facts.lasts) == ("unreadable", reason, False)


def test_a_file_that_is_written_to_meanwhile_is_not_taken_for_what_it_was(photo, monkeypatch):
    kept = []

    def write_and_look(image):
        photo.write_bytes(b"other")
        return Look()

    monkeypatch.setattr(module, "look_at", write_and_look)
    facts = examine(photo, photo.parent, lambda *image: kept.append(image))
    assert (facts.verdict, facts.lasts) == ("unreadable", False)
    assert kept == []


def test_a_decoded_image_is_handed_on_with_the_time_that_it_was_looked_at(photo):
    kept = []
    examine(photo, photo.parent, lambda *image: kept.append(image))
    ((path, found, image),) = kept
    assert (path, stamp_of(found), image.size, image.mode) == (photo, stamp_of(photo.stat()), (64, 48), "RGB")
