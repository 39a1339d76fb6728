"""A moving average of a network's weights, kept beside them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from finetune.modules import copy_of_state


class WeightAverage:
    """average ← decay · average + (1 - decay) · weights, of parameters and buffers; counters are copied.

    Averages often validate better than the last weights (Polyak and Juditsky 1992; Izmailov et al. 2018).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._average = copy_of_state(model)
        self._homes = [_home(model, name) for name in self._average]

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average after a step of the network that it was made of."""
        # Looked up anew, as a network may put another tensor in a buffer's place; `state_dict` takes longer.
        tensors = [home[name] for home, name in self._homes]
        averages, weights = list[Tensor](), list[Tensor]()
        for average, tensor in zip(self._average.values(), tensors, strict=True):
            if tensor.is_floating_point():
                averages.append(average)
                weights.append(tensor)
            else:
                average.copy_(tensor)
        torch._foreach_lerp_(averages, weights, 1 - self._decay)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Puts the average into the network, and afterwards the weights back, to the bit."""
        weights = copy_of_state(model)
        model.load_state_dict(self._average)
        try:
            yield
        finally:
            model.load_state_dict(weights)

    def to_state(self) -> dict[str, Tensor]:
        """The average by the names of the network's state."""
        return self._average

    def restore(self, state: dict[str, Tensor]) -> None:
        """Puts an average back that `to_state` gave."""
        for name, tensor in state.items():
            self._average[name].copy_(tensor)


def _home(model: nn.Module, name: str) -> tuple[dict[str, Any], str]:
    """Where a tensor of the network's state is kept, and under which name."""
    owner, _, own = name.rpartition(".")
    module = model.get_submodule(owner)
    return module._parameters if own in module._parameters else module._buffers, own
