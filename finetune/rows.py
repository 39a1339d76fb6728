"""Features as rows of numbers, picked from memory or from a file that is mapped into it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """What a row holds: the tensor of one image, as it lies in memory."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def of(cls, batch: Tensor) -> "Layout":
        """That of the images of a batch."""
        one = batch[0]
        order = sorted(range(one.ndim), key=lambda dim: one.stride(dim))
        expected = 1
        for dim in order:
            if one.shape[dim] != 1 and one.stride(dim) != expected:
                one = one.contiguous()  # it had gaps
                break
            expected *= one.shape[dim]
        return cls(batch.dtype, tuple(one.shape), tuple(one.stride()))

    @property
    def numbers(self) -> int:
        """How many a row has."""
        return torch.Size(self.shape).numel()

    @property
    def bytes(self) -> int:
        """The size of a row."""
        return self.numbers * self.dtype.itemsize

    def images(self, rows: Tensor) -> Tensor:
        """Rows (N, numbers) that lie one behind another as a batch (N, *shape), which shares their memory."""
        return rows.as_strided((len(rows), *self.shape), (self.numbers, *self.stride))

    def rows(self, batch: Tensor) -> Tensor:
        """The inverse of `images`, in memory of its own."""
        rows = torch.empty(len(batch), self.numbers, dtype=self.dtype, device=batch.device)
        self.images(rows).copy_(batch)
        return rows


class Rows:
    """The features of the views of `count` images: view 0 of each image, then view 1.

    `parts` are the rows, all in one tensor or in one for each view.
    """

    def __init__(self, parts: Sequence[Tensor], layout: Layout, count: int, device: torch.device) -> None:
        self._parts, self._layout, self.count, self._device = parts, layout, count, device

    def places(self, images: Sequence[int], views: Sequence[int]) -> Tensor:
        """Where the rows of these images' views are, for `pick`: int64 (N,), where the rows lie."""
        place = torch.tensor([v * self.count + i for i, v in zip(images, views, strict=True)])
        return place.to(self._parts[0].device, non_blocking=True)

    def pick(self, places: Tensor) -> Tensor:
        """These features as a batch (N, *shape) in memory of its own, on the device."""
        if len(self._parts) == 1:
            rows = self._parts[0][places]
        else:
            views, images = places // self.count, places % self.count
            rows = torch.empty(len(places), self._layout.numbers, dtype=self._layout.dtype)
            for view in set(views.tolist()):
                chosen = views == view
                rows[chosen] = self._parts[view][images[chosen]]
        return self._layout.images(rows.to(self._device, non_blocking=True))
