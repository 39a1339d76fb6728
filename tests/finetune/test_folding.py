import pytest
import torch
import torchvision
from torch import nn

from examples.mobilenet_v1 import MobileNetV1
from finetune.folding import folded


def settled(network):
    """In eval mode, with BatchNorms as training leaves them: each with statistics and weights of its own."""
    dice = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, dice)
            nn.init.uniform_(module.bias, -0.3, 0.3, dice)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5, dice)
            nn.init.uniform_(module.get_buffer("running_mean"), -0.3, 0.3, dice)
    return network.eval().requires_grad_(False)


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))


BUILDERS = {
    "resnet18": torchvision.models.resnet18,
    "mobilenet_v3_small": torchvision.models.mobilenet_v3_small,
    "shufflenet_v2_x0_5": torchvision.models.shufflenet_v2_x0_5,
    "mobilenet_v1": MobileNetV1,
}


@pytest.mark.parametrize("name", BUILDERS)
def test_a_folded_network_has_no_batch_norm_left_and_answers_alike(images, name):
    network = settled(BUILDERS[name](num_classes=5))
    before = norms(network)
    expected = network(images)
    found = folded(network, images[:1])
    assert norms(found) == 0
    torch.testing.assert_close(found(images), expected, rtol=1e-4, atol=1e-5)
    assert norms(network) == before > 0
    assert torch.equal(network(images), expected)


def test_a_batch_norm_before_its_convolution_stays(images):
    network = settled(torchvision.models.densenet121(num_classes=5))
    found = folded(network, images)
    assert 0 < norms(found) < norms(network)
    torch.testing.assert_close(found(images), network(images), rtol=1e-4, atol=1e-5)


class Parts(nn.Module):
    """A convolution, a BatchNorm and what is between them."""

    def __init__(self, way):
        super().__init__()
        self.convolution, self.norm, self.way = nn.Conv2d(3, 3, 3, 1, 1), nn.BatchNorm2d(3), way

    def forward(self, images):
        return self.way(self, images)


WAYS = {
    "a change in place": lambda m, x: m.norm(m.convolution(x).relu_()),
    "a change": lambda m, x: m.norm(m.convolution(x) * 2),
    "another reader": lambda m, x: m.norm(found := m.convolution(x)) + found,
    "a second run": lambda m, x: m.norm(m.convolution(m.norm(m.convolution(x)))),
    "no convolution": lambda m, x: m.norm(x),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_would_change_by_folding_is_left_as_it_is(images, way):
    network = settled(Parts(WAYS[way]))
    assert folded(network, images) is network


def test_a_batch_norm_that_takes_each_batchs_statistics_is_left_as_it_is(images):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    assert folded(network, images) is network


def test_no_hook_is_left_behind(images):
    network = settled(torchvision.models.resnet18(num_classes=2))
    for found in (network, folded(network, images)):
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in found.modules())
