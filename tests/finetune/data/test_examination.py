import os
import shutil
from pathlib import Path

import pytest

from finetune.data import examination as module
from finetune.data.dataset import list_dataset
from finetune.data.examination import examine_dataset
from finetune.data.facts import examine
from finetune.data.kept_facts import save
from finetune.data.opening import open_upright

ALL = 24


@pytest.fixture
def root(tmp_path, draw_photographs):
    draw_photographs(tmp_path / "data" / "pets")
    return tmp_path / "data"


@pytest.fixture
def look(root, tmp_path):
    """Examines the dataset, and keeps what it finds."""

    def see(**options):
        return examine_dataset(root, list_dataset(root, "pets"), tmp_path / "checks", **options)

    return see


@pytest.fixture
def opened(monkeypatch):
    """The names of the files that are opened from now on."""
    names = []

    def count(path, root, keep=None):
        names.append(path.name)
        return examine(path, root, keep)

    monkeypatch.setattr(module, "examine", count)
    return names


def test_a_second_look_opens_nothing(look, opened):
    first = look()
    assert (first.opened, first.known, len(opened)) == (ALL, 0, ALL)
    second = look()
    assert (second.opened, second.known, len(opened)) == (0, ALL, ALL)
    assert second.facts == first.facts


def test_without_a_folder_every_look_opens_everything(root, opened):
    for turn in (1, 2):
        seen = examine_dataset(root, list_dataset(root, "pets"))
        assert (seen.opened, seen.known, len(opened)) == (ALL, 0, turn * ALL)


def test_a_look_opens_what_is_new_or_changed_alone(look, opened, root):
    look()
    opened.clear()
    ants = root / "pets" / "train" / "ants"
    shutil.copy(ants / "000.jpg", ants / "new.jpg")
    os.utime(ants / "001.jpg", ns=(0, 0))
    (ants / "002.jpg").write_bytes((ants / "002.jpg").read_bytes()[:500])
    (ants / "003.jpg").unlink()
    seen = look()
    assert sorted(opened) == ["001.jpg", "002.jpg", "new.jpg"]
    assert (seen.opened, seen.known) == (3, ALL - 3)
    assert [path.name for path, facts in seen.facts.items() if not facts.sound] == ["002.jpg"]


@pytest.mark.parametrize("mtime", [0, 1])
def test_a_file_with_another_content_of_the_same_size_is_opened_again(look, opened, root, mtime):
    look()
    path = root / "pets" / "train" / "ants" / "000.jpg"
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + mtime))
    opened.clear()
    look()
    assert opened == ["000.jpg"]


def test_a_damaged_file_is_known_too_until_it_is_mended(look, opened, root):
    path = root / "pets" / "train" / "ants" / "000.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:500])
    look()
    opened.clear()
    assert not look().facts[path].sound
    assert opened == []
    path.write_bytes(whole)
    assert look().facts[path].sound


def test_what_failed_for_the_moment_is_tried_again(look, opened, root):
    path = root / "pets" / "train" / "ants" / "pipe.jpg"
    os.mkfifo(path)
    look()
    opened.clear()
    look()
    assert opened == ["pipe.jpg"]


def test_a_file_that_vanishes_meanwhile_is_unreadable(root):
    listing = list_dataset(root, "pets")
    path = root / "pets" / "train" / "ants" / "000.jpg"
    path.unlink()
    assert examine_dataset(root, listing).facts[path].verdict == "unreadable"


def test_progress_is_told_now_and_then_and_at_the_end(look, monkeypatch):
    told = []
    monkeypatch.setattr(module, "TELL_EVERY", 0.0)
    look(told=lambda *counts: told.append(counts))
    assert told == [(n, ALL) for n in range(1, ALL + 1)]


def test_progress_is_not_told_for_every_file(look, monkeypatch):
    told = []
    monkeypatch.setattr(module, "TELL_EVERY", 1000.0)
    look(told=lambda *counts: told.append(counts))
    assert told == [(1, ALL), (ALL, ALL)]


def test_a_look_that_is_broken_off_keeps_what_it_knew(look, opened, monkeypatch):
    monkeypatch.setattr(module, "THREADS", 1)
    monkeypatch.setattr(module, "TELL_EVERY", 0.0)

    def stop(done, total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look(told=stop)
    assert len(opened) < ALL
    opened.clear()
    assert (look().known, len(opened)) == (10, ALL - 10)


def test_a_long_look_saves_meanwhile(look, monkeypatch):
    saved = []

    def note(file, facts):
        saved.append(len(facts))
        save(file, facts)

    monkeypatch.setattr(module, "SAVE_EVERY", 0.0)
    monkeypatch.setattr("finetune.data.kept_facts.save", note)
    look()
    assert saved == [*range(1, ALL + 1), ALL]


def test_decoded_images_are_handed_on(look):
    kept: dict[Path, bytes] = {}
    seen = look(keep=lambda path, found, image: kept.setdefault(path, image.tobytes()))
    assert kept == {path: open_upright(path).tobytes() for path in seen.facts}


def test_names_are_relative_to_the_dataset_and_can_be_printed(look, root):
    odd = root / "pets" / "train" / "ants" / os.fsdecode(b"\xff.jpg")
    shutil.copy(root / "pets" / "train" / "ants" / "000.jpg", odd)
    seen = look()
    assert seen.name(root / "pets" / "val" / "bees" / "000.jpg") == "val/bees/000.jpg"
    assert seen.name(odd) == "train/ants/\\xff.jpg"


def test_names_of_a_manifest_are_relative_to_its_folder(root):
    (root / "pets" / "list.csv").write_text("path,label\ntrain/ants/000.jpg,ant\ntrain/bees/000.jpg,bee\n")
    seen = examine_dataset(root, list_dataset(root, "pets/list.csv"))
    assert sorted(map(seen.name, seen.facts)) == ["train/ants/000.jpg", "train/bees/000.jpg"]
