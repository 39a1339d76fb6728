"""The images of datasets by their ids: each dataset listed once in a while, and remembered in between.

A page asks for dozens of pictures at once, and listing a dataset of 100,000 images takes seconds.
"""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from finetune.data.dataset import find_dataset, folder_of, list_dataset
from finetune.data.listing import Listed, Listing
from finetune.data.naming import file_name, image_id

FRESH_SECONDS = 5.0
SHARE = 20  # times as long as the listing took it is remembered: listing takes a twentieth of the time
MOST_IMAGES = 500_000  # remembered of all datasets together, but always the last one


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a dataset: its id, what it is called from the dataset's folder, its split, its labels."""

    id: str
    file: str
    split: str
    listed: Listed


@dataclass(frozen=True)
class Images:
    """A dataset's images in the listing's order, and the place of each id in it."""

    listing: Listing
    folder: Path
    ordered: tuple[Image, ...]
    places: dict[str, int]

    def find(self, image: str) -> Image | None:
        """The image of that id."""
        place = self.places.get(image)
        return None if place is None else self.ordered[place]


@dataclass
class _Dataset:
    turn: threading.Lock = field(default_factory=threading.Lock)
    images: Images | None = None
    until: float = 0.0  # monotonic


class Listings:
    """The images of the datasets below a root. Safe to use from many threads."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._known: dict[str, _Dataset] = {}  # the last asked for stands last
        self._lock = threading.Lock()

    def images(self, name: str) -> Images:
        """A dataset's images as they were listed a moment ago, or are now.

        Raises:
            DatasetNotFound: there is none.
        """
        find_dataset(self._data_dir, name)  # one that is gone is not shown from memory
        with self._lock:
            dataset = self._known.pop(name, None) or _Dataset()
            self._known[name] = dataset
        try:
            with dataset.turn:
                if dataset.images is None or time.monotonic() > dataset.until:
                    dataset.images = None
                    begun = time.monotonic()
                    dataset.images = _list(self._data_dir, name)
                    ended = time.monotonic()
                    dataset.until = ended + max(FRESH_SECONDS, SHARE * (ended - begun))
                return dataset.images
        finally:
            self._forget_first()

    def forget(self, name: str) -> None:
        """The dataset is another one now."""
        with self._lock:
            for known in [known for known in self._known if known == name or known.startswith(f"{name}/")]:
                del self._known[known]

    def _forget_first(self) -> None:
        """Names are the clients', and datasets have any size: what was asked for last is kept."""
        with self._lock:
            kept, now = 0, time.monotonic()
            for name, dataset in reversed(list(self._known.items())):
                images, listed_now = dataset.images, dataset.turn.locked()
                kept += len(images.ordered) if images else 0
                over = kept > MOST_IMAGES and dataset is not next(reversed(self._known.values()))
                if not listed_now and (images is None or over or now > dataset.until):
                    del self._known[name]


def _list(data_dir: Path, name: str) -> Images:
    listing, folder = list_dataset(data_dir, name), folder_of(data_dir, name)
    ordered = tuple(
        Image(image_id(called), called, split, listed)
        for split, images in listing.images.items()
        for listed in images
        for called in (file_name(listed.path, folder),)
    )
    # Of two names that differ in bytes that are no UTF-8 alone the last one counts, so that no page ends
    # before it and begins again behind the first.
    return Images(listing, folder, ordered, {image.id: place for place, image in enumerate(ordered)})
