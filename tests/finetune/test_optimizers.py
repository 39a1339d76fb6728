import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from finetune.freezing import freezing_of
from finetune.groups import Group, groups_of
from finetune.optimizers import OPTIMIZERS, _fused, build, restore, state_of
from finetune.preflight import check
from finetune.spec.schedules import LrPlan
from finetune.spec.stages import FreezeNone, StageSpec


def spec(**fields):
    lr = {"schedule": {"name": "constant", "lr": 0.1}}
    return StageSpec.model_validate({"epochs": 1, "optimizer": fields, "lr": lr}).optimizer


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()


GROUPS = (
    Group("low", 0.5, ("0",), ("0.weight", "0.bias"), 16),
    Group("high", 2.0, ("1",), ("1.weight", "1.bias"), 10),
)


def gradients(model, step):
    generator = torch.Generator().manual_seed(step)
    return {n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in model.named_parameters()}


def take_steps(model, optimizer, steps):
    for step in steps:
        for name, gradient in gradients(model, step).items():
            model.get_parameter(name).grad = gradient
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (step + 1) * group["factor"]
        optimizer.step()


SGDS = [
    {"momentum": 0.0},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.3},
    {"momentum": 0.8, "weight_decay": 0.05},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
    {"momentum": 0.7, "dampening": 0.2, "weight_decay": 0.01},
]


@pytest.mark.parametrize("fields", SGDS, ids=str)
def test_sgd_is_the_formula_of_the_design(fields):
    model = network()
    values = {name: p.detach().clone() for name, p in model.named_parameters()}
    take_steps(model, build(spec(name="sgd", **fields), model, GROUPS), range(4))

    momentum, dampening = fields["momentum"], fields.get("dampening", 0.0)
    velocity: dict[str, torch.Tensor] = {}
    for step in range(4):
        for name, gradient in gradients(model, step).items():
            rate = 0.1 / (step + 1) * (0.5 if name.startswith("0.") else 2.0)
            g = gradient + fields.get("weight_decay", 0.0) * values[name]
            # as in torch, the first velocity is the gradient itself: nothing has gone before it to dampen
            velocity[name] = momentum * velocity[name] + (1 - dampening) * g if name in velocity else g
            way = g + momentum * velocity[name] if fields.get("nesterov") else velocity[name]
            values[name] = values[name] - rate * way
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), values[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "torchs"),
    [
        ({"name": "adam", "betas": [0.8, 0.99], "weight_decay": 0.1}, torch.optim.Adam),
        ({"name": "adamw", "betas": [0.8, 0.99], "weight_decay": 0.1}, torch.optim.AdamW),
    ],
)
def test_adam_and_adamw_are_torchs_own_with_these_numbers(fields, torchs):
    model, other = network(), network()
    take_steps(model, build(spec(**fields), model, GROUPS), range(3))
    rows = [
        {"params": list(other[0].parameters()), "factor": 0.5},
        {"params": list(other[1].parameters()), "factor": 2.0},
    ]
    take_steps(other, torchs(rows, lr=0.0, betas=(0.8, 0.99), weight_decay=0.1, foreach=False), range(3))
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)  # one kernel rounds otherwise


def by_hand(step_of, steps=4):
    """The values after steps of the rate times `step_of(value, gradient, memory, step)`."""
    values = {name: p.detach().clone() for name, p in network().named_parameters()}
    memories: dict[str, dict[str, torch.Tensor]] = {name: {} for name in values}
    for step in range(steps):
        for name, gradient in gradients(network(), step).items():
            rate = 0.1 / (step + 1) * (0.5 if name.startswith("0.") else 2.0)
            values[name] = values[name] - rate * step_of(values[name], gradient, memories[name], step + 1)
    return values


