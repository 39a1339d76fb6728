"""What the client reads of the server's answers.

Fields that a newer server adds do not fail. They are kept, so that `--json` prints what the server sent.
"""

from enum import StrEnum
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

ENDED = frozenset({"succeeded", "failed", "cancelled"})
"""The statuses that never change again."""


class Answer(BaseModel):
    """A part of an answer; `model_dump(exclude_unset=True)` gives what was sent."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Progress(Answer):
    """Where a job is: `epoch` of `epochs` in its stage, `step` of `steps` in that epoch."""

    stage: str | None = None
    stage_index: int = 0
    stages: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    images_per_second: float | None = None


class JobError(Answer):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class Best(Answer):
    """The best checkpoint so far, by the job's metric."""

    checkpoint: str | None = None
    metric: str | None = None
    value: float | None = None


class Job(Answer):
    """A fine-tuning job. Times are Unix seconds."""

    id: str
    status: str
    name: str | None = None
    metadata: dict[str, str] | None = None
    status_reason: str | None = None
    error: JobError | None = None
    created_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    estimated_finish: float | None = None
    progress: Progress | None = None
    attempt: int = 0
    max_attempts: int | None = None
    worker: str | None = None
    parent: str | None = None
    branched_from: str | None = None
    owner: str | None = None
    experiment: str | None = None
    variant: str | None = None
    spec: dict[str, Any] | None = None
    resolved_spec: dict[str, Any] | None = None
    dataset_fingerprint: str | None = None
    best: Best | None = None
    result: dict[str, Any] | None = None

    @property
    def ended(self) -> bool:
        """Whether the status never changes again."""
        return self.status in ENDED


class Scores(Answer):
    """A split's figures in one epoch: the mean loss, and what the objective has beside it.

    Accuracy, or `map` and `f1`, or `recall@1` and others. One that is not finite is None.
    """

    loss: float | None = None
    accuracy: float | None = None

    @property
    def figures(self) -> dict[str, float | None]:
        """What was sent, by name, in its order."""
        return self.model_dump(exclude_unset=True)


class Seconds(Answer):
    """Where an epoch's time went."""

    data: float | None = None
    train: float | None = None
    val: float | None = None
    checkpoint: float | None = None


class EpochRecord(Answer):
    """One trained epoch. `stage_index` counts from 0, `epoch` (in the stage) and `global_epoch` from 1.

    `val_ema` are the figures of the weights' moving average, where the stage has one.
    """

    stage: str
    stage_index: int
    epoch: int
    global_epoch: int
    attempt: int = 1
    lr: dict[str, float] = Field(default_factory=dict)
    train: Scores = Scores()
    val: Scores | None = None
    val_ema: Scores | None = None
    images_per_second: float | None = None
    seconds: Seconds | None = None
    peak_memory_bytes: int | None = None
    created_at: float | None = None
    nonfinite: bool = False


class Event(Answer):
    """Something that happened to a job; `level` is info, warning or error."""

    id: int
    type: str
    level: str = "info"
    message: str = ""
    data: dict[str, Any] | None = None
    created_at: float | None = None


class Format(StrEnum):
    """What a checkpoint can be downloaded as, in a bundle with a model card."""

    SAFETENSORS = "safetensors"
    TORCH = "torch"
    ONNX = "onnx"
    EXPORTED = "exported"


class Export(Answer):
    """A checkpoint's file in another format, and how far its answers are from the checkpoint's at most."""

    size: int | None = None
    sha256: str | None = None
    largest_difference: float | None = None
    images: int | None = None
    same_data: bool | None = None
    created_at: float | None = None


class Checkpoint(Answer):
    """A saved model. `best` and `last` say which names it answers to; `exports` are by format."""

    id: str
    job: str | None = None
    stage: str | None = None
    stage_index: int | None = None
    epoch: int | None = None
    global_epoch: int | None = None
    size: int | None = None
    sha256: str | None = None
    metric: str | None = None
    value: float | None = None
    created_at: float | None = None
    best: bool = False
    last: bool = False
    exports: dict[str, Export] = Field(default_factory=dict)


Item = TypeVar("Item", bound=Answer)


class Page(Answer, Generic[Item]):
    """One page of a list; `last_id` is the cursor of the next one."""

    data: list[Item]
    first_id: str | int | None = None
    last_id: str | int | None = None
    has_more: bool = False


class Problem(Answer):
    """One thing wrong with a request: the field's path and what is the matter with it."""

    param: str | None = None
    message: str
    code: str | None = None


class ErrorBody(Answer):
    """What the server says when it refuses."""

    message: str
    type: str | None = None
    param: str | None = None
    code: str | None = None
    details: list[Problem] = Field(default_factory=list)


class ErrorAnswer(Answer):
    """The body of every 4xx and 5xx."""

    error: ErrorBody
