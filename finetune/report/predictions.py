"""The stored predictions: a Parquet file with a row for each validation image, in the dataset's order."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from finetune.data.naming import file_name

LARGEST_OFFSET = 2**31 - 1  # of Arrow's ordinary lists

Column = Any  # a list, a NumPy array or an Arrow array with a value for each image


def files_below(folder: Path, paths: Iterable[Path]) -> list[str]:
    """Files as they are called from a dataset's folder."""
    return [file_name(path, folder) for path in paths]


def names_of(classes: Sequence[str], indices: Tensor) -> list[str]:
    """Indices as classes."""
    return [classes[index] for index in indices.tolist()]


def lists(rows: Tensor) -> pa.Array:
    """Rows (N, size) as lists of float32."""
    count, size = rows.shape
    offsets = np.arange(count + 1, dtype=np.int64) * size
    values = pa.array(rows.float().numpy().reshape(-1))
    if offsets[-1] > LARGEST_OFFSET:
        return pa.LargeListArray.from_arrays(pa.array(offsets), values)
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)


def table_of(columns: Mapping[str, Column], about: Mapping[str, object]) -> pa.Table:
    """Columns as a table, with what is said about them as JSON in the schema's metadata."""
    told = {name: json.dumps(value) for name, value in about.items()}
    return pa.table(dict(columns)).replace_schema_metadata(told)


def write_table(table: pa.Table, path: Path) -> None:
    """Writes the file."""
    pq.write_table(table, path)
