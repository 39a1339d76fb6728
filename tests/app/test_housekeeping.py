import hashlib
import threading
import time

import httpx
import pytest
from sqlalchemy import update

from app import housekeeping
from app.housekeeping import keep_house, tidy
from app.orphans import remove_orphans
from app.store import controls, retention
from app.store.attempts import finish
from app.store.checkpoints import list_checkpoints
from app.store.errors import StoreUnavailable
from app.store.experiments import create_experiment, get_experiment, list_trials
from app.store.ids import new_id
from app.store.jobs import get_job
from app.store.records import NewTrial
from app.store.retention import old_jobs
from app.store.states import Status
from app.store.tables import experiments, jobs

DAY = 86_400.0


@pytest.fixture
def age(db):
    """Lets jobs have ended, and experiments been made, so many days ago."""

    def shift(days, *ids):
        with db.write() as connection:
            for table, column in ((jobs, "finished_at"), (experiments, "created_at")):
                value = table.c[column] - days * DAY
                connection.execute(update(table).where(table.c.id.in_(ids)).values({column: value}))

    return shift


@pytest.fixture
def run(db, settings):
    """Tidies once with changed settings."""
    return lambda **changes: tidy(db, settings.model_copy(update=changes), threading.Event())


def _files(settings, job):
    return {path.name for path in (settings.artifacts_dir / job).rglob("*") if path.is_file()}


def test_unless_something_is_set_everything_is_kept(db, settings, leave_job, age, run):
    job = leave_job((0.5, 0.7))
    age(10_000, job)
    run()
    assert len(list_checkpoints(db, job)) == 2
    assert len(_files(settings, job)) == 4


@pytest.mark.promise("Old jobs and checkpoints go with their files; younger ones and unended ones stay")
def test_jobs_that_are_older_than_is_kept_go_with_their_files(db, settings, leave_job, age, run):
    old, young, running = leave_job(), leave_job(), leave_job(status=None)
    age(8, old)
    age(6, young)
    run(job_days=7)
    assert get_job(db, old) is None
    assert not (settings.artifacts_dir / old).exists()
    for job in (young, running):
        assert get_job(db, job) is not None
        assert len(_files(settings, job)) == 2


@pytest.mark.promise("Old jobs and checkpoints go with their files; younger ones and unended ones stay")
def test_old_jobs_keep_their_best_checkpoint_alone(db, settings, leave_job, age, run):
    old, young = leave_job((0.5, 0.9, 0.7), best=2), leave_job((0.5, 0.9), best=2)
    exports = settings.artifacts_dir / old / "exports"
    exports.mkdir()
    first, best, _ = list_checkpoints(db, old)
    for checkpoint in (first, best):
        (exports / f"{checkpoint.id}-onnx.zip").touch()
    age(8, old)
    run(checkpoint_days=7)
    assert [checkpoint.id for checkpoint in list_checkpoints(db, old)] == [best.id]
    assert _files(settings, old) == {
        "epoch-00002.safetensors",
        "epoch-00002.state.pt",
        f"{best.id}-onnx.zip",
    }
    assert len(list_checkpoints(db, young)) == 2


def test_old_experiments_go_as_a_whole(db, settings, age, run):
    values = {"id": new_id("exp"), "metadata": {}, "spec": {}, "variants": [], "seeds": [0, 1]}
    trials = [NewTrial("a", seed, "a", {}, 0, 3, {}, {}) for seed in (0, 1)]
    made, _ = create_experiment(db, values | {"metric": "val_accuracy"}, trials)
    first, second = [trial.id for trial in list_trials(db, made.id)]
    for job in (first, second):
        (settings.artifacts_dir / job).mkdir()
    controls.cancel_experiment(db, made.id)
    age(8, made.id, first)
    run(job_days=7)
    assert get_experiment(db, made.id) is not None
    age(8, second)
    run(job_days=7)
    assert get_experiment(db, made.id) is None
    assert list(settings.artifacts_dir.iterdir()) == []


def test_more_jobs_than_are_looked_at_at_once_all_go(db, leave_job, age, run, monkeypatch):
    monkeypatch.setattr(retention, "old_jobs", lambda db, seconds: old_jobs(db, seconds, limit=2))
    old = [leave_job() for _ in range(5)]
    age(8, *old)
    run(job_days=7)
    assert [job for job in old if get_job(db, job) is not None] == []


def test_it_stops_between_two_jobs(db, settings, leave_job, age):
    old = [leave_job() for _ in range(3)]
    age(8, *old)
    stopping = threading.Event()
    stopping.set()
    tidy(db, settings.model_copy(update={"job_days": 7.0}), stopping)
    assert all(get_job(db, job) for job in old)


def test_it_goes_on_after_a_database_that_did_not_answer(db, settings, leave_job, age, monkeypatch):
    job, stopping = leave_job(), threading.Event()
    age(8, job)
    answers = iter([StoreUnavailable()])

    def fail_once(*arguments):
        for error in answers:
            raise error
        stopping.set()
        return remove_orphans(*arguments)

    monkeypatch.setattr(housekeeping, "remove_orphans", fail_once)
    monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 0.01)
    keep_house(db, settings, stopping)
    assert stopping.is_set()


def test_the_server_does_it_when_it_starts(make_house, until, draw_shapes):
    house = make_house(job_days=0.000_001)
    draw_shapes(house.data / "shapes", train=2, val=2)
    server = house.serve()
    spec = {"dataset": {"path": "shapes"}, "backbone": {"name": "tiny_net", "weights": None}}
    with httpx.Client(base_url=house.url, trust_env=False, timeout=60) as client:
        job = client.post("/v1/jobs", json=spec | {"recipe": {"name": "joint", "epochs": 1}}).json()["id"]
        assert client.post(f"/v1/jobs/{job}/cancel").status_code == 200
    (house.artifacts / job).mkdir()
    server.terminate()
    server.wait(20)
    house.serve()
    gone = lambda: httpx.get(f"{house.url}/v1/jobs/{job}", trust_env=False).status_code == 404  # noqa: E731
    until(gone, 20, "the job is removed")
    until(lambda: not (house.artifacts / job).exists(), 20, "its folder is removed")


@pytest.mark.promise("A download that has begun ends whole, whatever is deleted meanwhile")
@pytest.mark.parametrize("end", [None, "bytes=1000000-"])
def test_a_download_outlives_its_job(api, hold, write_epoch, store, house, end):
    content = hashlib.sha256(b"seed").digest() * 500_000  # more than sockets hold
    held = hold()
    write_epoch(held, 1, content=content)
    controls.cancel_job(store, held.job_id)
    finish(store, held, Status.CANCELLED, "cancelled")
    address = f"/v1/jobs/{held.job_id}/checkpoints/last/download"
    with api.stream("GET", address, headers={"Range": end} if end else {}) as response:
        chunks = response.iter_raw(1024)
        received = [next(chunks)]
        assert api.delete(f"/v1/jobs/{held.job_id}").status_code == 204
        assert not (house.artifacts / held.job_id).exists()
        time.sleep(0.1)
        received += chunks
    assert b"".join(received) == content[1_000_000 if end else 0 :]
    assert api.get(address).status_code == 404
