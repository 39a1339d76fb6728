"""Checkpoints: the list, and downloading one, as it is or in another format."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from app.api import examples
from app.api.files import serve_file
from app.api.schemas import CheckpointAnswer, Page, page
from app.api.state import Db, Exp, Quo, Set, find_job
from app.errors import Invalid, NotFound
from app.store import checkpoints
from app.store.database import Database
from app.store.records import Checkpoint, Job
from finetune.export.orders import Format, Wanted
from finetune.spec.problems import Problem

router = APIRouter(prefix="/v1/jobs/{job_id}/checkpoints", tags=["checkpoints"])

AsFormat = Annotated[
    Format | None, Query(alias="format", description="A bundle with the model in this format, and its card.")
]
Preprocessing = Annotated[
    bool, Query(description="`onnx` and `exported` only: the model takes decoded images of any size.")
]


@router.get("", response_model=Page[CheckpointAnswer], responses=examples.checkpoints)
def list_checkpoints(job_id: str, db: Db) -> Page[CheckpointAnswer]:
    """The checkpoints that are kept of a job, oldest first."""
    job = find_job(db, job_id)
    found = checkpoints.list_checkpoints(db, job_id)
    return page([CheckpointAnswer.of(c, job, found[-1].id) for c in found], "id")


@router.get("/{checkpoint}/download", response_class=FileResponse, responses=examples.download)
@router.head("/{checkpoint}/download", include_in_schema=False)
async def download(
    job_id: str,
    checkpoint: str,
    request: Request,
    db: Db,
    settings: Set,
    exports: Exp,
    quota: Quo,
    as_format: AsFormat = None,
    preprocessing: Preprocessing = False,
) -> Response:
    """The file of a checkpoint (its id, `best` or `last`). Ranges work; the ETag is the SHA-256.

    With `format` it is a zip with the model in that format, a model card and `model.json`. The first request
    waits until that is made and compared with the checkpoint, which may take minutes.
    """
    wanted = _wanted(as_format, preprocessing)
    job, found = await run_in_threadpool(_find, db, job_id, checkpoint)
    stem = f"{job_id}-epoch-{found.global_epoch}"
    if wanted is None:
        return serve_file(
            request,
            settings.artifacts_dir / found.path,
            found.sha256,
            gone=NotFound(f"the file of checkpoint {found.id} is gone", param="checkpoint"),
            filename=f"{stem}{Path(found.path).suffix}",
        )
    if wanted.key not in (found.exports or {}):
        await run_in_threadpool(quota.check_bytes)
    record = await exports.find(job, found, wanted)
    return serve_file(
        request,
        exports.path_of(record),
        record["sha256"],
        gone=NotFound(f"the {wanted.key} file of checkpoint {found.id} is gone", param="checkpoint"),
        filename=f"{stem}-{wanted.file_name}.zip",
        media_type="application/zip",
    )


def _find(db: Database, job_id: str, checkpoint: str) -> tuple[Job, Checkpoint]:
    job = find_job(db, job_id)
    found = checkpoints.get_checkpoint(db, job_id, checkpoint)
    if found is None:
        raise NotFound(f"job {job_id} has no checkpoint {checkpoint[:100]!r}", param="checkpoint")
    return job, found


def _wanted(as_format: Format | None, preprocessing: bool) -> Wanted | None:
    if preprocessing and (as_format is None or not as_format.is_graph):
        graphs = " or ".join(f.value for f in Format if f.is_graph)
        has = f"the format {as_format.value}" if as_format else "a checkpoint"
        message = f"{has} holds weights and no graph that could prepare images: take the format {graphs}"
        raise Invalid([Problem("preprocessing", message, "preprocessing_unfit")])
    return Wanted(as_format, preprocessing) if as_format else None
