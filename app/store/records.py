from dataclasses import dataclass, field
from typing import Any, Literal

from app.store.ids import new_id
from app.store.scopes import NOBODY, Scope
from app.store.states import Status

Json = dict[str, Any]
Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed: a stable code, a sentence, and the spec's field at fault where there is one."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as stored. Times are Unix seconds by the database's clock."""

    seq: int
    id: str
    name: str | None
    metadata: dict[str, str]
    status: Status
    status_reason: str
    error: JobError | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    priority: int
    attempt: int
    lost_attempts: int
    max_attempts: int
    worker: str | None
    lease_until: float | None
    parent: str | None
    branched_from: str | None
    spec: Json
    resolved_spec: Json
    progress: Json | None
    best: Json | None
    result: Json | None
    idempotency_key: str | None
    request_hash: str | None
    dataset_fingerprint: str | None
    experiment: str | None
    variant: str | None
    seed: int | None
    owner: str = NOBODY


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment as stored: the base spec, its variants (`{"name", "patch"}`), and the compared metric."""

    seq: int
    id: str
    name: str | None
    metadata: dict[str, str]
    created_at: float
    spec: Json
    variants: list[Json]
    seeds: list[int]
    metric: str
    idempotency_key: str | None
    request_hash: str | None
    owner: str = NOBODY


@dataclass(frozen=True, slots=True)
class NewTrial:
    """The job of one variant with one seed, to be made with its experiment."""

    variant: str
    seed: int
    name: str
    metadata: dict[str, str]
    priority: int
    max_attempts: int
    spec: Json
    resolved_spec: Json


@dataclass(frozen=True, slots=True)
class Trial:
    """What an experiment's table shows of a job: the best value of its metric, and the global epoch of it."""

    id: str
    variant: str
    seed: int
    status: Status
    started_at: float | None
    finished_at: float | None
    value: float | None
    best_epoch: int | None


@dataclass(frozen=True, slots=True)
class NewCheckpoint:
    """Files of an epoch, complete on disk: weights at `path`, what an attempt resumes from at `state_path`.

    Paths are relative to the artifacts folder, sizes in bytes.
    """

    path: str
    size: int
    sha256: str
    state_path: str | None = None
    state_size: int | None = None
    state_sha256: str | None = None
    metric: str | None = None
    value: float | None = None
    id: str = field(default_factory=lambda: new_id("ckpt"))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as stored; its files never change while it is there.

    `exports` are its files in other formats: by format `{"path", "size", "sha256", "largest_difference",
    "images", "same_data", "created_at"}`.
    """

    seq: int
    id: str
    attempt: int
    stage: str
    stage_index: int
    epoch: int
    global_epoch: int
    path: str
    size: int
    sha256: str
    state_path: str | None
    state_size: int | None
    state_sha256: str | None
    metric: str | None
    value: float | None
    created_at: float
    exports: Json | None = None

    @property
    def paths(self) -> list[str]:
        """Its files, but those in other formats."""
        return [self.path] if self.state_path is None else [self.path, self.state_path]


@dataclass(frozen=True, slots=True)
class NewState:
    """The file of a state within an epoch, complete on disk, after `step` steps of it."""

    stage: str
    stage_index: int
    epoch: int
    global_epoch: int
    step: int
    path: str
    size: int
    sha256: str
    id: str = field(default_factory=lambda: new_id("state"))


@dataclass(frozen=True, slots=True)
class State:
    """A state within an epoch as stored; `after_seq` is the checkpoint that was the newest then, or 0."""

    id: str
    attempt: int
    stage: str
    stage_index: int
    epoch: int
    global_epoch: int
    step: int
    after_seq: int
    path: str
    size: int
    sha256: str
    created_at: float

    @property
    def paths(self) -> list[str]:
        """Its files, of which there is one."""
        return [self.path]


@dataclass(frozen=True, slots=True)
class NewReport:
    """The files of a report, complete on disk, and the weights that it is about.

    Paths are relative to the artifacts folder, sizes in bytes.
    """

    weights_path: str
    path: str
    size: int
    sha256: str
    predictions_path: str
    predictions_size: int
    predictions_sha256: str


@dataclass(frozen=True, slots=True)
class Report:
    """The report of a job on its best checkpoint: two files, which never change."""

    checkpoint: str
    attempt: int
    path: str
    size: int
    sha256: str
    predictions_path: str
    predictions_size: int
    predictions_sha256: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on a job; `attempt` is the fencing number that all its writes carry."""

    job_id: str
    seq: int
    attempt: int
    worker: str
    resolved_spec: Json


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch's record as the run sent it, with who sent it and when."""

    stage: str
    stage_index: int
    epoch: int
    global_epoch: int
    attempt: int
    record: Json
    created_at: float


@dataclass(frozen=True, slots=True)
class Curve:
    """How the metric went by which a job's best checkpoint is chosen: `points` are `(global_epoch, value)`.

    `metric` is None, and there are no points, where there is no best one yet.
    """

    job_id: str
    metric: str | None
    points: list[tuple[int, float | None]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a job took, in seconds, and the records of some of its epochs."""

    job_id: str
    resolved_spec: Json
    seconds: float
    epochs: list[Json]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job; ids grow with time."""

    id: int
    type: str
    level: Level
    message: str
    data: Json
    created_at: float


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as stored; `sha256` is all that is known of it. Times are Unix seconds."""

    id: str
    sha256: str = field(repr=False)
    scope: Scope
    owner: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    expired: bool

    @property
    def usable(self) -> bool:
        """Whether it lets anybody in."""
        return not self.expired and self.revoked_at is None


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded dataset: whose it is, and how many bytes it has unpacked."""

    name: str
    owner: str
    size: int
    created_at: float
