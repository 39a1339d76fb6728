import itertools

import pytest
import torch
from torch import nn

from finetune.events import EpochEnded, Progress, RunEnded
from finetune.range_test import Curve, rate, suggest
from finetune.run import prepare
from finetune.spec.job import RangeTest
from finetune.training import train

ALL = {"name": "all", "epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 1}}}
RANGE = {"start_lr": 1e-4, "end_lr": 100.0, "steps": 60}


@pytest.fixture
def search(run, job, tmp_path):
    """Runs a range test; gives its events and what it found."""

    def start(*stages, **fields):
        events = run(job(*stages, **{"range_test": RANGE, **fields}), tmp_path / "run")
        return events, events[-1].result["range_test"]

    return start


def test_rates_are_evenly_spaced_on_a_log_scale_from_start_to_end():
    test = RangeTest(start_lr=1e-5, end_lr=1e-1, steps=41)
    rates = [rate(test, step) for step in range(41)]
    assert [rates[0], rates[-1]] == pytest.approx([1e-5, 1e-1])
    assert rates[10] == pytest.approx(1e-4)
    assert all(b / a == pytest.approx(10**0.1) for a, b in itertools.pairwise(rates))


def test_the_test_ends_where_the_loss_breaks_out_and_suggests_a_rate_below(search):
    events, found = search(ALL, batch_size=24)
    assert found["stage"] == "all"
    assert [point["step"] for point in found["curve"]] == list(range(1, len(found["curve"]) + 1))
    lowest = min(found["curve"], key=lambda point: point["smoothed"])
    assert found["suggestion"] == pytest.approx(lowest["lr"] / 10)
    assert f"at a rate of {lowest['lr']:.3g}" in found["reason"]
    assert found["diverged_at"] == found["curve"][-1]["lr"]
    assert found["diverged_at"] > found["suggestion"]
    assert sum(isinstance(event, Progress) for event in events) == len(found["curve"]) - 1
    assert not any(isinstance(event, EpochEnded) for event in events)
    assert isinstance(events[-1], RunEnded)


def test_a_rate_that_breaks_the_loss_ends_the_test_early(search):
    _, found = search(ALL, range_test={"start_lr": 1e-3, "end_lr": 1e6, "steps": 100})
    assert found["diverged_at"] is not None
    assert len(found["curve"]) < 100


def test_the_smoothed_loss_is_the_average_freed_from_its_start(search):
    _, found = search()
    average = 0.0
    for number, point in enumerate(found["curve"], start=1):
        average = 0.9 * average + 0.1 * point["loss"]
        assert point["smoothed"] == pytest.approx(average / (1 - 0.9**number))


def test_each_group_gets_the_rate_times_its_factor(search, monkeypatch):
    seen = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            seen.append({group["name"]: group["lr"] for group in self.param_groups})
            return super().step(closure)

    monkeypatch.setattr("torch.optim.SGD", Spy)
    lr = {"schedule": {"name": "constant", "lr": 1}, "factors": [{"modules": ["head"], "factor": 10.0}]}
    _, found = search({"name": "all", "epochs": 1, "lr": lr})
    for rates, point in zip(seen, found["curve"], strict=False):
        assert rates == {"head": pytest.approx(10 * point["lr"]), "default": pytest.approx(point["lr"])}


def test_the_network_is_put_back_to_the_bit(job, data_dir, registry, tmp_path, monkeypatch):
    kept: list[nn.Module] = []

    def remember(*arguments, **options):
        run = prepare(*arguments, **options)
        kept.append(run.model)
        return run

    monkeypatch.setattr("finetune.training.prepare", remember)
    spec = {**job(ALL), "range_test": RANGE}
    events = train(spec, tmp_path, data_dir=data_dir, registry=registry, device="cpu")
    next(events)
    before = {name: tensor.clone() for name, tensor in kept[0].state_dict().items()}
    moved = 0
    for event in events:
        now = kept[0].state_dict()
        same = all(torch.equal(now[name], tensor) for name, tensor in before.items())
        moved += not same
        assert same or isinstance(event, Progress)
    assert moved > 10
    assert list(tmp_path.iterdir()) == []


def curve(*losses):
    return [
        {"step": n + 1, "lr": 10.0 ** (n - 5), "loss": loss, "smoothed": loss}
        for n, loss in enumerate(losses)
    ]


@pytest.mark.parametrize(
    ("points", "suggestion", "words"),
    [
        (curve(2.0, 1.9, 1.0, 3.0), 1e-4, "a tenth of the rate at which the smoothed loss is lowest, 1,"),
        (curve(2.0, 1.9, 1.0), 1e-4, "larger rates may do as well"),
        (curve(2.0, 2.1, 3.0), None, "did not fall"),
        (curve(2.0, 1.999, 3.0), None, "did not fall"),
        ([], None, "start with a smaller rate"),
    ],
)
def test_the_suggestion_says_why(points, suggestion, words):
    found, reason = suggest(points)
    assert found == (None if suggestion is None else pytest.approx(suggestion))
    assert words in reason


def test_a_loss_that_is_not_finite_ends_the_test_and_is_not_in_the_curve(search):
    _, found = search(ALL, backbone={"name": "poisoned", "weights": None})
    assert len(found["curve"]) == 3
    assert found["diverged_at"] == pytest.approx(rate(RangeTest.model_validate(RANGE), 3))


def points(*losses):
    return [
        {"step": n + 1, "lr": 10.0 ** (n - 5), "loss": loss, "smoothed": max(loss, 0.01)}
        for n, loss in enumerate(losses)
    ]


def test_steps_without_loss_say_nothing_of_their_rate():
    found, _ = suggest(points(2.0, 0.0, 1.0, 0.0))
    assert found == pytest.approx(1e-3 / 10)


def test_a_loss_of_0_at_every_step_gives_no_rate():
    found, reason = suggest(points(0.0, 0.0, 0.0))
    assert found is None
    assert "the loss was 0 at every step" in reason


def test_a_loss_of_0_now_and_then_moves_nothing_and_ends_nothing():
    with_gaps, without = Curve(), Curve()
    for loss in (0.0, 0.2, 0.0, 0.3, 0.0, 0.0, 0.25):
        assert not with_gaps.breaks_out(0.1, loss)
        assert not loss or not without.breaks_out(0.1, loss)
    assert with_gaps.points[-1]["smoothed"] == without.points[-1]["smoothed"]


def test_the_curve_breaks_out_at_four_times_its_lowest_and_not_below_its_first():
    falling = Curve()
    assert not any(falling.breaks_out(0.1, loss) for loss in [1.0] + [0.01] * 60)
    assert falling.points[-1]["smoothed"] < 0.05
    assert not falling.breaks_out(0.1, 8.0)  # smoothed it is still below the first
    assert falling.breaks_out(0.1, 8.0)
