import decimal
import random
import subprocess
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

from finetune.data import parquet_rows
from finetune.data.dataset import list_dataset, open_dataset
from finetune.errors import DatasetInvalid
from finetune.spec import DatasetSpec

PATHS = [f"images/{number:02d}.png" for number in range(4)]


@pytest.fixture
def write(root):
    """Writes `birds/labels.parquet` with these columns; `path` and `label` are four images unless said."""

    def write_columns(**columns):
        usual = {"path": PATHS} if "labels" in columns else {"path": PATHS, "label": list("aabb")}
        table = pa.table({name: column for name, column in (usual | columns).items() if column is not None})
        parquet.write_table(table, root / "birds" / "labels.parquet")
        return root

    return write_columns


def listing(root):
    return list_dataset(root, "birds/labels.parquet")


def problems(root):
    return list(listing(root).problems)


def told(root):
    """What is said of each image."""
    images = [image for split in listing(root).images.values() for image in split]
    return {image.path.name: (*image.labels, image.weight) for image in images}


def test_the_same_table_in_parquet_and_in_csv_is_the_same_dataset(root, write):
    columns = {
        "path": [f"images/{number:02d}.png" for number in range(10)],
        "labels": ["owl|jay", "owl", "", "jay", "owl", "jay|owl", "owl", "jay", " owl ", ""],
        "split": ["train", "val"] * 5,
        "weight": ["", "0.25", "3", "1e3", "", "0.1", "7", "", "2.5", "1"],
        "camera": list("0123456789"),
    }
    rows = [",".join(columns), *map(",".join, zip(*columns.values(), strict=True))]
    (root / "birds" / "labels.csv").write_text("\n".join(rows))
    write(**columns | {"weight": [float(text) if text else None for text in columns["weight"]]})
    one, other = (
        open_dataset(root, DatasetSpec(path=f"birds/labels.{suffix}"), 0) for suffix in ("csv", "parquet")
    )
    assert (one.classes, one.train, one.val) == (other.classes, other.train, other.val)
    assert {sample.weight for sample in one.train} == {1.0, 3.0, 7.0, 2.5}
    assert (one.multi_label, one.has_val_split) == (other.multi_label, other.has_val_split) == (True, True)


TEXTS = {
    "text": pa.string(),
    "large text": pa.large_string(),
    "text views": pa.string_view(),
    "dictionary-encoded text": pa.dictionary(pa.int8(), pa.string()),
}


@pytest.mark.parametrize("kind", TEXTS.values(), ids=TEXTS)
def test_text_is_text_however_it_is_stored(write, kind):
    split = pa.array(["train", "val"] * 2, pa.string()).cast(kind)
    root = write(path=pa.array(PATHS).cast(kind), label=pa.array(list("aabb")).cast(kind), split=split)
    assert problems(root) == []
    assert told(root) == {"00.png": ("a", 1), "01.png": ("a", 1), "02.png": ("b", 1), "03.png": ("b", 1)}
    assert list(listing(root).images) == ["train", "val"]


NUMBERS = [pa.array([7, 7, 10, 10], kind) for kind in (pa.int8(), pa.int64(), pa.uint16())]


@pytest.mark.parametrize("labels", [*NUMBERS, NUMBERS[1].dictionary_encode()], ids=lambda it: str(it.type))
def test_labels_that_are_whole_numbers_become_text(write, labels):
    root = write(label=labels)
    assert problems(root) == []
    assert listing(root).classes == ("10", "7")


LISTS = [
    pa.list_(pa.string()),
    pa.large_list(pa.string()),
    pa.list_(pa.dictionary(pa.int32(), pa.string())),
]


@pytest.mark.parametrize("kind", LISTS, ids=str)
def test_several_labels_are_a_list(write, kind):
    cells = pa.array([["owl|jay", "owl"], [], ["owl|jay", "owl"], None], pa.list_(pa.string())).cast(kind)
    root = write(labels=cells)
    assert problems(root) == []
    labels = ("owl|jay", "owl", 1)
    assert told(root) == {"00.png": labels, "01.png": (1,), "02.png": labels, "03.png": (1,)}


def test_lists_of_whole_numbers_and_lists_of_one_length_are_lists_of_labels(write):
    root = write(labels=pa.array([[1, 2], [1, 3], [2, 3], [3, 1]], pa.list_(pa.int16(), 2)))
    assert problems(root) == []
    assert listing(root).classes == ("1", "2", "3")


def test_several_labels_may_be_text_as_in_csv(write):
    root = write(labels=["owl|jay", " owl | jay ", "", None])
    assert problems(root) == []
    labels = ("owl", "jay", 1)
    assert told(root) == {"00.png": labels, "01.png": labels, "02.png": (1,), "03.png": (1,)}


