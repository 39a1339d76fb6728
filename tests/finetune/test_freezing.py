import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from finetune.backbones import skeleton
from finetune.backbones import torchvision as tv
from finetune.errors import FrozenChanged
from finetune.freezing import Freezing, FrozenGuard, alternates, apply, freezing_of, set_training_mode
from finetune.modules import UnknownModule
from finetune.spec.stages import StageSpec

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def policy(**fields):
    lr = {"schedule": {"name": "constant", "lr": 0.1}}
    return StageSpec.model_validate({"epochs": 1, "freeze": fields, "lr": lr}).freeze


def resnet18():
    backbone = tv.find("resnet18")
    assert backbone is not None
    return skeleton(backbone, 3, 224)


def frozen(batch_norm="eval", **fields):
    return freezing_of(resnet18(), ("fc",), policy(**fields), batch_norm)


def parameters(*beginnings, beside=()):
    names = [name for name, _ in resnet18().named_parameters()]
    return {n for n in names if n.startswith(beginnings) and not (beside and n.startswith(beside))}


ALL = parameters("")
POLICIES = [
    # policy, the frozen parameters
    ({"policy": "none"}, set()),
    ({"policy": "backbone"}, ALL - {"fc.weight", "fc.bias"}),
    ({"policy": "before", "module": "layer3"}, parameters("conv1", "bn1", "layer1", "layer2")),
    ({"policy": "before", "module": "layer1.1"}, parameters("conv1", "bn1", "layer1.0")),
    ({"policy": "before", "module": "fc"}, ALL - parameters("fc")),
    ({"policy": "before", "module": "head"}, ALL - parameters("fc")),
    ({"policy": "before", "module": "conv1"}, set()),
    ({"policy": "modules", "modules": ["conv1", "layer1.*"]}, parameters("conv1.", "layer1.")),
    ({"policy": "modules", "modules": ["layer?.0"]}, parameters(*(f"layer{n}.0." for n in range(1, 5)))),
    ({"policy": "modules", "modules": ["bn1"]}, {"bn1.weight", "bn1.bias"}),
    ({"policy": "except", "modules": ["layer4", "fc"]}, ALL - parameters("layer4", "fc")),
    ({"policy": "except", "modules": ["head"]}, ALL - parameters("fc")),
    ({"policy": "except", "modules": ["*.bn2"]}, {n for n in ALL if ".bn2." not in n}),
]


@pytest.mark.parametrize(("fields", "expected"), POLICIES, ids=[str(fields) for fields, _ in POLICIES])
def test_a_policy_freezes_exactly_these_parameters(fields, expected):
    freezing = frozen(**fields)
    assert set(freezing.parameters) == expected
    owners = {name.rpartition(".")[0] for name in expected}
    norms = {name for name, module in resnet18().named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert set(freezing.buffers) == {f"{norm}.{buffer}" for norm in owners & norms for buffer in BUFFERS}


def test_a_module_that_holds_trained_ones_stays_in_training_mode():
    freezing = frozen(policy="except", modules=["layer4.1.conv2"])
    assert {"conv1", "layer1", "layer4.0", "layer4.1.conv1", "fc"} <= freezing.eval_modules
    assert not {"", "layer4", "layer4.1", "layer4.1.conv2"} & freezing.eval_modules


@pytest.mark.parametrize(
    ("name", "closest"), [("layr3", "'layer3'"), ("layer1.2", "'layer1.0'"), ("encoder.*", "known: ")]
)
def test_a_name_that_matches_nothing_is_refused_with_the_closest(name, closest):
    for fields in (
        {"policy": "before", "module": name},
        {"policy": "modules", "modules": ["fc", name]},
        {"policy": "except", "modules": [name]},
    ):
        with pytest.raises(UnknownModule, match=closest):
            frozen(**fields)


class Net(nn.Module):
    """Everything frozen that could move: BatchNorm, dropout, a parameter and a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("offset", torch.zeros(1))
        self.first = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.second = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.second(self.first(x * self.scale + self.offset)))


def step(model):
    """A step that would move whatever can be moved."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0, weight_decay=0.1)
    inputs = torch.randn(16, 4, generator=generator)
    F.cross_entropy(model(inputs), torch.arange(16) % 2).backward()
    gradients = {name for name, p in model.named_parameters() if p.grad is not None}
    optimizer.step()
    return gradients


def moved(batch_norm="eval", **fields):
    torch.manual_seed(0)
    model = Net()
    freezing = freezing_of(model, ("head",), policy(**fields), batch_norm)
    apply(model, freezing)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = step(model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    return changed, gradients, freezing


def test_nothing_frozen_moves_and_everything_else_does():
    changed, gradients, freezing = moved(policy="modules", modules=["first"])
    still = {f"first.0.{name}" for name in ("weight", "bias")}
    still |= {f"first.1.{name}" for name in ("weight", "bias", *BUFFERS)}
    assert {*freezing.parameters, *freezing.buffers} == still
    assert changed == {*Net().state_dict(), "offset"} - still - {"offset"}
    assert gradients == {name for name, _ in Net().named_parameters()} - still


def test_nothing_frozen_gets_a_gradient_even_where_one_was_left():
    model = Net()
    step(model)
    apply(model, freezing_of(model, ("head",), policy(policy="backbone"), "eval"))
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        "head.weight",
        "head.bias",
    }
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}


def test_a_frozen_batch_norm_does_not_move():
    changed, _, _ = moved(policy="backbone")
    assert changed == {"head.weight", "head.bias"}


