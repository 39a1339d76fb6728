"""Files that are cut off, and files with flipped bits."""

import random
import signal

import pytest

from app.store.checkpoints import list_checkpoints
from app.store.epochs import list_epochs
from app.store.events import list_events
from finetune.checkpoint import sha256_of
from tests.reliability.conftest import end
from tests.reliability.test_kills import check
from worker.attempt import first_sound
from worker.orders import ResumePoint

# What is written then is tested with both databases: tests/app/store.
pytestmark = pytest.mark.parametrize("place", ["sqlite"], indirect=True)

PROMISE = "A checkpoint that is cut off or has a flipped bit is never used: the one before is, with a warning"
CUTS, FLIPS = 20, 50


def damages(dice):
    """Functions that damage a file's bytes: each cuts them off somewhere, or flips one bit."""
    for at in sorted(dice.random() for _ in range(CUTS)):
        yield lambda content, at=at: content[: int(at * len(content))]
    for _ in range(FLIPS):
        place, bit = dice.random(), dice.randrange(8)
        yield lambda content, place=place, bit=bit: _flipped(content, int(place * len(content)), bit)


def _flipped(content, at, bit):
    return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]


@pytest.fixture
def broken_off(place, proc, until):
    """Gives a job some of whose epochs are done, and which has no worker any more."""

    def make(epochs=4, **changes):
        pid = place.work()
        job = place.post(**changes)
        until(lambda: len(list_epochs(place.db, job)) >= epochs, 30, "some epochs are done")
        family = [pid, *proc.descendants(pid)]
        for victim in family:
            end(victim, signal.SIGKILL)
        until(lambda: not any(map(proc.alive, family)), 10, "the worker is gone")
        assert not place.ended(job)
        return job

    return make


def damage(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.promise(PROMISE)
def test_no_cut_and_no_flipped_bit_in_either_file_goes_unseen(place, broken_off, tried):
    checkpoints = list_checkpoints(place.db, broken_off(checkpoints={"keep_last": 3}))[-2:]
    older, newest = (_point(place, one) for one in checkpoints)
    assert first_sound([newest, older]) == (newest, [])
    for path in (newest.weights, newest.state):
        content = path.read_bytes()
        for change in damages(random.Random(str(path.suffix))):
            path.write_bytes(change(content))
            assert first_sound([newest, older]) == (older, [(newest, path.name)])
            tried(1)
        path.unlink()
        assert first_sound([newest, older]) == (older, [(newest, path.name)])
        path.write_bytes(content)
    assert first_sound([newest, older]) == (newest, [])


def _point(place, checkpoint):
    weights, state = place.files(checkpoint)
    assert sha256_of(weights) == checkpoint.sha256
    hashes = {"weights_sha256": checkpoint.sha256, "state_sha256": checkpoint.state_sha256}
    return ResumePoint(checkpoint.id, "", state, weights=weights, **hashes)


@pytest.mark.promise(PROMISE)
@pytest.mark.timeout(2 * 3600)
def test_a_job_whose_newest_checkpoint_is_damaged_goes_on_exactly_from_the_one_before(
    place, worker, broken_off, uninterrupted, until, long, tried
):
    """With what the spec keeps by itself: one checkpoint, the last and best."""
    dice = random.Random(7)
    some = list(damages(dice))[:: 5 if long else CUTS + FLIPS - 1]
    for change in some:
        job = broken_off(checkpoints={})
        before, newest = list_checkpoints(place.db, job)[-2:]
        damage(dice.choice(place.files(newest)), change)
        pid = worker()
        until(lambda job=job: place.ended(job), 60, "the job has ended")
        check(place, job, uninterrupted)
        (told,) = [event for event in list_events(place.db, job, limit=1000) if event.type == "job.fell_back"]
        assert told.level == "warning"
        assert told.message.startswith(f"damaged, and not used: epoch {newest.global_epoch} (epoch-0")
        assert told.message.endswith(f"; goes on from epoch {before.global_epoch}")
        assert (told.data["damaged"], told.data["point"]) == ([newest.id], before.id)
        assert newest.id not in [one.id for one in list_checkpoints(place.db, job)]
        end(pid)
        tried(1)


@pytest.mark.promise(PROMISE)
def test_a_damaged_state_within_an_epoch_is_not_used_and_without_any_sound_file_the_job_begins_anew(
    place, worker, broken_off, uninterrupted, until
):
    job = broken_off(checkpoints={"every_steps": 1})
    for path in (place.artifacts / job).rglob("epoch-*"):
        damage(path, lambda content: content[:-1])
    worker()
    until(lambda: place.ended(job), 60, "the job has ended")
    check(place, job, uninterrupted)
    (told,) = [event for event in list_events(place.db, job, limit=1000) if event.type == "job.fell_back"]
    assert told.message.endswith("; begins anew")
    assert len(told.data["damaged"]) >= 2
    best = place.look(job).best["checkpoint"]
    assert best in [one.id for one in list_checkpoints(place.db, job)]
