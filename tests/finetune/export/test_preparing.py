import random

import onnxruntime
import pytest
import torch
from torch.export import Dim

from finetune.data.preprocessing import Preprocessing
from finetune.errors import ExportFailed
from finetune.export.graph import silence
from finetune.export.preparing import Preparing

# (resize, crop): the usual ones, no crop at all, and crops that are larger than what they are cut from
SIZES = [(256, 224), (64, 56), (33, 33), (20, 33), (16, 21), (51, 50)]


def picture(height, width, kind="noise"):
    noise = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return (noise // 128) * 255 if kind == "extremes" else noise  # which over- and undershoot


def difference(preprocessing, image, prepare):
    expected = preprocessing.normalize(preprocessing.centre(image)[None])
    return (prepare(image[None]) - expected).abs().max().item()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop"), SIZES)
def test_graph_prepares_images_of_any_size_to_the_very_pixels_of_evaluation(interpolation, resize, crop):
    dice = random.Random(f"{interpolation}{resize}{crop}")
    torch.manual_seed(0)
    preprocessing = Preprocessing(resize, crop, interpolation=interpolation)
    prepare = Preparing(preprocessing)
    heights = [1, 2, resize - 1, resize, resize + 1, 2 * resize, *(dice.randrange(1, 500) for _ in range(10))]
    for height in heights:
        width = max(1, min(30 * height, dice.randrange(1, 600)))
        for size in ((height, width), (width, height)):
            kind = dice.choice(["noise", "extremes"])
            assert difference(preprocessing, picture(*size, kind), prepare) == 0, size


@pytest.mark.parametrize(("height", "width"), [(40, 4001), (3001, 50), (1, 1), (700, 933)])
def test_long_large_and_single_pixels_are_prepared_the_same(height, width):
    preprocessing = Preprocessing(40, 36, interpolation="bicubic")
    assert difference(preprocessing, picture(height, width), Preparing(preprocessing)) == 0


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_exported_graph_takes_batches_and_images_of_other_sizes_than_the_traced_one(interpolation):
    preprocessing = Preprocessing(36, 40, interpolation=interpolation)
    sizes = {0: Dim("batch"), 2: Dim("height"), 3: Dim("width")}
    with silence():
        images = torch.zeros(2, 3, 30, 50, dtype=torch.uint8)
        program = torch.export.export(Preparing(preprocessing), (images,), dynamic_shapes={"images": sizes})
        made = torch.onnx.export(program, dynamo=True, input_names=["images"], verbose=False)
    assert made is not None
    session = onnxruntime.InferenceSession(made.model_proto.SerializeToString())
    module = program.module()
    for batch, height, width in ((1, 20, 31), (3, 90, 36), (1, 200, 17), (2, 36, 36), (1, 1, 5)):
        images = torch.stack([picture(height, width) for _ in range(batch)])
        expected = preprocessing.normalize(torch.stack([preprocessing.centre(image) for image in images]))
        assert torch.equal(module(images), expected)
        assert torch.equal(torch.from_numpy(session.run(None, {"images": images.numpy()})[0]), expected)


def test_a_way_to_resize_that_the_graph_does_not_know_is_refused_by_name():
    with pytest.raises(ExportFailed, match=r"'nearest'.*bilinear and bicubic") as refused:
        Preparing(Preprocessing(interpolation="nearest"))
    assert refused.value.param == "preprocessing"
