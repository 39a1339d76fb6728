"""At which size decoded images are kept: as small as it can be for what the views need of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F  # noqa: N812  # the field's usual name

from finetune.data.listing import Listing
from finetune.data.preprocessing import Preprocessing
from finetune.spec.augmentations import Augmentation, Cropped
from finetune.spec.job import ResolvedSpec

Stored = Literal["resized", "original"]


@dataclass(frozen=True)
class StoredSize:
    """The short side in pixels, and how images get there. None: all are kept as they were decoded.

    An image whose short side is no longer is kept as it was decoded, too.
    """

    side: int | None = None
    interpolation: str = "bilinear"

    def fit(self, image: Tensor) -> Tensor:
        """An image (3, H, W) at this size."""
        if self.side is None or min(image.shape[1:]) <= self.side:
            return image
        resized: Tensor = F.resize(image, [self.side], InterpolationMode(self.interpolation), antialias=True)
        return resized

    def surely_whole(self, height: int, width: int) -> bool:
        """Whether an image kept at this size that is so large is as it was decoded."""
        return self.side is None or min(height, width) < self.side

    @property
    def bytes(self) -> int | None:
        """Of an image of four to three; None where that is known from the images alone."""
        return None if self.side is None else 3 * self.side * round(self.side * 4 / 3)


ORIGINAL = StoredSize()


def centre_size(preprocessing: Preprocessing, stored: Stored = "resized") -> StoredSize:
    """What `preprocessing.centre` resizes to: then it cuts the same pixels as from the whole image."""
    if stored == "original":
        return ORIGINAL
    return StoredSize(preprocessing.resize, preprocessing.interpolation)


def view_size(
    augmentation: Augmentation, preprocessing: Preprocessing, stored: Stored = "resized"
) -> StoredSize:
    """What an augmentation's views need. The smallest random crop then has as many pixels as the view."""
    if stored == "original" or not isinstance(augmentation, Cropped):
        return centre_size(preprocessing, stored)
    side = math.ceil(preprocessing.crop / math.sqrt(augmentation.crop_scale[0]))
    return StoredSize(side, preprocessing.interpolation)


@dataclass(frozen=True)
class Needed:
    """The sizes that a job needs of the images it trains on, and of those it validates with."""

    train: frozenset[StoredSize]
    val: frozenset[StoredSize]

    @property
    def all(self) -> frozenset[StoredSize]:
        """Every size that some image is needed at."""
        return self.train | self.val

    def by_path(self, listing: Listing) -> Mapping[Path, frozenset[StoredSize]]:
        """What each image of a listing is needed at; where a part is held out, any image may be in it."""
        sizes: dict[Path, frozenset[StoredSize]] = {}
        own = bool(listing.images.get("val"))
        for split, images in listing.images.items():
            needed = (self.val if split == "val" else self.train) if own else self.all
            for image in images:
                sizes[image.path] = sizes.get(image.path, frozenset()) | needed
        return sizes


def needed_sizes(spec: ResolvedSpec, evaluation: Preprocessing, training: Preprocessing) -> Needed:
    """What a job's stages and its evaluation need."""
    stored = spec.preprocessing.stored
    return Needed(
        train=frozenset(view_size(stage.augmentation, training, stored) for stage in spec.stages),
        val=frozenset([centre_size(evaluation, stored)]),
    )
