import dataclasses
import os
import shutil

import pytest

from finetune.data.dataset import Sample, list_dataset
from finetune.data.examination import examine_dataset
from finetune.data.fingerprints import of_dataset, of_file, of_samples


@pytest.fixture
def root(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode() * 10)
    return tmp_path


def samples(root, names="abc", labels=(0, 1, 1)):
    return [Sample(root / name, label) for name, label in zip(names, labels, strict=True)]


def rewrite(path, content, mtime=0):
    """Writes a file and moves its time on, or sets it back, by nanoseconds."""
    before = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(before, before + mtime))


CHANGES = {
    "another size": lambda path: rewrite(path, b"a" * 11),
    "another time": lambda path: rewrite(path, b"x" * 10, mtime=1),
    "another content, its size and time as before": lambda path: rewrite(path, b"x" * 10),
    "another file in its place, with its size and time": lambda path: replace(path),
}


def replace(path):
    other = path.with_name("other")
    shutil.copy2(path, other)
    other.replace(path)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_file_has_another_fingerprint(root, change):
    before = (
        of_file(root / "a", root),
        of_samples(samples(root), root),
    )
    change(root / "a")
    after = (
        of_file(root / "a", root),
        of_samples(samples(root), root),
    )
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_a_file_that_is_only_read_keeps_its_fingerprint(root):
    before = of_file(root / "a", root)
    (root / "a").read_bytes()
    assert of_file(root / "a", root) == before


def test_a_fingerprint_names_the_file_below_its_root(root):
    link = root.with_name(f"{root.name}-moved")
    link.symlink_to(root)
    assert of_file(link / "a", link) == of_file(root / "a", root)
    assert of_file(root / "a", root.parent) != of_file(root / "a", root)
    os.link(root / "a", root / "same")
    assert of_file(root / "same", root) != of_file(root / "a", root)


def test_a_split_is_its_samples_in_order_with_their_labels(root):
    variants = [
        samples(root),
        samples(root, "acb"),
        samples(root, labels=(0, 1, 0)),
        samples(root, labels=(1, 0, 0)),
        samples(root, "ab", (0, 1)),
    ]
    assert len({of_samples(variant, root) for variant in variants}) == len(variants)
    assert of_samples(samples(root), root) == of_samples(tuple(samples(root)), root)


def test_weights_are_not_told_apart_as_nothing_is_computed_of_them(root):
    weighed = [dataclasses.replace(sample, weight=3.0) for sample in samples(root)]
    assert of_samples(weighed, root) == of_samples(samples(root), root)


def test_a_file_that_is_not_there_has_no_fingerprint(root):
    with pytest.raises(OSError, match="nowhere"):
        of_file(root / "nowhere", root)


@pytest.fixture
def seen(tmp_path, draw_photographs):
    """Examines a dataset of photographs in a data root; the fingerprint that it has."""
    draw_photographs(tmp_path / "data" / "pets", train=3, val=2)

    def fingerprint(root=tmp_path / "data", name="pets"):
        return of_dataset(examine_dataset(root, list_dataset(root, name)))

    return fingerprint


def test_a_dataset_that_is_copied_elsewhere_keeps_its_fingerprint(seen, tmp_path):
    before = seen()
    assert len(before) == 64
    shutil.copytree(tmp_path / "data" / "pets", tmp_path / "other" / "deep" / "animals")
    for path in (tmp_path / "other").rglob("*.jpg"):
        os.utime(path, (0, 0))
    assert seen(tmp_path / "other", "deep/animals") == before


def test_files_that_are_no_sound_images_leave_the_fingerprint_as_it_was(seen, tmp_path):
    before, folder = seen(), tmp_path / "data" / "pets" / "train" / "ants"
    (folder / "notes.jpg").write_text("no image")
    (folder / "half.jpg").write_bytes((folder / "000.jpg").read_bytes()[:900])
    assert seen() == before


def move(path, folder):
    path.rename(folder / "moved.jpg")


DATA_CHANGES = {
    "a file less": lambda train: (train / "ants" / "000.jpg").unlink(),
    "a file more": lambda train: shutil.copy(train / "ants" / "000.jpg", train / "ants" / "x.jpg"),
    "another name": lambda train: (train / "ants" / "000.jpg").rename(train / "ants" / "x.jpg"),
    "another label": lambda train: (train / "ants" / "000.jpg").rename(train / "bees" / "x.jpg"),
    "another split": lambda train: move(train / "ants" / "000.jpg", train.parent / "val" / "ants"),
    "another content": lambda train: shutil.copy(train / "ants" / "001.jpg", train / "ants" / "000.jpg"),
}


@pytest.mark.parametrize("change", DATA_CHANGES.values(), ids=DATA_CHANGES)
def test_data_that_changed_has_another_fingerprint(seen, tmp_path, change):
    before = seen()
    change(tmp_path / "data" / "pets" / "train")
    assert seen() not in (before, None)


def test_what_cannot_be_trained_on_has_no_fingerprint(seen, tmp_path):
    shutil.rmtree(tmp_path / "data" / "pets" / "val" / "ants")
    assert seen() is None


def test_a_manifest_tells_labels_and_splits_apart_and_not_the_order_of_its_rows(seen, tmp_path):
    data = tmp_path / "data"
    files = sorted(path.relative_to(data).as_posix() for path in (data / "pets").rglob("*.jpg"))

    def written(rows):
        (data / "list.csv").write_text("\n".join(["path,label,split", *rows]))
        return seen(data, "list.csv")

    rows = [f"{name},{name.split('/')[2]},{name.split('/')[1]}" for name in files]
    before = written(rows)
    assert written(reversed(rows)) == before
    assert written([rows[0].replace("ants", "bees"), *rows[1:]]) != before
    assert written([rows[0].replace(",train", ",val"), *rows[1:]]) != before
