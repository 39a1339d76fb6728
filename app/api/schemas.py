"""What the API answers with."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from app.store.records import Checkpoint, Epoch, Event, Job
from app.store.states import Status

Item = TypeVar("Item", bound=BaseModel)


class Page(BaseModel, Generic[Item]):
    """A list, or a part of one."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


def page(data: list[Item], key: str, has_more: bool = False) -> Page[Item]:
    """A page of items that are known by the field `key`."""
    first = str(getattr(data[0], key)) if data else None
    last = str(getattr(data[-1], key)) if data else None
    return Page(data=data, first_id=first, last_id=last, has_more=has_more)


class JobErrorAnswer(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class ProgressAnswer(BaseModel):
    """Where a job is. `stage_index` counts from 0, the rest from 1."""

    stage: str
    stage_index: int
    stages: int
    epoch: int
    epochs: int
    step: int
    steps: int
    images_per_second: float


class BestAnswer(BaseModel):
    """The best checkpoint so far."""

    checkpoint: str
    metric: str
    value: float | None


class JobAnswer(BaseModel):
    """A job. Times are Unix seconds."""

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    id: str
    name: str | None
    metadata: dict[str, str]
    status: Status
    status_reason: str = Field(description="Why it waits, or why it ended.")
    error: JobErrorAnswer | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    estimated_finish: float | None = Field(description="Known in the last stage, after its first epoch.")
    progress: ProgressAnswer | None
    attempt: int
    max_attempts: int
    worker: str | None
    parent: str | None = Field(description="The job that it tries again, or branches from.")
    branched_from: str | None = Field(description="The checkpoint that it starts from, if it is a branch.")
    owner: str | None = Field(description="Whose it is: the owner of the key that it was submitted with.")
    experiment: str | None = Field(description="The id of the experiment that it is of.")
    variant: str | None = Field(description="Which variant of the experiment it runs.")
    spec: dict[str, Any] = Field(description="As it was sent.")
    resolved_spec: dict[str, Any] = Field(description="The recipe expanded, the defaults filled in.")
    dataset_fingerprint: str | None = Field(
        description="SHA-256 of what it trains on: contents, labels, splits. Known once it has begun."
    )
    best: BestAnswer | None
    result: dict[str, Any] | None = Field(description="Final metrics.")

    @classmethod
    def of(cls, job: Job, now: float) -> "JobAnswer":
        """A stored job; `now` is what an estimated time counts from."""
        left = (job.progress or {}).get("seconds_left")
        running = job.status is Status.RUNNING
        return cls.model_validate(
            {
                **{name: getattr(job, name) for name in cls.model_fields if hasattr(job, name)},
                "error": job.error
                and {name: getattr(job.error, name) for name in ("code", "message", "param")},
                "owner": job.owner or None,
                "estimated_finish": round(now + left) if running and left is not None else None,
            }
        )


class EpochAnswer(BaseModel):
    """An epoch's record. `lr` is each group's rate at its first step; a loss that is not finite is null."""

    object: Literal["fine_tuning.job.epoch"] = "fine_tuning.job.epoch"
    stage: str
    stage_index: int
    epoch: int = Field(description="In the stage, from 1.")
    global_epoch: int
    attempt: int
    lr: dict[str, float]
    train: dict[str, float | None]
    val: dict[str, float | None]
    val_ema: dict[str, float | None] | None = Field(
        None, description="Of the weights' moving average, where the stage has one."
    )
    images_per_second: float
    seconds: dict[str, float]
    peak_memory_bytes: int
    nonfinite: bool = False
    created_at: float

    @classmethod
    def of(cls, epoch: Epoch) -> "EpochAnswer":
        """A stored epoch."""
        return cls.model_validate({**epoch.record, "attempt": epoch.attempt, "created_at": epoch.created_at})


class EventAnswer(BaseModel):
    """Something that happened to a job."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    id: int
    type: str
    level: Literal["info", "warning", "error"]
    message: str
    data: dict[str, Any]
    created_at: float

    @classmethod
    def of(cls, event: Event) -> "EventAnswer":
        """A stored event."""
        return cls.model_validate(
            {name: getattr(event, name) for name in cls.model_fields if name != "object"}
        )


class ExportAnswer(BaseModel):
    """A checkpoint's file in another format. `size` is in bytes."""

    size: int
    sha256: str
    largest_difference: float = Field(
        description="Of its model's answers to the checkpoint's, over so many validation images."
    )
    images: int
    same_data: bool = Field(description="Whether the dataset was still the one that the job trained on.")
    created_at: float


class CheckpointAnswer(BaseModel):
    """A checkpoint that can be downloaded. `size` is in bytes."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    id: str
    job: str
    stage: str
    stage_index: int
    epoch: int
    global_epoch: int
    size: int
    sha256: str
    metric: str | None
    value: float | None
    best: bool
    last: bool
    created_at: float
    exports: dict[str, ExportAnswer] = Field(description="What it has been downloaded as so far, by format.")

    @classmethod
    def of(cls, checkpoint: Checkpoint, job: Job, last: str) -> "CheckpointAnswer":
        """A stored checkpoint; `last` is the id of the job's newest one."""
        own = {name: getattr(checkpoint, name) for name in cls.model_fields if hasattr(checkpoint, name)}
        best = bool(job.best) and (job.best or {}).get("checkpoint") == checkpoint.id
        return cls.model_validate(
            {
                **own,
                "job": job.id,
                "best": best,
                "last": checkpoint.id == last,
                "exports": checkpoint.exports or {},
            }
        )


class BackboneAnswer(BaseModel):
    """What `backbone.name` may be."""

    object: Literal["backbone"] = "backbone"
    name: str
    source: str
    weights: list[str] = Field(description="Names that `backbone.weights` may have.")
    head: list[str]
    parameters: int | None = Field(description="With the head that it comes with; null for timm's.")
    image_size: int
    problem: str | None = Field(None, description="Why a registered backbone cannot be used.")
