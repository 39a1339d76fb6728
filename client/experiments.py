"""What the client reads of the server's answers about experiments."""

from typing import Any

from pydantic import Field

from client.models import ENDED, Answer


class Trial(Answer):
    """A job of an experiment: `value` is its best so far, `best_epoch` that one's global epoch."""

    id: str
    variant: str
    seed: int
    status: str
    value: float | None = None
    best_epoch: int | None = None
    seconds: float | None = None

    @property
    def ended(self) -> bool:
        """Whether the status never changes again."""
        return self.status in ENDED


class Row(Answer):
    """A variant over its seeds; only jobs that have succeeded count."""

    variant: str
    n: int = 0
    mean: float | None = None
    std: float | None = None
    values: dict[int, float | None] = Field(default_factory=dict)
    best_epoch: float | None = None
    seconds: float | None = None
    failed: int = 0


class Comparison(Answer):
    """Two variants over the seeds that count for both; differences are `a` minus `b`."""

    a: str
    b: str
    n: int = 0
    mean_difference: float | None = None
    std_difference: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    differs: bool = False


class Experiment(Answer):
    """Variants of a spec that are compared over seeds. Times are Unix seconds."""

    id: str
    status: str
    name: str | None = None
    metadata: dict[str, str] | None = None
    created_at: float | None = None
    progress: dict[str, int] = Field(default_factory=dict)
    spec: dict[str, Any] | None = None
    seeds: list[int] = Field(default_factory=list)
    metric: str = "value"
    jobs: list[Trial] = Field(default_factory=list)
    table: list[Row] = Field(default_factory=list)
    comparisons: list[Comparison] = Field(default_factory=list)
    test: str = ""
    answer: str = ""

    @property
    def ended(self) -> bool:
        """Whether all its jobs have ended."""
        return self.status in ENDED
