"""Datasets as the server knows them."""

from pydantic import Field

from client.models import Answer

Size = tuple[int, int]


class DatasetProblem(Answer):
    """One kind of problem; `files` are the first of the `count` that have it."""

    kind: str
    message: str
    severity: str = "error"
    files: list[str] = Field(default_factory=list)
    count: int = 0


class Sizes(Answer):
    """Width and height in pixels: of the smallest and the largest image, and the medians."""

    smallest: Size
    median: Size
    largest: Size


class DatasetCheck(Answer):
    """How far the check of the files is: running, done or failed."""

    status: str
    done: int = 0
    total: int | None = None
    checked_at: float | None = None
    message: str | None = None

    @property
    def ended(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.status != "running"


class Dataset(Answer):
    """A dataset: images by split and class, and what its files' check has found by now."""

    name: str
    classes: list[str] = Field(default_factory=list)
    multi_label: bool = False
    counts: dict[str, dict[str, int]] = Field(default_factory=dict)
    images: int = 0
    sizes: Sizes | None = None
    problems: list[DatasetProblem] = Field(default_factory=list)
    fingerprint: str | None = None
    check: DatasetCheck | None = None

    def of_severity(self, severity: str) -> list[DatasetProblem]:
        """The problems of that severity."""
        return [problem for problem in self.problems if problem.severity == severity]
