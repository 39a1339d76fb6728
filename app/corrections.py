"""Corrected labels for the images of a job's dataset: what a client sends, and the manifest made of it."""

from collections.abc import Container
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import Conflict, Invalid
from app.listings import Images
from finetune.data.corrections import Corrected, Unwritable, write_manifest
from finetune.spec.problems import Problem, closest, problems_of

MOST_LABELS = 10_000


class CorrectionsBody(BaseModel):
    """Labels that are to take the place of others."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    labels: Annotated[
        dict[str, str | list[str]],
        Field(
            min_length=1,
            max_length=MOST_LABELS,
            description="By the image's id: its class; where images have several labels, the list of them.",
            examples=[{"img_0c5f8a1b2d7e4f6a9b3c8d51": "bees"}],
        ),
    ]


def read_corrections(body: Any) -> dict[str, tuple[str, ...]]:
    """The labels by the images' ids.

    Raises:
        Invalid: with every problem of the request by itself.
    """
    try:
        labels = CorrectionsBody.model_validate(body).labels
    except ValidationError as error:
        raise Invalid(problems_of(error, CorrectionsBody.model_fields)) from error
    return {image: (said,) if isinstance(said, str) else tuple(said) for image, said in labels.items()}


def correct(images: Images, labels: dict[str, tuple[str, ...]], validated: Container[str]) -> str:
    """The manifest of all images, with these labels instead of those that they have.

    Args:
        images: the dataset's.
        labels: by the images' ids.
        validated: the ids of the images that the job was validated on; they are `val` where the dataset has
            no split of its own.

    Raises:
        Invalid: an image or a class that the dataset does not have, or labels that leave a class without
            images.
        Conflict: the dataset cannot be read, or not be told in a manifest.
    """
    listing = images.listing
    if listing.problems:
        message = f"the dataset {listing.name!r} cannot be listed: {listing.problems[0]}"
        raise Conflict(message, code="dataset_invalid")
    problems = [problem for image, said in labels.items() for problem in _problems(images, image, said)]
    if problems:
        raise Invalid(problems)
    own = "val" in listing.images
    rows, as_it_was = [], []
    for image in images.ordered:
        split = image.split if own else ("val" if image.id in validated else "train")
        as_it_was.append(Corrected(split, image.listed, image.listed.labels))
        rows.append(Corrected(split, image.listed, labels.get(image.id, image.listed.labels)))
    try:
        write_manifest(as_it_was, images.folder, multi_label=listing.multi_label)
    except Unwritable as error:
        raise Conflict(str(error), code="dataset_invalid") from error
    try:
        return write_manifest(rows, images.folder, multi_label=listing.multi_label)
    except Unwritable as error:
        raise Invalid([Problem("labels", str(error), "class_without_images")]) from error


def _problems(images: Images, image: str, said: tuple[str, ...]) -> list[Problem]:
    param, listing = f"labels.{image[:100]}", images.listing
    if images.find(image) is None:
        return [Problem(param, f"the dataset {listing.name!r} has no such image", "unknown_image")]
    if not listing.multi_label and len(said) != 1:
        return [Problem(param, "an image of this dataset has one label", "one_label")]
    if len(set(said)) < len(said):
        return [Problem(param, "a label stands twice", "label_twice")]
    classes = listing.classes
    return [
        Problem(param, f"there is no class {label[:100]!r}; {closest(label, classes)}", "unknown_class")
        for label in said
        if label not in classes
    ]
