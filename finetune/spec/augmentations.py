"""What training sees of an image, as data. What draws the views is in `finetune.data.augmentation`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Tag, field_validator

from finetune.spec.base import Part, chosen_by


class NoAugmentation(Part):
    """Training sees what evaluation sees: the resized image's centre."""

    name: Literal["none"] = "none"


class Light(Part):
    """The resized image's centre, flipped from left to right half of the time."""

    name: Literal["light"]


class Cropped(Part):
    """What starts with a random part of the image.

    `crop_scale` is the smallest and the largest share of the image's area that a crop takes.
    """

    crop_scale: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=2, max_length=2)] = (
        Field(default=[0.35, 1.0])
    )

    @field_validator("crop_scale")
    @classmethod
    def _ascending(cls, scale: list[float]) -> list[float]:
        if scale[0] > scale[1]:
            raise ValueError("crop_scale is [smallest, largest]")
        return scale


class Standard(Cropped):
    """A random part of the image, resized, flipped half of the time (Szegedy et al. 2015)."""

    name: Literal["standard"]


class Trivial(Cropped):
    """`standard`, then one random operation of random strength (TrivialAugment: Müller and Hutter 2021)."""

    name: Literal["trivial"]


class RandAugment(Cropped):
    """`standard`, then `operations` random ones of strength `magnitude` of 30 (Cubuk et al. 2020)."""

    name: Literal["randaugment"]
    operations: Annotated[int, Field(ge=1, le=16)] = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


AUGMENTATIONS = ("none", "light", "standard", "trivial", "randaugment")
Augmentation = Annotated[
    Annotated[NoAugmentation, Tag("<none>")]
    | Annotated[Light, Tag("<light>")]
    | Annotated[Standard, Tag("<standard>")]
    | Annotated[Trivial, Tag("<trivial>")]
    | Annotated[RandAugment, Tag("<randaugment>")],
    chosen_by("name", *AUGMENTATIONS),
    BeforeValidator(
        _named,
        json_schema_input_type=Literal["none", "light", "standard", "trivial", "randaugment"]
        | NoAugmentation
        | Light
        | Standard
        | Trivial
        | RandAugment,
    ),
]


class Mixup(Part):
    """Each image blended with another of its batch, the labels likewise (Zhang et al. 2018).

    The share is drawn from a Beta distribution with both parameters `alpha`.
    """

    name: Literal["mixup"]
    alpha: Annotated[float, Field(gt=0, le=100)] = 0.2


class CutMix(Part):
    """A box of each image taken from another of its batch, the labels by area (Yun et al. 2019)."""

    name: Literal["cutmix"]
    alpha: Annotated[float, Field(gt=0, le=100)] = 1.0


Mix = Annotated[
    Annotated[Mixup, Tag("<mixup>")] | Annotated[CutMix, Tag("<cutmix>")],
    chosen_by("name", "mixup", "cutmix"),
    BeforeValidator(_named, json_schema_input_type=Literal["mixup", "cutmix"] | Mixup | CutMix),
]
