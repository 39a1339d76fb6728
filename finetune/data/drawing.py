"""Random operations of other libraries with a generator of one's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

DRAWING = (torch.rand, torch.randint, torch.randperm, torch.Tensor.uniform_)


class drawing_from(TorchFunctionMode):  # noqa: N801  # it is used as a function is, `with drawing_from(…):`
    """What draws from torch's generator in this block, in this thread, draws from the given one instead.

    Seeding torch's own would be felt in all threads, among them the one that trains.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """See `TorchFunctionMode`."""
        given = dict(kwargs or {})
        if func in DRAWING:
            given.setdefault("generator", self._generator)
        return func(*args, **given)
