from collections.abc import Sequence
from math import ceil

from sqlalchemy import Connection, and_, func, or_, select

from app.store.database import Database
from app.store.records import Curve
from app.store.tables import epochs, jobs


def list_curves(db: Database, ids: Sequence[str], points: int, owner: str | None = None) -> list[Curve]:
    """Return how the metrics went by which the best checkpoints of jobs are chosen.

    Args:
        db: the database.
        ids: of jobs; those that are not there are left out.
        points: at most so many of a curve, at least 2; the first and the last epoch are always among them.
        owner: only jobs of this owner.
    """
    weights = jobs.c.resolved_spec["checkpoints"]["weights"].as_string()
    query = select(jobs.c.seq, jobs.c.id, jobs.c.best, weights.label("weights")).where(jobs.c.id.in_(ids))
    if owner is not None:
        query = query.where(jobs.c.owner == owner)
    with db.read() as connection:
        found = connection.execute(query).all()
        metrics = {row.seq: (row.best or {}).get("metric") for row in found}
        values = _values(connection, [seq for seq, metric in metrics.items() if metric], points)
    curves = []
    for row in found:
        metric = metrics[row.seq]
        told = [
            (epoch, ema if row.weights == "ema" and ema else val)
            for epoch, val, ema in values.get(row.seq, ())
        ]
        name = str(metric).removeprefix("val_")
        curves.append(Curve(row.id, metric, [(epoch, figures.get(name)) for epoch, figures in told]))
    return curves


_Points = dict[int, list[tuple[int, dict[str, float | None], dict[str, float | None] | None]]]


def _values(connection: Connection, seqs: Sequence[int], points: int) -> _Points:
    """The figures of the epochs that stand for all, by job."""
    if not seqs:
        return {}
    lasts = connection.execute(
        select(epochs.c.job_seq, func.max(epochs.c.global_epoch))
        .where(epochs.c.job_seq.in_(seqs))
        .group_by(epochs.c.job_seq)
    )
    wanted = [
        and_(
            epochs.c.job_seq == seq,
            or_(epochs.c.global_epoch == 1, (last - epochs.c.global_epoch) % _step(last, points) == 0),
        )
        for seq, last in lasts
    ]
    rows = connection.execute(
        select(epochs.c.job_seq, epochs.c.global_epoch, epochs.c.record["val"], epochs.c.record["val_ema"])
        .where(or_(*wanted))
        .order_by(epochs.c.job_seq, epochs.c.global_epoch)
    )
    found: _Points = {}
    for seq, epoch, val, ema in rows:
        found.setdefault(seq, []).append((epoch, val, ema))
    return found


def _step(last: int, points: int) -> int:
    """From the last epoch back by how many to the next point; the first epoch is one beside these."""
    return max(1, ceil((last - 1) / max(1, points - 2)))
