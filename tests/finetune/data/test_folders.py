import os

import pytest

from finetune.data.dataset import dataset_names, find_dataset, list_dataset, open_dataset
from finetune.errors import DatasetInvalid, DatasetNotFound
from finetune.spec import DatasetSpec


@pytest.fixture
def tree(tmp_path):
    """Makes a dataset of empty files from `train/cat: 3` and the like."""
    root = tmp_path / "root"
    root.mkdir()

    def make(name="pets", **counts):
        (root / name).mkdir(exist_ok=True)
        for folder, count in counts.items():
            (root / name / folder.replace("__", "/")).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                (root / name / folder.replace("__", "/") / f"{number:03d}.png").touch()
        return root

    return make


def opened(root, seed=0, **fields):
    return open_dataset(root, DatasetSpec(path="pets", **fields), seed)


def problems(root):
    return list(list_dataset(root, "pets").problems)


def test_a_dataset_with_splits_keeps_them(tree):
    root = tree(train__cat=3, train__dog=2, val__cat=1, val__dog=1)
    dataset = opened(root, val_fraction=0.5)
    assert (dataset.classes, dataset.has_val_split) == (("cat", "dog"), True)
    assert [(sample.path.parent.name, sample.label) for sample in dataset.train] == [("cat", 0)] * 3 + [
        ("dog", 1)
    ] * 2
    assert [sample.label for sample in dataset.val] == [0, 1]
    assert {sample.path.parent.parent.name for sample in dataset.val} == {"val"}
    assert dataset.class_counts() == [3, 2]


def test_a_train_folder_alone_is_split_too(tree):
    dataset = opened(tree(train__cat=5, train__dog=5))
    assert (len(dataset.train), len(dataset.val), dataset.has_val_split) == (8, 2, False)


def test_a_split_holds_out_the_fraction_of_each_class_and_no_image_twice(tree):
    root = tree(cat=40, dog=10, eel=2)
    dataset = opened(root, val_fraction=0.3)
    held_out = [sample.label for sample in dataset.val]
    assert [held_out.count(label) for label in range(3)] == [12, 3, 1]
    paths = [sample.path for sample in (*dataset.train, *dataset.val)]
    assert len(set(paths)) == len(paths) == 52


def test_a_fifth_is_held_out_unless_said(tree):
    assert len(opened(tree(cat=10, dog=20)).val) == 6


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_every_class_is_in_both_parts_of_a_split(tree, fraction):
    dataset = opened(tree(cat=2, dog=7), val_fraction=fraction)
    assert {sample.label for sample in dataset.train} == {sample.label for sample in dataset.val} == {0, 1}


def test_a_split_is_the_same_for_the_same_seed_and_another_for_another(tree):
    root = tree(cat=30, dog=30)
    assert opened(root, seed=1) == opened(root, seed=1)
    assert opened(root, seed=1).val != opened(root, seed=2).val


def test_another_class_changes_nothing_in_the_split_of_the_others(tree):
    root = tree(cat=30, dog=30)
    before = {sample.path for sample in opened(root).val}
    tree(ape=30)
    assert before == {sample.path for sample in opened(root).val if sample.path.parent.name != "ape"}


def test_folders_inside_a_class_belong_to_it_and_hidden_files_to_nobody(tree):
    root = tree(cat__young=3, dog=3)
    for hidden in (".DS_Store", ".cache/x.png", "young/.x.png"):
        (root / "pets" / "cat" / hidden).parent.mkdir(exist_ok=True)
        (root / "pets" / "cat" / hidden).touch()
    (root / "pets" / ".git").mkdir()
    assert list_dataset(root, "pets").counts == {"train": {"cat": 3, "dog": 3}}


SENTENCES = [
    ({}, "'pets' has no classes: make a folder of images for each, train/CLASS/* or CLASS/*"),
    ({"cat": 5}, "there is one class only ('cat'): a classifier needs two or more"),
    ({"cat": 0, "dog": 0}, "'pets' has class folders and no images in them"),
    ({"cat": 5, "dog": 0}, "no images in train for 'dog': add some or remove the folder"),
    ({"cat": 5, "dog": 1}, "'dog' has one image: a class needs two, one to train on and one to validate"),
    (
        {"train__cat": 2, "train__dog": 2, "val__cat": 2},
        "'dog' stands in train and not in val: every class needs both",
    ),
    (
        {"train__cat": 2, "train__dog": 2, "val__cat": 2, "val__dog": 2, "val__eel": 2},
        "'eel' stands in val and not in train: every class needs both",
    ),
    (
        {"train__cat": 2, "train__dog": 2, "val__cat": 2, "val__dog": 0},
        "no images in val for 'dog': add some or remove the folder",
    ),
]


