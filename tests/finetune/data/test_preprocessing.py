import json

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.functional import to_pil_image

from finetune.data.augmentation import VIEWS, training_view
from finetune.data.preprocessing import Preprocessing
from finetune.spec.augmentations import Light, NoAugmentation, Standard

SIZE = Preprocessing(resize=40, crop=32)
VIEW_SPECS = [NoAugmentation(), Light(name="light"), Standard(name="standard")]


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


@pytest.mark.parametrize("spec", VIEW_SPECS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("shape", [(60, 90), (33, 5), (1, 1), (500, 40)])
def test_every_view_is_bytes_of_the_crops_size(spec, shape):
    view = training_view(spec, SIZE)(image(*shape))
    assert (view.shape, view.dtype) == ((3, 32, 32), torch.uint8)


def test_every_augmentation_of_the_spec_has_a_view():
    assert {type(spec) for spec in VIEW_SPECS} == set(VIEWS)


def test_no_augmentation_is_what_evaluation_sees():
    assert torch.equal(training_view(NoAugmentation(), SIZE)(image()), SIZE.centre(image()))


def test_light_flips_about_half_of_the_time_and_does_nothing_else():
    torch.manual_seed(0)
    view, centre = training_view(Light(name="light"), SIZE), SIZE.centre(image())
    seen = [view(image()) for _ in range(60)]
    assert all(torch.equal(v, centre) or torch.equal(v, centre.flip(-1)) for v in seen)
    assert 15 < sum(torch.equal(v, centre) for v in seen) < 45


def test_standard_takes_crops_of_the_given_share_of_the_image():
    torch.manual_seed(0)
    ramp = torch.arange(100, dtype=torch.uint8).expand(3, 100, 100)  # a pixel's column is its value

    def widths(scale):
        view = training_view(Standard(name="standard", crop_scale=scale), SIZE)
        return [int(v.max()) - int(v.min()) for v in (view(ramp) for _ in range(40))]

    assert max(widths([0.05, 0.1])) < 45 < min(widths([0.5, 0.6]))
    assert len(set(widths([0.05, 1.0]))) > 5


def test_another_size_keeps_the_proportion_of_resize_to_crop():
    assert Preprocessing(resize=256, crop=224).at(112).resize == 128
    assert Preprocessing().at(None) == Preprocessing()


def test_preprocessing_survives_json():
    own = Preprocessing(resize=40, crop=32, mean=(0.1, 0.2, 0.3), interpolation="bicubic")
    assert Preprocessing.from_json(json.loads(json.dumps(own.to_json()))) == own
