"""Curves of many jobs at once: how the metric of each went, in few points."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from app.api import examples
from app.api.conditional import answer
from app.api.state import Db, Who
from app.store import curves
from app.store.records import Curve
from finetune.spec.objectives import lower_is_better

router = APIRouter(prefix="/v1/curves", tags=["jobs"])

MOST_JOBS, MOST_POINTS = 100, 1000
Ids = Annotated[list[str], Query(alias="job", max_length=MOST_JOBS, description="Ids of jobs.")]


class CurveAnswer(BaseModel):
    """A job's curve."""

    object: Literal["job.curve"] = "job.curve"
    id: str
    metric: str | None = Field(description="Null while no checkpoint is the best.")
    goal: Literal["max", "min"] | None = Field(description="Whether more of it is better, or less.")
    points: list[tuple[int, float | None]] = Field(
        description="`[global_epoch, value]`, the first and the last epoch among them; null: not finite."
    )

    @classmethod
    def of(cls, curve: Curve) -> "CurveAnswer":
        """A stored curve."""
        metric = curve.metric
        goal = None if metric is None else "min" if lower_is_better(metric) else "max"
        return cls.model_validate(
            {"id": curve.job_id, "metric": metric, "goal": goal, "points": curve.points}
        )


class CurvesAnswer(BaseModel):
    """Curves."""

    object: Literal["list"] = "list"
    data: list[CurveAnswer]


@router.get("", response_model=CurvesAnswer, responses=examples.curves)
def list_curves(
    request: Request,
    db: Db,
    caller: Who,
    job: Ids = [],  # noqa: B006  FastAPI's way: it is not changed
    points: Annotated[int, Query(ge=2, le=MOST_POINTS, description="At most so many of each.")] = 40,
) -> Response:
    """The validation metric of jobs by epoch, with an ETag, and 304. Jobs that are not there are left out."""
    known = [one for one in dict.fromkeys(job) if "\x00" not in one]
    found = curves.list_curves(db, known, points, caller.only)
    return answer(request, CurvesAnswer(data=[CurveAnswer.of(curve) for curve in found]))