def check_by_hand(fields, step_of):
    model = network()
    take_steps(model, build(spec(**fields), model, GROUPS), range(4))
    expected = by_hand(step_of)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "fields",
    [
        {"alpha": 0.9, "eps": 1e-3},
        {"alpha": 0.8, "eps": 1e-3, "momentum": 0.7},
        {"alpha": 0.8, "eps": 1e-3, "centered": True, "weight_decay": 0.1},
        {"alpha": 0.5, "eps": 1e-2, "centered": True, "momentum": 0.5, "weight_decay": 0.1},
    ],
    ids=str,
)
def test_rmsprop_divides_by_the_mean_of_squares_or_centered_by_the_deviation(fields):
    def step_of(value, gradient, memory, step):
        g = gradient + fields.get("weight_decay", 0.0) * value
        alpha, zero = fields["alpha"], torch.zeros_like(g)
        memory["square"] = alpha * memory.get("square", zero) + (1 - alpha) * g**2
        memory["mean"] = alpha * memory.get("mean", zero) + (1 - alpha) * g
        spread = memory["square"] - (memory["mean"] ** 2 if fields.get("centered") else 0)
        memory["way"] = fields.get("momentum", 0.0) * memory.get("way", zero) + g / (
            spread.sqrt() + fields["eps"]
        )
        return memory["way"]

    check_by_hand({"name": "rmsprop", **fields}, step_of)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_lion_steps_by_the_sign_of_a_momentum_and_decays_beside_it(weight_decay):
    def step_of(value, gradient, memory, step):
        momentum = memory.get("momentum", torch.zeros_like(gradient))
        memory["momentum"] = 0.7 * momentum + 0.3 * gradient
        return (0.8 * momentum + 0.2 * gradient).sign() + weight_decay * value

    check_by_hand({"name": "lion", "betas": [0.8, 0.7], "weight_decay": weight_decay}, step_of)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_lamb_scales_adams_step_to_the_tensors_norm_where_weights_decay(weight_decay):
    """And it does not clip: these gradients are longer than 1, at which timm's own default would."""

    def step_of(value, gradient, memory, step):
        zero = torch.zeros_like(gradient)
        memory["m"] = 0.8 * memory.get("m", zero) + 0.2 * gradient
        memory["v"] = 0.95 * memory.get("v", zero) + 0.05 * gradient**2
        m, v = memory["m"] / (1 - 0.8**step), memory["v"] / (1 - 0.95**step)
        way = m / (v.sqrt() + 1e-3) + weight_decay * value
        return way * (value.norm() / way.norm() if weight_decay else 1.0)

    assert torch.cat([g.flatten() for g in gradients(network(), 0).values()]).norm() > 1
    fields = {"betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": weight_decay}
    check_by_hand({"name": "lamb", **fields}, step_of)


NAMES = ("sgd", "adam", "adamw", "rmsprop", "lamb", "lion")


def test_every_optimizer_of_the_spec_has_a_row_and_makes_a_step():
    assert {type(spec(name=name)) for name in NAMES} == set(OPTIMIZERS)
    kinds = set()
    for name in NAMES:
        model, before = network(), network()
        optimizer = build(spec(name=name), model, GROUPS)
        take_steps(model, optimizer, range(1))
        assert all(
            not torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True)
        )
        kinds.add(type(optimizer).__name__)
    assert kinds == {"SGD", "Adam", "AdamW", "RMSprop", "Lamb", "Lion"}


# Another value for each field; of `betas` one after the other.
OTHERS: dict[str, list[Any]] = {
    "weight_decay": [0.3],
    "decay_norms_and_biases": [False],
    "momentum": [0.4],
    "dampening": [0.3],
    "nesterov": [True],
    "betas": [[0.3, 0.5], [0.9, 0.95]],
    "eps": [0.1],
    "alpha": [0.5],
    "centered": [True],
}
FIELDS = [
    (name, field, value)
    for name in NAMES
    for field in type(spec(name=name)).model_fields
    if field not in ("name", "fused")  # `fused` changes but the last digits
    for value in OTHERS[field]
]


def after_three_steps(**fields):
    """With groups as a stage has them."""
    model, chosen = network(), spec(**fields)
    freezing = freezing_of(model, ("1",), FreezeNone(policy="none"), "eval")
    lr = LrPlan.model_validate({"schedule": {"name": "constant", "lr": 0.1}})
    grouping = groups_of(model, ("1",), (), freezing, lr, spares=not chosen.decay_norms_and_biases)
    take_steps(model, build(chosen, model, grouping.groups), range(3))
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(("name", "field", "value"), FIELDS, ids=[f"{n}.{f}={v}" for n, f, v in FIELDS])
def test_no_field_is_ignored(name, field, value):
    fields = {"name": name, "weight_decay": 0.1}
    if "betas" in type(spec(name=name)).model_fields:
        fields["betas"] = [0.9, 0.5]
    plain, other = after_three_steps(**fields), after_three_steps(**{**fields, field: value})
    assert (plain - other).abs().max() > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_leaves_a_group_without_decay_alone(name):
    """Without a gradient decay is all that moves anything."""
    model, before = network(), network()
    groups = (
        Group("default", 1.0, ("0", "1"), ("0.weight", "1.weight"), 20),
        Group("default (no decay)", 1.0, ("0", "1"), ("0.bias", "1.bias"), 6, decays=False),
    )
    optimizer = build(spec(name=name, weight_decay=0.2), model, groups)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    for key, parameter in model.named_parameters():
        assert torch.equal(parameter, before.get_parameter(key)) == key.endswith("bias"), key


