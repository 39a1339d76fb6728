"""No step waits for the device: shown on torch's meta device, which has no values to wait for.

What would fetch a number from a GPU (`item`, `bool`, `nonzero`, `cpu`, picking by a mask) raises there.
Optimizers of one kernel have none for it: torch's plain ones step in.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from finetune.device import Compute
from finetune.feeds import Labelled
from finetune.freezing import apply, freezing_of
from finetune.groups import groups_of
from finetune.objectives.classification import Classification, focal_loss
from finetune.objectives.multilabel import MultiLabel
from finetune.spec.objectives import CrossEntropy
from finetune.spec.stages import StageSpec
from finetune.stepping import Stepper

META = torch.device("meta")
CLASSES = ("blue", "green", "red")


class Copies(TorchDispatchMode):
    """Fails on what is copied between a device and the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
            devices = {
                tensor.device.type for tensor in (*args[:2], result) if isinstance(tensor, torch.Tensor)
            }
            assert len(devices) == 1, f"{func} between {devices}"
        if func.overloadpacket is torch.ops.aten.lift_fresh:
            assert result.device.type == "cpu", "a number is sent to the device"
        return result


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(4, 3)
        self.aux = nn.Linear(4, 3)

    def forward(self, images):
        pooled = self.body(images).mean((2, 3))
        return self.head(pooled), self.aux(pooled)


def cross_entropy(**fields):
    dataset: Any = SimpleNamespace(class_counts=lambda: [1, 2, 3], classes=CLASSES)
    return Classification.by_cross_entropy(CrossEntropy(**fields), dataset, META)


OBJECTIVES = {
    "cross entropy": cross_entropy,
    "balanced": lambda: cross_entropy(class_weights="balanced", label_smoothing=0.1),
    "several labels": lambda: MultiLabel(torch.ones(3, device=META), CLASSES, META),
}
STAGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped": {"max_grad_norm": 1.0},
    "averaged": {"ema": {"decay": 0.9}},
    "accumulated": {"accumulate": 3},
    "adamw": {"optimizer": {"name": "adamw", "decay_norms_and_biases": False}},
    "rmsprop": {"optimizer": {"name": "rmsprop"}},
    "before": {"freeze": {"policy": "before", "module": "head"}},
}


def labels_of(objective):
    return (
        torch.zeros(4, 3, device=META)
        if objective == "several labels"
        else torch.zeros(4, dtype=torch.int64, device=META)
    )


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_step_waits_for_nothing(objective, name, weighed):
    lr = {"schedule": {"name": "cosine", "lr": 0.1, "end_lr": 0.0}}
    stage = StageSpec.model_validate({"epochs": 1, "lr": lr, **STAGES[name]})
    model = Net().to(META)
    freezing = freezing_of(model, ("head", "aux"), stage.freeze, "eval")
    spares = not stage.optimizer.decay_norms_and_biases
    grouping = groups_of(model, ("head", "aux"), (), freezing, stage.lr, spares=spares)
    apply(model, freezing)
    table: Any = SimpleNamespace(stage=stage, recomputed=(), grouping=grouping)
    blueprint: Any = SimpleNamespace(backbone=SimpleNamespace(aux_weight=0.3), classes=CLASSES)
    judge = OBJECTIVES[objective]()
    stepper = Stepper(model, table, blueprint, judge, Compute(META, "fp32"))
    tally = judge.tally()
    weights = torch.ones(4, device=META) if weighed else None
    batch = Labelled(torch.randn(4, 3, 8, 8, device=META), labels_of(objective), weights)
    rates = {group.name: 0.1 for group in grouping.groups}
    with Copies():
        for _ in range(2):
            loss = stepper.step([batch] * stage.accumulate, rates, model, tally)
            torch.isfinite(torch.stack([loss, loss]))
    assert loss.device == META
    with pytest.raises((RuntimeError, NotImplementedError)):
        loss.item()  # or nothing here would prove anything


def test_focal_loss_waits_for_nothing():
    logits = torch.randn(4, 3, device=META, requires_grad=True)
    with Copies():
        focal_loss(logits, torch.rand(4, 3, device=META), 2.0, torch.ones(3, device=META)).backward()
    assert logits.grad is not None


@pytest.mark.parametrize(
    "send", [lambda: torch.ones(3).to(META), lambda: torch.tensor(3.0, device=META)], ids=["copy", "number"]
)
def test_copies_are_noticed(send):
    with pytest.raises(AssertionError), Copies():
        send()
