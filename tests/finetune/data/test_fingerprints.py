import dataclasses
import os
import shutil

import pytest

from finetune.data.dataset import Sample
from finetune.data.fingerprints import of_file, of_files, of_samples


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
        of_files([root / "a", root / "b"], root),
        of_samples(samples(root), root),
    )
    change(root / "a")
    after = (
        of_file(root / "a", root),
        of_files([root / "a", root / "b"], root),
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


def test_a_set_of_files_has_no_order_and_no_file_less(root):
    paths = [root / name for name in "abc"]
    assert of_files(paths, root) == of_files(reversed(paths), root)
    assert of_files(paths[:2], root) != of_files(paths, root)


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
