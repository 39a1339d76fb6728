"""How a job's model is loaded without Thaw."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.api import examples
from app.api.state import Db, find_job
from finetune.export.lines import checkpoint_lines

router = APIRouter(prefix="/v1/jobs/{job_id}/loading", tags=["jobs"])


class LoadingAnswer(BaseModel):
    """Lines of Python that load a checkpoint."""

    object: Literal["fine_tuning.job.loading"] = "fine_tuning.job.loading"
    language: Literal["python"] = "python"
    lines: str = Field(description="They need torch and the backbone's library, and no Thaw.")


@router.get("", response_model=LoadingAnswer, responses=examples.loading)
def loading(job_id: str, db: Db) -> LoadingAnswer:
    """The lines that load a checkpoint of the job and ask it about an image, as in docs/loading.md."""
    return LoadingAnswer(lines=checkpoint_lines(find_job(db, job_id).resolved_spec))
