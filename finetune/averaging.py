"""A moving average of a network's weights, kept beside them."""

from collections.abc import Iterator
from contextlib import contextmanager

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

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the average after a step."""
        averages, weights = list[Tensor](), list[Tensor]()
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                averages.append(self._average[name])
                weights.append(tensor)
            else:
                self._average[name].copy_(tensor)
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
