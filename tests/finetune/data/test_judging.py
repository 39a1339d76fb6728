import shutil

import pytest

from finetune.data.dataset import list_dataset
from finetune.data.examination import examine_dataset
from finetune.data.judging import judge


@pytest.fixture
def pets(tmp_path, draw_photographs):
    """A dataset of photographs without problems."""
    return draw_photographs(tmp_path / "data" / "pets")


@pytest.fixture
def loose(tmp_path, draw_photographs):
    """One without a val split."""
    return draw_photographs(tmp_path / "data" / "pets", train=12, val=0)


@pytest.fixture
def said(tmp_path):
    """The problems of the dataset by kind."""

    def problems(name="pets"):
        root = tmp_path / "data"
        return {problem.kind: problem for problem in judge(examine_dataset(root, list_dataset(root, name)))}

    return problems


@pytest.fixture
def add(photograph):
    """Adds photographs to a folder."""

    def write(folder, numbers):
        folder.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            photograph(1000 + number, (64, 48)).save(folder / f"{number}.jpg")

    return write


def test_a_sound_dataset_has_no_problems(pets, said):
    assert said() == {}


def test_damaged_files_and_files_that_are_no_images_are_errors_with_names_and_reasons(pets, said):
    ants = pets / "train" / "ants"
    (ants / "000.jpg").write_bytes((ants / "000.jpg").read_bytes()[:900])
    (ants / "notes.jpg").write_text("they are ants")
    problems = said()
    assert {kind: (one.severity, one.files, one.count) for kind, one in problems.items()} == {
        "unreadable": ("error", ("train/ants/000.jpg",), 1),
        "not_an_image": ("error", ("train/ants/notes.jpg",), 1),
    }
    assert "1 file cannot be read whole: train/ants/000.jpg (" in problems["unreadable"].message
    assert "train/ants/notes.jpg (its content is none): remove them" in problems["not_an_image"].message


def test_of_many_files_a_hundred_are_named_and_all_are_counted(pets, said):
    for number in range(130):
        (pets / "train" / "ants" / f"empty-{number:03}.jpg").touch()
    problem = said()["not_an_image"]
    assert (problem.count, len(problem.files)) == (130, 100)
    assert "130 files are no images: train/ants/empty-000.jpg (it is empty), " in problem.message
    assert " and 127 more: " in problem.message


def test_copies_across_the_splits_are_leaks_and_name_both(pets, said, photograph):
    shutil.copy(pets / "train" / "ants" / "000.jpg", pets / "val" / "ants" / "other.jpg")
    photograph(2).resize((80, 60)).save(pets / "val" / "ants" / "small.png")  # train/ants/001.jpg
    problems = said()
    assert {kind: (one.severity, set(one.files)) for kind, one in problems.items()} == {
        "leak": ("warning", {"train/ants/000.jpg", "val/ants/other.jpg"}),
        "near_leak": ("warning", {"train/ants/001.jpg", "val/ants/small.png"}),
    }
    assert "train/ants/000.jpg is val/ants/other.jpg" in problems["leak"].message


def test_a_copy_within_a_split_is_a_duplicate(pets, said):
    shutil.copy(pets / "train" / "ants" / "000.jpg", pets / "train" / "ants" / "other.jpg")
    (problem,) = said().values()
    assert (problem.kind, problem.files) == ("duplicate", ("train/ants/000.jpg", "train/ants/other.jpg"))
    assert "held out" not in problem.message


def test_without_a_val_split_a_duplicate_may_come_to_stand_on_both_sides(loose, said):
    shutil.copy(loose / "ants" / "000.jpg", loose / "ants" / "other.jpg")
    (problem,) = said().values()
    assert problem.kind == "duplicate"
    assert "where a part is held out for validation, a copy may stand on both sides" in problem.message


def test_one_content_under_two_labels_is_a_conflict(pets, said):
    shutil.copy(pets / "train" / "ants" / "000.jpg", pets / "train" / "bees" / "other.jpg")
    (problem,) = said().values()
    assert problem.kind == "conflicting_labels"
    assert problem.files == ("train/ants/000.jpg", "train/bees/other.jpg")


def test_a_class_that_stands_in_one_split_alone_is_missing_and_an_error(pets, said, add):
    add(pets / "train" / "wasps", range(6))
    (problem,) = said().values()
    assert (problem.kind, problem.severity, problem.count) == ("class_missing", "error", 1)
    assert problem.message == "no image in val of 'wasps': add some, or remove the class everywhere"


