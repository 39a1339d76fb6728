"""Epoch records."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api import examples
from app.api.schemas import EpochAnswer, Page, page
from app.api.state import Db, find_job
from app.store import epochs

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])


@router.get("/metrics", response_model=Page[EpochAnswer], responses=examples.metrics)
def metrics(
    job_id: str,
    db: Db,
    after_epoch: Annotated[
        int, Query(ge=0, le=2**31, description="Only epochs whose global_epoch is above it.")
    ] = 0,
) -> Page[EpochAnswer]:
    """The epochs of a job, in order."""
    find_job(db, job_id)
    found = [EpochAnswer.of(epoch) for epoch in epochs.list_epochs(db, job_id, after_epoch)]
    return page(found, "global_epoch")
