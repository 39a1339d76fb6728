import shutil

import pytest
from PIL import Image, ImageDraw

from finetune.data.checking import check_dataset
from finetune.data.dataset import open_dataset
from finetune.data.images import Images
from finetune.data.vetting import vet
from finetune.errors import DatasetInvalid
from finetune.spec import DatasetSpec


@pytest.fixture
def pets(tmp_path, draw_photographs):
    """Twelve photographs of each class to train on, six of validation."""
    return draw_photographs(tmp_path / "data" / "pets", train=12, val=6)


@pytest.fixture
def loose(tmp_path, draw_photographs):
    """Fifteen photographs of each class, without splits."""
    return draw_photographs(tmp_path / "data" / "pets", train=15, val=0)


@pytest.fixture
def ready(tmp_path):
    """Makes the dataset ready for a run."""

    def vetted(on_problem=None, seed=0, **fields):
        spec = DatasetSpec(path="pets", on_problem=on_problem, **fields)
        return vet(tmp_path / "data", spec, seed, tmp_path / "checks")

    return vetted


@pytest.fixture
def notice():
    """Writes a picture that says that there is none."""

    def write(path):
        image = Image.new("RGB", (300, 300), "white")
        ImageDraw.Draw(image).text((60, 140), "no image", fill="grey")
        image.save(path)

    return write


@pytest.fixture
def spoilt(pets, photograph, notice):
    """The dataset with one file of each kind that a run can leave out."""
    train, val = pets / "train" / "ants", pets / "val" / "ants"
    (train / "half.jpg").write_bytes((train / "000.jpg").read_bytes()[:900])
    (train / "notes.jpg").write_text("they are ants")
    notice(train / "notice.gif")
    shutil.copy(train / "001.jpg", val / "other.jpg")
    photograph(3).save(val / "encoded.jpg", quality=50)  # train/ants/002.jpg
    return pets


SKIPPED = {
    "unreadable": ("train/ants/half.jpg",),
    "not_an_image": ("train/ants/notes.jpg",),
    "placeholder": ("train/ants/notice.gif",),
    "leak": ("train/ants/001.jpg",),
    "near_leak": ("train/ants/002.jpg",),
}


@pytest.mark.parametrize("on_problem", [None, "fail", "skip"])
def test_a_dataset_without_problems_is_what_it_is(pets, ready, tmp_path, on_problem):
    vetted = ready(on_problem)
    assert vetted.dataset == open_dataset(tmp_path / "data", DatasetSpec(path="pets"), 0)
    assert (vetted.warnings, vetted.skipped) == ((), {})
    assert (vetted.opened, vetted.known, ready(on_problem).known) == (36, 0, 36)
    assert len(vetted.fingerprint) == 64


def test_files_that_cannot_be_decoded_are_refused_and_the_rest_is_not_even_named(spoilt, ready):
    with pytest.raises(DatasetInvalid) as invalid:
        ready()
    message = invalid.value.message
    assert invalid.value.param == "dataset.path"
    assert message.startswith("2 files of 'pets' with problems: unreadable: train/ants/half.jpg (")
    assert "; not_an_image: train/ants/notes.jpg (its content is none). " in message
    assert not any(kind in message for kind in ("placeholder", "leak"))


def test_other_problems_are_warnings(spoilt, ready):
    for name in ("half.jpg", "notes.jpg"):
        (spoilt / "train" / "ants" / name).unlink()
    vetted = ready()
    assert vetted.skipped == {}
    assert len(vetted.dataset.train) == 25
    assert ["notice.gif" in one for one in vetted.warnings] == [True, False, False]
    assert "train/ants/001.jpg is val/ants/other.jpg" in vetted.warnings[1]
    assert "train/ants/002.jpg is val/ants/encoded.jpg" in vetted.warnings[2]


def test_fail_refuses_every_kind_with_its_files(spoilt, ready):
    with pytest.raises(DatasetInvalid) as invalid:
        ready("fail")
    message = invalid.value.message
    assert message.startswith("5 files of 'pets' with problems: ")
    for kind, (name,) in SKIPPED.items():
        assert f"{kind}: {name}" in message
    assert "leak: train/ants/001.jpg (is val/ants/other.jpg)" in message
    assert '"on_problem": "skip"' in message


def test_of_each_kind_ten_files_are_named_and_the_rest_counted(pets, ready):
    for number in range(14):
        (pets / "train" / "ants" / f"empty-{number:02}.jpg").touch()
    with pytest.raises(DatasetInvalid) as invalid:
        ready("fail")
    assert "empty-09.jpg (it is empty) and 4 more. " in invalid.value.message
    assert "empty-10.jpg" not in invalid.value.message


def test_skip_leaves_them_out_and_of_a_leak_the_copy_to_train_on(spoilt, ready):
    vetted = ready("skip")
    assert vetted.skipped == SKIPPED
    assert vetted.warnings == ()
    left = {path.relative_to(spoilt).as_posix() for path in spoilt.rglob("*.*")}
    left -= {name for names in SKIPPED.values() for name in names}
    paths = {sample.path for sample in (*vetted.dataset.train, *vetted.dataset.val)}
    assert {path.relative_to(spoilt).as_posix() for path in paths} == left


