import io

import pytest
import torch
from torch import nn

from finetune.groups import Group
from finetune.optimizers import OPTIMIZERS, build, restore, state_of
from finetune.spec.stages import StageSpec


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
    take_steps(other, torchs(rows, lr=0.0, betas=(0.8, 0.99), weight_decay=0.1), range(3))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_every_optimizer_of_the_spec_can_be_built():
    built = {type(build(spec(name=name), network(), GROUPS)) for name in ("sgd", "adam", "adamw")}
    assert built == {torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW}
    assert len(OPTIMIZERS) == 3


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


@pytest.mark.parametrize("fields", [{"name": "sgd"}, {"name": "adam"}, {"name": "adamw"}], ids=str)
def test_state_saved_and_restored_by_name_goes_on_to_the_bit_in_groups_of_another_order(fields):
    whole, first, second = network(), network(), network()
    take_steps(whole, build(spec(**fields), whole, GROUPS), range(5))

    optimizer = build(spec(**fields), first, GROUPS)
    take_steps(first, optimizer, range(3))
    file = io.BytesIO()
    torch.save(state_of(optimizer, first), file)
    assert set(state_of(optimizer, first)) == {"0.weight", "0.bias", "1.weight", "1.bias"}

    second.load_state_dict(first.state_dict())
    file.seek(0)
    resumed = build(spec(**fields), second, GROUPS[::-1])
    restore(resumed, second, torch.load(file, weights_only=True))
    take_steps(second, resumed, range(3, 5))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_a_new_optimizer_has_no_state():
    model = network()
    assert state_of(build(spec(name="sgd"), model, GROUPS), model) == {}
