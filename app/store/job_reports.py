from dataclasses import asdict, fields

from sqlalchemy import Connection, delete, insert, select

from app.store.database import Database, db_now
from app.store.events import add_event
from app.store.leases import renew
from app.store.records import Claim, Json, NewReport, Report
from app.store.tables import checkpoints, of_job, reports

_COLUMNS = [reports.c[field.name] for field in fields(Report)]


def get_report(db: Database, job_id: str) -> Report | None:
    """Return the report of a job; None where it has none."""
    with db.read() as connection:
        row = connection.execute(select(*_COLUMNS).where(of_job(reports, job_id))).mappings().one_or_none()
    return Report(**row) if row else None


def record_report(
    db: Database, claim: Claim, lease_seconds: float, report: NewReport, message: str, data: Json
) -> Report | None:
    """Write the report of the attempt, in the place of an earlier attempt's, and the event of it.

    Args:
        db: the database.
        claim: the worker's hold on the job.
        lease_seconds: the lease ends so many seconds from now.
        report: files that are complete on disk.
        message: what the event says.
        data: what the event holds; no NaN.

    Returns:
        The earlier report, whose files can now be deleted; None where there was none.

    Raises:
        LeaseLost: the attempt no longer holds the job.
    """
    values = {name: value for name, value in asdict(report).items() if name != "weights_path"}
    with db.write() as connection:
        renew(connection, claim, lease_seconds)
        checkpoint = _checkpoint_with(connection, claim, report.weights_path)
        drop = delete(reports).where(reports.c.job_seq == claim.seq).returning(*_COLUMNS)
        earlier = connection.execute(drop).mappings().one_or_none()
        connection.execute(
            insert(reports).values(
                job_seq=claim.seq,
                attempt=claim.attempt,
                checkpoint=checkpoint,
                created_at=db_now(),
                **values,
            )
        )
        told = {"attempt": claim.attempt, "checkpoint": checkpoint, **data}
        add_event(connection, claim.seq, "job.report", message, data=told)
        return Report(**earlier) if earlier else None


def _checkpoint_with(connection: Connection, claim: Claim, path: str) -> str:
    of_claim = (checkpoints.c.job_seq == claim.seq) & (checkpoints.c.path == path)
    found: str = connection.execute(select(checkpoints.c.id).where(of_claim)).scalar_one()
    return found
