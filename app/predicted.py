"""The stored predictions of jobs, read once and remembered for whoever leafs through them."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import structlog

if TYPE_CHECKING:  # it loads NumPy and Arrow, which a server that nobody asks for reports does without
    from finetune.report.reading import Indices, Rows

log = structlog.get_logger()

MOST_ROWS = 1_000_000  # remembered of all jobs together, but always those that were read last

Sort = Literal["confidence", "file"]


@dataclass(frozen=True)
class Choice:
    """Which rows, and in which order. `suspect`: wrong ones of which the network was at least so sure."""

    label: str | None = None
    prediction: str | None = None
    wrong: bool = False
    suspect: float | None = None
    sort: Sort = "file"


@dataclass
class Leaves:
    """A job's rows, and their order by file."""

    rows: "Rows"
    by_file: "Indices" = field(init=False)

    def __post_init__(self) -> None:
        self.by_file = self.rows.by_file()

    def choose(self, choice: Choice) -> "Indices":
        """The rows of a choice. The surest come first by confidence; equally sure ones stand by file."""
        rows, order = self.rows, self.by_file
        if choice.label is not None:
            order = order[rows.label[order] == rows.classes.index(choice.label)]
        if choice.prediction is not None:
            order = order[rows.prediction[order] == rows.classes.index(choice.prediction)]
        if choice.wrong or choice.suspect is not None:
            order = order[rows.wrong[order]]
        if choice.suspect is not None:
            order = order[rows.sure[order] >= choice.suspect]
        if choice.sort == "confidence" or choice.suspect is not None:
            order = order[(-rows.sure[order]).argsort(kind="stable")]  # what is no number comes last
        return order


class Predicted:
    """Reads predictions. Safe to use from many threads."""

    def __init__(self) -> None:
        self._known: dict[str, Leaves] = {}  # the last asked for stands last
        self._lock = threading.Lock()

    def leaves(self, path: Path, sha256: str) -> Leaves:
        """The predictions in a file that never changes.

        Raises:
            FileNotFoundError: it is not there.
            PredictionsUnreadable: it is damaged.
        """
        from finetune.report.reading import read_rows

        path.stat()  # what was deleted is not shown from memory
        with self._lock:
            leaves = self._known.pop(sha256, None) or Leaves(read_rows(path))
            self._known[sha256] = leaves
            kept = 0
            for known, other in reversed(list(self._known.items())):
                kept += max(1, len(other.rows))
                if kept > MOST_ROWS and known != sha256:
                    del self._known[known]
            return leaves
