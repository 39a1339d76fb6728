import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data.dataset import (
    check_objective,
    dataset_names,
    find_dataset,
    list_dataset,
    open_dataset,
    weights_of,
)
from finetune.data.listing import Listed
from finetune.data.splitting import split_by_labels
from finetune.errors import DatasetInvalid, DatasetNotFound, SpecInvalid
from finetune.spec import CrossEntropy, DatasetSpec
from finetune.spec.objectives import BinaryCrossEntropy, Focal, Triplet


@pytest.fixture
def write(root):
    """Writes `birds/labels.csv`; gives the root. Lines without a header are rows of path and label."""

    def write_lines(*lines, header="path,label", name="birds/labels.csv"):
        (root / name).write_text("\n".join([header, *lines]) + "\n")
        return root

    return write_lines


def opened(root, seed=0, path="birds/labels.csv", **fields):
    return open_dataset(root, DatasetSpec(path=path, **fields), seed)


def problems(root):
    return list(list_dataset(root, "birds/labels.csv").problems)


def rows(*labels, start=0):
    return [f"images/{number:02d}.png,{label}" for number, label in enumerate(labels, start)]


def found(samples):
    return [(sample.path.name, sample.label) for sample in samples]


def test_images_have_the_labels_and_splits_that_the_rows_say(write):
    root = write(
        "images/03.png,owl,val",
        "images/01.png,owl,train",
        "images/02.png,jay,train",
        "images/00.png,jay,val",
        header="path,label,split",
    )
    dataset = opened(root)
    assert (dataset.name, dataset.classes) == ("birds/labels.csv", ("jay", "owl"))
    assert (dataset.has_val_split, dataset.multi_label) == (True, False)
    assert (found(dataset.train), found(dataset.val)) == (
        [("02.png", 0), ("01.png", 1)],
        [("00.png", 0), ("03.png", 1)],
    )


def test_labels_are_separated_by_a_bar_and_there_may_be_none(write):
    root = write(
        "images/00.png,owl|jay,train",
        "images/01.png, jay | owl ,val",
        "images/02.png,,train",
        "images/03.png,owl,train",
        header="path,labels,split",
    )
    dataset = opened(root)
    assert dataset.multi_label
    assert found(dataset.train) == [("00.png", (0, 1)), ("02.png", ()), ("03.png", (1,))]
    assert found(dataset.val) == [("01.png", (0, 1))]
    assert dataset.class_counts() == [1, 2]


def test_other_columns_are_left_alone_in_whatever_order_they_stand(write):
    root = write(
        *[f"x,{label},,images/{i:02d}.png" for i, label in enumerate("aabb")],
        header="note,label,camera,path",
    )
    assert len(opened(root).train) == 2


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_text_is_utf_8_with_or_without_a_mark_and_any_line_ends(root, mark, newline):
    lines = ["path,label", *rows("büülbül", "büülbül", "eule", "eule"), ""]
    (root / "birds" / "labels.csv").write_bytes(mark + newline.join(line.encode() for line in lines))
    assert opened(root).classes == ("büülbül", "eule")


def test_a_quoted_cell_may_hold_commas_and_line_ends(write):
    root = write('images/00.png,"a, b"', 'images/01.png,"a, b"', *rows("c", "c", start=2))
    assert opened(root).classes == ("a, b", "c")


def test_a_manifest_of_a_folders_files_gives_the_folders_dataset(root):
    lines = []
    for label, count in (("jay", 9), ("owl", 6)):
        (root / "birds" / "tree" / label).mkdir(parents=True)
        for number in range(count):
            (root / "birds" / "tree" / label / f"{number}.png").touch()
            lines.append(f"tree/{label}/{number}.png,{label}")
    (root / "birds" / "labels.csv").write_text("\n".join(["path,label", *reversed(lines)]))
    folder, manifest = opened(root, 3, "birds/tree"), opened(root, 3)
    assert (folder.train, folder.val, folder.classes) == (manifest.train, manifest.val, manifest.classes)
    assert len(manifest.val) == 3


def test_the_order_of_the_rows_changes_nothing(write):
    lines = rows("a|b", "b", "", "a", "b|c", "c", "a|c", "", "b", "a")
    one = opened(write(*lines, header="path,labels"))
    assert opened(write(*reversed(lines), header="path,labels")) == one


