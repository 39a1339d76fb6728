"""What is asked often costs no more with 100,000 jobs than with ten: in steps and rows, not in seconds."""

import json
from contextlib import contextmanager

import pytest
from sqlalchemy import event, text

from app.store.attempts import claim, heartbeat
from app.store.checkpoints import get_checkpoint, list_checkpoints
from app.store.epochs import list_epochs
from app.store.events import list_events, look_for_events
from app.store.experiments import list_experiments
from app.store.jobs import get_job, list_jobs
from app.store.leases import sweep
from app.store.retention import old_jobs
from app.store.standstill import find_standstill
from app.store.states import Status
from tests.databases import only_sqlite

FEW, MANY = 10, 100_000
MORE = 1.5  # times the steps; an index of a larger table may be a level deeper, and no more
ROWS = 400  # that a question may look at in PostgreSQL, however many there are: a page is 20 jobs

# A tenth waits, the others have succeeded; one has a pair of metadata that no other one has.
_JOBS = """
INSERT INTO jobs (id, status, status_reason, created_at, finished_at, priority, attempt, lost_attempts,
    max_attempts, spec, resolved_spec)
SELECT 'job_' || n, CASE WHEN n % 10 = 0 THEN 'queued' ELSE 'succeeded' END, 'because', 1000.0 + n,
    CASE WHEN n % 10 = 0 THEN NULL ELSE 2000000000.0 END, n % 3, 1, 0, 3, '{}', '{}'
FROM numbers
"""
_PAIRS = """
INSERT INTO job_metadata (job_seq, key, value)
SELECT seq, 'team', CASE WHEN seq % 2 = 0 THEN 'zoo' ELSE 'farm' END FROM jobs
"""
_RARE = "INSERT INTO job_metadata (job_seq, key, value) SELECT min(seq), 'only', 'one' FROM jobs"
_EVENTS = """
INSERT INTO events (job_seq, type, level, message, data, created_at)
SELECT seq, 'job.created', 'info', 'waits', '{}', 1000.0 FROM jobs
"""
_NUMBERS = """
WITH RECURSIVE numbers (n) AS (SELECT {start} UNION ALL SELECT n + 1 FROM numbers WHERE n < {end})
"""


@pytest.fixture
def fill(db):
    """Makes jobs from number `start` to `end`, each with a pair of metadata and an event."""

    def fill(start, end):
        numbers = _NUMBERS.format(start=start, end=end)
        with db.write() as connection:
            connection.execute(text(numbers + _JOBS))
            for table in ("job_metadata", "events"):
                connection.execute(text(f"DELETE FROM {table}"))
            for made in (_PAIRS, _RARE, _EVENTS):
                connection.execute(text(made))
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))

    return fill


@pytest.fixture
def questions(db, post, take):
    """What clients, pages, workers and the server ask again and again, by name."""
    ours = post(priority=10)
    held = take(lease_seconds=3600)
    seen = list_events(db, ours.id)[-1].id
    return {
        "get": lambda: get_job(db, ours.id),
        "list": lambda: list_jobs(db),
        "list after": lambda: list_jobs(db, after=ours.id),
        "list what waits": lambda: list_jobs(db, status=Status.QUEUED),
        "list what failed": lambda: list_jobs(db, status=Status.FAILED),
        "list by a common pair": lambda: list_jobs(db, metadata={"team": "zoo"}),
        "list by a rare pair": lambda: list_jobs(db, metadata={"only": "one"}),
        "list by a pair that none has": lambda: list_jobs(db, metadata={"team": "none"}),
        "list by a rare pair first": lambda: list_jobs(db, metadata={"only": "one", "team": "zoo"}),
        "list of no experiment": lambda: list_jobs(db, experiment="exp_none"),
        "experiments": lambda: list_experiments(db),
        "poll events": lambda: list_events(db, ours.id, after=seen),
        "poll many": lambda: look_for_events(db, {ours.id: seen, "job_1": None}),
        "poll epochs": lambda: list_epochs(db, ours.id, after_epoch=1),
        "poll checkpoints": lambda: list_checkpoints(db, ours.id),
        "last checkpoint": lambda: get_checkpoint(db, ours.id, "last"),
        "heartbeat": lambda: heartbeat(db, held, 3600),
        "claim": lambda: claim(db, "w2", 3600),
        "sweep": lambda: sweep(db),
        "what is old": lambda: old_jobs(db, 86_400.0),
    }


@contextmanager
def _counted_steps(db):
    """Counts what SQLite's machine does for the statements inside: the same number every time."""
    steps = [0]

    def step():
        steps[0] += 1
        return 0

    def begin(connection, *rest):
        connection.connection.driver_connection.set_progress_handler(step, 1)

    event.listen(db.engine, "before_cursor_execute", begin)
    try:
        yield steps
    finally:
        event.remove(db.engine, "before_cursor_execute", begin)
        db.dispose()  # the connections that count


@contextmanager
def _statements(db):
    noted = []
    note = lambda c, cursor, sql, parameters, *rest: noted.append((sql, parameters))  # noqa: E731
    event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield noted
    finally:
        event.remove(db.engine, "before_cursor_execute", note)


def _steps(db, ask):
    with _counted_steps(db) as steps:
        ask()
    return steps[0]


def _rows(db, ask):
    """How many rows PostgreSQL looks at, by its own count, and its plans."""
    with _statements(db) as noted:
        ask()
    looked, plans = 0, []
    for sql, parameters in noted:
        if sql.lstrip().startswith(("SELECT", "UPDATE", "DELETE")):
            with db.engine.connect() as connection:  # it really does it, and rolls back
                explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters)
                plan = explained.scalar_one()
                connection.rollback()
            (top,) = json.loads(plan) if isinstance(plan, str) else plan
            looked += sum(_looked_at(node) for node in _nodes(top["Plan"]))
            plans.append(top["Plan"])
    assert plans
    return looked, plans


def _nodes(plan):
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def _looked_at(node):
    if not node["Node Type"].endswith("Scan"):
        return 0
    removed = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
    return (node["Actual Rows"] + removed) * node["Actual Loops"]


@pytest.mark.promise("With 100,000 jobs, what is asked often costs the database as much as with ten")
def test_what_is_asked_often_costs_the_same_with_a_hundred_thousand_jobs(db, fill, questions, tried):
    fill(1, FEW)
    if db.engine.dialect.name == "sqlite":
        few = {name: _steps(db, ask) for name, ask in questions.items()}
        fill(FEW + 1, MANY)
        many = {name: _steps(db, ask) for name, ask in questions.items()}
        print({name: (few[name], many[name]) for name in questions})
        # A page of twenty may be less than half full where there are ten.
        page = max(few["list"], few["list what waits"]) * 20 / FEW
        dearer = {n: (few[n], many[n]) for n in questions if many[n] > max(MORE * few[n], page)}
        assert dearer == {}
    else:
        fill(FEW + 1, MANY)
        found = {name: _rows(db, ask) for name, ask in questions.items()}
        print({name: rows for name, (rows, _) in found.items()})
        assert {name: plans for name, (rows, plans) in found.items() if rows > ROWS} == {}
    tried(len(questions))


@only_sqlite
def test_a_standstill_is_found_without_looking_at_the_jobs_that_have_ended(db, fill, post):
    fill(1, MANY)
    post()
    assert _steps(db, lambda: find_standstill(db)) < MANY
