"""What the client reads of predictions."""

from pydantic import ConfigDict, Field

from client.models import Answer


class ClassProbability(Answer):
    """A class, and how probable it is."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: str = Field(alias="class")
    probability: float


class Prediction(Answer):
    """What a network says of one image: classes, the most probable first, or an embedding.

    `labels` are the classes that reach their thresholds, where an image has any number of them.
    """

    index: int
    file: str | None = None
    classes: list[ClassProbability] | None = None
    labels: list[str] | None = None
    embedding: list[float] | None = None


class Predictions(Answer):
    """A prediction for each image, in the order in which they were sent."""

    data: list[Prediction]
    job: str
    checkpoint: str
    kind: str | None = None
    backbone: str | None = None
    seconds: dict[str, float] | None = None
