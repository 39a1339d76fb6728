import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from finetune.lr import SCHEDULES, group_rates, learning_rate, unusable_rate
from finetune.spec.stages import StageSpec

EPOCHS, STEPS = 5, 3


def stage(schedule, epochs=EPOCHS, **lr):
    return StageSpec.model_validate({"epochs": epochs, "lr": {"schedule": schedule, **lr}})


def rates(planned, steps=STEPS):
    return [
        learning_rate(planned, steps, epoch, step) for epoch in range(planned.epochs) for step in range(steps)
    ]


def of_groups(planned, epoch):
    """The two groups of the design's golden values."""
    return list(group_rates(planned, {"backbone": 0.9, "head": 10.0}, 7, epoch - 1, 0).values())


@pytest.mark.parametrize(
    ("epoch", "low", "high"), [(1, 0.009, 0.1), (11, 0.0045, 0.05), (30, 0.00225, 0.025)]
)
def test_list_has_the_golden_values(epoch, low, high):
    planned = stage({"name": "list", "values": [[0.01, 10], [0.005, 10], [0.0025, 10]]}, epochs=30)
    assert of_groups(planned, epoch) == pytest.approx([low, high], rel=1e-12)


@pytest.mark.parametrize(
    ("epoch", "low", "high"), [(1, 0.009, 0.1), (2, 0.00799761, 0.0888624), (40, 0.00009, 0.001)]
)
def test_logspace_has_the_golden_values(epoch, low, high):
    planned = stage({"name": "logspace", "start": -2, "stop": -4, "num": 40}, epochs=40)
    assert of_groups(planned, epoch) == pytest.approx([low, high], rel=1e-5)


def test_logspace_has_the_stages_epochs_unless_said():
    short = stage({"name": "logspace", "start": -1, "stop": -3}, epochs=3)
    assert rates(short, 1) == pytest.approx([0.1, 0.01, 0.001])
    longer = stage({"name": "logspace", "start": -1, "stop": -3, "num": 5}, epochs=3)
    assert rates(longer, 1) == pytest.approx([0.1, 10**-1.5, 0.01])
    assert rates(stage({"name": "logspace", "start": -1, "stop": -3}, epochs=1), 1) == [0.1]


def test_a_list_may_mix_values_and_pairs_and_be_longer_than_the_stage():
    planned = stage({"name": "list", "values": [0.5, [0.25, 2], 0.1, [9, 9]]}, epochs=4)
    assert rates(planned, 2) == [0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.1, 0.1]


