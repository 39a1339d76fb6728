"""Answers questions about images with the networks of checkpoints, which stay open from one to the next."""

import io
import logging
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from finetune import backbones
from finetune.backbones import Registry
from finetune.data.decoding import Undecodable, decode
from finetune.data.opening import FORMATS, MOST_PIXELS, TAKEN, other_format
from finetune.data.preprocessing import Preprocessing
from finetune.device import choose
from finetune.errors import (
    DeviceUnusable,
    FinetuneError,
    ImageInvalid,
    NetworkFailed,
    OutOfMemory,
)
from finetune.folding import folded
from finetune.predictions import Prediction, Predictions, Question, Sent
from finetune.spec.problems import Problem
from finetune.trained import TrainedModel, open_model

log = logging.getLogger(__name__)

OPEN_MODELS = 4  # that stay in memory
BATCH = 16  # images that pass through a network at once


class Predictor:
    """Keeps the networks open that it was asked for last, and warm.

    Args:
        registry: where the networks of checkpoints are found.
        device: where they compute.
        most: how many stay open. Checkpoints never change, so they are known by their SHA-256.
    """

    def __init__(self, registry: Registry, device: torch.device, most: int = OPEN_MODELS) -> None:
        self._registry, self._device, self._most = registry, device, most
        self._open: OrderedDict[str, TrainedModel] = OrderedDict()

    def predict(self, question: Question) -> Predictions:
        """Answers for every image, or for none.

        Raises:
            ImageInvalid: images that cannot be read; `problems` names all of them.
            WeightsNotFound, WeightsIncompatible: the checkpoint's file is gone, or damaged.
            SpecInvalid: its backbone is not in the registry.
            NetworkFailed: the network raises, or gives what are no numbers.
            OutOfMemory: the device has no room.
        """
        model = self._model(question)
        begun = time.perf_counter()
        images = prepare(question.images, model.preprocessing)
        decoded = time.perf_counter()
        batches = (images[first : first + BATCH] for first in range(0, len(images), BATCH))
        answers = torch.cat([_answers(model, batch).cpu() for batch in batches])
        done = time.perf_counter()
        _check_finite(answers, model)
        return Predictions(
            kind=model.answer,
            backbone=model.about["backbone"],
            predictions=tuple(_readings(answers, model, question.top)),
            decode_seconds=decoded - begun,
            model_seconds=done - decoded,
        )

    def _model(self, question: Question) -> TrainedModel:
        model = self._open.get(question.sha256)
        if model is None:
            model = self._opened(question)
            while len(self._open) >= self._most:
                self._open.popitem(last=False)
            self._open[question.sha256] = model
        self._open.move_to_end(question.sha256)
        return model

    def _opened(self, question: Question) -> TrainedModel:
        try:
            model = open_model(question.checkpoint, self._registry, self._device, question.sha256)
            side = model.preprocessing.crop
            images = torch.randint(256, (1, 3, side, side), dtype=torch.uint8)
            _answers(model, images)
            model = replace(model, network=folded(model.network, model.inputs(images)))
            _answers(model, images)  # the first one is slow
        except FinetuneError:
            raise
        except Exception as error:  # an operator's backbone raises whatever it likes when it is built
            log.exception("the network of %s cannot be built", question.checkpoint.name)
            raise NetworkFailed(f"its network cannot be built: {type(error).__name__}") from error
        return model


