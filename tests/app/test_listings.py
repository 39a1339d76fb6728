import os
import threading

import pytest

from app import listings
from app.listings import Listings
from finetune.data.dataset import list_dataset
from finetune.errors import DatasetNotFound


@pytest.fixture
def counted(monkeypatch):
    """How often each dataset was listed."""
    found = []

    def counting(root, name):
        found.append(name)
        return list_dataset(root, name)

    monkeypatch.setattr(listings, "list_dataset", counting)
    return found


@pytest.fixture
def data(tmp_path):
    for name in ("one", "two"):
        for label in ("a", "b"):
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for number in range(3):
                (folder / f"{number}.jpg").touch()
    return tmp_path


def test_a_dataset_is_listed_once_for_many_who_ask_at_once(data, counted):
    known = Listings(data)
    threads = [threading.Thread(target=known.images, args=("one",)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted == ["one"]


def test_a_dataset_is_listed_anew_when_it_is_old_or_another_one(data, counted, monkeypatch):
    known = Listings(data)
    known.images("one")
    (data / "one" / "a" / "new.jpg").touch()
    assert len(known.images("one").ordered) == 6
    known.forget("one")
    assert len(known.images("one").ordered) == 7
    monkeypatch.setattr(listings, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(listings, "SHARE", 0)
    known.forget("one")
    known.images("one")
    known.images("one")
    assert counted == ["one"] * 4


def test_what_is_remembered_has_a_bound_and_the_last_one_is_kept(data, counted, monkeypatch):
    monkeypatch.setattr(listings, "MOST_IMAGES", 7)
    known = Listings(data)
    for name in ("one", "two", "two", "one", "one"):
        known.images(name)
    assert counted == ["one", "two", "one"]


def test_a_dataset_that_is_gone_is_not_shown_from_memory(data):
    known = Listings(data)
    known.images("one")
    (data / "one").rename(data / "three")
    with pytest.raises(DatasetNotFound):
        known.images("one")
    assert len(known.images("three").ordered) == 6


def test_names_at_which_there_is_nothing_are_not_remembered(data):
    known = Listings(data)
    for number in range(5):
        with pytest.raises(DatasetNotFound):
            known.images(f"none-{number}")
    assert known._known == {}


def test_two_names_that_look_alike_end_no_page_before_its_end(data):
    for end in (b"\xfe", b"\xff"):  # bytes that are no UTF-8
        (data / "one" / "a" / os.fsdecode(b"0" + end)).touch()
    images = Listings(data).images("one")
    twins = [place for place, image in enumerate(images.ordered) if "\N{REPLACEMENT CHARACTER}" in image.file]
    assert len({images.ordered[place].id for place in twins}) == 1
    assert images.places[images.ordered[twins[0]].id] == max(twins)