WEIGHTS = {
    "doubles": pa.array([0.5, 2, 1e3, None], pa.float64()),
    "floats": pa.array([0.5, 2, 1e3, None], pa.float32()),
    "halves": pa.array([0.5, 2, 1e3, None], pa.float16()),
    "decimals": pa.array([decimal.Decimal(text) for text in ("0.5", "2", "1000", "1")], pa.decimal128(6, 2)),
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_are_numbers_and_one_that_is_null_is_1(write, weights):
    root = write(weight=weights)
    assert problems(root) == []
    assert [weight for *_, weight in told(root).values()] == [0.5, 2, 1000, 1]


def test_weights_may_be_whole_numbers_or_all_null(write):
    assert [weight for *_, weight in told(write(weight=[1, 2, None, 4])).values()] == [1, 2, 1, 4]
    root = write(weight=pa.nulls(4))
    assert problems(root) == []
    assert {weight for *_, weight in told(root).values()} == {1}


NAN = float("nan")
ROWS = [
    ({"path": [*PATHS[:3], None]}, "row 4: the path is empty"),
    ({"path": [*PATHS[:3], "x.png"]}, "row 4: there is no file 'x.png'"),
    (
        {"path": [*PATHS[:3], "../birds/images/03.png"]},
        "row 4: '../birds/images/03.png' leads out of the data",
    ),
    ({"path": [*PATHS[:3], PATHS[1]]}, f"row 4: {PATHS[1]!r} stands on row 2 already"),
    ({"label": ["a", None, "b", "b"]}, "row 2: a label is empty"),
    ({"labels": [["a"], ["a", None], ["b"], ["b"]]}, "row 2: a label is empty"),
    ({"labels": [["a"], ["a", "b", "a"], ["b"], ["b"]]}, "row 2: the label 'a' stands twice"),
    ({"label": ["a", "a", "b", "b\x00"]}, "row 4: the label 'b\\x00' has characters that cannot be shown"),
    ({"split": ["train", None, "val", "val"]}, "row 2: the split is '': say train or val"),
    (
        {"weight": [1.0, -2.0, 1.0, 1.0]},
        "row 2: the weight is '-2.0': take a number from 0.000001 to 1000000",
    ),
    (
        {"weight": pa.array([1.0, NAN, 1.0, 1.0])},
        "row 2: the weight is 'nan': take a number from 0.000001 to",
    ),
    (
        {"weight": [1, 0, 1, 1]},
        "row 2: the weight is '0': take a number from 0.000001 to 1000000, or remove the",
    ),
]


@pytest.mark.parametrize(("columns", "sentence"), ROWS, ids=[sentence for _, sentence in ROWS])
def test_a_sentence_says_in_which_row_what_is_wrong(write, columns, sentence):
    root = write(**columns)
    (problem,) = [problem for problem in problems(root) if problem.startswith("row")]
    assert problem.startswith(sentence)
    with pytest.raises(DatasetInvalid) as invalid:
        open_dataset(root, DatasetSpec(path="birds/labels.parquet"), 0)
    assert problem in invalid.value.message


STRUCT = pa.array([{"name": "a"}] * 4)
COLUMNS = [
    ({"path": None}, "there is no column 'path'; known: label"),
    ({"label": None}, "there is no column 'label' or 'labels'; known: path"),
    ({"label": None, "lable": list("aabb")}, "there is no column 'label' or 'labels'; did you mean 'lable'?"),
    (
        {"label": list("aabb"), "labels": [["a"]] * 4},
        "has the columns 'label' and 'labels': keep one of them",
    ),
    ({"path": [1, 2, 3, 4]}, "the column 'path' holds int64: save it as text"),
    ({"path": [path.encode() for path in PATHS]}, "the column 'path' holds binary: save it as text"),
    ({"label": [1.0, 1.0, 2.0, 2.0]}, "the column 'label' holds double: save it as text or whole numbers"),
    (
        {"label": [True, True, False, False]},
        "the column 'label' holds bool: save it as text or whole numbers",
    ),
    (
        {"label": [["a"]] * 4},
        "the column 'label' holds list<element: string>: save it as text or whole numbers",
    ),
    ({"label": STRUCT}, "the column 'label' holds struct<name: string>: save it as text or whole numbers"),
    (
        {"labels": [[1.5]] * 4},
        "the column 'labels' holds list<element: double>: save it as lists of text or of whole numbers, or "
        "as text with '|' between them",
    ),
    ({"split": [0, 0, 1, 1]}, "the column 'split' holds int64: save it as text"),
    ({"weight": ["1", "2", "3", "4"]}, "the column 'weight' holds string: save it as numbers"),
    ({"weight": [True] * 4}, "the column 'weight' holds bool: save it as numbers"),
]


@pytest.mark.parametrize(("columns", "sentence"), COLUMNS, ids=[sentence for _, sentence in COLUMNS])
def test_a_sentence_says_what_is_wrong_with_a_column(write, columns, sentence):
    root = write(**columns)
    assert problems(root) == [f"labels.parquet: {sentence}"]
    assert listing(root).images == {"train": ()}


def test_a_column_that_stands_twice_is_told(root):
    columns = [pa.array(PATHS), pa.array(list("aabb")), pa.array(list("bbaa"))]
    table = pa.Table.from_arrays(columns, ["path", "label", "label"])
    parquet.write_table(table, root / "birds" / "labels.parquet")
    assert problems(root) == ["labels.parquet: the column 'label' stands twice"]


def test_a_table_without_rows_is_told(write):
    root = write(path=pa.array([], pa.string()), label=pa.array([], pa.string()))
    assert problems(root) == ["labels.parquet has no rows: every row stands for an image"]


def test_more_rows_than_anybody_has_images_are_not_read(write, monkeypatch):
    monkeypatch.setattr(parquet_rows, "MOST_ROWS", 3)
    assert problems(write()) == ["labels.parquet has 4 rows, and 3 are the most"]


def test_rows_are_counted_on_from_one_batch_to_the_next(write, monkeypatch):
    monkeypatch.setattr(parquet_rows, "AT_ONCE", 3)
    root = write(weight=[1.0, -1.0, 1.0, -1.0])
    assert [problem[:6] for problem in problems(root)] == ["row 2:", "row 4:"]


def test_text_that_is_no_utf_8_is_told_with_its_row(write, monkeypatch):
    monkeypatch.setattr(parquet_rows, "AT_ONCE", 2)
    broken = pa.array([b"a", b"a", b"b", "Käuzchen".encode("latin-1")])
    text = pa.Array.from_buffers(pa.string(), 4, broken.buffers())
    assert problems(write(label=text)) == ["row 4: is no UTF-8 text: save labels.parquet as UTF-8"]


def test_other_columns_are_not_read(write, root):
    """What they hold is damaged here, and nobody notices."""
    write(note=[f"note {number} {'x' * 2000}" for number in range(4)])
    file = root / "birds" / "labels.parquet"
    chunk = parquet.ParquetFile(file).metadata.row_group(0).column(2)
    assert chunk.path_in_schema == "note"
    content, start = bytearray(file.read_bytes()), chunk.dictionary_page_offset
    content[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    file.write_bytes(content)
    with pytest.raises(OSError, match=r"deserialize|page"):
        parquet.read_table(file)
    assert problems(root) == []
    assert len(told(root)) == 4


def test_a_file_that_is_cut_off_empty_or_something_else_is_named(write, root):
    file = root / "birds" / "labels.parquet"
    content = (write() / "birds" / "labels.parquet").read_bytes()
    for damaged in (content[: len(content) // 2], content[-40:], b"", b"path,label\nimages/00.png,a\n"):
        file.write_bytes(damaged)
        (problem,) = problems(root)
        assert problem.startswith("labels.parquet is damaged, or no Parquet file: write it again (")
        assert str(root) not in problem


def test_no_damage_is_more_than_a_problem(write, root):
    """Bytes at random; where they stand in text the table may still be sound."""
    content = (write(labels=[["a"], ["a", "b"], ["b"], []], weight=[1.0, 2, 3, 4])).joinpath(
        "birds/labels.parquet"
    )
    whole = content.read_bytes()
    told_of = 0
    for seed in range(300):
        dice, damaged = random.Random(seed), bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        content.write_bytes(damaged)
        found = problems(root)
        told_of += bool(found)
        assert all(text.isprintable() for text in found)
    assert told_of > 200


def test_a_file_that_cannot_be_opened_is_told_without_its_folder(write, root, monkeypatch):
    write()

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(root))

    monkeypatch.setattr("finetune.data.manifests.open_below", refuse)
    assert problems(root) == ["labels.parquet cannot be read (Permission denied)"]


def test_pyarrow_is_loaded_for_a_parquet_file_and_not_before(write):
    write()
    lines = """
import sys
from pathlib import Path
from finetune.data.dataset import list_dataset
list_dataset(Path(sys.argv[1]), "birds")
assert "pyarrow" not in sys.modules
assert list_dataset(Path(sys.argv[1]), "birds/labels.parquet").problems == ()
assert "pyarrow" in sys.modules
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", lines, str(write())], check=True)
