"""Workers and attempts that are killed, stopped and cancelled in the middle of a job."""

import os
import signal
import time

import httpx
import pytest

EPOCHS = 8
EXACT = "Killed any number of times, a job ends with the very bytes of one that nothing happened to"


@pytest.fixture(scope="module")
def slow_spec(make_spec):
    """One that takes a few seconds, with momentum, augmentation and two stages to get wrong."""
    stages = make_spec()["stages"]
    stages[0] |= {"epochs": 2}
    stages[1] |= {"epochs": EPOCHS - 2, "lr": {"schedule": {"name": "cosine", "lr": 0.05, "end_lr": 0.001}}}
    stages[1]["augmentation"] = "standard"
    return make_spec(backbone={"name": "tiny_slow", "weights": None}, stages=stages, batch_size=6)


@pytest.fixture(scope="module")
def uninterrupted(rough, slow_spec, ended, tmp_path_factory, read_weights):
    """The last weights of a run that nothing happened to."""
    process = rough.work()
    job = ended(rough.client, rough.client.submit(slow_spec).id)
    process.terminate()
    assert process.wait(20) == 0
    assert job.status == "succeeded", job.error
    folder = tmp_path_factory.mktemp("uninterrupted")
    return read_weights(rough.client.download(job.id, "last", folder)).bytes


@pytest.fixture
def begin(rough, slow_spec, until):
    """Submits a job and waits until some of its epochs are done."""

    def submit(**changes):
        job = rough.client.submit(slow_spec | changes)
        until(lambda: len(rough.client.metrics(job.id)) >= 3, 60, "three epochs are done")
        assert rough.client.job(job.id).status == "running"
        return job

    return submit


def check_exact(rough, job, tmp_path, read_weights, uninterrupted, attempts):
    assert job.status == "succeeded", job.error
    records = rough.client.metrics(job.id)
    assert [record.global_epoch for record in records] == list(range(1, EPOCHS + 1))
    tried = [record.attempt for record in records]
    assert tried == sorted(tried)
    assert set(tried) == set(attempts)
    last = read_weights(rough.client.download(job.id, "last", tmp_path))
    assert last.bytes == uninterrupted
    kept = {f"epoch-{c.global_epoch:05d}.safetensors" for c in rough.client.checkpoints(job.id)}
    assert kept <= {path.name for path in (rough.artifacts / job.id).rglob("*")}


@pytest.mark.promise(EXACT)
def test_job_of_a_killed_worker_goes_on_from_its_last_epoch(
    rough, worker, begin, ended, uninterrupted, tmp_path, read_weights, proc, until
):
    process = worker()
    job = begin()
    family = proc.descendants(process.pid)
    process.kill()
    process.wait()
    done = len(rough.client.metrics(job.id))
    until(lambda: not any(proc.alive(pid) for pid in family), 15, "the attempt is gone")
    worker()
    after = ended(rough.client, job.id)
    check_exact(rough, after, tmp_path, read_weights, uninterrupted, attempts=(1, 2))
    records = rough.client.metrics(job.id)
    assert sum(record.attempt == 1 for record in records) >= done
    lost = [event for event in rough.client.events(job.id) if (event.data or {}).get("code") == "worker_lost"]
    assert len(lost) == 1


@pytest.mark.promise(EXACT)
def test_job_of_a_killed_attempt_goes_on_from_its_last_epoch(
    rough, worker, begin, ended, uninterrupted, tmp_path, read_weights, proc
):
    process = worker()
    job = begin()
    (attempt,) = proc.attempts(process.pid)
    os.kill(attempt, signal.SIGKILL)
    after = ended(rough.client, job.id)
    check_exact(rough, after, tmp_path, read_weights, uninterrupted, attempts=(1, 2))
    assert process.poll() is None
    assert any("ended by SIGKILL" in event.message for event in rough.client.events(job.id))