@pytest.mark.parametrize("name", ["lamb", "lion"])
def test_an_optimizer_of_timm_is_refused_where_timm_is_not_installed(
    name, job, registry, data_dir, tmp_path, monkeypatch
):
    stage = {"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.1}}}
    body = job(stage, {**stage, "optimizer": {"name": name}}, {**stage, "optimizer": {"name": "rmsprop"}})
    assert check(body, registry, data_dir, tmp_path) == []
    monkeypatch.setattr("finetune.backbones.timm.find_spec", lambda package: None)
    (problem,) = check(body, registry, data_dir, tmp_path)
    assert (problem.param, problem.code) == ("stages.1.optimizer", "not_installed")
    assert (
        problem.message
        == f"the optimizer {name} is timm's, which is not installed here: pip install 'thaw[timm]'"
    )


def test_without_a_rate_nothing_moves():
    model, untouched = network(), network()
    optimizer = build(spec(name="sgd"), model, GROUPS)
    for name, gradient in gradients(model, 0).items():
        model.get_parameter(name).grad = gradient
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), untouched.parameters(), strict=True))


def test_groups_have_their_names():
    optimizer = build(spec(name="sgd"), network(), GROUPS)
    assert [(g["name"], len(g["params"])) for g in optimizer.param_groups] == [("low", 2), ("high", 2)]


STATES = [
    *({"name": name, "weight_decay": 0.1} for name in NAMES),
    {"name": "rmsprop", "momentum": 0.5, "centered": True},
]


@pytest.mark.parametrize("fields", STATES, ids=str)
def test_state_saved_and_restored_by_name_goes_on_to_the_bit_in_groups_of_another_order(fields):
    whole, first, second = network(), network(), network()
    take_steps(whole, build(spec(**fields), whole, GROUPS), range(5))

    optimizer = build(spec(**fields), first, GROUPS)
    take_steps(first, optimizer, range(3))
    file = io.BytesIO()
    state = state_of(optimizer, first)
    torch.save(state, file)
    assert set(state) == {"parameters", "groups"}
    assert set(state["parameters"]) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert set(state["groups"]) == ({"low", "high"} if fields["name"] == "lamb" else set())

    second.load_state_dict(first.state_dict())
    file.seek(0)
    resumed = build(spec(**fields), second, GROUPS[::-1])
    restore(resumed, second, torch.load(file, weights_only=True))
    take_steps(second, resumed, range(3, 5))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_without_its_state_an_optimizer_goes_on_otherwise(name):
    """So that the test above can fail."""
    whole, second = network(), network()
    take_steps(whole, build(spec(name=name), whole, GROUPS), range(5))
    take_steps(second, build(spec(name=name), second, GROUPS), range(3))
    take_steps(second, build(spec(name=name), second, GROUPS), range(3, 5))
    assert not all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_new_optimizer_has_no_state(name):
    model = network()
    state = state_of(build(spec(name=name), model, GROUPS), model)
    assert state == {"parameters": {}, "groups": {}}
    restored = build(spec(name=name), model, GROUPS)
    restore(restored, model, {})
    assert state_of(restored, model) == state


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_a_step_is_one_kernel_where_that_is_faster_unless_the_spec_says_no(name, device):
    there = [{"params": [SimpleNamespace(device=torch.device(device))]}]
    faster = {"cpu": ("adam", "adamw"), "cuda": ("sgd", "adam", "adamw"), "mps": ()}[device]
    assert _fused(there, spec(name=name)) is (True if name in faster else None)
    assert _fused(there, spec(name=name, fused=False)) is None
