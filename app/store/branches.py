from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Select, select

from app.store.errors import CheckpointGone, StillBranched
from app.store.states import ENDED
from app.store.tables import checkpoints, jobs

_GOING = jobs.c.status.not_in(sorted(ENDED))


def hold(connection: Connection, checkpoint_id: str) -> None:
    """Keep a checkpoint for a branch that the caller's transaction stores.

    Raises:
        CheckpointGone: it is not there any more.
    """
    theirs = select(checkpoints.c.job_seq).where(checkpoints.c.id == checkpoint_id)
    # Whoever lets go of checkpoints, or deletes their job, locks that job first: it is done by then, or waits
    # until the branch is there to be seen.
    owner = select(jobs.c.seq).where(jobs.c.seq == theirs.scalar_subquery()).with_for_update()
    connection.execute(owner)
    if connection.execute(theirs).first() is None:
        raise CheckpointGone(checkpoint_id)


def branched(ids: Sequence[str]) -> Select[tuple[str]]:
    """Return the query for those of the checkpoints that a branch starts from which has not ended."""
    return select(jobs.c.branched_from).where(jobs.c.branched_from.in_(ids), _GOING)


def check_not_branched(connection: Connection, doomed: ColumnElement[bool]) -> None:
    """Allow jobs, which the caller has locked, to be deleted.

    Args:
        connection: the transaction that deletes them.
        doomed: the condition on `jobs` that picks them.

    Raises:
        StillBranched: a branch starts from a checkpoint of one of them, and has not ended.
    """
    theirs = select(checkpoints.c.id).join(jobs, jobs.c.seq == checkpoints.c.job_seq).where(doomed)
    branches = jobs.alias("branches")
    going = select(branches.c.id).where(
        branches.c.branched_from.in_(theirs), branches.c.status.not_in(sorted(ENDED))
    )
    branch: str | None = connection.execute(going.limit(1)).scalar_one_or_none()
    if branch is not None:
        raise StillBranched(branch)
