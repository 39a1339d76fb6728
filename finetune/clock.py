"""Where an epoch's time goes."""

import time
from collections.abc import Iterator
from typing import Any, TypeVar

Batch = TypeVar("Batch")


class Clock:
    """Seconds of an epoch by what they went to, and its images per second."""

    def __init__(self) -> None:
        self.seconds = {"data": 0.0, "train": 0.0, "val": 0.0, "checkpoint": 0.0}
        self._start = self._last = time.perf_counter()
        self._images = 0

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Counts the waiting for batches as `data`, the time between them as `train`."""
        for batch in batches:
            self.lap("data")
            yield batch
            self.lap("train")

    def lap(self, part: str) -> None:
        """Adds the time since the last lap to a part."""
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now

    def images(self, count: int) -> float:
        """Counts trained images; gives their number per second so far."""
        self._images += count
        return self._images / (time.perf_counter() - self._start)

    def to_state(self) -> dict[str, Any]:
        """Plain values; the time since the last lap is not in them."""
        return {"seconds": dict(self.seconds), "images": self._images}

    def go_on(self, state: dict[str, Any]) -> None:
        """Goes on from what `to_state` gave, whatever time lies between."""
        self.seconds, self._images = dict(state["seconds"]), state["images"]
        self._start -= sum(self.seconds.values())

    def rate(self) -> float:
        """Trained images per second of data and training."""
        return self._images / (self.seconds["data"] + self.seconds["train"])