def test_a_class_whose_folder_is_empty_in_a_split_is_missing(pets, said):
    for path in (pets / "val" / "bees").iterdir():
        path.unlink()
    (problem,) = said().values()
    assert (problem.kind, problem.severity) == ("class_missing", "error")
    assert "no image in val of 'bees'" in problem.message


def test_a_class_without_a_sound_image_in_a_split_is_missing_and_a_warning(pets, said):
    for path in (pets / "val" / "bees").iterdir():
        path.write_text("no image")
    problems = said()
    assert set(problems) == {"not_an_image", "class_missing"}
    assert problems["class_missing"].severity == "warning"


def test_what_cannot_be_listed_is_said_by_the_listing(tmp_path, said):
    (tmp_path / "data" / "pets").mkdir(parents=True)
    (problem,) = said().values()
    assert (problem.kind, problem.severity) == ("layout", "error")
    assert "has no classes" in problem.message


def test_every_problem_of_a_manifests_lines_is_told(pets, said, tmp_path):
    rows = ["path,label", "pets/train/ants/000.jpg,ant", "pets/nowhere.jpg,bee", "pets/val/ants/000.jpg,"]
    (tmp_path / "data" / "list.csv").write_text("\n".join(rows))
    root = tmp_path / "data"
    problems = judge(examine_dataset(root, list_dataset(root, "list.csv")))
    layout = [problem.message for problem in problems if problem.kind == "layout"]
    assert layout == ["line 3: there is no file 'pets/nowhere.jpg'", "line 4: a label is empty"]


def test_a_class_of_a_few_images_is_tiny(pets, said, add):
    add(pets / "train" / "wasps", range(4))
    add(pets / "val" / "wasps", range(10, 12))
    (problem,) = said().values()
    assert (problem.kind, problem.count) == ("tiny_class", 1)
    assert "'wasps' has 4" in problem.message


def test_classes_of_very_different_sizes_are_unbalanced(pets, said, add):
    add(pets / "train" / "ants", range(72))
    (problem,) = said().values()
    assert (problem.kind, problem.count) == ("unbalanced", 1)
    assert "'ants' has 80 images to train on and 'bees' has 8" in problem.message
    (pets / "train" / "ants" / "0.jpg").unlink()
    assert said() == {}


@pytest.mark.parametrize(
    ("names", "moved"),
    [(["1", "2", "10"], 2), (["01", "02", "10"], 0), (["5", "6", "7"], 0), (["1", "x", "10"], 0)],
)
def test_numbers_that_are_sorted_as_text_are_told(tmp_path, said, add, names, moved):
    for place, name in enumerate(names):
        add(tmp_path / "data" / "pets" / name, range(10 * place, 10 * place + 6))
    problem = said().get("label_order")
    assert (problem.count if problem else 0) == moved
    if problem:
        assert "output 1 is class '10'" in problem.message


def test_class_names_that_differ_by_case_or_blanks_are_told(tmp_path, said, add):
    for place, name in enumerate(["ant", "Ant", " ant", "bee", "sea lion", "sea  lion"]):
        add(tmp_path / "data" / "pets" / name, range(10 * place, 10 * place + 6))
    problem = said()["similar_classes"]
    assert problem.count == 5
    assert "' ant' and 'Ant' and 'ant'" in problem.message


def test_errors_come_first(pets, said):
    shutil.copy(pets / "train" / "ants" / "000.jpg", pets / "val" / "ants" / "other.jpg")
    (pets / "val" / "bees" / "notes.jpg").write_text("no image")
    assert [problem.severity for problem in said().values()] == ["error", "warning"]


@pytest.mark.parametrize("size", [8, 24, 64])
def test_drawn_shapes_have_no_problems(tmp_path, said, draw_shapes, size):
    draw_shapes(tmp_path / "data" / "pets", size=size)
    assert said() == {}


def test_labels_of_a_manifest_count_each(pets, tmp_path):
    files = sorted(path.relative_to(pets).as_posix() for path in pets.rglob("*.jpg"))
    rows = [f"{name},{'|'.join(['pet'] + [name.split('/')[1]] * ('000' in name))}" for name in files]
    (pets / "list.csv").write_text("\n".join(["path,labels", *rows]))
    root = tmp_path / "data"
    problems = {p.kind: p for p in judge(examine_dataset(root, list_dataset(root, "pets/list.csv")))}
    assert set(problems) == {"tiny_class", "unbalanced"}
    assert "'ants' has 2, 'bees' has 2" in problems["tiny_class"].message
