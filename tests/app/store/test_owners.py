from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from app.store.attempts import finish
from app.store.controls import cancel_job, pause_job, resume_job
from app.store.errors import IdempotencyConflict, TooManyWaiting, UnknownCursor
from app.store.experiments import find_earlier as find_earlier_experiment
from app.store.experiments import get_experiment, list_experiments
from app.store.exports import record_export
from app.store.job_reports import record_report
from app.store.jobs import create_job, delete_job, find_earlier, get_job, list_jobs
from app.store.keys import create_key
from app.store.owners import owner_of_experiment, owner_of_job, stored_bytes
from app.store.records import NewCheckpoint, NewReport
from app.store.reports import record_epoch
from app.store.scopes import Scope
from app.store.states import Status

PLACE = {"stage": "s", "stage_index": 0, "epoch": 1, "global_epoch": 1}


def test_a_job_has_the_owner_that_it_was_made_for_and_else_nobody(db, post):
    assert post(owner="zoo").owner == "zoo"
    job = post()
    assert (job.owner, owner_of_job(db, job.id), owner_of_job(db, "job_x")) == ("", "", None)


def test_jobs_of_an_experiment_have_its_owner(db, experiment):
    made = experiment(owner="zoo")
    jobs, _ = list_jobs(db, experiment=made.id)
    assert {job.owner for job in jobs} == {made.owner} == {"zoo"}
    assert (owner_of_experiment(db, made.id), owner_of_experiment(db, "exp_x")) == ("zoo", None)


def test_a_retried_job_is_its_parents_owners_whoever_retries_it(db, post):
    old = post(owner="zoo")
    cancel_job(db, old.id)
    parent = get_job(db, old.id)
    assert post(parent=parent, owner="farm").owner == "zoo"


def test_lists_of_an_owner_have_its_own_alone(db, post, experiment):
    mine, theirs = [post(owner="zoo") for _ in range(3)], [post(owner="farm") for _ in range(3)]
    found, more = list_jobs(db, owner="zoo", limit=2)
    assert ([job.id for job in found], more) == ([mine[2].id, mine[1].id], True)
    found, more = list_jobs(db, owner="zoo", after=found[-1].id)
    assert ([job.id for job in found], more) == ([mine[0].id], False)
    assert len(list_jobs(db)[0]) == 6
    with pytest.raises(UnknownCursor):
        list_jobs(db, owner="zoo", after=theirs[0].id)
    first, second = experiment(owner="zoo"), experiment(owner="farm")
    assert [found.id for found in list_experiments(db, owner="zoo")[0]] == [first.id]
    with pytest.raises(UnknownCursor):
        list_experiments(db, owner="zoo", after=second.id)


def test_idempotency_keys_are_each_owners_own(db, post, experiment):
    mine = post(owner="zoo", idempotency_key="k", request_hash="h")
    theirs = post(owner="farm", idempotency_key="k", request_hash="other")
    assert mine.id != theirs.id
    assert post(owner="zoo", idempotency_key="k", request_hash="h").id == mine.id
    assert find_earlier(db, "k", "h", "zoo") == mine
    assert find_earlier(db, "k", "h") is None
    with pytest.raises(IdempotencyConflict):
        find_earlier(db, "k", "h", "farm")
    first = experiment(owner="zoo", idempotency_key="k", request_hash="h")
    assert experiment(owner="farm", idempotency_key="k", request_hash="h").id != first.id
    assert experiment(owner="zoo", idempotency_key="k", request_hash="h").id == first.id
    assert find_earlier_experiment(db, "k", "h") is None


def test_paused_jobs_wait_too_and_ended_ones_do_not(db, post):
    one, two = (post(owner="zoo", most_waiting=2) for _ in range(2))
    pause_job(db, one.id)
    with pytest.raises(TooManyWaiting, match="2 jobs of zoo are queued or paused, and 2 may be"):
        post(owner="zoo", most_waiting=2)
    post(owner="farm", most_waiting=2)
    resume_job(db, one.id)
    cancel_job(db, two.id)
    post(owner="zoo", most_waiting=2)


def test_an_experiment_that_does_not_fit_leaves_nothing(db, post, experiment):
    post(owner="zoo")
    with pytest.raises(TooManyWaiting):
        experiment(owner="zoo", most_waiting=4)
    assert list_experiments(db) == ([], False)
    assert len(list_jobs(db)[0]) == 1
    made = experiment(owner="zoo", most_waiting=5)
    assert get_experiment(db, made.id) == made


@pytest.mark.promise(
    "An owner never has more waiting jobs than the quota, however many requests come at once"
)
def test_requests_at_once_do_not_pass_the_quota_together(db, tried, long):
    rounds = 20 if long else 3
    for number in range(rounds):
        owner = f"zoo{number}"
        for key in range(2):
            create_key(db, sha256=f"{number:02x}{key}{'0' * 61}", scope=Scope.SUBMIT, owner=owner)
        gate = Barrier(16)

        def submit(_, owner=owner, gate=gate):
            gate.wait()
            made = 0
            for _ in range(3):
                try:
                    create_job(db, spec={}, resolved_spec={}, owner=owner, most_waiting=10)
                    made += 1
                except TooManyWaiting:
                    pass
            return made

        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(submit, range(16))) == 10
        assert len(list_jobs(db, owner=owner, limit=100)[0]) == 10
    tried(rounds * 48)


def test_stored_bytes_are_those_of_checkpoints_exports_and_reports(db, post, take):
    post(owner="zoo")
    held = take()
    new = NewCheckpoint("w", 100, "s", state_path="r", state_size=20, state_sha256="t")
    stored = record_epoch(db, held, 60, PLACE, new)
    assert stored is not None
    record_epoch(db, held, 60, {**PLACE, "epoch": 2, "global_epoch": 2}, NewCheckpoint("x", 3, "s"))
    assert stored_bytes(db, "zoo") == 123
    record_export(db, stored.id, "onnx", {"size": 4000})
    record_export(db, stored.id, "other", {"size": 50_000})
    record_report(db, held, 60, NewReport("w", "p", 600_000, "s", "q", 7_000_000, "s"), "made", {})
    assert stored_bytes(db, "zoo") == 7_654_123
    assert stored_bytes(db, "farm") == stored_bytes(db, "") == 0
    cancel_job(db, held.job_id)


def test_what_a_deleted_job_had_stored_counts_no_more(db, post, take):
    post(owner="zoo")
    held = take()
    record_epoch(db, held, 60, PLACE, NewCheckpoint("w", 2**40, "s"))
    assert stored_bytes(db, "zoo") == 2**40
    finish(db, held, Status.SUCCEEDED, "done")
    delete_job(db, held.job_id)
    assert stored_bytes(db, "zoo") == 0