@pytest.mark.parametrize(("counts", "sentence"), SENTENCES, ids=[sentence for _, sentence in SENTENCES])
def test_a_sentence_says_what_to_mend(tree, counts, sentence):
    root = tree(**counts)
    assert problems(root) == [sentence]
    with pytest.raises(DatasetInvalid) as invalid:
        opened(root)
    assert (invalid.value.message, invalid.value.param) == (sentence, "dataset.path")


def test_all_that_is_wrong_comes_at_once(tree):
    found = problems(tree(train__cat=2, train__dog=0, val__cat=2, val__eel=1))
    assert len(found) == 3


def test_a_sound_dataset_has_no_problems(tree):
    assert problems(tree(cat=2, dog=2)) == []
    assert problems(tree(train__cat=1, train__dog=1, val__cat=1, val__dog=1)) == []


def test_absent_and_outside_give_the_same_answer_with_the_closest_names(tree, tmp_path):
    root = tree(cat=2)
    (tmp_path / "secret").mkdir()
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "file").touch()
    for path in ("pests", "../secret", str(tmp_path / "secret"), "link", "file", "x" * 300):
        with pytest.raises(DatasetNotFound) as missing:
            find_dataset(root, path)
        assert missing.value.message.startswith(f"there is no dataset {path[:100]!r} below the data root; ")
        assert missing.value.param == "dataset.path"
    with pytest.raises(DatasetNotFound, match="did you mean 'pets'"):
        find_dataset(root, "pests")


def test_links_that_lead_out_of_the_data_root_are_nobodys_images(tree, tmp_path):
    root = tree(cat=2, dog=2)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "x.png").touch()
    (root / "pets" / "cat" / "link.png").symlink_to(secret / "x.png")
    (root / "pets" / "cat" / "folder").symlink_to(secret)
    (root / "pets" / "spy").symlink_to(secret)
    (root / "pets" / "cat" / "again.png").symlink_to(root / "pets" / "dog" / "000.png")
    assert list_dataset(root, "pets").counts == {"train": {"cat": 3, "dog": 2}}


def test_a_train_folder_that_leads_out_of_the_data_root_has_no_classes(tree, tmp_path):
    root = tree()
    (tmp_path / "secret" / "cat").mkdir(parents=True)
    (root / "pets" / "train").symlink_to(tmp_path / "secret")
    assert list_dataset(root, "pets").classes == ()


def test_datasets_are_the_folders_below_the_data_root(tree):
    root = tree()
    tree("birds")
    (root / ".hidden").mkdir()
    (root / "file").touch()
    assert dataset_names(root) == ["birds", "pets"]
    assert dataset_names(root / "absent") == []


def test_names_that_are_no_text_are_shown_as_text_or_not_at_all(tree):
    root = tree(dog=2, **{os.fsdecode(b"\xff"): 2})
    assert list_dataset(root, "pets").classes == ("\\xff", "dog")
    (root / os.fsdecode(b"\xfe")).mkdir()
    assert dataset_names(root) == ["pets"]


def test_what_is_no_regular_file_is_listed_for_the_check_to_name(tree):
    root = tree(cat=2, dog=2)
    os.mkfifo(root / "pets" / "cat" / "pipe.png")
    (root / "pets" / "cat" / "gone.png").symlink_to(root / "pets" / "nowhere.png")
    (root / "pets" / "cat" / "circle.png").symlink_to(root / "pets" / "cat" / "circle.png")
    (root / "pets" / "cat" / "outside.png").symlink_to(root.parent / "nowhere.png")
    listed = [image.path.name for image in list_dataset(root, "pets").images["train"]]
    assert listed == ["000.png", "001.png", "circle.png", "gone.png", "pipe.png", "000.png", "001.png"]
