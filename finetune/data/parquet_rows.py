"""Manifests in Parquet, read as rows."""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from finetune.data.rows import COLUMNS, MOST_ROWS, Row, Table, column_problems, split_labels

SUFFIX = ".parquet"
AT_ONCE = 10_000  # rows


def read_parquet(opened: BinaryIO, name: str) -> Table:
    """Reads the columns that a manifest has, and no others. A row's number counts from 1.

    Text may be dictionary-encoded, labels may be whole numbers, and `labels` a list of either. What is null
    is an empty cell.
    """
    import pyarrow  # where there is such a file, and not before

    table = Table("row")
    try:
        _read(opened, name, table)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        table.rows.clear()
        table.problems.append(f"{name} {_failure(error)}")
    return table


def _failure(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read ({error.strerror})"
    reason = "".join(character for character in str(error).partition("\n")[0] if character.isprintable())
    return f"is damaged, or no Parquet file: write it again ({reason[:200]})"


def _read(opened: BinaryIO, name: str, table: Table) -> None:
    from pyarrow import parquet

    # Without Arrow's threads: data workers are forked from this process.
    source = parquet.ParquetFile(opened, pre_buffer=False)
    schema, count = source.schema_arrow, source.metadata.num_rows
    table.columns = list(schema.names)
    table.problems += column_problems(table.columns, name)
    ours = [column for column in COLUMNS if column in table.columns]
    if not table.problems:
        table.problems += _type_problems({column: schema.field(column).type for column in ours}, name)
    if not count:
        table.problems.append(f"{name} has no rows: every row stands for an image")
    if count > MOST_ROWS:
        table.problems.append(f"{name} has {count:,} rows, and {MOST_ROWS:,} are the most")
    if table.problems:
        return
    for batch in source.iter_batches(AT_ONCE, columns=ours, use_threads=False):
        first = len(table.rows) + 1
        try:
            cells = {column: batch.column(column).to_pylist() for column in ours}
        except UnicodeDecodeError:
            table.problems.append(
                f"row {first + _undecodable(batch)}: is no UTF-8 text: save {name} as UTF-8"
            )
            return
        table.rows += _rows(cells, first)


def _undecodable(batch: Any) -> int:
    """The first row whose text cannot be decoded."""
    for index in range(batch.num_rows):
        try:
            batch.slice(index, 1).to_pylist()
        except UnicodeDecodeError:
            return index
    raise AssertionError("every row can be decoded, and all of them together cannot")


def _type_problems(types: Mapping[str, Any], name: str) -> Iterator[str]:
    """Columns that hold something else than a manifest's."""
    for column, kind in types.items():
        if not _suits(column, kind):
            yield f"{name}: the column {column!r} holds {str(kind)[:100]}: save it as {WANTED[column]}"


WANTED = {
    "path": "text",
    "label": "text or whole numbers",
    "labels": "lists of text or of whole numbers, or as text with '|' between them",
    "split": "text",
    "weight": "numbers",
}


def _suits(column: str, kind: Any) -> bool:
    from pyarrow import types

    if types.is_null(kind):  # every cell is empty
        return True
    if column == "weight":
        return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))
    if column == "labels" and (
        types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    ):
        kind = kind.value_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(text or (column in ("label", "labels") and types.is_integer(kind)))


def _rows(cells: Mapping[str, list[Any]], first: int) -> Iterator[Row]:
    paths = cells["path"]
    empty = [None] * len(paths)
    labels = map(_labels, cells["labels"]) if "labels" in cells else ((_text(c),) for c in cells["label"])
    columns = zip(paths, labels, cells.get("split", empty), cells.get("weight", empty), strict=True)
    for number, (path, own, split, weight) in enumerate(columns, first):
        yield Row(number, _text(path), own, _text(split), _text(weight))


def _labels(cell: Any) -> tuple[str, ...]:
    return tuple(map(_text, cell)) if isinstance(cell, list) else split_labels(_text(cell))


def _text(value: Any) -> str:
    return "" if value is None else str(value)
