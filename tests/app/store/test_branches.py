import threading

import pytest

from app.store.attempts import finish, release
from app.store.checkpoints import get_checkpoint, list_checkpoints
from app.store.controls import cancel_job, check_retry
from app.store.errors import CheckpointGone, StillBranched
from app.store.events import list_events
from app.store.experiments import delete_experiment
from app.store.jobs import create_job, delete_job, get_job
from app.store.records import Checkpoint, Job, NewCheckpoint
from app.store.reports import drop_checkpoints, record_epoch
from app.store.states import Status


@pytest.fixture
def write(db):
    """Writes an epoch with its checkpoint."""

    def write(held, number):
        record = {"stage": "all", "stage_index": 0, "epoch": number, "global_epoch": number}
        return record_epoch(db, held, 60, record, NewCheckpoint(f"w{number}", 1, "ab", f"s{number}", 1, "cd"))

    return write


@pytest.fixture
def branch(db):
    """Makes a branch of a job."""

    def make(parent, checkpoint):
        return create_job(db, spec={}, resolved_spec={}, parent=parent, branched_from=checkpoint.id)[0]

    return make


def _kept(db, job):
    return [checkpoint.global_epoch for checkpoint in list_checkpoints(db, job.id)]


def test_branch_says_where_it_comes_from(db, post, take, write, branch):
    parent = post()
    checkpoint = write(take(), 1)
    made = branch(parent, checkpoint)
    assert (made.parent, made.branched_from, made.status) == (parent.id, checkpoint.id, Status.QUEUED)
    assert get_job(db, made.id) == made
    (created,) = list_events(db, made.id)
    assert created.data == {"parent": parent.id, "branched_from": checkpoint.id}


def test_branch_takes_no_place_in_its_parents_experiment(db, experiment, take, write, branch):
    made, held = experiment(), take()
    parent = get_job(db, held.job_id)
    assert parent is not None
    child = branch(parent, write(held, 1))
    assert (parent.experiment, child.experiment, child.variant, child.seed) == (made.id, None, None, None)


@pytest.mark.promise("The checkpoint that a branch starts from is kept until the branch has ended")
@pytest.mark.parametrize("end", ["succeeds", "is cancelled"])
def test_checkpoint_is_kept_until_its_branch_has_ended(db, post, take, write, branch, end):
    parent, held = post(priority=1), take()
    first, second = write(held, 1), write(held, 2)
    child = branch(parent, first)
    assert drop_checkpoints(db, held, 60, [first.id]) == []
    claimed = take("w2")
    assert claimed.job_id == child.id
    assert drop_checkpoints(db, held, 60, [first.id, second.id]) == [second]
    assert _kept(db, parent) == [1]
    release(db, claimed, "paused, perhaps")
    assert drop_checkpoints(db, held, 60, [first.id]) == []
    if end == "succeeds":
        finish(db, take("w3"), Status.SUCCEEDED, "done")
    else:
        cancel_job(db, child.id)
    assert drop_checkpoints(db, held, 60, [first.id]) == [first]


def test_job_is_not_deleted_while_a_branch_of_it_has_not_ended(db, post, take, write, branch):
    parent = post()
    held = take()
    child = branch(parent, write(held, 1))
    finish(db, held, Status.SUCCEEDED, "done")
    with pytest.raises(StillBranched, match=f"job {child.id} starts from a checkpoint of it"):
        delete_job(db, parent.id)
    assert get_checkpoint(db, parent.id, "last") is not None
    cancel_job(db, child.id)
    delete_job(db, parent.id)
    kept = get_job(db, child.id)
    assert kept is not None
    assert kept.parent == parent.id  # where it comes from stays to be seen


def test_experiment_is_not_deleted_while_a_branch_of_it_has_not_ended(db, experiment, take, write, branch):
    made = experiment(variants=("a",), seeds=(0,))
    held = take()
    parent = get_job(db, held.job_id)
    assert parent is not None
    child = branch(parent, write(held, 1))
    finish(db, held, Status.SUCCEEDED, "done")
    with pytest.raises(StillBranched, match=child.id):
        delete_experiment(db, made.id)
    cancel_job(db, child.id)
    assert delete_experiment(db, made.id) == [parent.id]


def test_branch_from_a_checkpoint_that_is_gone_is_refused(db, post, take, write, branch):
    parent, held = post(), take()
    first, _ = write(held, 1), write(held, 2)
    drop_checkpoints(db, held, 60, [first.id])
    with pytest.raises(CheckpointGone, match=first.id):
        branch(parent, first)
    finish(db, held, Status.SUCCEEDED, "done")
    last = get_checkpoint(db, parent.id, "last")
    assert last is not None
    delete_job(db, parent.id)
    with pytest.raises(CheckpointGone, match=last.id):
        branch(parent, last)


def test_retry_of_a_branch_starts_from_the_same_checkpoint(db, post, take, write, branch, reread):
    parent = post()
    held = take()
    first = write(held, 1)
    failed = branch(parent, first)
    finish(db, take("w2"), Status.FAILED, "no luck")
    check_retry(reread(failed))
    again, _ = create_job(db, spec={}, resolved_spec={}, parent=reread(failed))
    assert (again.parent, again.branched_from) == (failed.id, first.id)
    assert drop_checkpoints(db, held, 60, [first.id]) == []
    cancel_job(db, again.id)
    assert drop_checkpoints(db, held, 60, [first.id]) == [first]
    with pytest.raises(CheckpointGone):
        create_job(db, spec={}, resolved_spec={}, parent=reread(failed))


@pytest.mark.promise("The checkpoint that a branch starts from is kept until the branch has ended")
def test_racing_branches_and_retention_leave_no_branch_without_its_checkpoint(
    db, post, take, write, branch, long, tried
):
    rounds = 200 if long else 20
    tried(rounds)
    for number in range(rounds):
        parent = post(priority=1)
        held = take(f"w{number}")
        first = write(held, 1)
        write(held, 2)
        start, made, dropped = threading.Barrier(2), list[Job](), list[Checkpoint]()

        def let_go(held=held, first=first, start=start, dropped=dropped):
            start.wait()
            dropped += drop_checkpoints(db, held, 60, [first.id])

        def start_from(parent=parent, first=first, start=start, made=made):
            start.wait()
            try:
                made.append(branch(parent, first))
            except CheckpointGone:
                return

        threads = [threading.Thread(target=let_go), threading.Thread(target=start_from)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) + len(dropped) == 1
        assert _kept(db, parent) == ([1, 2] if made else [2])
        finish(db, held, Status.SUCCEEDED, "done")
