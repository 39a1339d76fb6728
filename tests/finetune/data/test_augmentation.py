import itertools
import random
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F  # noqa: N812  # the field's usual name

from finetune.data.augmentation import VIEWS, draw_crop, light_flips, training_view
from finetune.data.dataset import Sample
from finetune.data.loading import Loader
from finetune.data.preprocessing import Preprocessing
from finetune.data.sampling import batches_of
from finetune.spec.augmentations import AUGMENTATIONS, Augmentation

SIZE = Preprocessing(resize=40, crop=32)
WHOLE = [1.0, 1.0]  # crops of the whole image


def view_of(name, preprocessing=SIZE, **fields):
    spec = TypeAdapter(Augmentation).validate_python({"name": name, **fields})
    return training_view(spec, preprocessing)


def image(height=60, width=90, seed=0):
    return torch.randint(
        0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def smooth(side=64):
    """Colours that change slowly, so that views are as far from each other as what was done to them."""
    ramp = torch.linspace(0, 255, side)
    return torch.stack(
        [ramp.expand(side, side), ramp[:, None].expand(side, side), ramp.flip(0).expand(side, side)]
    ).to(torch.uint8)


def seeded(view, seeds, of=None):
    given = smooth() if of is None else of
    return [view(given, seed) for seed in seeds]


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(60, 90), (33, 5), (1, 1), (500, 40)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_every_view_is_bytes_of_the_crops_size(name, shape, interpolation):
    view = view_of(name, replace(SIZE, interpolation=interpolation))
    for given in seeded(view, range(4), image(*shape)):
        assert (given.shape, given.dtype) == ((3, 32, 32), torch.uint8)


def test_every_augmentation_of_the_spec_has_a_view():
    specs = {type(TypeAdapter(Augmentation).validate_python(name)) for name in AUGMENTATIONS}
    assert specs == set(VIEWS)


def test_no_augmentation_is_what_evaluation_sees():
    assert torch.equal(view_of("none")(image()), SIZE.centre(image()))


def test_every_augmentation_is_another_one():
    views = {name: torch.stack(seeded(view_of(name), range(12))) for name in AUGMENTATIONS}
    for one, other in itertools.combinations(AUGMENTATIONS, 2):
        assert not torch.equal(views[one], views[other])


def test_light_flips_about_half_of_the_time_and_does_nothing_else():
    centre = SIZE.centre(image())
    seen = seeded(view_of("light"), range(60), image())
    assert all(torch.equal(v, centre) or torch.equal(v, centre.flip(-1)) for v in seen)
    assert 15 < sum(torch.equal(v, centre) for v in seen) < 45


def test_what_light_flips_is_what_is_said_of_its_seed():
    centre = SIZE.centre(image())
    for seed in (*range(40), 2**63 - 1):
        expected = centre.flip(2) if light_flips(seed) else centre
        assert torch.equal(view_of("light")(image(), seed), expected)
    assert 30 < sum(light_flips(seed) for seed in range(100)) < 70


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_a_crop_is_what_torchvision_cuts_and_resizes(interpolation):
    preprocessing = replace(SIZE, interpolation=interpolation)
    view = view_of("standard", preprocessing, crop_scale=[0.35, 1.0])
    for layout in (image(), image().permute(1, 2, 0).contiguous().permute(2, 0, 1)):
        for seed in range(20):
            dice = Random(seed)
            place = draw_crop(dice, 60, 90, 0.35, 1.0)
            expected = F.resized_crop(
                image(), *place, size=[32, 32], interpolation=InterpolationMode(interpolation), antialias=True
            )
            expected = expected.flip(2) if dice.random() < 0.5 else expected
            assert torch.equal(view(layout, seed), expected)


def test_a_view_golden():
    """A change of these numbers breaks the resuming of jobs that began before it."""
    assert draw_crop(Random(7), 375, 500, 0.35, 1.0) == (1, 18, 358, 293)
    assert [light_flips(seed) for seed in range(12)] == [0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1]


@pytest.mark.parametrize("name", ["standard", "trivial", "randaugment"])
def test_crops_take_the_given_share_of_the_image(name):
    # a pixel's column is its value, and strength 0 changes no more than a level of it; of the operations of
    # `trivial` the strengths are drawn, so the middle of many views counts
    ramp = torch.arange(100, dtype=torch.uint8).expand(3, 100, 100)
    fields = {"magnitude": 0} if name == "randaugment" else {}

    def width(scale):
        seen = seeded(view_of(name, crop_scale=scale, **fields), range(60), ramp)
        return float(torch.tensor([float(int(v.max()) - int(v.min())) for v in seen]).median())

    assert width([0.05, 0.1]) < 45 < width([0.5, 0.6])


@pytest.mark.parametrize("name", ["trivial", "randaugment"])
def test_the_operations_come_after_the_crop_and_the_flip_of_standard(name):
    """With the same seed `standard` draws the same crop and flip; an operation that does nothing shows it."""
    fields = {"operations": 1} if name == "randaugment" else {}
    plain = seeded(view_of("standard"), range(80))
    seen = seeded(view_of(name, **fields), range(80))
    same = sum(torch.equal(a, b) for a, b in zip(plain, seen, strict=True))
    assert 1 <= same < 40  # Identity is one of 14


def test_on_whole_images_trivial_does_one_of_many_operations():
    square = Preprocessing(resize=64, crop=64)
    seen = seeded(view_of("trivial", square, crop_scale=WHOLE), range(100))
    plain = seeded(view_of("standard", square, crop_scale=WHOLE), range(100))
    changed = sum(not torch.equal(a, b) for a, b in zip(plain, seen, strict=True))
    assert changed > 50
    assert len({bytes(v.numpy()) for v in seen}) > 50


def distance(magnitude, operations=2):
    """How far on average a view is from what `standard` makes of the same draw, in levels."""
    plain = torch.stack(seeded(view_of("standard"), range(60))).float()
    fields = {"magnitude": magnitude, "operations": operations}
    return float((torch.stack(seeded(view_of("randaugment", **fields), range(60))) - plain).abs().mean())


def test_randaugment_does_more_with_a_larger_magnitude_and_with_more_operations():
    assert distance(0) < distance(9) < distance(30)
    assert distance(9, operations=1) < distance(9, operations=4)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in range(6):
        Image.fromarray(image(50, 44, seed=number).permute(1, 2, 0).numpy()).save(folder / f"{number}.png")
    return [Sample(folder / f"{number}.png", number) for number in range(6)]


@pytest.mark.parametrize("name", ["light", "standard", "trivial", "randaugment"])
def test_a_view_is_the_same_whatever_the_number_of_data_workers(samples, name):
    def epoch(workers, other_seed):
        random.seed(other_seed)
        np.random.seed(other_seed)
        torch.manual_seed(other_seed)
        loader = Loader(samples, view_of(name), 4, workers, pin=False)
        batches = list(loader.drawn(batches_of(range(6), 4), 3, 1, 2))
        return torch.cat([batch.images for batch in batches])

    alone = epoch(0, 1)
    assert torch.equal(alone, epoch(0, 2))
    assert torch.equal(alone, epoch(2, 3))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_views_draw_from_torchs_generator_alone(name):
    def states():
        return random.getstate(), str(np.random.get_state(legacy=False))

    before = states()
    seeded(view_of(name), range(8))
    assert states() == before
