"""What of a network moves while its backbone is said to be frozen. Takes milliseconds, outside the stages."""

import torch
from torch import nn

NORMS = (nn.modules.batchnorm._BatchNorm,)


class Frozen:
    """Remembers a network as it is, all but the head; says later what moved and what takes a gradient."""

    def __init__(self, model: nn.Module, head: str) -> None:
        self._model, self._head = model, head
        self._before = {name: tensor.detach().clone() for name, tensor in self._tensors().items()}

    def moved(self) -> str:
        """In a few words."""
        now = self._tensors()
        changed = [
            name
            for name, tensor in self._before.items()
            if name in now and not torch.equal(tensor, now[name])
        ]
        wants = [name for name, parameter in self._model.named_parameters() if parameter.requires_grad]
        norms = {name for name, module in self._model.named_modules() if isinstance(module, NORMS)}
        of_norms = [name for name in wants if not self._of_head(name) and name.rpartition(".")[0] in norms]
        words = []
        if any("running_" in name for name in changed):
            words.append("BatchNorm's statistics move")
        parameters = {name for name, _ in self._model.named_parameters()}
        weights = [name for name in changed if name in parameters]
        if weights:
            only = all(name.rpartition(".")[0] in norms for name in weights)
            words.append("BatchNorm's weights are trained" if only else "weights are trained")
        elif of_norms:
            words.append("gradients of BatchNorm's weights are computed and not used")
        return "; ".join(words) or "nothing moves"

    def _tensors(self) -> dict[str, torch.Tensor]:
        found = [*self._model.named_parameters(), *self._model.named_buffers()]
        return {name: tensor for name, tensor in found if not self._of_head(name)}

    def _of_head(self, name: str) -> bool:
        return name.startswith(f"{self._head}.")
