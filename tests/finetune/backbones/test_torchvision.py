import copy

import pytest
import torch
import torchvision
from torch import nn

from finetune.backbones import check_image_size, parameter_count, skeleton
from finetune.backbones import torchvision as tv
from finetune.boundary import Cut
from finetune.errors import SpecInvalid
from finetune.freezing import freezing_of
from finetune.groups import groups_of
from finetune.modules import blocks, within
from finetune.network import logits_and_auxiliary
from finetune.spec.schedules import LrPlan
from finetune.spec.stages import FreezeBackbone, FreezeNone, StageSpec
from finetune.still_part import boundary_of

NAMES = torchvision.models.list_models(module=torchvision.models)
WITH_AUXILIARY = {"googlenet": 2, "inception_v3": 1}
CLASSES = 7

HEAD_STAGE = StageSpec.model_validate(
    {"epochs": 1, "freeze": {"policy": "backbone"}, "lr": {"schedule": {"name": "constant", "lr": 0.1}}}
)


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    """Every model in turn; all tests of one together, so that its skeleton is built once."""
    return request.param


def row(name):
    found = tv.find(name)
    assert found is not None
    return found


def network(name):
    backbone = row(name)
    return backbone, skeleton(backbone, CLASSES, backbone.preprocessing.crop)


def in_heads(backbone, model):
    return {f"{head}.{key}" for head in backbone.heads for key in model.get_submodule(head).state_dict()}


def batch(backbone):
    side = backbone.preprocessing.crop
    return torch.empty(2, 3, side, side, device="meta")


def test_every_classification_model_of_torchvision_is_known():
    assert tv.names() == NAMES
    assert len(NAMES) >= 80


def test_the_head_is_found_and_gives_a_logit_for_each_class(name):
    backbone, model = network(name)
    with torch.no_grad():
        assert model(batch(backbone)).shape == (2, CLASSES)
    for head in backbone.heads:
        module = model.get_submodule(head)
        assert isinstance(module, nn.Linear | nn.Conv2d)
        assert module.weight.shape[0] == CLASSES
    assert all(parameter.is_meta for parameter in model.parameters())


def test_only_the_heads_shapes_depend_on_the_number_of_classes(name):
    backbone, model = network(name)
    other = skeleton(backbone, CLASSES + 1, backbone.preprocessing.crop)
    own, others = (
        {key: tensor.shape for key, tensor in network.state_dict().items()} for network in (model, other)
    )
    assert own.keys() == others.keys()
    assert {key for key in own if own[key] != others[key]} == in_heads(backbone, model)


@pytest.mark.parametrize("model_name", WITH_AUXILIARY)
def test_in_training_mode_the_auxiliary_heads_give_logits_too(model_name):
    backbone, model = network(model_name)
    model = copy.deepcopy(model).train()
    logits, auxiliary = logits_and_auxiliary(model(batch(backbone)))
    assert [output.shape for output in (logits, *auxiliary)] == [(2, CLASSES)] * (
        1 + WITH_AUXILIARY[model_name]
    )
    assert len(backbone.heads) == 1 + WITH_AUXILIARY[model_name]
    assert backbone.aux_weight > 0


def test_freezing_the_backbone_leaves_exactly_the_heads_parameters(name):
    backbone, model = network(name)
    freezing = freezing_of(model, backbone.heads, FreezeBackbone(policy="backbone"), "eval")
    trained = {key for key, _ in model.named_parameters()} - set(freezing.parameters)
    assert trained == in_heads(backbone, model)
    assert set(freezing.buffers) == {key for key, _ in model.named_buffers()}


def test_layer_decay_finds_blocks_from_the_input_to_the_head(name):
    backbone, model = network(name)
    freezing = freezing_of(model, backbone.heads, FreezeNone(policy="none"), "eval")
    lr = LrPlan.model_validate({"schedule": {"name": "constant", "lr": 1.0}, "layer_decay": 0.5})
    groups = groups_of(model, backbone.heads, backbone.containers, freezing, lr).groups
    held = [parameter for group in groups for parameter in group.parameters]
    assert sorted(held) == sorted(key for key, _ in model.named_parameters())
    assert f"{backbone.heads[0]}.weight" in groups[-1].parameters
    assert [group.factor for group in groups] == [0.5**depth for depth in reversed(range(len(groups)))]
    assert len(groups) >= 5
    largest = max(group.count for group in groups) / sum(group.count for group in groups)
    assert largest < 0.9, "one block holds nearly everything: its container is not known"


def test_the_blocks_end_with_the_head_and_what_is_in_none_of_them_is_small(name):
    backbone, model = network(name)
    found = blocks(model, backbone.containers, backbone.heads)
    assert len(found) >= 5
    assert within(backbone.heads[:1], found[-1:])
    assert len(set(found)) == len(found)
    beside = [key for key, _ in model.named_parameters() if not within([key], found)]
    assert all(model.get_parameter(key).ndim < 2 or "token" in key or "pos_emb" in key for key in beside)


