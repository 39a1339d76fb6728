"""Manifests in CSV, read as rows."""

import csv
import io
from typing import BinaryIO

from finetune.data.rows import MOST_PROBLEMS, MOST_ROWS, Row, Table, column_problems, split_labels

SUFFIX = ".csv"
MOST_BYTES = 2**30  # all of it is read at once


def read_csv(opened: BinaryIO, name: str) -> Table:
    """Reads UTF-8 text, with or without a byte order mark. A row's number is the line on which it ends.

    Raises:
        OSError: the disk fails.
    """
    table = Table("line")
    content = opened.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        table.problems.append(f"{name} has more than {MOST_BYTES:,} bytes, which are the most")
        return table
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        table.problems.append(f"line {line}: is no UTF-8 text: save {name} as UTF-8")
        return table
    _read_lines(text, table)
    if not table.rows and not table.problems:
        table.problems.append(
            f"{name} has no rows: the first line names the columns, every other one an image"
        )
    return table


def _read_lines(text: str, table: Table) -> None:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        table.columns = [cell.strip() for cell in next(reader, [])]
        if table.columns:
            table.problems += column_problems(table.columns, "line 1")
        sound = not table.problems
        for cells in reader:
            if cells and len(cells) != len(table.columns):
                table.problems.append(
                    f"line {reader.line_num}: has {len(cells)} cells, and the first line has "
                    f"{len(table.columns)}: put quotes around a cell that holds a comma"
                )
                if len(table.problems) > MOST_PROBLEMS:
                    break
            elif cells and sound:
                if len(table.rows) == MOST_ROWS:
                    table.problems.append(f"line {reader.line_num}: {MOST_ROWS:,} rows are the most")
                    break
                table.rows.append(_row(reader.line_num, dict(zip(table.columns, cells, strict=True))))
    except csv.Error as error:
        table.problems.append(f"line {reader.line_num}: is no CSV ({error})")


def _row(line: int, cells: dict[str, str]) -> Row:
    labels = split_labels(cells["labels"]) if "labels" in cells else (cells["label"],)
    return Row(line, cells["path"], labels, cells.get("split", ""), cells.get("weight", ""))
