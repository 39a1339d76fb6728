"""A trained network as its checkpoint describes it: opened from the file alone, ready to answer."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from torch import Tensor, nn

from finetune.backbones import Registry
from finetune.checkpoint import load_weights, sha256_of
from finetune.data.preprocessing import Preprocessing
from finetune.errors import WeightsIncompatible, WeightsNotFound
from finetune.objectives.embeddings import placed

Answer = Literal["classes", "labels", "embedding"]
ANSWERS: dict[str, Answer] = {"binary_cross_entropy": "labels", "triplet": "embedding"}


@dataclass(frozen=True)
class TrainedModel:
    """A network in eval mode, and all that using its outputs needs.

    `about` is the checkpoint's metadata with its JSON read. `thresholds` are by class, where an image has any
    number of labels. `normalize` says whether an embedding lies on the unit sphere.
    """

    network: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    answer: Answer
    thresholds: dict[str, float]
    normalize: bool
    about: dict[str, Any]

    def answers(self, images: Tensor) -> Tensor:
        """Probabilities (N, classes), or embeddings (N, size), float32 on the network's device.

        Args:
            images: uint8 (N, 3, crop, crop), as `preprocessing.centre` gives them.
        """
        with torch.inference_mode():
            return self.answers_of(self.network(self.inputs(images)))

    def inputs(self, images: Tensor) -> Tensor:
        """What the network takes of prepared images: float32 of the same shape, on its device."""
        device = next(self.network.parameters()).device
        inputs = self.preprocessing.normalize(images.to(device))
        return inputs.contiguous(memory_format=torch.channels_last)

    def answers_of(self, outputs: Tensor) -> Tensor:
        """What the network's outputs (N, outputs) mean: probabilities, or an embedding."""
        match self.answer:
            case "classes":
                return outputs.softmax(1)
            case "labels":
                return outputs.sigmoid()
            case "embedding":
                return placed(outputs, self.normalize)


def open_model(
    path: Path, registry: Registry, device: torch.device | str = "cpu", sha256: str | None = None
) -> TrainedModel:
    """Opens the checkpoint that a run wrote; with `sha256`, only if the file still has that one.

    Raises:
        WeightsNotFound: the file is gone.
        WeightsIncompatible: it is damaged, or no checkpoint of ours.
        SpecInvalid: its backbone is not in the registry.
    """
    if sha256 is not None and path.is_file() and sha256_of(path) != sha256:
        raise WeightsIncompatible(
            f"{path.name} is damaged: its SHA-256 is not the one that it was written with"
        )
    about = read_about(path)
    try:
        preprocessing = Preprocessing.from_json(about["preprocessing"])
    except (TypeError, ValueError, KeyError) as error:
        raise WeightsIncompatible(f"{path.name} does not say how images are prepared for it") from error
    network = registry.find(about["backbone"]).make(about["outputs"], preprocessing.crop)
    load_weights(path, network)
    network.eval().requires_grad_(False)
    return TrainedModel(
        network=network.to(device).to(memory_format=torch.channels_last),
        classes=tuple(about["classes"]),
        preprocessing=preprocessing,
        answer=ANSWERS.get(about["objective"], "classes"),
        thresholds=about.get("thresholds", {}),
        normalize=about.get("normalize", False),
        about=about,
    )


def read_about(path: Path) -> dict[str, Any]:
    """A checkpoint's metadata, its JSON read.

    Raises:
        WeightsNotFound: the file is gone.
        WeightsIncompatible: it is damaged, or no checkpoint of ours.
    """
    if not path.is_file():
        raise WeightsNotFound(f"the checkpoint {path.name} is gone")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
        plain = {name: texts[name] for name in PLAIN if name in texts or name not in LATER}
        needed = {name: json.loads(texts[name]) for name in NEEDED}
        more = {n: json.loads(text) for n, text in texts.items() if n not in (*PLAIN, *NEEDED)}
        return needed | more | plain
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        raise WeightsIncompatible(f"{path.name} is damaged, or no checkpoint of a job") from error


# Texts in the metadata that are no JSON.
PLAIN = ("format", "backbone", "objective", "job", "stage", "dataset")
LATER = ("dataset",)  # of these, what checkpoints from before it was written do not have
NEEDED = ("outputs", "classes", "preprocessing", "global_epoch")
