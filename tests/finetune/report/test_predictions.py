import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from finetune.report.predictions import files_below, lists, table_of, write_table


def test_files_are_named_from_the_datasets_folder_even_where_they_lie_outside(tmp_path):
    folder = tmp_path / "birds"
    paths = [folder / "val" / "a b.png", tmp_path / "shared" / "c.png"]
    assert files_below(folder, paths) == ["val/a b.png", "../shared/c.png"]


def test_a_name_that_is_no_utf_8_is_stored_all_the_same(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    (name,) = files_below(tmp_path, [path])
    assert name == "caf\N{REPLACEMENT CHARACTER}.png"
    write_table(table_of({"file": [name]}, {}), tmp_path / "file.parquet")


@pytest.mark.parametrize("limit", [2**31 - 1, 5])
def test_rows_are_lists_of_float32_also_where_there_are_very_many(tmp_path, monkeypatch, limit):
    monkeypatch.setattr("finetune.report.predictions.LARGEST_OFFSET", limit)
    rows = torch.tensor([[0.25, 0.75], [1.0, 0.0], [float("nan"), 0.5]])
    write_table(table_of({"probabilities": lists(rows)}, {"classes": ["é", "b"]}), tmp_path / "file.parquet")
    table = pq.read_table(tmp_path / "file.parquet")
    assert table.schema.field("probabilities").type.value_type == pa.float32()
    found = table.column("probabilities").to_pylist()
    assert found[:2] == [[0.25, 0.75], [1.0, 0.0]]
    assert found[2][0] != found[2][0]
    assert json.loads(table.schema.metadata[b"classes"]) == ["é", "b"]
