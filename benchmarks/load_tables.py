"""What clients and workers ask all the time, timed with ten jobs in the table and with 100,000."""

import statistics
import time
from collections.abc import Callable
from functools import partial

from app.store.attempts import claim, heartbeat, release
from app.store.database import Database
from app.store.epochs import list_epochs
from app.store.events import list_events
from app.store.jobs import get_job, insert_job, list_jobs
from app.store.migrate import migrate
from app.store.states import Status

FEW, MANY = 10, 100_000
CALLS = 200  # of each question in a repeat
TOGETHER = 1000  # jobs that are stored in one transaction
SPEC = {"notes": "about as long as a real spec is " * 60}

Question = Callable[[], object]


def measure(url: str, repeats: int) -> None:
    """Prints the median milliseconds of each question, for both sizes."""
    migrate(url)
    db = Database(url)
    try:
        _fill(db, FEW)
        few = _times(db, repeats)
        _fill(db, MANY - FEW)
        many = _times(db, repeats)
    finally:
        db.dispose()
    print(f"{'milliseconds':24}{FEW:>12,}{MANY:>12,}")
    for name in few:
        print(f"{name:24}{few[name]:12.3f}{many[name]:12.3f}")


def _fill(db: Database, number: int) -> None:
    same = {"spec": SPEC, "resolved_spec": SPEC, "max_attempts": 3}
    for start in range(0, number, TOGETHER):
        with db.write() as connection:
            for count in range(start, min(start + TOGETHER, number)):
                team = "zoo" if count % 2 else "farm"
                insert_job(connection, {**same, "priority": count % 3}, {"team": team})


def _times(db: Database, repeats: int) -> dict[str, float]:
    found = dict[str, list[float]]()
    for _ in range(repeats):
        for name, ask in _questions(db).items():
            begun = time.perf_counter()
            for _ in range(CALLS):
                ask()
            found.setdefault(name, []).append((time.perf_counter() - begun) / CALLS * 1000)
    return {name: statistics.median(times) for name, times in found.items()}


def _questions(db: Database) -> dict[str, Question]:
    (newest, *_), _ = list_jobs(db, limit=2)
    return {
        "get": partial(get_job, db, newest.id),
        "list": partial(list_jobs, db),
        "list what waits": partial(list_jobs, db, status=Status.QUEUED),
        "list by metadata": partial(list_jobs, db, metadata={"team": "zoo"}),
        "poll epochs": partial(list_epochs, db, newest.id, 1),
        "poll events": partial(list_events, db, newest.id, 1),
        "claim and give back": partial(_claim, db),
    }


def _claim(db: Database) -> None:
    held = claim(db, "load", 60.0)
    if held is None:
        raise RuntimeError("no job waits")
    heartbeat(db, held, 60.0)
    release(db, held, "measured")
