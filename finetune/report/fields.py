"""A report's fields: what is written to `report.json` and what the API answers. It loads without torch.

Figures that are no finite numbers are null. Shares, probabilities and accuracies are between 0 and 1.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Fields(BaseModel):
    """A part of a report."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Reproduced(Fields):
    """The metric that chose the best checkpoint: as it was stored, and as the file gives it, loaded anew."""

    metric: str
    stored: float | None
    again: float | None
    difference: float | None = Field(description="again - stored")
    precision: str = Field(description="Of these values: fp32, bf16 or fp16.")
    in_fp32: float | None = Field(description="What the file gives in fp32; f1 at thresholds chosen anew.")


class ReportedCheckpoint(Fields):
    """The checkpoint that the report is about."""

    stage: str
    global_epoch: int
    sha256: str


class ReportedDataset(Fields):
    """The data that it was validated on."""

    name: str
    fingerprint: str | None = Field(description="As the checkpoint names it, where it does.")


class ClassFigures(Fields):
    """A class. `precision`: of the images said to be of it, the share that are.

    `recall`: of the images that are, the share that was found. `support`: how many are. A figure with nothing
    to divide by is 0, as in scikit-learn.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


class LabelFigures(ClassFigures):
    """A class among several of an image: it is given where its probability is not below the threshold."""

    threshold: float
    average_precision: float | None = Field(description="Null where no validation image is of the class.")


class CalibrationBin(Fields):
    """The answers whose probability is at least `low` and below `high`; in the last bin also 1 itself."""

    low: float
    high: float
    count: int
    share: float = Field(description="Of all answers.")
    mean_confidence: float | None = Field(description="The mean probability; null in an empty bin.")
    accuracy: float | None = Field(description="The share that was right; null in an empty bin.")


class Calibration(Fields):
    """Whether probabilities are to be believed (Guo et al. 2017).

    With one label an image, an answer is the prediction and its probability. With several it is every class
    of every image, with the probability that the image is of it.
    """

    error: float = Field(description="Expected calibration error: mean of |accuracy - mean_confidence|.")
    count: int = Field(description="How many answers there are.")
    bins: list[CalibrationBin]


class Mistake(Fields):
    """An image that was taken for another class. `file` is relative to the dataset's folder."""

    file: str
    label: str
    prediction: str
    probability: float = Field(description="Of the prediction.")
    probability_of_label: float


class LabelMistake(Fields):
    """A label that was given and is not the image's, or that is and was missed."""

    file: str
    label: str
    mistake: Literal["given", "missed"]
    probability: float = Field(description="Of the label.")


class NeighbourMistake(Fields):
    """An image whose nearest other one is of another class. Distances are Euclidean."""

    file: str
    label: str
    prediction: str = Field(description="The class of the nearest other image.")
    neighbour: str = Field(description="The file of the nearest other image.")
    distance: float


class OldClass(Fields):
    """What became of a class that the weights' head knew, on the class's validation images."""

    name: str
    support: int
    before: float | None
    after_among_old: float | None
    after: float | None
    change: float | None = Field(description="after - before; below 0 is a regression.")


class OldClasses(Fields):
    """What training made of the classes whose rows the head kept, on their validation images.

    `before`: accuracy of the network as the run began, choosing among the old classes: it knew no others.
    `after_among_old`: of the trained network with the same choice, which tells what was forgotten.
    `after`: of the trained network choosing among all classes, which counts what new ones took away, too.
    """

    images: int
    before: float
    after_among_old: float
    after: float
    per_class: list[OldClass] = Field(description="The largest regressions first.")


class OneLabelFigures(Fields):
    """Figures over all validation images."""

    accuracy: float
    top_5_accuracy: float | None = Field(
        description="The share whose label is among the 5 most probable classes; null with fewer than 6."
    )
    loss: float | None = Field(description="Mean cross-entropy, whatever the job trained with.")
    macro_f1: float = Field(description="Mean F1 over the classes that are a label or a prediction.")
    balanced_accuracy: float = Field(description="Mean recall over the classes that are a label.")


class SeveralLabelsFigures(Fields):
    """Figures over all validation images. Means over classes leave out those that no image is of."""

    map: float | None = Field(description="Mean of the classes' average precisions.")
    macro_f1: float
    micro_f1: float = Field(description="Over all pairs of an image and a class.")
    loss: float | None = Field(description="Mean binary cross-entropy.")


class EmbeddingFigures(Fields):
    """What is found when each validation image is looked for with each other one (Musgrave et al. 2020).

    An image that is alone in its class cannot be found: recall and `map_at_r` leave it out. `accuracy`,
    `macro_f1` and `balanced_accuracy` are of the nearest other image's class as the prediction.
    """

    accuracy: float
    macro_f1: float
    balanced_accuracy: float
    recall_at_1: float | None
    recall_at_5: float | None
    map_at_r: float | None
    loss: float | None = Field(description="Mean triplet loss over all triplets.")
    active_triplets: float | None = Field(description="The share of triplets that violate the margin.")
    variance: float | None


class Common(Fields):
    """What every report says."""

    object: Literal["fine_tuning.job.report"] = "fine_tuning.job.report"
    job: str | None
    objective: str
    checkpoint: ReportedCheckpoint
    dataset: ReportedDataset
    classes: list[str]
    images: int = Field(description="Validation images.")
    nonfinite: int = Field(description="Images for which the network gives no finite numbers.")
    reproduced: Reproduced


Matrix = list[list[int]]
MANY = "Null with more than 1,000 classes; the predictions have all."


class OneLabelReport(Common):
    """The report of a job with one label an image."""

    kind: Literal["one_label"] = "one_label"
    figures: OneLabelFigures
    per_class: list[ClassFigures]
    confusion: Matrix | None = Field(description=f"Rows are labels, columns predictions. {MANY}")
    calibration: Calibration | None = Field(description="Null where `nonfinite` is not 0.")
    mistake_count: int
    mistakes: list[Mistake] = Field(description="The most probable ones, up to 50.")
    old_classes: OldClasses | None = Field(description="Null where the head kept no rows.")


class SeveralLabelsReport(Common):
    """The report of a job with any number of labels an image."""

    kind: Literal["several_labels"] = "several_labels"
    figures: SeveralLabelsFigures
    per_class: list[LabelFigures]
    confusion: list[Matrix] = Field(
        description="Of each class: rows whether an image is of it (no, yes), columns whether it was given."
    )
    calibration: Calibration | None = Field(description="Null where `nonfinite` is not 0.")
    mistake_count: int
    mistakes: list[LabelMistake] = Field(description="The most confident ones, up to 50.")
    old_classes: None = None


class EmbeddingReport(Common):
    """The report of a job that trained an embedding."""

    kind: Literal["embedding"] = "embedding"
    figures: EmbeddingFigures
    per_class: list[ClassFigures]
    confusion: Matrix | None = Field(
        description=f"Rows are labels, columns the nearest other image's class. {MANY}"
    )
    calibration: None = None
    mistake_count: int
    mistakes: list[NeighbourMistake] = Field(description="The nearest ones, up to 50.")
    old_classes: None = None


AnyReport = OneLabelReport | SeveralLabelsReport | EmbeddingReport
Report = Annotated[AnyReport, Field(discriminator="kind")]