@pytest.mark.promise("A worker that is asked to stop saves and gives its job back, and no attempt is charged")
def test_worker_that_is_stopped_gives_its_job_back_and_the_next_one_ends_it(
    rough, worker, begin, ended, uninterrupted, tmp_path, read_weights
):
    process = worker()
    job = begin(max_attempts=1)  # with a lost attempt the job would fail
    begun = time.monotonic()
    process.terminate()
    assert process.wait(20) == 0
    assert time.monotonic() - begun < 10
    given_back = rough.client.job(job.id)
    assert (given_back.status, given_back.status_reason) == ("queued", "given back by its worker")
    worker()
    after = ended(rough.client, job.id)
    check_exact(rough, after, tmp_path, read_weights, uninterrupted, attempts=(1, 2))


@pytest.mark.promise("A job that kills its worker each time is worker_lost in the end; the next one runs")
def test_job_whose_attempts_are_all_killed_is_lost(rough, worker, begin, ended, proc):
    process = worker()
    job = begin(max_attempts=1)
    (attempt,) = proc.attempts(process.pid)
    os.kill(attempt, signal.SIGKILL)
    failed = ended(rough.client, job.id)
    assert (failed.status, failed.error.code) == ("failed", "worker_lost")
    assert process.poll() is None


@pytest.mark.promise("Cancel frees the device within one step and one heartbeat, whatever the job is doing")
def test_cancelled_job_frees_the_worker_for_the_next(rough, worker, begin, ended, proc, until, make_spec):
    process = worker()
    job = begin()
    following = rough.client.submit(make_spec())
    (attempt,) = proc.attempts(process.pid)
    begun = time.monotonic()
    assert rough.client.cancel(job.id).status in ("cancelling", "cancelled")
    cancelled = ended(rough.client, job.id, 10)
    assert time.monotonic() - begun < 5
    assert (cancelled.status, cancelled.error, cancelled.worker) == ("cancelled", None, None)
    assert not proc.alive(attempt)
    epochs = rough.client.metrics(job.id)
    assert ended(rough.client, following.id).status == "succeeded"
    assert rough.client.metrics(job.id) == epochs
    rough.client.download(job.id, "last", rough.root / "cancelled.safetensors")  # what was saved stays


@pytest.mark.promise("A paused job goes on exactly when it is resumed")
def test_paused_job_goes_on_exactly_when_it_is_resumed(
    rough, worker, begin, ended, uninterrupted, tmp_path, read_weights, until
):
    worker()
    job = begin()
    address = f"{rough.url}/v1/jobs/{job.id}"
    assert httpx.post(f"{address}/pause", trust_env=False).json()["status"] == "pausing"
    until(lambda: rough.client.job(job.id).status == "paused", 10, "the job is paused")
    httpx.post(f"{address}/resume", trust_env=False)
    after = ended(rough.client, job.id)
    check_exact(rough, after, tmp_path, read_weights, uninterrupted, attempts=(1, 2))


@pytest.mark.promise(EXACT)
def test_range_test_whose_attempt_is_killed_begins_again_with_the_same_curve(
    rough, worker, slow_spec, ended, proc, until
):
    process = worker()
    stages = [slow_spec["stages"][1]]
    spec = slow_spec | {"stages": stages, "range_test": {"steps": 60, "end_lr": 0.01}}
    job = rough.client.find_lr(spec)

    def begun():
        progress = rough.client.job(job.id).progress
        return progress is not None and progress.step >= 10

    until(begun, 60, "ten steps are done")
    (attempt,) = proc.attempts(process.pid)
    os.kill(attempt, signal.SIGKILL)
    after = ended(rough.client, job.id)
    assert (after.status, after.attempt, after.best) == ("succeeded", 2, None), after.error
    again = ended(rough.client, rough.client.find_lr(spec).id)
    assert after.result == again.result
    assert len(after.result["range_test"]["curve"]) == 60
