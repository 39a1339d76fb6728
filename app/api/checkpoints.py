"""Checkpoints: the list, and downloading one."""

import re
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from app.api import examples
from app.api.conditional import matches
from app.api.schemas import CheckpointAnswer, Page, page
from app.api.state import Db, Set, find_job
from app.errors import NotFound, RangeNotSatisfiable
from app.store import checkpoints

router = APIRouter(prefix="/v1/jobs/{job_id}/checkpoints", tags=["checkpoints"])

SINGLE_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII)


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
    path = settings.artifacts_dir / found.path
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise NotFound(f"the file of checkpoint {found.id} is gone", param="checkpoint") from None
    etag = f'"{found.sha256}"'
    if matches(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    _check_range(request, etag, stat.st_size)
    return FileResponse(
        path,
        media_type="application/octet-stream",
        filename=f"{job_id}-epoch-{found.global_epoch}{Path(found.path).suffix}",
        headers={"ETag": etag},
        stat_result=stat,
    )


def _check_range(request: Request, etag: str, size: int) -> None:
    """Refuses a range behind the end; a range that is none, or several, is ignored, as HTTP allows.

    Raises:
        RangeNotSatisfiable: the range begins behind the file's end.
    """
    sent = request.headers.get("range")
    if sent is None or request.headers.get("if-range", etag) != etag:
        return
    match = SINGLE_RANGE.fullmatch(sent.replace(" ", ""))
    start, end, suffix = match.groups() if match else (None, None, None)
    if not match or (start and end and int(start) > int(end)):
        request.scope["headers"] = [(k, v) for k, v in request.scope["headers"] if k != b"range"]
    elif (start and int(start) >= size) or suffix == "0":
        headers = {"Content-Range": f"bytes */{size}"}
        raise RangeNotSatisfiable(f"the file has {size} bytes", headers=headers)