def open_predictor(registered: tuple[str, ...], device: str) -> Callable[[Question, Any], Predictions]:
    """What a process of its own answers with: the operator's backbones by path, and where to compute.

    Raises:
        DeviceUnusable: there is no such device here.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of what is odd in an image, and read all the same
    chosen = choose(device, "fp32").device
    try:
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceUnusable(f"there is no device {device!r} to predict on") from error
    predictor = Predictor(backbones.load(registered), chosen)
    return lambda question, tell: predictor.predict(question)


def prepare(images: Sequence[Sent], preprocessing: Preprocessing) -> Tensor:
    """Decoded and cut: uint8 (N, 3, crop, crop).

    Raises:
        ImageInvalid: images that cannot be read; `problems` names all of them.
    """
    _check_pixels(images)
    prepared, problems = [], []
    for index, image in enumerate(images):
        try:
            prepared.append(_prepared(image.content, preprocessing))
        except Undecodable as error:
            reason = _reason(error, image.content)
            message = f"{image.name or 'this'} cannot be read as an image: {reason}"
            problems.append(Problem(f"images.{index}", message, ImageInvalid.code))
    if problems:
        raise ImageInvalid(problems[0].message, problems[0].param, problems)
    return torch.stack(prepared)


def _check_pixels(images: Sequence[Sent]) -> None:
    """Refuses images that are large together: a small file may say that it has many, and others wait."""
    pixels = 0
    for image in images:
        with suppress(Exception):  # of what is no image, the decoding says more
            width, height = Image.open(io.BytesIO(image.content), formats=FORMATS).size
            pixels += width * height if width * height <= MOST_PIXELS else 0
    if pixels > MOST_PIXELS:
        message = (
            f"the images have {pixels:,} pixels together, and at most {MOST_PIXELS:,} are read at once: "
            "send fewer, or smaller ones"
        )
        raise ImageInvalid(message, "images", [Problem("images", message, ImageInvalid.code)])


def _prepared(content: bytes, preprocessing: Preprocessing) -> Tensor:
    pixels = decode(io.BytesIO(content))
    short, long = sorted(pixels.shape[1:])
    if preprocessing.resize**2 * long > MOST_PIXELS * short:  # a line, which would grow with its short side
        raise Undecodable(f"it has {pixels.shape[2]} × {pixels.shape[1]} pixels and is too narrow")
    return preprocessing.centre(pixels)


def _reason(error: Undecodable, content: bytes) -> str:
    if isinstance(error.__cause__, UnidentifiedImageError):  # whose text is about an object of Python's
        other = other_format(content)
        return f"it is {other}; {TAKEN}" if other else f"it is none; {TAKEN}"
    return str(error)


def _answers(model: TrainedModel, images: Tensor) -> Tensor:
    """What the network makes of a batch, its failures by name."""
    try:
        return model.answers(images)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"no memory is left for {len(images)} images") from error
    except Exception as error:  # an operator's network raises whatever it likes
        log.exception("the network of %s failed", model.about["backbone"])
        raise NetworkFailed(f"its network raises {type(error).__name__}") from error


def _check_finite(answers: Tensor, model: TrainedModel) -> None:
    """Refuses NaN and infinities, which JSON has no word for and nobody a use."""
    if not bool(answers.isfinite().all()):
        raise NetworkFailed(f"its network gives {model.answer} that are no finite numbers")


def _readings(answers: Tensor, model: TrainedModel, top: int) -> list[Prediction]:
    if model.answer == "embedding":
        return [Prediction(embedding=tuple(point)) for point in answers.tolist()]
    values, order = answers.topk(min(top, answers.shape[1]))
    ranked = [
        tuple((model.classes[i], p) for p, i in zip(row, places, strict=True))
        for row, places in zip(values.tolist(), order.tolist(), strict=True)
    ]
    if model.answer == "classes":
        return [Prediction(classes=classes) for classes in ranked]
    given = (_labels(row, model) for row in answers.tolist())
    return [Prediction(classes=classes, labels=labels) for classes, labels in zip(ranked, given, strict=True)]


def _labels(probabilities: Sequence[float], model: TrainedModel) -> tuple[str, ...]:
    """The classes whose thresholds are reached, the most probable first."""
    by_class = sorted(zip(probabilities, model.classes, strict=True), reverse=True)
    return tuple(name for probability, name in by_class if probability >= model.thresholds[name])
