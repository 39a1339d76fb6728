import json

import pytest
import torch
from torchvision.models import get_model_weights
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.functional import to_pil_image

from finetune.backbones import torchvision as tv
from finetune.data.preprocessing import Preprocessing

SIZE = Preprocessing(resize=40, crop=32)


def image(height=60, width=90, seed=0):
    return torch.randint(
        0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (137, 137), (20, 300), (32, 40)])
def test_evaluation_sees_what_torchvisions_own_preset_gives(shape, interpolation):
    """But for rounding by one level of 255."""
    own = Preprocessing(resize=40, crop=32, interpolation=interpolation)
    preset = ImageClassification(
        crop_size=32, resize_size=40, interpolation=InterpolationMode(interpolation), antialias=True
    )
    pixels = image(*shape)
    given, expected = own.normalize(own.centre(pixels)[None])[0], preset(to_pil_image(pixels))
    assert given.dtype == torch.float32
    levels = ((given - expected) * torch.tensor(own.std)[:, None, None] * 255).abs()
    assert levels.max() < 1.01
    assert (levels > 0.5).float().mean() < 0.02


def test_without_resizing_evaluation_is_the_presets_on_the_same_tensor():
    pixels = image(40, 40)
    preset = ImageClassification(crop_size=32, resize_size=40)
    torch.testing.assert_close(SIZE.normalize(SIZE.centre(pixels)[None])[0], preset(pixels))


# One of each family. What torchvision's own networks for inputs in [-1, 1] get is tested with the backbones.
MODELS = [
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_b3", "efficientnet_v2_s"),
    *("efficientnet_b7", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_large", "regnet_y_16gf"),
    *("resnet50", "resnext50_32x4d", "shufflenet_v2_x1_0", "squeezenet1_0", "swin_t", "swin_v2_b", "vgg16"),
    *("vit_b_16", "vit_h_14", "wide_resnet50_2"),
]


@pytest.mark.parametrize("model", MODELS)
def test_evaluation_prepares_images_as_the_weights_own_transform(model):
    """To 1e-6 where nothing is resized, else but for rounding by one level of 255.

    torchvision itself rounds in two ways when it resizes, tensors and PIL's images.
    """
    transform = get_model_weights(model).DEFAULT.transforms()
    row = tv.find(model)
    assert row is not None
    own = row.preprocessing
    side = own.resize
    sized = image(side, side + 31)
    torch.testing.assert_close(own.normalize(own.centre(sized)[None])[0], transform(sized), rtol=0, atol=1e-6)

    pixels = image(side + 50, side * 2 + 7)
    given, expected = own.normalize(own.centre(pixels)[None])[0], transform(to_pil_image(pixels))
    levels = ((given - expected) * torch.tensor(own.std)[:, None, None] * 255).abs()
    assert given.shape == expected.shape == (3, own.crop, own.crop)
    assert levels.max() < 1.01
    assert (levels > 0.5).float().mean() < 0.02


@pytest.mark.parametrize("model", ["googlenet", "inception_v3"])
def test_networks_for_inputs_from_minus_1_to_1_get_the_transform_without_the_networks_own_part(model):
    """With its weights torchvision's network turns ImageNet's normalisation into one with 0.5 by itself."""
    transform, row = get_model_weights(model).DEFAULT.transforms(), tv.find(model)
    assert row is not None
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (transform.mean, transform.std))
    own, sized = row.preprocessing, image(row.preprocessing.resize, 400)
    expected = (transform(sized) * std + mean - 0.5) / 0.5
    torch.testing.assert_close(own.normalize(own.centre(sized)[None])[0], expected, rtol=0, atol=1e-6)


def test_the_weights_own_transforms_differ_in_all_that_a_preprocessing_says():
    rows = [row.preprocessing for row in map(tv.find, MODELS) if row is not None]
    assert {row.interpolation for row in rows} == {"bilinear", "bicubic"}
    assert len({row.crop for row in rows}) >= 4
    assert len({round(row.crop / row.resize, 3) for row in rows}) >= 4


def test_every_named_weight_has_its_own_transform():
    v1, v2, swag = (
        tv.preprocessing_of(model, weights)
        for model, weights in [
            ("resnet50", "IMAGENET1K_V1"),
            ("resnet50", "IMAGENET1K_V2"),
            ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"),
        ]
    )
    assert [(p.resize, p.crop, p.interpolation) for p in (v1, v2, swag)] == [
        (256, 224, "bilinear"),
        (232, 224, "bilinear"),
        (384, 384, "bicubic"),
    ]


def test_another_size_keeps_the_proportion_of_resize_to_crop():
    assert Preprocessing(resize=256, crop=224).at(112).resize == 128
    assert Preprocessing().at(None) == Preprocessing()


def test_preprocessing_survives_json():
    own = Preprocessing(resize=40, crop=32, mean=(0.1, 0.2, 0.3), interpolation="bicubic")
    assert Preprocessing.from_json(json.loads(json.dumps(own.to_json()))) == own
