"""Checkpoints: the list, and downloading one."""

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from app.api import examples
from app.api.files import serve_file
from app.api.schemas import CheckpointAnswer, Page, page
from app.api.state import Db, Set, find_job
from app.errors import NotFound
from app.store import checkpoints

router = APIRouter(prefix="/v1/jobs/{job_id}/checkpoints", tags=["checkpoints"])


@router.get("", response_model=Page[CheckpointAnswer], responses=examples.checkpoints)
def list_checkpoints(job_id: str, db: Db) -> Page[CheckpointAnswer]:
    """The checkpoints that are kept of a job, oldest first."""
    job = find_job(db, job_id)
    found = checkpoints.list_checkpoints(db, job_id)
    return page([CheckpointAnswer.of(c, job, found[-1].id) for c in found], "id")


@router.get("/{checkpoint}/download", response_class=FileResponse, responses=examples.download)
@router.head("/{checkpoint}/download", include_in_schema=False)
def download(job_id: str, checkpoint: str, request: Request, db: Db, settings: Set) -> Response:
    """The file of a checkpoint (its id, `best` or `last`). Ranges work; the ETag is the SHA-256."""
    find_job(db, job_id)
    found = checkpoints.get_checkpoint(db, job_id, checkpoint)
    if found is None:
        raise NotFound(f"job {job_id} has no checkpoint {checkpoint[:100]!r}", param="checkpoint")
    return serve_file(
        request,
        settings.artifacts_dir / found.path,
        found.sha256,
        gone=NotFound(f"the file of checkpoint {found.id} is gone", param="checkpoint"),
        filename=f"{job_id}-epoch-{found.global_epoch}{Path(found.path).suffix}",
    )
