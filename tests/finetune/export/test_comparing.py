from itertools import pairwise

import pytest
import torch

from finetune.data.checking import check_dataset
from finetune.data.dataset import open_dataset
from finetune.errors import DatasetGone, ExportFailed
from finetune.export.comparing import MOST_IMAGES, compare, is_same_data, validation_images
from finetune.spec.job import DatasetSpec

SPEC = {"dataset": {"path": "odd"}, "seed": 0}


@pytest.fixture(scope="module")
def model(make_checkpoint, opened):
    return opened(make_checkpoint("mobilenet_v3_small", crop=32))


@pytest.fixture(scope="module")
def paths(photos):
    return validation_images(photos, SPEC)


def same(model):
    def answer(images):
        with torch.inference_mode():
            return model.answers_of(model.network(images))

    return answer


def test_all_validation_images_are_taken_where_they_are_few(photos, paths):
    val = open_dataset(photos, DatasetSpec(path="odd"), 0).val
    assert sorted(paths) == sorted(sample.path for sample in val)


def test_of_many_images_as_many_as_may_be_are_taken_evenly_over_the_classes(tmp_path):
    for split, count in (("train", 1), ("val", 300)):
        for name in ("a", "b"):
            folder = tmp_path / "many" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number:03}.png").touch()
    taken = validation_images(tmp_path, {"dataset": {"path": "many"}, "seed": 0})
    assert len(set(taken)) == len(taken) == MOST_IMAGES
    by_class = [sorted(int(path.stem) for path in taken if path.parent.name == name) for name in ("a", "b")]
    assert [len(numbers) for numbers in by_class] == [MOST_IMAGES // 2] * 2
    for numbers in by_class:
        assert all(after - before <= 3 for before, after in pairwise(numbers))
    assert len({path.parent.name for path in taken[:20]}) == 2


def test_dataset_that_nobody_could_train_on_any_more_still_has_images_to_compare_with(tmp_path):
    for name in ("train/a", "train/b", "val/a"):
        (tmp_path / "less" / name).mkdir(parents=True)
        (tmp_path / "less" / name / "1.png").touch()
    taken = validation_images(tmp_path, {"dataset": {"path": "less"}, "seed": 0})
    assert [path.relative_to(tmp_path).as_posix() for path in taken] == ["less/val/a/1.png"]


def test_data_is_the_same_only_with_the_fingerprint_that_the_checkpoint_names(photos, tmp_path):
    found = check_dataset(photos, "odd", None).fingerprint
    assert is_same_data(photos, tmp_path, SPEC, found)
    assert not is_same_data(photos, tmp_path, SPEC, "0" * 64)
    assert not is_same_data(photos, tmp_path, SPEC, None)


def test_images_that_cannot_be_decoded_are_left_out(model, paths, photos):
    found = compare(model, same(model), paths, photos, whole=False)
    assert (found.images, len(paths)) == (12, 14)
    assert found.largest_difference < 1e-6


def test_the_largest_difference_of_all_images_is_found(model, paths, photos):
    found = compare(model, off_by_whole(model, 9e-5), paths, photos, whole=True)
    assert found.largest_difference == pytest.approx(9e-5, rel=1e-3)
    assert found.images == 12
    with pytest.raises(ExportFailed, match=r"differ from the checkpoint's by 0\.00012 .* at most 0\.0001"):
        compare(model, off_by_whole(model, 1.2e-4), paths, photos, whole=True)


def off_by_whole(model, difference):
    """Right on all whole images but the fifth."""
    right, calls = same(model), []

    def answer(images):
        calls.append(images)
        prepared = model.preprocessing.normalize(model.preprocessing.centre(images[0])[None])
        return right(prepared) + (difference if len(calls) == 5 else 0.0)

    return answer


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_answers_that_are_no_numbers_are_no_equal_answers(model, paths, photos, wrong):
    with pytest.raises(ExportFailed, match="differ"):
        compare(model, lambda images: same(model)(images) * wrong, paths, photos, whole=False)


def test_answers_of_another_shape_are_refused(model, paths, photos):
    with pytest.raises(ExportFailed, match="shape"):
        compare(model, lambda images: same(model)(images)[:, :2], paths, photos, whole=False)


def test_dataset_that_is_gone_says_why_nothing_can_be_proved(tmp_path):
    with pytest.raises(DatasetGone, match=r"cannot be proved.*there is no dataset 'odd'"):
        validation_images(tmp_path, SPEC)


def test_dataset_without_a_readable_image_says_so(model, photos):
    bad = [photos / "odd" / "val" / "bee" / "no.png", photos / "odd" / "val" / "bee" / "gone.png"]
    with pytest.raises(DatasetGone, match="none of its validation images can be read"):
        compare(model, same(model), bad, photos, whole=False)
