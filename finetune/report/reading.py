"""The stored predictions as rows to choose from: what was said of each image, without torch.

The file's probabilities, a row of all classes for each image, are read in parts: of each image those of one
or two classes are kept.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from finetune.data.naming import PREFIX, image_id

MOST_NUMBERS = 2_000_000  # probabilities that are in memory at once
BUFFER = 2**20  # bytes of a column that are in memory before they are unpacked; without one, all of them
MOST_MISTAKES = 1_000_000  # of several labels; of more than twice as many the surest are kept

LONGEST_INDEX = 10  # digits

Kind = Literal["one_label", "several_labels", "embedding"]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class PredictionsUnreadable(Exception):
    """The file is damaged, or holds no predictions."""


@dataclass(frozen=True)
class Rows:
    """A row for each image; where an image has several labels, one for each label that is wrong.

    Args:
        kind: of the report.
        classes: what labels and predictions are indices of.
        files: what the images are called from the dataset's folder.
        ids: of the images, without their prefix.
        image: each row's image, an index of `files`.
        label: the label that it has, or of several the one that is wrong.
        prediction: the class that it was taken for; where it has several labels, the label.
        wrong: whether that is a mistake.
        sure: how sure the network was: the higher, the surer; NaN where its answer is no number.
        numbers: columns of numbers by the names that they have.
        given: where an image has several labels: whether the wrong label was given, and not missed.
        neighbours: of embeddings: the nearest other images.
    """

    kind: Kind
    classes: tuple[str, ...]
    files: pa.Array
    ids: npt.NDArray[np.bytes_]
    image: Indices
    label: Indices
    prediction: Indices
    wrong: npt.NDArray[np.bool_]
    sure: Floats
    numbers: dict[str, Floats] = field(default_factory=dict)
    given: npt.NDArray[np.bool_] | None = None
    neighbours: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.image)

    def by_file(self) -> Indices:
        """All rows by the images' names, then by labels."""
        ranks = np.empty(len(self.files), np.int64)
        ranks[pc.sort_indices(self.files).to_numpy()] = np.arange(len(self.files))
        order: Indices = np.lexsort((self.label, ranks[self.image]))
        return order

    def key(self, row: int) -> str:
        """What a row is known by: its image's id, and where an image may have several rows the label, too."""
        own = PREFIX + self.ids[self.image[row]].decode()
        return f"{own}.{self.label[row]}" if self.kind == "several_labels" else own

    def keys_of_images(self) -> frozenset[str]:
        """The ids of all images."""
        return frozenset(PREFIX + own.decode() for own in self.ids.tolist())

    def find(self, key: str) -> int | None:
        """The row that is known by this key."""
        own, _, label = key.removeprefix(PREFIX).partition(".")
        images = (self.ids == own.encode(errors="replace")).nonzero()[0]
        found = np.isin(self.image, images)
        if label.isdecimal() and len(label) < LONGEST_INDEX:
            found &= self.label == int(label)
        rows = found.nonzero()[0][-1:].tolist()  # the last of those whose names look alike
        return rows[0] if rows and self.key(rows[0]) == key else None

    def show(self, row: int) -> dict[str, Any]:
        """A row by the names of its fields."""
        file = self.files[int(self.image[row])].as_py()
        found: dict[str, Any] = {"id": image_id(file), "file": file, "label": self.classes[self.label[row]]}
        found |= {name: _number(values[row]) for name, values in self.numbers.items()}
        if self.given is not None:
            return found | {"mistake": "given" if self.given[row] else "missed"}
        found["prediction"] = self.classes[self.prediction[row]]
        if self.neighbours is not None:
            other = self.neighbours[row].as_py()
            found |= {"neighbour": other, "neighbour_id": image_id(other)}
        return found


def read_rows(path: Path) -> Rows:
    """Reads the stored predictions of a job.

    Raises:
        FileNotFoundError: they are not there.
        PredictionsUnreadable: they cannot be read.
    """
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            told = file.schema_arrow.metadata or {}
            classes = tuple(json.loads(told[b"classes"]))
            names = set(file.schema_arrow.names)
            if "labels" in names:
                return _several_labels(file, classes)
            return _embedding(file, classes) if "neighbour" in names else _one_label(file, classes)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, IndexError) as error:
        raise PredictionsUnreadable(str(error)) from error


def _one_label(file: pq.ParquetFile, classes: tuple[str, ...]) -> Rows:
    parts = []
    for batch in _batches(file, classes, ["file", "label", "prediction", "probability", "probabilities"]):
        label, said = (_indices(batch[name], classes) for name in ("label", "prediction"))
        own = _matrix(batch["probabilities"], classes)[np.arange(len(label)), label]
        parts.append((batch["file"], label, said, batch["probability"].to_numpy(), own))
    files, (label, said, probability, of_label) = _joined(parts, 4)
    numbers = {"probability": probability, "probability_of_label": of_label}
    return _images("one_label", classes, files, label, said, probability, numbers)


