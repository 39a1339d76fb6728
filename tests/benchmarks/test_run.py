"""The runner from the command line to the tables, on images of 32 pixels."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import launching, rows, run
from benchmarks.records import Record
from benchmarks.results import read
from benchmarks.tables import everything, fill
from benchmarks.work import Work

ROOT = Path(__file__).resolve().parents[2]
PICKED = ("tutorial", "thaw-all", "service", "timm")


@pytest.fixture(scope="module")
def measured(tmp_path_factory, draw_photographs):
    """The tutorial's loop, Thaw as a library and as a service, and a peer that is not installed."""
    folder = tmp_path_factory.mktemp("bench")
    data = draw_photographs(folder / "photographs", train=4, val=2)
    (data / "train" / "ants" / "none.gif").write_bytes(b"GIF89a")
    small = "--network examples.small_cnn:backbone --image-size 32 --batch-size 4 --epochs 2 1 --repeats 1"
    command = [sys.executable, "-m", "benchmarks.run", "--only", *PICKED, *small.split(), "--workers", "0"]
    folders = ["--data", data, "--results", folder / "results", "--peers-python", folder / "no-python"]
    ended = subprocess.run([*command, *folders], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return read(folder / "results" / "results.json")


def _only(results, row) -> Record:
    record: Record
    (record,) = results.newest(row)
    assert record.skipped is None, record.skipped
    return record


@pytest.mark.parametrize("row", ["tutorial", "thaw-all", "service", "service-again"])
def test_every_loop_trains_and_validates_all_images_in_both_stages(measured, row):
    record = _only(measured, row)
    assert record.trained == {"head": 16, "full": 8}
    assert record.validated == {"head": 8, "full": 4}
    assert len(record.accuracy) == 3
    assert record.seconds["head"] > 0
    assert record.seconds["full"] > 0
    assert record.memory["tree"] >= record.memory["largest"] > 50 * 2**20  # torch alone is more


@pytest.mark.parametrize("row", ["tutorial", "thaw-all"])
def test_the_parts_of_a_process_are_no_longer_than_the_whole(measured, row):
    parts = dict(_only(measured, row).seconds)
    total = parts.pop("total")
    assert 0.5 * total < sum(parts.values()) <= total


def test_a_job_of_the_service_is_over_after_its_checkpoint_is_there(measured):
    seconds = _only(measured, "service").seconds
    assert seconds["head"] + seconds["full"] < seconds["total"] < seconds["succeeded"]


def test_what_moves_in_the_tutorials_frozen_part_is_said(measured):
    assert _only(measured, "tutorial").notes["while frozen"] == "BatchNorm's statistics move"


def test_a_peer_that_is_not_installed_is_a_row_with_the_reason(measured):
    (record,) = measured.newest("timm")
    assert record.skipped == "the peers are not installed: make bench-peers"
    assert "| timm | the peers are not installed: make bench-peers |" in everything(measured)


def test_the_tables_stand_in_a_document_and_nothing_else_of_it_changes(measured):
    document = (
        "before\n<!-- table loops -->\nold\n<!-- end loops -->\nafter\n<!-- table gpu -->\n<!-- end gpu -->\n"
    )
    text, empty = fill(document, measured)
    assert text.startswith("before\n<!-- table loops -->\n|  | whole process, s |")
    assert text.endswith("|\n<!-- end loops -->\nafter\n<!-- table gpu -->\n<!-- end gpu -->\n")
    assert "old" not in text
    assert empty == ["gpu"]
    assert fill(text, measured)[0] == text


def test_the_results_can_be_read_by_others(measured):
    body = json.loads(measured.path.read_text())
    assert {record["row"] for record in body["records"]} == {*PICKED, "service-again"}
    assert body["sessions"][0]["machine"]["torch"]


def test_parts_names_and_globs_choose_rows_and_what_they_are_compared_with():
    assert [row.name for row in run.chosen(["limits"], False)] == ["limits", "limits-keeping", "limits-stage"]
    assert [row.name for row in run.chosen(["service-f*"], False)] == ["tutorial", "service-fp32"]
    assert {row.part for row in run.chosen(None, False)} == {"loops", "eight", "limits", "accuracy"}
    peers = {row.name for row in run.chosen(None, True)}
    assert {row.name for row in rows.PEERS} | {"tutorial", "service", "service-fp32"} <= peers
    assert run.chosen(["nothing-of-the-kind"], False) == []


def test_a_row_that_fails_says_how_and_leaves_its_log(tmp_path):
    launcher = launching.Launcher(tmp_path, tmp_path / "no-python")
    work = Work(data=str(tmp_path / "absent"), trained=1, validated=1)
    row = replace(rows.named(rows.LOOPS)["tutorial"], module="benchmarks.no_such_module")
    (record,) = launcher.run(row, work, {})
    assert record.skipped is not None
    assert record.skipped.startswith("failed with exit code 1: ")
    assert "no_such_module" in (tmp_path / "tutorial.log").read_text()