def test_skip_gives_what_the_dataset_gives_from_which_the_files_were_removed(loose, ready, notice):
    sound = ready(seed=3).dataset
    ants = loose / "ants"
    (ants / "aaa.jpg").write_text("no image")
    (ants / "zzz.jpg").write_bytes((ants / "000.jpg").read_bytes()[:900])
    notice(ants / "mmm.png")
    vetted = ready("skip", seed=3)
    assert vetted.dataset == sound
    assert vetted.skipped == {
        "unreadable": ("ants/zzz.jpg",),
        "not_an_image": ("ants/aaa.jpg",),
        "placeholder": ("ants/mmm.png",),
    }


def copied(loose, ready, seed):
    """Copies an image; the seeds decide whether the copies come to stand on both sides."""
    pair = {loose / "ants" / "000.jpg", loose / "ants" / "copy.jpg"}
    shutil.copy2(loose / "ants" / "000.jpg", loose / "ants" / "copy.jpg")
    vetted = ready(seed=seed)
    return vetted, len({sample.path for sample in vetted.dataset.val} & pair) == 1


def test_where_a_part_is_held_out_leaks_are_those_of_the_runs_own_split(loose, ready):
    both_sides: dict[bool, int] = {}
    for seed in range(12):
        vetted, divided = copied(loose, ready, seed)
        both_sides.setdefault(divided, seed)
        assert any("to train on the same as" in one for one in vetted.warnings) is divided
        assert any("more than once in a split" in one for one in vetted.warnings)
    ready("fail", seed=both_sides[False])
    with pytest.raises(DatasetInvalid, match="leak: "):
        ready("fail", seed=both_sides[True])
    vetted = ready("skip", seed=both_sides[True])
    (name,) = vetted.skipped["leak"]
    assert name in ("ants/000.jpg", "ants/copy.jpg")
    assert len(vetted.dataset.train) == len(ready(seed=both_sides[True]).dataset.train) - 1


def test_a_class_of_which_nothing_is_left_to_train_on_is_refused(pets, ready):
    for path in (pets / "train" / "bees").iterdir():
        path.write_text("no image")
    with pytest.raises(DatasetInvalid) as invalid:
        ready("skip")
    assert invalid.value.message == (
        "without the files that are left out (12 not_an_image), 'bees' stands in val and not in train: "
        "every class needs both"
    )


def test_a_class_whose_images_are_all_copies_of_validation_is_refused(pets, ready):
    shutil.rmtree(pets / "train" / "bees")
    shutil.copytree(pets / "val" / "bees", pets / "train" / "bees")
    with pytest.raises(DatasetInvalid, match=r"\(6 leak\) 'pets' has no image to train on of 'bees'"):
        ready("skip")


def test_nothing_left_to_validate_with_is_refused(pets, ready):
    for path in (pets / "val").rglob("*.jpg"):
        path.write_text("no image")
    with pytest.raises(DatasetInvalid, match="'ants', 'bees' stands in train and not in val"):
        ready("skip")


def test_leaving_files_out_is_refused_where_removing_them_would_be(pets, ready):
    for path in (pets / "val" / "bees").iterdir():
        path.write_text("no image")
    with pytest.raises(DatasetInvalid, match="'bees' stands in train and not in val"):
        ready("skip")


def test_every_copy_of_an_image_is_named(pets):
    victim = sorted((pets / "train" / "ants").iterdir())[0]
    for name in ("one.jpg", "two.jpg"):
        shutil.copy(victim, pets / "val" / "ants" / name)
    (leak,) = [one for one in check_dataset(pets.parent, "pets", None).problems if one.kind == "leak"]
    assert {"val/ants/one.jpg", "val/ants/two.jpg"} <= set(leak.files)
    assert leak.message.startswith("1 image to train on")


def test_a_file_that_changes_while_a_run_reads_it_is_refused_by_name(pets, ready):
    vetted = ready()
    images = Images(None, pets.parent, vetted.stamps).at()
    first, second = vetted.dataset.train[0].path, vetted.dataset.train[1].path
    assert images(first).shape[0] == 3
    first.write_bytes(second.read_bytes())
    with pytest.raises(DatasetInvalid, match="was changed while the job trained on it"):
        images(first)
    second.unlink()
    with pytest.raises(DatasetInvalid, match="was removed while the job trained on it"):
        images(second)


def test_a_layout_that_cannot_be_split_is_refused_whatever_is_asked_for(pets, ready):
    shutil.rmtree(pets / "val" / "bees")
    for on_problem in (None, "fail", "skip"):
        with pytest.raises(DatasetInvalid, match="'bees' stands in train and not in val"):
            ready(on_problem)


def test_images_with_several_labels_are_left_out_alike(loose, ready, tmp_path):
    files = sorted(path.relative_to(loose).as_posix() for path in loose.rglob("*.jpg"))
    rows = [f"{name},{'pet|' if i % 2 else ''}{name.split('/')[0]}" for i, name in enumerate(files)]
    (loose / "list.csv").write_text("\n".join(["path,labels", *rows]))
    (loose / files[3]).write_text("no image")
    spec = DatasetSpec(path="pets/list.csv", on_problem="skip")
    vetted = vet(tmp_path / "data", spec, 0)
    assert vetted.skipped == {"not_an_image": (files[3],)}
    assert vetted.dataset.multi_label
    assert len(vetted.dataset.train) + len(vetted.dataset.val) == 29
