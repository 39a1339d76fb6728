"""What the API answers about images."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from finetune.predictions import Kind, Prediction, Predictions


class ClassAnswer(BaseModel):
    """A class, and how probable it is."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: str = Field(serialization_alias="class")
    probability: float


class PredictionAnswer(BaseModel):
    """What the network says of one image. It gives classes, or an embedding; the other is null."""

    object: Literal["prediction"] = "prediction"
    index: int = Field(description="Of the image in the request, from 0.")
    file: str | None = Field(description="What the request calls the image.")
    classes: list[ClassAnswer] | None = Field(description="The most probable first.")
    labels: list[str] | None = Field(
        description="Where an image has any number of labels: the classes that reach their thresholds."
    )
    embedding: list[float] | None

    @classmethod
    def of(cls, prediction: Prediction, index: int, file: str | None) -> "PredictionAnswer":
        """The network's answer for the image at `index`."""
        listed = prediction.classes
        return cls(
            index=index,
            file=file,
            classes=None if listed is None else [ClassAnswer(name=name, probability=p) for name, p in listed],
            labels=None if prediction.labels is None else list(prediction.labels),
            embedding=None if prediction.embedding is None else list(prediction.embedding),
        )


class SecondsAnswer(BaseModel):
    """Where the time went: reading the images, and the network."""

    decode: float
    model: float


class PredictionsAnswer(BaseModel):
    """A prediction for each image, in the request's order. `kind` is what the network gives."""

    object: Literal["list"] = "list"
    data: list[PredictionAnswer]
    job: str
    checkpoint: str
    backbone: str
    kind: Kind
    seconds: SecondsAnswer

    @classmethod
    def of(
        cls, answer: Predictions, names: Sequence[str | None], job: str, checkpoint: str
    ) -> "PredictionsAnswer":
        """The predictor's answer for images of these names."""
        pairs = enumerate(zip(answer.predictions, names, strict=True))
        return cls(
            data=[PredictionAnswer.of(prediction, index, file) for index, (prediction, file) in pairs],
            job=job,
            checkpoint=checkpoint,
            backbone=answer.backbone,
            kind=answer.kind,
            seconds=SecondsAnswer(decode=answer.decode_seconds, model=answer.model_seconds),
        )
