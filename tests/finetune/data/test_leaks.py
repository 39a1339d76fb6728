import shutil

import pytest

from finetune.data.facts import examine
from finetune.data.leaks import Leaks, find_leaks


@pytest.fixture
def files(tmp_path, photograph):
    """Twelve photographs, and copies of the first ones: exact, re-encoded, resized."""
    for number in range(12):
        photograph(number).save(tmp_path / f"{number}.jpg", quality=92)
    shutil.copy(tmp_path / "0.jpg", tmp_path / "exact.jpg")
    photograph(1).save(tmp_path / "encoded.jpg", quality=50)
    photograph(2).resize((80, 60)).save(tmp_path / "small.png")
    return {path.name: path for path in tmp_path.iterdir()}


def named(files, train, val):
    ours, theirs = ([files[name] for name in some.split()] for some in (train, val))
    leaks = find_leaks(ours, theirs, {path: examine(path, path.parent) for path in files.values()})
    return [(ours.name, theirs.name) for ours, theirs in leaks.exact], [
        (ours.name, theirs.name) for ours, theirs in leaks.near
    ]


def test_photographs_that_differ_leak_nothing(files):
    assert named(files, "0.jpg 1.jpg 2.jpg 3.jpg", "4.jpg 5.jpg 6.jpg 7.jpg") == ([], [])


def test_copies_across_the_splits_are_paired(files):
    found = named(files, "0.jpg 1.jpg 2.jpg 3.jpg", "exact.jpg encoded.jpg small.png 9.jpg")
    assert found == ([("0.jpg", "exact.jpg")], [("1.jpg", "encoded.jpg"), ("2.jpg", "small.png")])


def test_copies_on_one_side_leak_nothing(files):
    assert named(files, "0.jpg exact.jpg 1.jpg encoded.jpg", "3.jpg 4.jpg") == ([], [])


def test_every_copy_to_train_on_is_named_once(files):
    assert named(files, "0.jpg exact.jpg 3.jpg", "0.jpg exact.jpg") == (
        [("0.jpg", "0.jpg"), ("exact.jpg", "0.jpg")],
        [],
    )


def test_an_exact_copy_is_no_near_one_as_well(files, photograph):
    photograph(0).save(files["0.jpg"].with_name("again.png"))
    files["again.png"] = files["0.jpg"].with_name("again.png")
    assert named(files, "0.jpg", "exact.jpg again.png") == ([("0.jpg", "exact.jpg")], [])


def test_no_images_leak_nothing():
    assert find_leaks([], [], {}) == Leaks((), ())
    assert Leaks((), ()).by_kind() == {}
