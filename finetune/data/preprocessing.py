"""From a decoded image to what a network takes, as plain data that travels with every checkpoint."""

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F  # noqa: N812  # the field's usual name

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LARGEST = 8192  # pixels


@dataclass(frozen=True)
class Preprocessing:
    """Short side to `resize` pixels, centre of `crop` × `crop`, to [0, 1], minus mean, by deviation.

    A run has two: evaluation's, which is the weights' own and travels with every checkpoint, and training's,
    which differs from it in size at most.
    """

    resize: int = 256
    crop: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = "bilinear"

    def at(self, image_size: int | None) -> "Preprocessing":
        """The same with another crop, the resized side in proportion."""
        if image_size is None:
            return self
        return replace(self, resize=round(image_size * self.resize / self.crop), crop=image_size)

    def to_json(self) -> dict[str, Any]:
        """The fields, as they stand in a checkpoint and in a plan."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Preprocessing":
        """The inverse of `to_json`.

        Raises:
            TypeError, ValueError: the fields are none that a checkpoint of ours has.
        """
        made = cls(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
        InterpolationMode(made.interpolation)
        sizes = all(type(size) is int and 0 < size <= LARGEST for size in (made.resize, made.crop))
        scales = len(made.mean) == len(made.std) == 3 and all(float(std) > 0 for std in made.std)
        if not (sizes and scales):
            raise ValueError("no preprocessing of ours")
        return made

    def centre(self, image: Tensor) -> Tensor:
        """The evaluated part of an image: uint8 (3, H, W) → uint8 (3, crop, crop)."""
        resized = F.resize(image, [self.resize], InterpolationMode(self.interpolation), antialias=True)
        cropped: Tensor = F.center_crop(resized, [self.crop, self.crop])
        return cropped

    def normalize(self, images: Tensor) -> Tensor:
        """What the network takes: uint8 (N, 3, H, W) → float32 of the same shape, on the same device."""
        mean, std = _on(images.device, self.mean), _on(images.device, self.std)
        if images.device.type == "cpu" and images.is_contiguous(memory_format=torch.channels_last):
            return _normalize_rows(images, mean, std)
        return images.to(torch.float32).mul_(1 / 255).sub_(mean[:, None, None]).div_(std[:, None, None])


@lru_cache(maxsize=64)
def _on(device: torch.device, values: tuple[float, ...]) -> Tensor:
    """Copied once: a copy to a GPU waits for it."""
    return torch.tensor(values, device=device)


def _normalize_rows(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Channels last. The same operations on each number, in an order that the CPU's caches like."""
    count, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(count, height, width * channels)
    normalized = torch.empty(rows.shape)
    means, deviations = mean.repeat(width), std.repeat(width)
    for given, made in zip(rows, normalized, strict=True):
        made.copy_(given).mul_(1 / 255).sub_(means).div_(deviations)
    return normalized.view(count, height, width, channels).permute(0, 3, 1, 2)
