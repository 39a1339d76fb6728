"""One step of a stage: from one batch or several to one move of the optimizer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from finetune import optimizers
from finetune.averaging import WeightAverage
from finetune.device import Compute
from finetune.feeds import Labelled
from finetune.mixing import mixing_of
from finetune.network import Blueprint, logits_and_auxiliary
from finetune.objectives import Objective, Tally
from finetune.rematerialize import rematerialized
from finetune.tables import StageTables

Batch = TypeVar("Batch")
Outputs = Tensor | tuple[Tensor | None, ...]  # those of auxiliary heads come after the network's own


class Stepper:
    """What a stage trains with, and remembers between steps: optimizer, gradient scaler, moving average."""

    def __init__(
        self,
        model: nn.Module,
        table: StageTables,
        blueprint: Blueprint,
        objective: Objective,
        compute: Compute,
    ) -> None:
        self._model, self._table, self._objective, self._compute = model, table, objective, compute
        self._aux_weight = blueprint.backbone.aux_weight
        self._mixing = mixing_of(table.stage.mix, len(blueprint.classes))
        self._recomputed = table.recomputed
        self.optimizer = optimizers.build(table.stage.optimizer, model, table.grouping.groups)
        self.average = WeightAverage(model, table.stage.ema.decay) if table.stage.ema else None
        self._scaler = compute.gradient_scaler()
        self._trained = [p for group in self.optimizer.param_groups for p in group["params"]]

    def step(
        self,
        batches: list[Labelled],
        rates: Mapping[str, float],
        forward: Callable[[Tensor], Outputs],
        tally: Tally,
    ) -> Tensor:
        """Trains on the batches as on one: their means are weighed so that it makes no difference.

        `rates` are the groups' learning rates, `forward` gives the network's outputs. What is random in a
        step (mixing, dropout) is drawn from torch's global generator. Nothing here waits for the device, but
        for the scaler of fp16 where the optimizer has no fused kernel. Returns the step's mean loss,
        detached, still on the device.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rates[group["name"]]
        batches = [self._mixing(batch) for batch in batches]
        shares = self._shares(batches)
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for (inputs, labels, weights), share in zip(batches, shares, strict=True):
            with rematerialized(self._model, self._recomputed), self._compute.autocast():
                outputs, auxiliary = logits_and_auxiliary(forward(inputs))
                loss = self._objective.loss(outputs, labels, weights)
                for output in auxiliary:
                    loss = loss + self._aux_weight * self._objective.loss(output, labels, weights)
            part = loss if share is None else loss * share
            torch.autograd.backward(self._scaler.scale(part))
            tally.add(loss, outputs, labels, weights)
            losses.append(part.detach())
        if self._table.stage.max_grad_norm is not None:
            self._scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self._trained, self._table.stage.max_grad_norm)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self.average is not None:
            self.average.update()
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _shares(self, batches: list[Labelled]) -> Sequence[Tensor | None]:
        """What each batch's mean counts in the step's, scalars on the device; of one alone there is none."""
        if len(batches) == 1:
            return [None]
        counts = [self._objective.weight(labels, weights) for _, labels, weights in batches]
        total = torch.stack(counts).sum()
        return [count / total for count in counts]

    def release_gradients(self) -> None:
        """Gives the gradients' memory back, which validation does not need."""
        self.optimizer.zero_grad(set_to_none=True)

    def to_state(self) -> dict[str, Any]:
        """All that the next step depends on besides the network."""
        return {
            "optimizer": optimizers.state_of(self.optimizer, self._model),
            "scaler": self._scaler.state_dict(),
            "average": self.average.to_state() if self.average else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts a state back that `to_state` gave."""
        optimizers.restore(self.optimizer, self._model, state["optimizer"])
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        if self.average is not None and state["average"] is not None:
            self.average.restore(state["average"])


def grouped(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """The batches in lists of `size`, the last one perhaps shorter."""
    while group := list(islice(batches, size)):
        yield group
