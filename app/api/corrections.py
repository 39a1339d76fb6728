"""Labels that somebody corrected while looking at a report, as a manifest to train on."""

from fastapi import APIRouter
from starlette.responses import Response

from app.api import correction_examples as examples
from app.api.bodies import JsonBody
from app.api.report_images import find_leaves
from app.api.state import Db, Img, Leaf, Own, Set, find_job
from app.corrections import correct, read_corrections
from app.errors import Conflict
from finetune.errors import DatasetNotFound

router = APIRouter(prefix="/v1/jobs/{job_id}/report/corrections", tags=["reports"])


@router.post("", response_class=Response, openapi_extra=examples.body, responses=examples.corrected)
def corrections(
    job_id: str, body: JsonBody, db: Db, settings: Set, predicted: Leaf, listings: Img, own: Own
) -> Response:
    """The job's dataset as a CSV manifest with these labels in the place of others. It changes nothing.

    It names all images and their splits, and is to lie in the dataset's folder. Where the dataset has no
    split of its own, the images that the job was validated on are `val`.
    """
    job = find_job(db, job_id)
    validated = find_leaves(predicted, settings, db, job).rows.keys_of_images()
    labels = read_corrections(body)
    name = job.resolved_spec["dataset"]["path"]
    try:
        own.check(name)
        listings.forget(name)  # the manifest is to be of what is there now
        images = listings.images(name)
    except DatasetNotFound as error:
        raise Conflict(f"the dataset {name!r} is gone", code="dataset_gone") from error
    content = correct(images, labels, validated)
    headers = {"Content-Disposition": f'attachment; filename="{job_id}-corrected.csv"'}
    return Response(content.encode(), media_type="text/csv; charset=utf-8", headers=headers)
