"""The page: jobs, and one job with its epochs and the lines that load its model."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from jinja2 import Environment, FileSystemLoader
from starlette.responses import HTMLResponse

from app.api.state import Db, Who, find_job
from app.store import checkpoints, epochs, job_reports, jobs
from app.store.records import Epoch
from app.store.states import ENDED
from finetune.export.lines import checkpoint_lines
from finetune.spec.text import seen

router = APIRouter(include_in_schema=False)

NEWEST = 50
SPLITS = ("train", "val", "val_ema")
HERE = Path(__file__).parent
NOTHING = ("default-src", "base-uri", "form-action", "frame-ancestors")  # comes from or goes to anywhere
POLICY = "; ".join(["style-src 'unsafe-inline'", *(f"{kind} 'none'" for kind in NOTHING)])
HEADERS = {"Content-Security-Policy": POLICY}

templates = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, finalize=seen)


def _when(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if seconds else "–"


templates.filters["when"] = _when


def _show(name: str, **values: Any) -> HTMLResponse:
    return HTMLResponse(templates.get_template(name).render(values), headers=HEADERS)


def _figures(found: list[Epoch]) -> list[tuple[str, str]]:
    """Which figures the epochs have, by split and name."""
    names = {(split, name): None for e in found for split in SPLITS for name in e.record.get(split) or ()}
    return sorted(names, key=lambda figure: SPLITS.index(figure[0]))


@router.get("/")
def index(db: Db, caller: Who) -> HTMLResponse:
    """The newest jobs."""
    found, more = jobs.list_jobs(db, limit=NEWEST, owner=caller.only)
    return _show("index.html", jobs=found, more=more)


@router.get("/jobs/{job_id}")
def job_page(job_id: str, db: Db) -> HTMLResponse:
    """A job: status, epochs, checkpoints, and how its model is loaded."""
    job, found = find_job(db, job_id), epochs.list_epochs(db, job_id)
    return _show(
        "job.html",
        job=job,
        ended=job.status in ENDED,
        epochs=found,
        figures=_figures(found),
        checkpoints=checkpoints.list_checkpoints(db, job_id),
        report=job_reports.get_report(db, job_id),
        lines=checkpoint_lines(job.resolved_spec),
    )