def test_with_update_the_statistics_of_a_frozen_batch_norm_follow_the_data_and_nothing_else_moves():
    changed, _, freezing = moved("update", policy="backbone")
    statistics = {f"{layer}.1.{buffer}" for layer in ("first", "second") for buffer in BUFFERS}
    assert changed == {"head.weight", "head.bias"} | statistics
    assert set(freezing.buffers) == {"offset"}


def test_dropout_is_off_in_frozen_modules_and_on_in_the_others():
    model = Net()
    freezing = freezing_of(model, ("head",), policy(policy="modules", modules=["first"]), "eval")
    apply(model, freezing)
    ones = torch.ones(50, 8)
    assert torch.equal(model.first[2](ones), ones)
    assert (model.second[2](ones) == 0).any()


def test_after_an_evaluation_the_modes_come_back():
    model = Net()
    freezing = freezing_of(model, ("head",), policy(policy="modules", modules=["first"]), "eval")
    apply(model, freezing)
    before = {name: module.training for name, module in model.named_modules()}
    assert set(before.values()) == {True, False}
    model.eval()
    set_training_mode(model, freezing)
    assert {name: module.training for name, module in model.named_modules()} == before


def test_another_stages_freezing_thaws_what_the_one_before_froze():
    model = Net()
    apply(model, freezing_of(model, ("head",), policy(policy="backbone"), "eval"))
    apply(model, freezing_of(model, ("head",), policy(policy="none"), "eval"))
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())


ALTERNATING = [
    ({"policy": "none"}, None),
    ({"policy": "backbone"}, None),
    ({"policy": "before", "module": "layer3"}, None),
    ({"policy": "except", "modules": ["layer4", "fc"]}, None),
    ({"policy": "modules", "modules": ["fc"]}, None),
    ({"policy": "modules", "modules": ["layer2"]}, ("layer1.1.bn2", "layer2.0.conv1", "layer3.0.conv1")),
    ({"policy": "except", "modules": ["conv1", "fc"]}, ("conv1", "bn1", "fc")),
]


@pytest.mark.parametrize(("fields", "expected"), ALTERNATING, ids=[str(fields) for fields, _ in ALTERNATING])
def test_a_frozen_layer_between_two_trained_ones_is_found(fields, expected):
    assert alternates(resnet18(), ("fc",), frozen(**fields)) == expected


def test_auxiliary_heads_do_not_alternate():
    backbone = tv.find("inception_v3")
    assert backbone is not None
    model = skeleton(backbone, 3, 299)
    freezing = freezing_of(model, backbone.heads, policy(policy="backbone"), "eval")
    assert alternates(model, backbone.heads, freezing) is None


@pytest.mark.parametrize("name", ["scale", "first.0.weight", "second.1.running_mean", "offset"])
def test_the_guard_names_a_frozen_tensor_that_changed(name):
    model = Net()
    freezing = freezing_of(model, ("head",), policy(policy="backbone"), "eval")
    guard = FrozenGuard(model, freezing)
    guard.verify("head", 1)
    with torch.no_grad():
        model.state_dict()[name].view(-1)[0] += 1e-6
    with pytest.raises(FrozenChanged, match=f"stage 'head' froze {name}, and epoch 2 changed it"):
        guard.verify("head", 2)


def test_the_guard_counts_the_others_that_changed():
    model = Net()
    guard = FrozenGuard(model, freezing_of(model, ("head",), policy(policy="backbone"), "eval"))
    with torch.no_grad():
        for parameter in model.first.parameters():
            parameter.add_(1.0)
    with pytest.raises(FrozenChanged, match=r"first\.0\.weight and 3 more"):
        guard.verify("head", 1)


def test_the_guard_lets_the_rest_move():
    model = Net()
    freezing = freezing_of(model, ("head",), policy(policy="backbone"), "eval")
    apply(model, freezing)
    guard = FrozenGuard(model, freezing)
    step(model)
    guard.verify("head", 1)


@pytest.mark.parametrize("batch_norm", ["eval", "update"])
def test_nothing_is_kept_for_the_backward_pass_of_a_frozen_prefix(registry, batch_norm):
    """What autograd keeps with a frozen prefix is what it keeps where that runs under `no_grad`."""
    model = registry.find("tiny").make(3, 16)
    prefix = policy(policy="before", module="body.1")
    apply(model, freezing_of(model, ("head",), prefix, batch_norm))
    images = torch.randn(4, 3, 16, 16)

    def kept(forward):
        shapes = []

        def pack(tensor):
            shapes.append(tensor.shape)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            assert forward().requires_grad
        return shapes

    def by_hand():
        with torch.no_grad():
            boundary = model.body[0](model.stem(images))
        return model.head(model.drop(model.body[1](boundary).mean((2, 3))))

    assert kept(lambda: model(images)) == kept(by_hand)
    assert all(parameter.grad is None for parameter in model.stem.parameters())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (0.0, -0.0),
        (1.0, 1.0 + 2**-23),
        (float("nan"), 1.0),
    ],
)
@pytest.mark.parametrize("shape", [(), (3,), (4,), (2, 3, 5, 7), (1, 4, 1, 1)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_guard_compares_bits(before, after, shape, memory_format):
    module = nn.Module()
    value = torch.full(shape, before)
    module.frozen = nn.Parameter(value.to(memory_format=memory_format) if value.ndim == 4 else value)
    freezing = Freezing(frozenset([""]), frozenset([""]), ("frozen",), ())
    guard = FrozenGuard(module, freezing)
    guard.verify("head", 1)
    with torch.no_grad():
        module.frozen.as_strided((module.frozen.numel(),), (1,))[-1] = after
    with pytest.raises(FrozenChanged):
        guard.verify("head", 1)
