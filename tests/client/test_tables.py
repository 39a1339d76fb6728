import io

import pytest
from rich.console import Console

from client import tables
from client.models import EpochRecord, Event, Job


def printed(table):
    output = io.StringIO()
    console = Console(
        file=output, force_terminal=False, width=tables.PIPE_WIDTH, markup=False, emoji=False, highlight=False
    )
    tables.show(console, table)
    return output.getvalue()


def test_jobs_have_a_row_each_and_no_trailing_blanks(make_job):
    progress = {"stage": "head", "stage_index": 0, "epoch": 2, "epochs": 3, "step": 4, "steps": 8}
    best = {"checkpoint": "ckpt_1", "metric": "val_accuracy", "value": 0.9375}
    running = Job.model_validate(make_job(progress=progress, best=best))
    ended = Job.model_validate(make_job("succeeded", id="job_2", name=None, progress=progress))
    header, first, second = printed(tables.jobs_table([running, ended])).splitlines()
    assert header.split() == ["job", "name", "status", "at", "best", "created"]
    assert "head epoch 2/3 step 4/8  val_accuracy 0.9375" in first
    assert second.split()[:5] == ["job_2", "-", "succeeded", "-", "-"]
    assert all(line == line.rstrip() for line in (header, first, second))


def test_one_job_shows_what_it_has(make_job):
    error = {"code": "out_of_memory", "message": "batch size 512", "param": None}
    job = Job.model_validate(
        make_job(
            "failed",
            error=error,
            metadata={"team": "zoo"},
            result={"val_loss": 0.123456789, "epochs": 3},
            dataset_fingerprint="4f3c" * 16,
        )
    )
    text = printed(tables.job_table(job))
    for line in (
        "error         out_of_memory: batch size 512",
        "metadata team  zoo",
        f"data {'4f3c' * 16}",
        "result val_loss  0.123457",
    ):
        assert " ".join(line.split()) in " ".join(text.split())
    assert "worker" not in text


def test_names_are_printed_as_they_are_and_steer_nothing(make_job):
    text = printed(tables.jobs_table([Job.model_validate(make_job(name="[red]:ant: \x1b[31m"))]))
    assert "[red]:ant: \ufffd[31m" in text


def test_epochs_have_a_row_each(make_epoch):
    nan = make_epoch(2, train={"loss": None, "accuracy": None}, nonfinite=True, val=None, seconds=None)
    records = [EpochRecord.model_validate(item) for item in (make_epoch(1), nan)]
    _, first, second = printed(tables.metrics_table(records)).splitlines()
    assert " ".join(first.split()) == "1 head 1 0.5000 0.7500 0.4000 0.8125 0.01 120 2.8 1024"
    assert " ".join(second.split()) == "2 head 2 not finite - - - 0.01 120 - 1024"


def test_an_epoch_fits_a_line(make_epoch):
    record = EpochRecord.model_validate(make_epoch(1))
    assert tables.epoch_line(record) == (
        "head epoch 1: train loss 0.5000, accuracy 0.7500; val loss 0.4000, accuracy 0.8125;"
        " lr 0.01; 120 img/s, 2.8 s"
    )


def test_events_have_a_row_each(make_event):
    event = Event.model_validate(make_event(3, "alternating\nfreeze", "warning"))
    _, row = printed(tables.events_table([event])).splitlines()
    assert row.startswith("3   2023-11-1")
    assert row.endswith("warning  job.note  alternating freeze")


@pytest.mark.parametrize(
    ("by_group", "text"),
    [
        ({}, "-"),
        ({"head": 0.01}, "0.01"),
        ({"head": 0.01, "rest": 0.01}, "0.01"),
        ({"head": 0.0888624, "rest": 0.00799761}, "head 0.0888624, rest 0.00799761"),
        ({f"g{n}": 10.0**-n for n in range(1, 6)}, "1e-05 to 0.1 in 5 groups"),
    ],
)
def test_rates_are_short(by_group, text):
    assert tables.rates(by_group) == text
