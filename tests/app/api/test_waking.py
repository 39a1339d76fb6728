"""What a submission does to doorbells, whoever does or does not listen at them."""

import os

import pytest

from app.store.doorbells import Doorbell


@pytest.fixture
def folder(house):
    return house.home / "doorbells"


def test_submission_rings_at_a_worker_and_leaves_nothing_of_one_that_is_gone(folder, post):
    bell = Doorbell(folder, "listens")
    os.mkfifo(folder / "gone")  # nobody has it open, as after a kill
    post()
    assert bell.has_rung()
    assert [path.name for path in folder.iterdir()] == ["listens"]
    bell.take_down()
    post()
    assert list(folder.iterdir()) == []


def test_folder_that_cannot_be_read_holds_up_no_submission(folder, post):
    if folder.exists():
        folder.rmdir()
    folder.touch()
    post()
    folder.unlink()


def test_submission_rings_at_other_servers_whose_streams_may_follow_it(house, post):
    bell = Doorbell(house.home / "feed-doorbells", "another")
    post()
    assert bell.has_rung()
    bell.take_down()
