import math
from random import Random

import pytest
import torch
from pydantic import TypeAdapter

from finetune.data.augmentation import draw_crop, evaluation_view, training_view
from finetune.data.preprocessing import Preprocessing
from finetune.data.stored import ORIGINAL, StoredSize, centre_size, view_size
from finetune.spec.augmentations import AUGMENTATIONS, Augmentation


def spec(name, **fields):
    return TypeAdapter(Augmentation).validate_python({"name": name, **fields})


def image(height, width):
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator).permute(2, 0, 1)


SHAPES = [(60, 90), (90, 60), (41, 41), (40, 200), (300, 39), (20, 300), (1, 500), (7, 5), (137, 211)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("name", ["none", "light"])
def test_the_centre_of_a_stored_image_is_the_centre_of_the_original(shape, interpolation, name):
    preprocessing = Preprocessing(resize=40, crop=32, interpolation=interpolation)
    original = image(*shape)
    for view in (training_view(spec(name), preprocessing), evaluation_view(preprocessing)):
        stored = view.size.fit(original)
        assert min(stored.shape[1:]) == min(40, *shape)
        assert torch.equal(view(stored, 3), view(original, 3))
    assert torch.equal(evaluation_view(preprocessing)(original), preprocessing.centre(original))


@pytest.mark.parametrize("name", ["standard", "trivial", "randaugment"])
@pytest.mark.parametrize(("smallest", "side"), [(0.25, 448), (0.35, 379), (1.0, 224), (0.08, 792)])
def test_the_smallest_crop_of_a_stored_image_has_as_many_pixels_as_a_view(name, smallest, side):
    size = view_size(spec(name, crop_scale=[smallest, 1.0]), Preprocessing())
    assert size == StoredSize(side)
    assert smallest * side**2 >= 224**2 > smallest * (side - 1) ** 2


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_original_images_are_kept_as_they_are(name):
    assert view_size(spec(name), Preprocessing(), "original") == ORIGINAL
    assert centre_size(Preprocessing(), "original") == ORIGINAL
    assert ORIGINAL.fit(image(900, 1200)).shape == (3, 900, 1200)


def test_an_image_that_is_smaller_than_it_might_be_is_kept_as_it_is():
    small = image(30, 500)
    assert StoredSize(30).fit(small) is small
    assert StoredSize(31).fit(small) is small
    assert StoredSize(29).fit(small).shape == (3, 29, 483)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_surely_whole_is_whole(shape):
    original = image(*shape)
    for size in (*map(StoredSize, range(1, 100, 7)), ORIGINAL):
        stored = size.fit(original)
        if size.surely_whole(*stored.shape[1:]):
            assert stored is original


def test_bytes_are_about_those_of_a_photograph():
    assert StoredSize(375).bytes == 3 * 375 * 500 == image(375, 500).nbytes
    assert ORIGINAL.bytes is None


def test_crops_have_the_areas_and_the_shapes_of_the_paper():
    dice = Random(0)
    crops = [draw_crop(dice, 375, 500, 0.35, 1.0) for _ in range(2000)]
    for top, left, rows, columns in crops:
        assert 0 <= top <= 375 - rows
        assert 0 <= left <= 500 - columns
        assert 0.345 < rows * columns / (375 * 500) <= 1
        assert 0.74 < columns / rows < 1.35
    areas = sorted(rows * columns / (375 * 500) for _, _, rows, columns in crops)
    assert areas[200] < 0.42 < 0.55 < areas[1000] < 0.68
    shapes = sorted(math.log(columns / rows) for _, _, rows, columns in crops)
    assert shapes[100] < -0.2 < 0 < shapes[1000] < shapes[1900]
    assert {top == 0 for top, *_ in crops} == {left == 0 for _, left, *_ in crops} == {True, False}


@pytest.mark.parametrize(
    ("height", "width", "crop"),
    [(100, 1000, (0, 433, 100, 133)), (1000, 100, (433, 0, 133, 100)), (1, 1, (0, 0, 1, 1))],
)
def test_where_no_crop_fits_the_middle_is_taken(height, width, crop):
    assert draw_crop(Random(1), height, width, 1.0, 1.0) == crop
