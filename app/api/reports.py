"""The report of a job on its best checkpoint, and the predictions that it is made of."""

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from app.api import report_examples
from app.api.files import serve_file
from app.api.state import Db, Set, find_job
from app.errors import NotFound
from app.store import job_reports
from app.store.database import Database
from app.store.records import Job, Report
from app.store.states import ENDED, Status
from finetune.report.fields import Report as ReportAnswer

router = APIRouter(prefix="/v1/jobs/{job_id}/report", tags=["reports"])

CODE = "no_report"
GONE = "the file of the report is gone"


@router.get("", response_model=ReportAnswer, responses=report_examples.report)
@router.head("", include_in_schema=False)
def report(job_id: str, request: Request, db: Db, settings: Set) -> Response:
    """What the best checkpoint gets right and wrong on the validation images; the ETag is the SHA-256."""
    found = find_report(db, find_job(db, job_id))
    return serve_file(
        request,
        settings.artifacts_dir / found.path,
        found.sha256,
        gone=NotFound(GONE, code=CODE),
        filename=f"{job_id}-report.json",
        media_type="application/json",
        disposition="inline",
    )


@router.get("/predictions", response_class=FileResponse, responses=report_examples.predictions)
@router.head("/predictions", include_in_schema=False)
def predictions(job_id: str, request: Request, db: Db, settings: Set) -> Response:
    """A Parquet file with a row for each validation image. Ranges work; the ETag is the SHA-256."""
    found = find_report(db, find_job(db, job_id))
    return serve_file(
        request,
        settings.artifacts_dir / found.predictions_path,
        found.predictions_sha256,
        gone=NotFound(GONE, code=CODE),
        filename=f"{job_id}-predictions.parquet",
        media_type="application/vnd.apache.parquet",
    )


def find_report(db: Database, job: Job) -> Report:
    """The row of a job's report.

    Raises:
        NotFound: it has no report; the message says why.
    """
    found = job_reports.get_report(db, job.id)
    if found is None:
        raise NotFound(f"job {job.id} has no report: {_why(job)}", code=CODE)
    return found


def _why(job: Job) -> str:
    if job.resolved_spec.get("range_test") is not None:
        return "it looks for a learning rate and trains nothing; its result has the curve"
    if job.status not in ENDED:
        return f"it is {job.status}, and a report is made when all stages are done"
    if job.status is Status.FAILED:
        return f"it failed ({job.error.code if job.error else 'internal'}) before one was made"
    if job.status is Status.CANCELLED:
        return "it was cancelled before one was made"
    return "it ended before Thaw made reports; run its spec again to get one"
