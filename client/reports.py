"""What the client reads of a job's report."""

from pydantic import Field

from client.models import Answer

Matrix = list[list[int]]


class Reproduced(Answer):
    """The metric that chose the best checkpoint: as it was stored, and as the file gave it, loaded anew."""

    metric: str = ""
    stored: float | None = None
    again: float | None = None
    difference: float | None = None
    precision: str | None = None
    in_fp32: float | None = None

    @property
    def narrow(self) -> bool:
        """Whether the values that were compared are of another precision than the report's figures."""
        return self.precision not in (None, "fp32")


class ReportedCheckpoint(Answer):
    """The checkpoint that the report is about."""

    stage: str = ""
    global_epoch: int | None = None
    sha256: str | None = None


class ReportedDataset(Answer):
    """The data that it was validated on."""

    name: str = ""
    fingerprint: str | None = None


class ClassFigures(Answer):
    """A class; `threshold` and `average_precision` are there where an image has several."""

    name: str
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    support: int = 0
    threshold: float | None = None
    average_precision: float | None = None


class CalibrationBin(Answer):
    """Answers with a probability from `low` to `high`, and the share of them that was right."""

    low: float
    high: float
    count: int = 0
    share: float = 0.0
    mean_confidence: float | None = None
    accuracy: float | None = None


class Calibration(Answer):
    """Whether probabilities are to be believed."""

    error: float | None = None
    count: int = 0
    bins: list[CalibrationBin] = Field(default_factory=list)


class Mistake(Answer):
    """An image and what was wrong about it.

    `prediction` with `probability`, or with `neighbour` and `distance` for an embedding; or `mistake`, which
    says whether the label was given or missed.
    """

    file: str
    label: str
    prediction: str | None = None
    mistake: str | None = None
    probability: float | None = None
    probability_of_label: float | None = None
    neighbour: str | None = None
    distance: float | None = None


class OldClass(Answer):
    """What became of a class that the weights' head knew."""

    name: str
    support: int = 0
    before: float | None = None
    after_among_old: float | None = None
    after: float | None = None
    change: float | None = None


class OldClasses(Answer):
    """Accuracy on the old classes' images: as the run began, and now among the old and among all classes."""

    images: int = 0
    before: float | None = None
    after_among_old: float | None = None
    after: float | None = None
    per_class: list[OldClass] = Field(default_factory=list)


class Report(Answer):
    """What a job's best checkpoint gets right and wrong on the validation images.

    `kind` is one_label, several_labels or embedding. `confusion` has rows of labels and columns of
    predictions; with several labels an image it has a matrix of two rows and two columns for each class.
    """

    kind: str
    job: str | None = None
    objective: str = ""
    checkpoint: ReportedCheckpoint = ReportedCheckpoint()
    dataset: ReportedDataset = ReportedDataset()
    classes: list[str] = Field(default_factory=list)
    images: int = 0
    nonfinite: int = 0
    reproduced: Reproduced = Reproduced()
    figures: dict[str, float | None] = Field(default_factory=dict)
    per_class: list[ClassFigures] = Field(default_factory=list)
    confusion: Matrix | list[Matrix] | None = None
    calibration: Calibration | None = None
    mistake_count: int = 0
    mistakes: list[Mistake] = Field(default_factory=list)
    old_classes: OldClasses | None = None

    @property
    def matrix(self) -> Matrix | None:
        """The confusion matrix of all classes, where there is one."""
        found = self.confusion
        if self.kind == "several_labels" or not found:
            return None
        return [[int(n) for n in row if isinstance(n, int)] for row in found]

    @property
    def worst_first(self) -> list[ClassFigures]:
        """The classes, the lowest F1 first."""
        return sorted(self.per_class, key=lambda row: (row.f1 or 0.0, row.name))


class Confusion(Answer):
    """Images of one class that were taken for another; `share` is of the class's images."""

    label: str
    prediction: str
    count: int
    share: float


def largest_confusions(report: Report, most: int) -> list[Confusion]:
    """Which classes are most often taken for which."""
    found = [
        Confusion(label=label, prediction=prediction, count=count, share=count / sum(row))
        for label, row in zip(report.classes, report.matrix or [], strict=False)
        for prediction, count in zip(report.classes, row, strict=False)
        if count and label != prediction
    ]
    return sorted(found, key=lambda pair: (-pair.count, pair.label, pair.prediction))[:most]
