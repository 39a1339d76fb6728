"""Does every job go on that should?"""

from collections.abc import Iterator

from app.doctor.findings import Finding, error, warning, well
from app.settings import Settings
from app.store.database import Database
from app.store.doorbells import count_listening
from app.store.standstill import Waiting, find_standstill

ABOUT = "jobs"
NAMED = 3  # jobs in a message
PATIENCE = 30.0  # seconds that a job may wait for a worker that has just been started


def look(db: Database, settings: Settings) -> Iterator[Finding]:
    """Jobs that nobody takes, whose worker is gone, or that do not stop."""
    now = find_standstill(db)
    workers = count_listening(settings.doorbells_dir)
    lost = [job for job in now.lost if job.seconds > settings.lease_seconds]
    stubborn = [job for job in now.asked if job.seconds > settings.lease_seconds + settings.grace_seconds]
    if lost:
        yield error(
            ABOUT,
            f"nobody takes back {_named(lost)}, whose worker is gone",
            "start the server (`thaw serve`) or a worker (`thaw worker`): either does it within a lease",
        )
    if stubborn:
        yield warning(
            ABOUT,
            f"{_named(stubborn)} should stop, and the worker does not let go",
            f"restart the worker {stubborn[0].worker}",
        )
    waits = now.next
    if waits is not None and not workers and not now.held and waits.seconds > PATIENCE:
        yield warning(
            ABOUT,
            f"{now.queued} wait, the next one ({waits.id}) for {_ago(waits.seconds)}, and no worker is seen",
            "start one: `thaw worker`. One that is idle on another machine cannot be seen from here",
        )
    if not lost and not stubborn:
        yield well(ABOUT, f"{now.held} run, {now.queued} wait, {workers} workers on this machine")


def _named(jobs: list[Waiting]) -> str:
    named = ", ".join(f"{job.id} ({job.status}, {_ago(job.seconds)})" for job in jobs[:NAMED])
    return f"{named} and {len(jobs) - NAMED} more" if len(jobs) > NAMED else named


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
