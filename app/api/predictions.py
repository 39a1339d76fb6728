"""Predictions: what a job's network says of images."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api import prediction_examples as examples
from app.api.images import read_images
from app.api.prediction_schemas import PredictionsAnswer
from app.api.state import Db, Predicts, Set, find_job
from app.aside import AsideRefused
from app.errors import ApiError, Conflict, Invalid, NotFound, Unavailable
from app.store import checkpoints
from app.store.database import Database
from app.store.records import Checkpoint
from finetune import errors
from finetune.predictions import Question

router = APIRouter(prefix="/v1/jobs", tags=["predictions"])

MOST_CLASSES = 100_000  # more than any network tells apart


@router.post(
    "/{job_id}/predict",
    response_model=PredictionsAnswer,
    openapi_extra=examples.body,
    responses=examples.predicted,
)
async def predict(
    job_id: str,
    request: Request,
    db: Db,
    settings: Set,
    predictor: Predicts,
    checkpoint: Annotated[str, Query(description="Its id, `best` or `last`.")] = "best",
    top: Annotated[
        int, Query(ge=1, le=MOST_CLASSES, description="How many classes are listed; an embedding has none.")
    ] = 5,
) -> Response:
    """What the job's network says of one image, sent as it is, or of up to 64, sent as files of a form.

    All are answered, or none: a 422 names every image that cannot be read. The first request waits until the
    network is loaded; it stays so for those that follow. A 503 has the header `Retry-After`.
    """
    found = await run_in_threadpool(_find, db, job_id, checkpoint, settings.artifacts_dir)
    with predictor.place():
        images = await read_images(request, settings.predict_bytes)
        question = Question(settings.artifacts_dir / found.path, found.sha256, images, top)
        try:
            answer = await predictor.ask(question)
        except AsideRefused as refused:
            raise _refusal(refused, found) from refused
    names = [image.name for image in images]
    body = PredictionsAnswer.of(answer, names, job_id, found.id).model_dump_json()
    return Response(body, media_type="application/json")


def _find(db: Database, job_id: str, name: str, artifacts: Path) -> Checkpoint:
    """The checkpoint of that name, whose file is there.

    Raises:
        JobNotFound, NotFound: there is none.
    """
    found = checkpoints.get_checkpoint(db, job_id, name)
    if found is None:
        job = find_job(db, job_id)
        yet = "" if job.finished_at else f" yet: it is {job.status}"
        raise NotFound(f"job {job_id} has no checkpoint {name[:100]!r}{yet}", param="checkpoint")
    if not (artifacts / found.path).is_file():
        raise _gone(found)
    return found


def _gone(checkpoint: Checkpoint) -> NotFound:
    return NotFound(f"the file of checkpoint {checkpoint.id} is gone", param="checkpoint")


def _refusal(refused: AsideRefused, checkpoint: Checkpoint) -> ApiError:
    """What the predictor's refusal is over HTTP. Its own sentences may name files, so most are said anew."""
    about = f"checkpoint {checkpoint.id}"
    match refused.code:
        case errors.ImageInvalid.code:
            return Invalid(refused.problems)
        case errors.WeightsNotFound.code:
            return _gone(checkpoint)
        case errors.WeightsIncompatible.code:
            message = f"the file of {about} is damaged: predict with another checkpoint"
        case errors.SpecInvalid.code:
            message = f"{about} is of a backbone that this server does not have: {refused.message}"
        case errors.NetworkFailed.code:
            message = f"{about} gives no predictions: {refused.message}"
        case errors.OutOfMemory.code:
            return Unavailable(f"{refused.message}; send fewer")
        case errors.DeviceUnusable.code:
            return Unavailable(f"{refused.message}: the operator names it in THAW_PREDICT_DEVICE")
        case _:
            message = f"{about} cannot be used: {refused.message}"
    return Conflict(message, param="checkpoint", code=refused.code)
