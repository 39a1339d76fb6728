"""Checkpointed blocks give the same bytes and keep fewer tensors."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from finetune.backbones import torchvision as tv
from finetune.modules import blocks
from finetune.rematerialize import rematerialized

STEPS, CLASSES = 3, 5


def resnet18():
    row = tv.find("resnet18")
    assert row is not None
    return row.make(CLASSES, 32), row.containers


def small_vit():
    model = torchvision.models.VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=3,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
        dropout=0.2,
        attention_dropout=0.1,
        num_classes=CLASSES,
    )
    nn.init.normal_(model.heads.head.weight)  # torchvision's zeros would give the blocks no gradient
    return model, ("encoder", "encoder.layers")


class Normalised(nn.Module):
    """What its forward computes depends on a buffer that it changes: spectral normalisation."""

    def __init__(self):
        super().__init__()
        self.flat = nn.Flatten()
        self.body = nn.utils.parametrizations.spectral_norm(nn.Linear(3072, 8))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images):
        return self.head(self.body(self.flat(images)))


NETWORKS = {
    "resnet18": resnet18,
    "vit": small_vit,
    "spectral_norm": lambda: (Normalised(), ()),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """A network and the names of its blocks."""
    torch.manual_seed(3)
    model, containers = NETWORKS[request.param]()
    return model, blocks(model, containers)


def steps(model):
    """Three steps of SGD; the losses and the gradients of the last one."""
    torch.manual_seed(11)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(STEPS):
        torch.manual_seed(step)
        images, labels = torch.rand(4, 3, 32, 32), torch.randint(CLASSES, (4,))
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.detach())
    return losses, {name: parameter.grad for name, parameter in model.named_parameters()}


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def saved(model):
    """How many elements the forward pass keeps for the backward pass."""
    sizes = {}

    def note(tensor):
        sizes[tensor.data_ptr()] = tensor.numel()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(torch.rand(4, 3, 32, 32)).sum()
    own = {p.data_ptr() for p in model.parameters()}
    assert loss.requires_grad
    return sum(size for pointer, size in sizes.items() if pointer not in own)


def test_losses_gradients_weights_and_buffers_have_the_same_bytes(network):
    model, names = network
    plain, ours = copy.deepcopy(model).train(), copy.deepcopy(model).train()
    losses, gradients = steps(plain)
    with rematerialized(ours, names):
        our_losses, our_gradients = steps(ours)
    assert all(map(torch.equal, losses, our_losses))
    assert same(gradients, our_gradients)
    assert same(plain.state_dict(), ours.state_dict())
    assert not same(model.state_dict(), ours.state_dict())


@pytest.mark.parametrize("kind", ["resnet18", "vit"])
def test_fewer_numbers_are_kept(kind):
    model, containers = NETWORKS[kind]()
    whole = saved(model.train())
    with rematerialized(model, blocks(model, containers)):
        few = saved(model)
    assert few < whole / 2
    assert saved(model) == whole


def test_batch_norm_counts_each_batch_once():
    model, containers = resnet18()
    model.train()
    with rematerialized(model, blocks(model, containers)):
        steps(model)
    counts = {int(b) for name, b in model.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {STEPS}


def test_names_stay_and_everything_is_as_before_afterwards(network):
    model, names = copy.deepcopy(network[0]), network[1]
    before = (list(model.state_dict()), [name for name, _ in model.named_modules()])
    with rematerialized(model, names):
        assert (list(model.state_dict()), [name for name, _ in model.named_modules()]) == before
        assert all("forward" in vars(model.get_submodule(name)) for name in names)
    assert not any("forward" in vars(module) for module in model.modules())


def test_blocks_are_released_when_training_fails():
    model, containers = resnet18()
    with pytest.raises(RuntimeError, match="no room"), rematerialized(model, blocks(model, containers)):
        raise RuntimeError("no room")
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_deep_copy_made_inside_computes_with_its_own_weights():
    model, containers = small_vit()
    model.eval()
    images = torch.rand(2, 3, 32, 32)
    with rematerialized(model, blocks(model, containers)):
        other = copy.deepcopy(model)
        before = other(images)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        assert torch.equal(other(images), before)
        assert not torch.equal(model(images), before)


def test_frozen_blocks_at_the_input_are_run_plainly_and_frozen_ones_behind_are_not():
    torch.manual_seed(3)
    model, containers = resnet18()
    model.train()
    for part in (model.conv1, model.bn1, model.layer1, model.layer3):
        part.requires_grad_(requires_grad=False)
        part.eval()
    plain = copy.deepcopy(model)
    losses, _ = steps(plain)
    with rematerialized(model, blocks(model, containers)):
        our_losses, _ = steps(model)
    assert all(map(torch.equal, losses, our_losses))
    assert same(plain.state_dict(), model.state_dict())
