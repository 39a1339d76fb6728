"""The images of a job's report: what was said of each, to leaf through."""

from typing import TYPE_CHECKING, Annotated, Literal

import structlog
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.api import report_examples as examples
from app.api.pictures import check_class
from app.api.reports import CODE, GONE, find_report
from app.api.schemas import Page
from app.api.state import Db, Leaf, Set, find_job
from app.errors import Invalid, NotFound
from app.predicted import Choice, Leaves, Predicted, Sort
from app.settings import Settings
from app.store.database import Database
from app.store.records import Job
from finetune.spec.problems import Problem

if TYPE_CHECKING:
    from finetune.report.reading import Indices

log = structlog.get_logger()

router = APIRouter(prefix="/v1/jobs/{job_id}/report/images", tags=["reports"])


class ReportImageAnswer(BaseModel):
    """What was said of an image. What a kind of report does not have is null."""

    object: Literal["report.image"] = "report.image"
    id: str = Field(description="The image's id, as in the list of the dataset's images.")
    dataset: str = Field(description="The dataset that the job validated on.")
    file: str
    label: str = Field(description="Of an image with several labels, the one that is wrong.")
    prediction: str | None = None
    probability: float | None = Field(None, description="Of the prediction; of several labels, of the label.")
    probability_of_label: float | None = None
    mistake: Literal["given", "missed"] | None = Field(None, description="Where an image has several labels.")
    neighbour: str | None = Field(None, description="The nearest other image; of embeddings.")
    neighbour_id: str | None = None
    distance: float | None = Field(None, description="To it.")


@router.get("", response_model=Page[ReportImageAnswer], responses=examples.images)
def report_images(
    job_id: str,
    db: Db,
    settings: Set,
    predicted: Leaf,
    label: Annotated[str | None, Query(description="Images with this label.")] = None,
    prediction: Annotated[str | None, Query(description="Images that were taken for this class.")] = None,
    wrong: Annotated[bool, Query(description="Only images that were taken for another class.")] = False,
    suspect: Annotated[
        float | None,
        Query(ge=0, le=1, description="Only wrong ones with at least this probability, the surest first."),
    ] = None,
    sort: Annotated[Sort, Query(description="The surest first, or by name.")] = "file",
    after: Annotated[str | None, Query(description="`last_id` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 24,
) -> Page[ReportImageAnswer]:
    """What was said of the validation images; `label` and `prediction` are a cell of the confusion matrix.

    Where an image has several labels there is a row for each label that is wrong, and `last_id` also says
    which one it is.
    """
    job = find_job(db, job_id)
    leaves = find_leaves(predicted, settings, db, job)
    choice = Choice(label, prediction, wrong, suspect, sort)
    _check(choice, leaves)
    order = leaves.choose(choice)
    first = 0 if after is None else _place(leaves, order, after) + 1
    shown, rows = order[first : first + limit].tolist(), leaves.rows
    dataset = job.resolved_spec["dataset"]["path"]
    return Page(
        data=[ReportImageAnswer.model_validate({"dataset": dataset, **rows.show(row)}) for row in shown],
        first_id=rows.key(shown[0]) if shown else None,
        last_id=rows.key(shown[-1]) if shown else None,
        has_more=first + limit < len(order),
    )


def find_leaves(predicted: Predicted, settings: Settings, db: Database, job: Job) -> Leaves:
    """The stored predictions of a job.

    Raises:
        NotFound: it has no report, or they are gone or damaged.
    """
    from finetune.report.reading import PredictionsUnreadable  # loads Arrow

    found = find_report(db, job)
    try:
        return predicted.leaves(settings.artifacts_dir / found.predictions_path, found.predictions_sha256)
    except FileNotFoundError as error:
        raise NotFound(GONE, code=CODE) from error
    except PredictionsUnreadable as error:
        log.warning("predictions cannot be read", job=job.id, error=str(error))
        raise NotFound(f"the predictions of job {job.id} are damaged", code=CODE) from error


def _check(choice: Choice, leaves: Leaves) -> None:
    """Refuses what the report does not have.

    Raises:
        Invalid: a class that is none, or a column that this kind of report has not.
    """
    rows = leaves.rows
    for param, value in (("label", choice.label), ("prediction", choice.prediction)):
        if value is not None:
            check_class(param, value, rows.classes)
    unfit = {
        "prediction": choice.prediction is not None and rows.kind == "several_labels",
        "suspect": choice.suspect is not None and rows.kind == "embedding",
    }
    for param in (name for name, asked in unfit.items() if asked):
        message = f"a report of the kind {rows.kind} has none to choose by"
        raise Invalid([Problem(param, message, "unfit_for_report")])


def _place(leaves: Leaves, order: "Indices", after: str) -> int:
    row = leaves.rows.find(after)
    places = [] if row is None else (order == row).nonzero()[0].tolist()
    if not places:
        message = f"there is no image {after[:100]!r} to go on after"
        raise Invalid([Problem("after", message, "unknown_cursor")])
    place: int = places[0]
    return place