TOTAL = EPOCHS * STEPS
Table = dict[str, tuple[dict[str, Any], Callable[[Any], Any]]]  # fields, and torch's own
BY_STEP: Table = {
    "linear": (
        {"lr": 0.2, "end_lr": 0.05},
        lambda o: lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=0.25, total_iters=TOTAL),
    ),
    "cosine": (
        {"lr": 0.2, "end_lr": 0.01},
        lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=TOTAL, eta_min=0.01),
    ),
    "polynomial": (
        {"lr": 0.2, "end_lr": 0.0, "power": 2.5},
        lambda o: lr_scheduler.PolynomialLR(o, total_iters=TOTAL, power=2.5),
    ),
    "one_cycle": (
        {"max_lr": 0.2, "pct_start": 0.4, "div": 10.0, "final_div": 100.0},
        lambda o: lr_scheduler.OneCycleLR(
            o,
            0.2,
            total_steps=TOTAL,
            pct_start=0.4,
            div_factor=10.0,
            final_div_factor=100.0,
            cycle_momentum=False,
        ),
    ),
}
BY_EPOCH: Table = {
    "constant": ({"lr": 0.2}, lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
    "step": ({"lr": 0.2, "every": 2, "gamma": 0.3}, lambda o: lr_scheduler.StepLR(o, 2, 0.3)),
    "multistep": (
        {"lr": 0.2, "milestones": [1, 4], "gamma": 0.3},
        lambda o: lr_scheduler.MultiStepLR(o, [1, 4], 0.3),
    ),
    "exponential": ({"lr": 0.2, "gamma": 0.7}, lambda o: lr_scheduler.ExponentialLR(o, 0.7)),
}


def torchs(make, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = make(optimizer)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize("name", BY_STEP)
def test_a_schedule_by_steps_is_torchs_own_at_every_step(name):
    fields, make = BY_STEP[name]
    # torch's CosineAnnealingLR is recursive and PolynomialLR too: equal but for rounding
    assert rates(stage({"name": name, **fields})) == pytest.approx(torchs(make, TOTAL), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", BY_EPOCH)
def test_a_schedule_by_epochs_is_torchs_own_in_every_epoch(name):
    fields, make = BY_EPOCH[name]
    expected = [rate for rate in torchs(make, EPOCHS) for _ in range(STEPS)]
    assert rates(stage({"name": name, **fields})) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("pct_start", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_one_cycle_goes_up_to_its_peak_and_down_from_it(pct_start, steps):
    planned = stage({"name": "one_cycle", "max_lr": 1.0, "pct_start": pct_start}, epochs=2)
    seen = rates(planned, steps)
    assert all(0 < rate <= 1.0 for rate in seen)
    peak = seen.index(max(seen))
    assert seen[: peak + 1] == sorted(seen[: peak + 1])
    assert seen[peak:] == sorted(seen[peak:], reverse=True)


def test_every_schedule_is_held_against_torch_or_a_golden_value():
    compared = {*BY_STEP, *BY_EPOCH, "list", "logspace"}
    assert {kind.model_fields["name"].annotation.__args__[0] for kind in SCHEDULES} == compared


ALL: dict[str, dict[str, Any]] = {
    **{name: fields for table in (BY_STEP, BY_EPOCH) for name, (fields, _) in table.items()},
    "list": {"values": [[0.2, 3], 0.1, 0.05]},
    "logspace": {"start": -1, "stop": -3},
}


@pytest.mark.parametrize("name", [name for name in ALL if name != "one_cycle"])
@pytest.mark.parametrize("warmup", [0.5, 1, 2.4, 5])
def test_a_warm_up_rises_from_a_tenth_in_a_straight_line_into_the_schedule(name, warmup):
    plain = rates(stage({"name": name, **ALL[name]}), 10)
    warm = rates(stage({"name": name, **ALL[name]}, warmup_epochs=warmup), 10)
    steps = round(warmup * 10)
    assert warm[0] == pytest.approx(plain[0] / 10)
    assert warm[steps:] == plain[steps:]
    end = plain[steps] if steps < len(plain) else plain[-1]
    line = [plain[0] / 10 + (end - plain[0] / 10) * at / steps for at in range(steps)]
    assert warm[:steps] == pytest.approx(line)


@pytest.mark.parametrize("name", ALL)
def test_a_rate_depends_on_stage_epoch_and_step_and_on_nothing_asked_before(name):
    planned = stage({"name": name, **ALL[name]}, warmup_epochs=0 if name == "one_cycle" else 1.5)
    places = [(epoch, step) for epoch in range(EPOCHS) for step in range(STEPS)]
    forwards = {place: learning_rate(planned, STEPS, *place) for place in places}
    random.Random(0).shuffle(places)
    assert {place: learning_rate(planned, STEPS, *place) for place in places} == forwards


@given(st.sampled_from(sorted(ALL)), st.integers(1, 4), st.integers(0, 4), st.integers(0, 3))
def test_every_rate_is_finite_and_not_negative(name, steps, epoch, step):
    rate = learning_rate(stage({"name": name, **ALL[name]}), steps, epoch, min(step, steps - 1))
    assert math.isfinite(rate)
    assert rate >= 0


def test_a_rate_beyond_the_range_of_numbers_is_named_with_its_epoch():
    planned = stage({"name": "exponential", "lr": 1.0, "gamma": 1e6}, epochs=100)
    assert unusable_rate(planned) == "the learning rate of epoch 53 is not a finite number"
    assert unusable_rate(stage({"name": "exponential", "lr": 1.0, "gamma": 0.5}, epochs=100)) is None
