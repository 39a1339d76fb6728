"""The store held against a model: whatever clients, workers and clocks do, in whatever order."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, update

from app.store import attempts, controls, leases
from app.store.checkpoints import list_checkpoints
from app.store.database import Database
from app.store.epochs import list_epochs
from app.store.errors import LeaseLost, TransitionRefused
from app.store.events import list_events
from app.store.jobs import create_job, get_job
from app.store.migrate import migrate
from app.store.records import Claim, JobError, NewCheckpoint
from app.store.reports import record_epoch
from app.store.resuming import list_points
from app.store.states import ACTIVE, ENDED, TRANSITIONS, Status
from app.store.tables import checkpoints, epochs, events
from app.store.tables import jobs as job_table
from tests.promises import Tried

LEASE = 3600.0
MOST_RESTARTS = 2  # of a run: they take most of the time else
CANCELLED_AT_ONCE = (Status.QUEUED, Status.PAUSED)


@dataclass
class Expected:
    """What a job must be."""

    priority: int
    most: int
    status: Status = Status.QUEUED
    attempt: int = 0
    lost: int = 0
    held: Claim | None = None
    epochs: list[int] = field(default_factory=list)  # the attempt that wrote each
    ended: object = None  # the job as it was when it ended

    def give_back(self) -> Status:
        """Its holder lets go of it."""
        self.held = None
        given = {Status.RUNNING: Status.QUEUED, Status.PAUSING: Status.PAUSED}
        self.status = given.get(self.status, Status.CANCELLED)
        return self.status

    def lose(self) -> Status:
        """Its holder is gone."""
        self.lost += 1
        cancelling = self.status is Status.CANCELLING
        self.give_back()
        if self.lost >= self.most and not cancelling:
            self.status = Status.FAILED
        return self.status


class Store(RuleBasedStateMachine):
    """Every rule does one thing to the store and to the model; every invariant compares the two."""

    posted = Bundle("posted")
    claims = Bundle("claims")

    def __init__(self, new_url: Callable[[], str]) -> None:
        super().__init__()
        self.url = new_url()
        self.db = Database(self.url)
        self.jobs: dict[str, Expected] = {}
        self.looked_at: dict[str, object] = {}
        self.workers = self.restarts = 0

    def teardown(self) -> None:
        """See hypothesis."""
        self.db.dispose()

    @rule(target=posted, priority=st.integers(-1, 1), most=st.integers(1, 3))
    def submit(self, priority: int, most: int) -> str:
        """A client posts a job."""
        job, _ = create_job(self.db, spec={}, resolved_spec={}, priority=priority, max_attempts=most)
        self.jobs[job.id] = Expected(priority, most)
        return job.id

    @rule(target=claims)
    def claim(self) -> Claim | None:
        """A new worker takes the job of the highest priority, then the oldest."""
        waiting = [(-job.priority, at) for at, job in enumerate(self.jobs.values()) if job.status == "queued"]
        self.workers += 1
        claim = attempts.claim(self.db, f"worker-{self.workers}", LEASE)
        if not waiting:
            assert claim is None
            return None
        assert claim is not None
        assert claim.job_id == list(self.jobs)[min(waiting)[1]]
        job = self.jobs[claim.job_id]
        job.status, job.attempt, job.held = Status.RUNNING, job.attempt + 1, claim
        assert claim.attempt == job.attempt
        points = list_points(self.db, claim)
        assert (points[0].global_epoch if points else 0) == len(job.epochs)
        return claim

    def written(self, claim: Claim | None, write: Callable[[Claim], object]) -> Expected | None:
        """Writes as a worker does. Gives its job, if it holds it; if not, the write must change nothing."""
        if claim is None:
            return None
        job = self.jobs[claim.job_id]
        if job.held == claim:
            write(claim)
            return job
        before = self.seen(claim.job_id)
        with pytest.raises(LeaseLost):
            write(claim)
        assert self.seen(claim.job_id) == before
        return None

    def seen(self, job_id: str) -> tuple[object, ...]:
        """All that clients see of a job."""
        return (
            get_job(self.db, job_id),
            list_epochs(self.db, job_id),
            list_checkpoints(self.db, job_id),
            list_events(self.db, job_id),
        )

    @rule(claim=claims)
    def heartbeat(self, claim: Claim | None) -> None:
        """A worker says that it lives, or a woken one that it would like to."""
        said: list[Status] = []
        job = self.written(claim, lambda c: said.append(attempts.heartbeat(self.db, c, LEASE, {"step": 1})))
        if job:
            assert said == [job.status]

    @rule(claim=claims)
    def end_epoch(self, claim: Claim | None) -> None:
        """An epoch with its checkpoint."""

        def write(claim: Claim) -> None:
            number = len(self.jobs[claim.job_id].epochs) + 1
            record = {"stage": "all", "stage_index": 0, "epoch": number, "global_epoch": number}
            new = NewCheckpoint(f"w{number}", 1, "ab", f"s{number}", 1, "cd")
            record_epoch(self.db, claim, LEASE, record, new)

        job = self.written(claim, write)
        if job:
            job.epochs.append(job.attempt)

    @rule(claim=claims, status=st.sampled_from([Status.SUCCEEDED, Status.FAILED]))
    def finish(self, claim: Claim | None, status: Status) -> None:
        """The attempt ends the job; one that is to be cancelled is cancelled whatever the attempt says."""
        error = JobError("internal", "broken") if status is Status.FAILED else None
        job = self.written(claim, lambda c: attempts.finish(self.db, c, status, "over", error=error))
        if job:
            job.status = Status.CANCELLED if job.status is Status.CANCELLING else status
            job.held = None

    @rule(claim=claims)
    def release(self, claim: Claim | None) -> None:
        """The worker gives the job back."""
        said: list[Status] = []
        job = self.written(claim, lambda c: said.append(attempts.release(self.db, c, "stopped")))
        if job:
            assert said == [job.give_back()]

    @rule(claim=claims)
    def break_off(self, claim: Claim | None) -> None:
        """The attempt's process dies, and its worker says so."""
        said: list[Status] = []
        job = self.written(claim, lambda c: said.append(leases.lose(self.db, c, "killed")))
        if job:
            assert said == [job.lose()]

    @rule(chosen=st.data())
    def expire(self, chosen: st.DataObject) -> None:
        """Leases run out, and a sweep takes those jobs back and no others."""
        held = [job_id for job_id, job in self.jobs.items() if job.held]
        gone = chosen.draw(st.lists(st.sampled_from(held), unique=True)) if held else []
        with self.db.write() as connection:
            connection.execute(update(job_table).where(job_table.c.id.in_(gone)).values(lease_until=0.0))
        assert sorted(leases.sweep(self.db)) == sorted(gone)
        for job_id in gone:
            self.jobs[job_id].lose()

    def asked(
        self, job_id: str, ask: Callable[[Database, str], object], goals: dict[Status, Status]
    ) -> Status | None:
        """Asks for something that is possible in the states of `goals` alone, and gives what it was."""
        job = self.jobs[job_id]
        if job.status not in goals:
            with pytest.raises(TransitionRefused):
                ask(self.db, job_id)
            return None
        ask(self.db, job_id)
        was, job.status = job.status, goals[job.status]
        return was

    @rule(job_id=posted)
    def cancel(self, job_id: str) -> None:
        """A client cancels."""
        goals = dict.fromkeys(CANCELLED_AT_ONCE, Status.CANCELLED)
        self.asked(job_id, controls.cancel_job, goals | dict.fromkeys(ACTIVE, Status.CANCELLING))

    @rule(job_id=posted)
    def pause(self, job_id: str) -> None:
        """A client pauses."""
        waits = dict.fromkeys((Status.QUEUED, Status.PAUSED), Status.PAUSED)
        runs = dict.fromkeys((Status.RUNNING, Status.PAUSING), Status.PAUSING)
        self.asked(job_id, controls.pause_job, waits | runs)

    @rule(job_id=posted)
    def resume(self, job_id: str) -> None:
        """A client resumes."""
        self.asked(job_id, controls.resume_job, {Status.PAUSED: Status.QUEUED})

    @rule(target=posted, job_id=posted)
    def retry(self, job_id: str) -> str:
        """A client wants a job once more: another one, whose parent it is; or it may not."""
        old = get_job(self.db, job_id)
        assert old is not None
        if self.jobs[job_id].status not in (Status.FAILED, Status.CANCELLED):
            with pytest.raises(Exception, match=job_id):
                controls.check_retry(old)
            return job_id
        controls.check_retry(old)
        job, _ = create_job(self.db, spec={}, resolved_spec={}, parent=old)
        assert job.parent == job_id
        self.jobs[job.id] = Expected(0, job.max_attempts)
        return job.id

    @precondition(lambda self: self.restarts < MOST_RESTARTS)
    @rule()
    def restart(self) -> None:
        """The server is ended and started again."""
        self.restarts += 1
        self.db.dispose()
        migrate(self.url)
        self.db = Database(self.url)

    @invariant()
    def jobs_are_as_expected(self) -> None:
        """Each job is, where a row of it or what is expected of it is not as it was at the last look."""
        rows = self.rows()
        for job_id, job in self.jobs.items():
            now = (rows[job_id], job.status, job.attempt, job.held, tuple(job.epochs))
            if self.looked_at.get(job_id) != now:
                self.check_standing(job_id, job)
                self.check_epochs(job_id, job)
                self.check_way(job_id, job)
                self.looked_at[job_id] = now

    def rows(self) -> dict[str, list[object]]:
        """All rows of each job, in a few queries: asking for each job costs most of the time else."""
        with self.db.read() as connection:
            ids = {row.seq: row for row in connection.execute(select(job_table))}
            found: dict[str, list[object]] = {row.id: [tuple(row)] for row in ids.values()}
            for table in (epochs, checkpoints, events):
                for row in connection.execute(select(table).order_by(*table.primary_key)):
                    found[ids[row.job_seq].id].append((table.name, *row))
        return found

    def check_standing(self, job_id: str, job: Expected) -> None:
        """Status, attempt, holder and losses; and a job that has ended never changes again."""
        found = get_job(self.db, job_id)
        assert found is not None
        assert (found.status, found.attempt) == (job.status, job.attempt)
        assert found.worker == (job.held.worker if job.held else None)
        assert (found.status in ACTIVE) == (job.held is not None)
        if found.status in ENDED:
            assert found.finished_at is not None
            job.ended = job.ended or found
            assert found == job.ended

    def check_epochs(self, job_id: str, job: Expected) -> None:
        """Every epoch has its row, its checkpoint, and the attempt that wrote it."""
        found = list_epochs(self.db, job_id)
        assert [epoch.record["global_epoch"] for epoch in found] == list(range(1, len(job.epochs) + 1))
        assert [epoch.attempt for epoch in found] == job.epochs
        assert len(list_checkpoints(self.db, job_id)) == len(job.epochs)

    def check_way(self, job_id: str, job: Expected) -> None:
        """Each status in a job's events follows from the one before by the one table of transitions."""
        told = [event.type.removeprefix("job.") for event in list_events(self.db, job_id)]
        way = [Status.QUEUED, *(Status(name) for name in told if name in Status._value2member_map_)]
        for before, after in pairwise(way):
            assert after in TRANSITIONS[before], way
        assert way[-1] is job.status


@pytest.fixture
def new_url(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Gives the address of an empty database each time, of the kind that the test is for."""
    if url.startswith("postgresql"):
        yield request.getfixturevalue("postgresql").empty_database
        return
    memory = Path("/dev/shm")  # where there is one: tens of thousands of commits wait for a disk
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        path = Path(folder, "thaw.db")

        def copy() -> str:
            shutil.copy(tmp_path / "thaw.db", path)
            for suffix in ("-wal", "-shm"):
                path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
            return f"sqlite:///{path}"

        yield copy


@pytest.mark.promise("States change by one table alone, whatever is done in whatever order")
@pytest.mark.timeout(4 * 3600)
def test_the_store_does_what_the_model_says_in_any_order(
    new_url: Callable[[], str], long: bool, tried: Tried
) -> None:
    profile = settings(
        max_examples=250 if long else 200,
        stateful_step_count=100 if long else 50,
        deadline=None,
        derandomize=not long,
        suppress_health_check=list(HealthCheck),
    )
    tried(profile.max_examples)
    run_state_machine_as_test(lambda: Store(new_url), settings=profile)  # type: ignore[arg-type]  # a factory will do
