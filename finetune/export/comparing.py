"""Are an exported model's answers those of the checkpoint? Asked with the job's own validation images."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finetune.data.checking import check_dataset
from finetune.data.dataset import list_dataset, open_dataset
from finetune.data.decoding import Undecodable, decode
from finetune.data.paths import Irregular, Outside, open_below
from finetune.errors import DatasetGone, DatasetInvalid, DatasetNotFound, ExportFailed
from finetune.export.formats import Answers
from finetune.spec.job import DatasetSpec
from finetune.trained import TrainedModel

MOST_IMAGES = 256
MOST_SECONDS = 300.0  # a network so slow that fewer images take so long is compared on those
BATCH = 16
TOLERANCE = 1e-4  # of probabilities
EMBEDDING_TOLERANCE = 1e-3  # in parts of the largest number, where that is above 1


@dataclass(frozen=True)
class Comparison:
    """How far answers are apart at most, over so many images; see `Exported.largest_difference`."""

    largest_difference: float
    images: int


def validation_images(data_dir: Path, spec: dict[str, Any]) -> list[Path]:
    """The job's validation images, at most `MOST_IMAGES`, evenly spread over them, in no order.

    Of a dataset that nobody could train on any more, those that are left will do: labels are not looked at.

    Raises:
        DatasetGone: the dataset is not there any more, or has no images.
    """
    asked = DatasetSpec.model_validate(spec["dataset"])
    try:
        found = [sample.path for sample in open_dataset(data_dir, asked, spec["seed"]).val]
    except DatasetNotFound as error:
        raise _gone(error.message) from error
    except DatasetInvalid as error:
        images = list_dataset(data_dir, asked.path).images
        found = [image.path for image in images.get("val") or images["train"]]
        if not found:
            raise _gone(error.message) from error
    count = min(MOST_IMAGES, len(found))
    paths = [found[index * len(found) // count] for index in range(count)]
    random.Random(0).shuffle(paths)  # so that the first ones are spread, too
    return paths


def is_same_data(
    data_dir: Path, checks_dir: Path | None, spec: dict[str, Any], fingerprint: str | None
) -> bool:
    """Whether the dataset is still the one that a checkpoint names; where it names none, it is not known."""
    path = spec["dataset"]["path"]
    return fingerprint is not None and check_dataset(data_dir, path, checks_dir).fingerprint == fingerprint


def compare(model: TrainedModel, anew: Answers, paths: Sequence[Path], root: Path, whole: bool) -> Comparison:
    """Compares the model's answers with those of its export.

    The images lie below `root`, the data root.

    `whole` is for a graph that prepares images itself: it gets them as they are decoded, one by one.

    Raises:
        ExportFailed: they differ by more than is allowed, or are no numbers.
        DatasetGone: no image can be decoded.
    """
    deadline = time.monotonic() + MOST_SECONDS
    largest, images = 0.0, 0
    allowed = EMBEDDING_TOLERANCE if model.answer == "embedding" else TOLERANCE
    for batch in _batches(paths, root, 1 if whole else BATCH):
        prepared = torch.stack([model.preprocessing.centre(image) for image in batch])
        expected = model.answers(prepared)
        found = anew(batch[0][None] if whole else model.preprocessing.normalize(prepared))
        largest = max(largest, _difference(expected, found, allowed))
        images += len(batch)
        if time.monotonic() > deadline:
            break
    if not images:
        raise _gone("none of its validation images can be read")
    return Comparison(largest, images)


def _batches(paths: Sequence[Path], root: Path, size: int) -> Iterator[list[Tensor]]:
    """Decoded images in batches; those that cannot be decoded are left out."""
    batch: list[Tensor] = []
    for path in paths:
        try:
            with open_below(path, root) as file:
                batch.append(decode(file))
        except (Undecodable, Outside, Irregular, OSError):
            continue
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _difference(expected: Tensor, found: Tensor, allowed: float) -> float:
    if found.shape != expected.shape:
        shapes = f"{tuple(found.shape)} and not {tuple(expected.shape)}"
        raise ExportFailed(f"the exported model's answers have the shape {shapes}")
    if not bool(expected.isfinite().all()):
        raise ExportFailed("the checkpoint's own answers are not finite numbers: choose another checkpoint")
    largest = ((found - expected).abs().max() / expected.abs().max().clamp(min=1)).item()
    if not largest <= allowed:  # NaN is more, too
        raise ExportFailed(
            f"the exported model's answers differ from the checkpoint's by {largest:.2g} "
            f"on the validation images; at most {allowed:g} is allowed"
        )
    return largest


def _gone(reason: str) -> DatasetGone:
    return DatasetGone(
        "the export cannot be proved: its answers are compared with the checkpoint's on the job's validation "
        f"images, and {reason}. Put the dataset back, or download the checkpoint itself (without format)",
        "dataset.path",
    )
