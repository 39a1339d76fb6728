import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.images import lay_out
from benchmarks.memory import MemoryWatch
from benchmarks.ratios import ratio
from benchmarks.records import Record, told
from benchmarks.results import Results, Session
from benchmarks.targets import targets
from benchmarks.work import Work

WORK = Work(data="photos", trained=244, validated=153)


def _results(tmp_path, *records: Record) -> Results:
    sessions = [Session(name, {}, WORK, WORK, []) for name in ("first", "second")]
    return Results(tmp_path / "results.json", sessions, list(records))


def _took(row: str, session: str, total: float, round: int = 0) -> Record:
    return Record(row, round=round, session=session, seconds={"total": total, "full": total / 2})


def test_a_loop_that_leaves_images_out_is_charged_for_them():
    record = Record(
        "timm", seconds={"full": 12.0, "total": 20.0}, training={"full": 10.0}, trained={"full": 448}
    )
    whole = 2.0 + 10.0 * 488 / 448  # validation as it was, training on two epochs of 244
    assert record.equal_work("full", WORK) == pytest.approx(whole)
    assert record.equal_total(WORK) == pytest.approx(20.0 + whole - 12.0)
    assert record.equal_work("head", WORK) is None


def test_a_loop_that_does_all_the_work_is_charged_for_no_more():
    record = Record("x", seconds={"full": 12.0}, training={"full": 10.0}, trained={"full": 488})
    assert record.equal_work("full", WORK) == 12.0


def test_a_ratio_is_the_median_over_the_rounds_of_one_session(tmp_path):
    results = _results(
        tmp_path,
        *(_took("tutorial", "first", 60.0, round) for round in range(3)),
        *(_took("service", "first", total, round) for round, total in enumerate((10.0, 20.0, 15.0))),
        _took("tutorial", "second", 1000.0),
    )
    assert ratio(results, "service", "tutorial", "total") == 4.0
    assert ratio(results, "service", "timm", "total") is None
    what = "submission to checkpoint, against the whole process: tutorial loop"
    assert [what, "4 ×", "4.00 ×"] in targets(results)


def test_rows_of_different_sessions_are_never_compared(tmp_path):
    results = _results(tmp_path, _took("tutorial", "first", 60.0), _took("service", "second", 10.0))
    assert ratio(results, "service", "tutorial", "total") is None
    assert targets(results) == []


def test_training_is_measured_against_the_fastest_step_whatever_its_precision(tmp_path):
    service = Record(
        "service", session="first", seconds={"full": 24.0}, training={"full": 20.0}, trained={"full": 440}
    )
    rates = {"step fp32, channels last": 25.0, "step bf16, channels last": 15.0, "inference fp32, NCHW": 60.0}
    found = targets(_results(tmp_path, service, Record("limits", session="first", rates=rates)))
    assert [measured for what, _, measured in found if "fastest single warm steps" in what] == ["0.88"]


def test_records_are_told_among_other_lines(capsys):
    Record("tutorial", seconds={"head": 1.5}).tell()
    output = f"a warning\n{capsys.readouterr().out}more\n"
    assert told(output) == [Record("tutorial", seconds={"head": 1.5})]


def test_memory_is_what_a_tree_of_processes_holds_of_its_own():
    child = "import time; held = bytearray(b'x') * (120 << 20); print(flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        watch = MemoryWatch(process.pid)
        watch.start()
        time.sleep(1.5)
        peak = watch.stop()
        os.killpg(process.pid, signal.SIGKILL)
    assert 120 << 20 < peak["largest"] <= peak["tree"] < 200 << 20


def test_all_loops_see_the_jpegs_and_nothing_else(tmp_path, draw_photographs):
    source = draw_photographs(tmp_path / "source", train=3, val=2)
    (source / "train" / "ants" / "imageNotFound.gif").write_bytes(b"GIF89a")
    (source / "train" / "bees" / "cut.jpg").write_bytes(
        (source / "train" / "bees" / "000.jpg").read_bytes()[:200]
    )
    assert lay_out(source, tmp_path / "laid") == {"train": 6, "val": 4}
    assert lay_out(source, tmp_path / "laid", most=2, copies=3) == {"train": 12, "val": 4}


def test_images_are_drawn_where_there_are_none(tmp_path):
    assert lay_out(None, tmp_path / "drawn", most=2) == {"train": 4, "val": 4}
    first = (tmp_path / "drawn" / "train" / "ants" / "0000.jpg").read_bytes()
    assert lay_out(None, tmp_path / "again", most=2) == {"train": 4, "val": 4}
    assert (tmp_path / "again" / "train" / "ants" / "0000.jpg").read_bytes() == first