def _embedding(file: pq.ParquetFile, classes: tuple[str, ...]) -> Rows:
    table = file.read(["file", "label", "prediction", "neighbour", "distance"], use_threads=False)
    label, said = (_indices(table[name], classes) for name in ("label", "prediction"))
    distance = table["distance"].to_numpy()
    files, neighbours = (table[name].combine_chunks() for name in ("file", "neighbour"))
    sure = np.where(np.isfinite(distance), -distance, np.nan)
    return _images("embedding", classes, files, label, said, sure, {"distance": distance}, neighbours)


def _several_labels(file: pq.ParquetFile, classes: tuple[str, ...]) -> Rows:
    parts, first, count = [], 0, 0
    for batch in _batches(file, classes, ["file", "labels", "predictions", "probabilities"]):
        there, given = (_mask(batch[name], classes) for name in ("labels", "predictions"))
        image, label = (there != given).nonzero()
        probability = _matrix(batch["probabilities"], classes)[image, label]
        parts.append((batch["file"], image + first, label, given[image, label], probability))
        first, count = first + len(there), count + len(image)
        if count > 2 * MOST_MISTAKES:
            parts = [_surest(parts)]
            count = MOST_MISTAKES
    files, (image, label, given, probability) = _joined(parts, 4)
    return Rows(
        kind="several_labels",
        classes=classes,
        files=files,
        ids=_ids(files),
        image=image,
        label=label,
        prediction=label,
        wrong=np.ones(len(image), bool),
        sure=_sureness(given, probability),
        numbers={"probability": probability},
        given=given,
    )


def _surest(parts: list[Any]) -> Any:
    files, (image, label, given, probability) = _joined(parts, 4)
    sure = np.nan_to_num(_sureness(given, probability), nan=-1.0)
    kept = np.sort(np.argpartition(-sure, MOST_MISTAKES)[:MOST_MISTAKES])
    return files, *(values[kept] for values in (image, label, given, probability))


def _sureness(given: npt.NDArray[np.bool_], probability: Floats) -> Floats:
    """Of a label that was given its probability, of one that was missed the rest."""
    return np.where(given, probability, 1 - probability)


def _images(
    kind: Kind,
    classes: tuple[str, ...],
    files: pa.Array,
    label: Indices,
    said: Indices,
    sure: Floats,
    numbers: dict[str, Floats],
    neighbours: pa.Array | None = None,
) -> Rows:
    """A row for each image."""
    wrong, image = label != said, np.arange(len(label))
    return Rows(kind, classes, files, _ids(files), image, label, said, wrong, sure, numbers, None, neighbours)


def _batches(file: pq.ParquetFile, classes: tuple[str, ...], names: list[str]) -> Iterator[pa.RecordBatch]:
    size = max(1, MOST_NUMBERS // max(1, len(classes)))
    yield from file.iter_batches(batch_size=size, columns=names, use_threads=False)


def _joined(parts: list[Any], columns: int) -> tuple[pa.Array, list[Any]]:
    """The files and the columns of parts, one after another."""
    files = pa.chunked_array([part[0] for part in parts], pa.string()).combine_chunks()
    if not parts:
        return files, [np.empty(0, np.int64)] * columns
    return files, [np.concatenate([part[1 + i] for part in parts]) for i in range(columns)]


def _indices(names: pa.Array, classes: tuple[str, ...]) -> Indices:
    """Names of classes as indices of them; one that is none breaks off."""
    found: Indices = pc.index_in(names, value_set=pa.array(classes, pa.string())).to_numpy(False)
    if found.dtype.kind == "f":  # Arrow's null is NaN in NumPy
        raise ValueError("a label is no class")
    return found.astype(np.int64)


def _matrix(rows: Any, classes: tuple[str, ...]) -> Floats:
    """Lists of a number for each class, as (images, classes)."""
    found: Floats = rows.flatten().to_numpy(False).reshape(len(rows), len(classes))
    return found


def _mask(lists: Any, classes: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Lists of classes as (images, classes)."""
    mask = np.zeros((len(lists), len(classes)), bool)
    mask[pc.list_parent_indices(lists).to_numpy(False), _indices(lists.flatten(), classes)] = True
    return mask


def _ids(files: pa.Array) -> npt.NDArray[np.bytes_]:
    ids = [image_id(file.as_py()).removeprefix(PREFIX) for file in files]
    return np.array(ids, "S24")


def _number(value: Any) -> float | None:
    """As JSON can say it."""
    return float(value) if isfinite(value) else None