def test_a_manifest_may_lie_right_below_the_root(write):
    root = write(*[f"birds/{row}" for row in rows(*"aabb")], name="all.csv")
    assert len(opened(root, path="all.csv").train) == 2


LABELS = st.lists(st.sets(st.sampled_from("abcde")), min_size=2, max_size=40)


@given(LABELS, st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_several_labels_are_split_so_that_classes_stand_on_both_sides(labels, fraction, seed):
    images = [Listed(Path(f"{number:02d}"), tuple(sorted(names))) for number, names in enumerate(labels)]
    train, held_out = split_by_labels(images, fraction, seed)
    assert sorted([*train, *held_out], key=lambda image: image.path) == images
    assert split_by_labels(images, fraction, seed) == (train, held_out)
    left = [name for image in train for name in image.labels]
    for name in {name for image in images for name in image.labels}:
        assert name in left
        if not any(name in image.labels for image in held_out):
            own = [image for image in images if name in image.labels]
            assert all(any(left.count(other) == 1 for other in image.labels) for image in own)


def test_about_the_fraction_of_images_with_several_labels_is_held_out():
    images = [Listed(Path(f"{number:03d}"), tuple("abc"[: number % 4])) for number in range(200)]
    for fraction in (0.1, 0.5):
        assert len(split_by_labels(images, fraction, 0)[1]) == 200 * fraction
    assert split_by_labels(images, 0.1, 1) != split_by_labels(images, 0.1, 2)


WEIGHTS = ["images/00.png,a,0.5", "images/01.png,a, 3 ", "images/02.png,b,", "images/03.png,b,1e-2"]


def test_a_weight_says_how_much_an_image_counts_and_an_empty_one_is_1(write):
    root = write(*WEIGHTS, header="path,label,weight")
    listed = list_dataset(root, "birds/labels.csv").images["train"]
    assert {image.path.name: image.weight for image in listed} == {
        "00.png": 0.5,
        "01.png": 3.0,
        "02.png": 1.0,
        "03.png": 0.01,
    }
    dataset = opened(root)
    assert {image.path: image.weight for image in listed} == {
        sample.path: sample.weight for sample in (*dataset.train, *dataset.val)
    }


def test_without_the_column_every_image_counts_1(write):
    assert {sample.weight for sample in opened(write(*rows(*"aabb"))).train} == {1.0}


BETWEEN = "take a number from 0.000001 to 1000000"
NO_WEIGHTS = ["-1", "nan", "inf", "much", "1_0", "1,5", "0x1", "1e-7", "1000001", "1e999", "1" * 101, "٣"]


@pytest.mark.parametrize("text", NO_WEIGHTS)
def test_what_is_no_weight_is_told_with_its_line(write, text):
    root = write(*WEIGHTS, f'images/04.png,b,"{text}"', header="path,label,weight")
    shown = text if len(text) <= 100 else "1" * 99 + "…"
    assert problems(root) == [f"line 6: the weight is {shown!r}: {BETWEEN}"]


@pytest.mark.parametrize("text", ["0", "0.0", "-0", "0e5"])
def test_no_image_counts_nothing(write, text):
    root = write(*WEIGHTS, f"images/04.png,b,{text}", header="path,label,weight")
    assert problems(root) == [
        f"line 6: the weight is {text!r}: {BETWEEN}, or remove the line if the image is to count nothing"
    ]


@pytest.mark.parametrize("text", ["0.000001", "1000000", "+2.", ".5", "1E3"])
def test_weights_are_numbers_as_they_are_usually_written(write, text):
    root = write(*WEIGHTS, f"images/04.png,b,{text}", header="path,label,weight")
    listed = list_dataset(root, "birds/labels.csv")
    assert listed.problems == ()
    assert listed.images["train"][-1].weight == float(text)


def test_images_that_all_count_the_same_have_no_weights(write):
    same = opened(write(*[f"{row},2.5" for row in rows(*"aabb")], header="path,label,weight"))
    assert weights_of(same.train) is None
    other = opened(write(*WEIGHTS, header="path,label,weight"), val_fraction=0.5)
    assert weights_of((*other.train, *other.val)) == [sample.weight for sample in (*other.train, *other.val)]


MULTI = "path,labels"
SPLIT = "path,label,split"
SENTENCES = [
    ("", [], "labels.csv has no rows: the first line names the columns, every other one an image"),
    ("path,label", [], "labels.csv has no rows: the first line names the columns, every other one an image"),
    ("file,label", rows(*"ab"), "line 1: there is no column 'path'; known: file, label"),
    ("path,lable", rows(*"ab"), "line 1: there is no column 'label' or 'labels'; did you mean 'lable'?"),
    ("path,label,labels", ["x,a,a"], "line 1: has the columns 'label' and 'labels': keep one of them"),
    ("path,label,path", ["x,a,x"], "line 1: the column 'path' stands twice"),
    ("path,label,weight,weight", ["x,a,1,1"], "line 1: the column 'weight' stands twice"),
    ("path,label", [*rows(*"aabb"), ",a"], "line 6: the path is empty"),
    ("path,label", [*rows(*"aabb"), "x.png,a"], "line 6: there is no file 'x.png'"),
    ("path,label", [*rows(*"aabb"), "images,a"], "line 6: there is no file 'images'"),
    ("path,label", [*rows(*"aabb"), "images/..,a"], "line 6: there is no file 'images/..'"),
    (
        "path,label",
        [*rows(*"aabb"), "../birds/images/05.png,a"],
        "line 6: '../birds/images/05.png' leads out of the data root, or has '..' in it",
    ),
    (
        "path,label",
        [*rows(*"aabb"), "/etc/passwd,a"],
        "line 6: '/etc/passwd' leads out of the data root, or has '..' in it",
    ),
    (
        "path,label",
        [*rows(*"aabb"), "./images/00.png,a"],
        "line 6: './images/00.png' stands on line 2 already",
    ),
    ("path,label", [*rows(*"aabb"), "images/05.png,  "], "line 6: a label is empty"),
    (MULTI, [*rows(*"aabb"), "images/05.png,a||b"], "line 6: a label is empty"),
    (MULTI, [*rows(*"aabb"), "images/05.png,a|b|a"], "line 6: the label 'a' stands twice"),
    (
        "path,label",
        [*rows(*"aabb"), "images/05.png,a\x00"],
        "line 6: the label 'a\\x00' has characters that cannot be shown",
    ),
    (
        SPLIT,
        ["images/00.png,a,test"],
        "line 2: the split is 'test': say train or val",
    ),
    (
        "path,label",
        [*rows(*"aabb"), "images/05.png,a, b"],
        "line 6: has 3 cells, and the first line has 2: put quotes around a cell that holds a comma",
    ),
    (
        SPLIT,
        [f"images/{i:02d}.png,{row}" for i, row in enumerate(["a,train", "a,val", "b,train"])],
        "'b' stands in train and not in val: every class needs both",
    ),
    (
        "path,label",
        rows(*"aab"),
        "'b' has one image: a class needs two, one to train on and one to validate",
    ),
    ("path,label", rows(*"aa"), "there is one class only ('a'): a classifier needs two or more"),
    (MULTI, rows("", ""), "no image has a label"),
]


@pytest.mark.parametrize(("header", "lines", "sentence"), SENTENCES, ids=[s for *_, s in SENTENCES])
def test_a_sentence_says_on_which_line_what_is_wrong(write, header, lines, sentence):
    root = write(*lines, header=header)
    assert problems(root) == [sentence]
    with pytest.raises(DatasetInvalid) as invalid:
        opened(root)
    assert (invalid.value.message, invalid.value.param) == (sentence, "dataset.path")


def test_a_file_that_is_no_text_or_no_csv_is_named_with_its_line(root):
    file = root / "birds" / "labels.csv"
    file.write_bytes("path,label\nimages/00.png,a\nimages/01.png,Käuzchen\n".encode("latin-1"))
    assert problems(root) == ["line 3: is no UTF-8 text: save labels.csv as UTF-8"]
    file.write_text('path,label\n"images/00.png"x,a\n')
    assert problems(root) == ["line 2: is no CSV (',' expected after '\"')"]


def test_all_problems_come_at_once_up_to_ten(write):
    root = write("nothing.png,", "images/00.png,a", *rows("a", "a", "b"))
    assert problems(root) == [
        "line 2: a label is empty",
        "line 2: there is no file 'nothing.png'",
        "line 4: 'images/00.png' stands on line 3 already",
    ]
    root = write(*[f"{number}.png,a" for number in range(14)])
    assert len(problems(root)) == 11
    assert problems(root)[9:] == ["line 11: there is no file '9.png'", "and 5 more"]
    with pytest.raises(DatasetInvalid, match=r"line 2: .*; and 5 more$"):
        opened(root)


def test_links_are_followed_below_the_data_root_and_not_out_of_it(write, root, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "x.png").touch()
    images = root / "birds" / "images"
    (images / "out.png").symlink_to(secret / "x.png")
    (root / "birds" / "away").symlink_to(secret)
    (images / "again.png").symlink_to(images / "09.png")
    (secret / "back.png").symlink_to(images / "08.png")
    lines = ["images/out.png,a", "away/x.png,a", "away/back.png,a", "images/again.png,b"]
    assert problems(write(*rows(*"aabb"), *lines)) == [
        f"line {line}: {path!r} leads out of the data root, or has '..' in it"
        for line, path in ((6, "images/out.png"), (7, "away/x.png"), (8, "away/back.png"))
    ]
    assert problems(write(*rows(*"aabb"), lines[-1])) == []


def test_paths_that_no_file_system_takes_are_refused_like_the_others(write):
    lines = ["images/" + "x" * 300 + ".png,a", "images/x\x00.png,a"]
    assert [line.split(":")[0] for line in problems(write(*rows(*"aabb"), *lines))] == ["line 6", "line 7"]


def test_counts_are_by_split_and_label_of_the_images_that_are_there(write):
    root = write(
        "images/00.png,a|b,train",
        "images/01.png,a,val",
        "images/02.png,b,val",
        "images/77.png,b,val",
        header="path,labels,split",
    )
    listing = list_dataset(root, "birds/labels.csv")
    assert listing.counts == {"train": {"a": 1, "b": 1}, "val": {"a": 1, "b": 1}}
    assert len(listing.problems) == 1


def test_manifests_are_datasets_of_the_root_and_one_folder_below(write, root):
    write(name="all.csv")
    write()
    write(name="birds/images/deep.csv")
    write(name="birds/.hidden.csv")
    write(name="birds/table.Parquet")
    (root / "folder.csv").mkdir()
    (root / "folder.parquet").mkdir()
    assert dataset_names(root) == [
        *("all.csv", "birds", "birds/labels.csv", "birds/table.Parquet", "folder.csv", "folder.parquet")
    ]
    assert find_dataset(root, "birds/images/deep.csv").name == "deep.csv"
    with pytest.raises(DatasetNotFound, match=r"did you mean 'birds/labels.csv'"):
        find_dataset(root, "birds/label.csv")


@pytest.mark.parametrize(
    "objective", [CrossEntropy(), Focal(name="focal"), Triplet(name="triplet")], ids=lambda o: o.name
)
def test_an_objective_of_one_label_is_refused_for_several(write, objective):
    with pytest.raises(SpecInvalid) as refused:
        check_objective(objective, opened(write(*rows("a|b", "b", "a|b", ""), header=MULTI)))
    (problem,) = refused.value.problems
    assert (problem.param, problem.code) == ("objective", "unfit_for_dataset")
    assert problem.message == (
        f"{objective.name} takes one label an image, and the images of 'birds/labels.csv' have any number: "
        "take binary_cross_entropy"
    )
    check_objective(objective, opened(write(*rows(*"aabb"))))


def test_the_triplet_objective_is_refused_for_images_with_weights(write):
    objective = Triplet(name="triplet")
    weighed = opened(write(*WEIGHTS, header="path,label,weight"))
    with pytest.raises(SpecInvalid) as refused:
        check_objective(objective, weighed)
    (problem,) = refused.value.problems
    assert (problem.param, problem.code) == ("objective", "unfit_for_dataset")
    assert problem.message == (
        "triplet compares images with one another, and those of 'birds/labels.csv' have weights, each its "
        "own: take another objective, or remove the column 'weight'"
    )
    check_objective(CrossEntropy(), weighed)
    check_objective(
        objective, opened(write(*[f"{row},1" for row in rows(*"aabb")], header="path,label,weight"))
    )


def test_binary_cross_entropy_fits_every_dataset(write):
    objective = BinaryCrossEntropy(name="binary_cross_entropy")
    check_objective(objective, opened(write(*rows("a|b", "b", "a|b", ""), header=MULTI)))
    check_objective(objective, opened(write(*rows(*"aabb"))))
