"""Evaluation's preprocessing as a part of the network's graph: it takes decoded images of any size.

It gives the very pixels of `Preprocessing.centre`. Torch resizes uint8 on the CPU as Pillow does: across,
then down, each with weights that are whole numbers, and rounds to whole grey levels after each of the two
(`aten/src/ATen/native/cpu/UpSampleKernel.cpp`, `_compute_index_ranges_int16_weights`). Here each pass is a
multiplication with a matrix of such weights. Float64 holds all numbers in it exactly.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from finetune.data.preprocessing import Preprocessing
from finetune.errors import ExportFailed

EXACT = torch.float64
Size = int | torch.SymInt
MOST_BITS = 22  # of a weight's fraction
LIMIT = 2**15  # above every weight: they are 16 bits wide


@dataclass(frozen=True)
class Filter:
    """What a pixel counts at a distance (float64, any shape) from the place that is resampled.

    It is 0 from `reach` on. Distances are in pixels of the smaller of the two images.
    """

    reach: int
    weigh: Callable[[Tensor], Tensor]


def _bilinear(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def _bicubic(distance: Tensor) -> Tensor:
    """Keys 1981 with a = -0.5, in the kernel's order of operations."""
    x, a = distance.abs(), -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


FILTERS = {"bilinear": Filter(1, _bilinear), "bicubic": Filter(2, _bicubic)}


class Preparing(nn.Module):
    """From uint8 (N, 3, H, W), decoded RGB and upright, to float32 (N, 3, crop, crop), normalized.

    Raises:
        ExportFailed: the preprocessing resizes in a way that has no matrix here.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        found = FILTERS.get(preprocessing.interpolation)
        if found is None:
            known = " and ".join(FILTERS)
            raise ExportFailed(
                f"the preprocessing cannot go into the graph: it resizes by {preprocessing.interpolation!r}, "
                f"and the graph knows {known}. Leave preprocessing out: the card says how to prepare images",
                "preprocessing",
            )
        self._resize, self._crop, self._filter = preprocessing.resize, preprocessing.crop, found
        self.register_buffer("mean", torch.tensor(preprocessing.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(preprocessing.std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """The network's input."""
        height, width = images.shape[2:]
        short = torch.sym_min(height, width)
        across, unit = self._matrix(width, self._resize * width // short)
        pixels = _rounded(images.to(EXACT) @ across.T, unit)
        down, unit = self._matrix(height, self._resize * height // short)
        pixels = _rounded(down @ pixels, unit)
        return (pixels.to(torch.float32) * (1 / 255) - self.mean) / self.std

    def _matrix(self, size: Size, resized: Size) -> tuple[Tensor, Tensor]:
        """The crop of an axis of `size` pixels after it is `resized`: (crop, size), and what stands for 1."""
        new = torch.full((), resized, dtype=EXACT)
        scale, gap = torch.full((), size, dtype=EXACT) / new, new - self._crop
        # As torchvision rounds what it cuts off, and what it adds to an image that is smaller than the crop.
        start = torch.where(gap >= 0, torch.round(gap / 2), torch.ceil(gap / 2))
        places = torch.arange(self._crop, dtype=EXACT)[:, None] + start
        weights = self._weights(places, torch.arange(size, dtype=EXACT), size, scale)
        weights = torch.where((places >= 0) & (places < resized), weights, 0.0)
        unit = self._unit(size, resized, scale)
        return weights.sign() * (weights.abs() * unit + 0.5).floor(), unit

    def _unit(self, size: Size, resized: Size, scale: Tensor) -> Tensor:
        """The power of two that weights are multiplied with: the largest under which all of them fit."""
        taps = 2 * self._filter.reach * torch.sym_max(1, (size + resized - 1) // resized) + 1
        places = torch.arange(resized, dtype=EXACT)[:, None]
        pixels = self._first(places, scale) + torch.arange(taps, dtype=EXACT)
        largest = self._weights(places, pixels, size, scale).max()
        units = 2.0 ** torch.arange(1, MOST_BITS + 1, dtype=EXACT)
        return torch.where((largest * units + 0.5).floor() < LIMIT, units, 1.0).max()

    def _first(self, places: Tensor, scale: Tensor) -> Tensor:
        """The first pixel that counts for each place (P, 1) of the resized axis."""
        reach = self._filter.reach * scale.clamp(min=1.0)
        return (scale * (places + 0.5) - reach + 0.5).floor().clamp(min=0)

    def _weights(self, places: Tensor, pixels: Tensor, size: Size, scale: Tensor) -> Tensor:
        """What pixels, (size,) or (P, taps), count for each place (P, 1): rows that sum to 1."""
        centre, wide = scale * (places + 0.5), scale.clamp(min=1.0)
        first = self._first(places, scale)
        end = (centre + self._filter.reach * wide + 0.5).floor()
        weights = self._filter.weigh(((pixels - first) + (first - centre) + 0.5) * (1 / wide))
        weights = torch.where((pixels >= first) & (pixels < end) & (pixels < size), weights, 0.0)
        return weights / weights.sum(1, keepdim=True)


def _rounded(sums: Tensor, unit: Tensor) -> Tensor:
    """Whole grey levels from sums of weights times grey levels."""
    return ((sums + unit / 2) / unit).floor().clamp(0, 255)