def test_a_head_stage_has_a_boundary_at_the_head_or_before_the_auxiliary_ones(name):
    backbone, model = network(name)
    side = backbone.preprocessing.crop
    freezing = freezing_of(model, backbone.heads, HEAD_STAGE.freeze, "eval")
    boundary = boundary_of(backbone, 1000, side, side, freezing)
    assert isinstance(boundary, Cut)
    if name not in WITH_AUXILIARY:
        assert boundary.before == backbone.heads[0] or backbone.heads[0].startswith(f"{boundary.before}.")
        head = model.get_submodule(backbone.heads[0])
        assert boundary.shape[0] == (head.in_features if hasattr(head, "in_features") else head.in_channels)
    assert boundary.prefix_cost > boundary.suffix_cost


def test_the_documented_number_of_parameters_is_the_networks_own(name):
    backbone = row(name)
    model = skeleton(backbone, 1000, backbone.preprocessing.crop)
    counted = {key: parameter.numel() for key, parameter in model.named_parameters()}
    assert parameter_count(backbone) == sum(counted.values())


def test_every_named_weight_has_a_preprocessing(name):
    backbone = row(name)
    assert backbone.weights
    for weights in backbone.weights:
        preprocessing = tv.preprocessing_of(name, weights)
        assert 0 < preprocessing.crop <= preprocessing.resize
        transform = torchvision.models.get_model_weights(name)[weights].transforms()
        assert ([preprocessing.resize], [preprocessing.crop]) == (transform.resize_size, transform.crop_size)
        assert preprocessing.interpolation == transform.interpolation.value
        if name not in WITH_AUXILIARY:  # those take inputs in [-1, 1]: a test of their own
            assert (list(preprocessing.mean), list(preprocessing.std)) == (transform.mean, transform.std)


@pytest.mark.parametrize(
    "model_name", ["squeezenet1_1", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5"]
)
def test_a_real_network_trains_and_evaluates_small_images(model_name):
    backbone = row(model_name)
    model = backbone.make(3, 64)
    images = torch.rand(2, 3, 64, 64)
    logits, auxiliary = logits_and_auxiliary(model(images))
    assert auxiliary == []
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.eval()(images).shape == (2, 3)


@pytest.mark.parametrize("model_name", ["googlenet", "inception_v3"])
def test_networks_for_inputs_from_minus_1_to_1_get_what_torchvision_makes_for_them(model_name):
    """torchvision normalises for ImageNet and undoes that inside the network, only where it loads weights."""
    weights = torchvision.models.get_model_weights(model_name).DEFAULT
    image = torch.randint(0, 256, (3, 400, 360), dtype=torch.uint8)
    with torch.device("meta"):
        model = torchvision.models.get_model(model_name, weights=None, init_weights=False)
    model.transform_input = True
    expected = model._transform_input(weights.transforms()(image)[None])
    own = row(model_name).preprocessing
    given = own.normalize(own.centre(image)[None])
    level = 2 / 255  # torchvision's two ways to resize bytes round differently
    torch.testing.assert_close(given, expected, atol=level * 1.01, rtol=0)
    assert (given - expected).mean().abs() < level / 20


def test_a_size_that_a_network_takes_is_no_problem():
    check_image_size(row("resnet18"), 32)
    check_image_size(row("vit_b_16"), 64)


@pytest.mark.parametrize(("model_name", "size"), [("vit_b_16", 100), ("maxvit_t", 200), ("inception_v3", 32)])
def test_a_size_that_a_network_does_not_take_is_refused_with_its_own(model_name, size):
    with pytest.raises(SpecInvalid) as refused:
        check_image_size(row(model_name), size)
    assert refused.value.param == "image_size"
    assert refused.value.message.startswith(f"{model_name} does not take images of {size} pixels")
    assert refused.value.message.endswith(f"its own size is {row(model_name).preprocessing.crop}")


def test_skeletons_draw_nothing_from_torchs_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    skeleton(row("mnasnet0_5"), 11, 64)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(parameter.is_meta for parameter in nn.Linear(2, 2).parameters())


def test_without_its_head_every_network_gives_one_row_of_features_for_each_image(name):
    backbone, whole = network(name)
    model = skeleton(backbone, None, backbone.preprocessing.crop)
    head = whole.get_submodule(backbone.heads[0])
    with torch.no_grad():
        features = model(batch(backbone))
    assert not in_heads(backbone, model)
    assert features.shape == (2, head.in_channels if isinstance(head, nn.Conv2d) else head.in_features)


@pytest.mark.parametrize("auxiliary", WITH_AUXILIARY)
def test_without_their_heads_auxiliary_outputs_are_rows_of_features_too(auxiliary):
    backbone = row(auxiliary)
    model = copy.deepcopy(skeleton(backbone, None, backbone.preprocessing.crop)).train()
    with torch.no_grad():
        features, others = logits_and_auxiliary(model(batch(backbone)))
    assert len(others) == WITH_AUXILIARY[auxiliary]
    assert all(output.ndim == 2 and len(output) == 2 for output in (features, *others))
