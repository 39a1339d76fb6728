import io

import pytest
from rich.console import Console

from client.errors import NotFound, Refused, Unreachable
from client.models import Job, Progress
from client.watch import end_line, stage_names, stage_part, watch

FAST = {"patience": 1.0, "interval": 0.01}


@pytest.fixture
def console():
    return Console(file=io.StringIO(), force_terminal=False, width=200, markup=False, highlight=False)


@pytest.fixture
def terminal():
    return Console(file=io.StringIO(), width=200, force_terminal=True, markup=False, highlight=False)


@pytest.fixture
def play(api, make_job, make_epoch, make_event):
    """Lets the server play a job: one list of (status, epochs so far, warnings so far) for each look."""

    def start(*looks, **last):
        state = {"look": -1}

        def job(request):
            state["look"] = min(state["look"] + 1, len(looks) - 1)
            status, epochs, _ = looks[state["look"]]
            progress = {"stage": "head", "stage_index": 0, "stages": 2, "epoch": max(epochs, 1), "epochs": 3}
            ended = last if state["look"] == len(looks) - 1 else {}
            etag = f'"{state["look"]}"'
            if request.headers.get("if-none-match") == etag:
                return api.Reply(status=304)
            return api.Reply(make_job(status, progress=progress, **ended), headers={"ETag": etag})

        def metrics(request):
            first = int(request.query["after_epoch"][0]) + 1
            return api.page(*(make_epoch(number) for number in range(first, looks[state["look"]][1] + 1)))

        def events(request):
            first = int(request.query.get("after", ["0"])[0]) + 1
            shown = looks[state["look"]][2]
            return api.page(*(make_event(n, f"note {n}", "warning") for n in range(first, shown + 1)))

        api.on("GET", "/v1/jobs/job_1", job)
        api.on("GET", "/v1/jobs/job_1/metrics", metrics)
        api.on("GET", "/v1/jobs/job_1/events", events)

    return start


def printed(console):
    return console.file.getvalue().splitlines()


def test_each_epoch_and_warning_is_shown_once_and_in_order(client, play, console):
    play(("queued", 0, 0), ("running", 1, 0), ("running", 1, 1), ("running", 3, 2), ("succeeded", 4, 2))
    assert watch(client, "job_1", console, **FAST).status == "succeeded"
    begins = [line.partition(": train")[0] for line in printed(console)]
    assert begins == [
        "queued",
        "running",
        "head epoch 1",
        "warning: note 1",
        "head epoch 2",
        "warning: note 2",
        "head epoch 3",
        "head epoch 4",
    ]


def test_a_job_that_has_ended_shows_what_was(client, play, console):
    play(("failed", 2, 0))
    assert watch(client, "job_1", console, **FAST).status == "failed"
    assert [line[:12] for line in printed(console)] == ["head epoch 1", "head epoch 2"]


def test_a_job_that_did_not_change_is_asked_for_alone(api, client, play, console):
    play(("running", 1, 0), ("succeeded", 1, 0))
    looks = iter([False] * 3)
    answer = api.reply_to

    def idle(request):
        if request.headers.get("if-none-match") == '"0"' and next(looks, True) is False:
            return api.Reply(status=304)
        return answer(request)

    api.reply_to = idle
    watch(client, "job_1", console, **FAST)
    assert api.paths().count("GET /v1/jobs/job_1") == 5
    assert api.paths().count("GET /v1/jobs/job_1/metrics") == 2


def test_a_terminal_gets_a_bar_per_stage(client, play, terminal):
    stages = [{"name": "head"}, {"name": "all"}]
    play(("running", 1, 0), ("succeeded", 3, 0), resolved_spec={"stages": stages})
    watch(client, "job_1", terminal, **FAST)
    text = terminal.file.getvalue()
    assert "head epoch 3: train loss 0.5000" in text
    assert "━━━" in text
    assert "epoch 1/3" in text


def test_a_server_that_comes_back_is_waited_for(api, client, play, console):
    play(("running", 1, 0), ("succeeded", 2, 0))
    answer = api.reply_to
    trouble = iter([False, False, False, True, True])

    def stumble(request):
        return api.refusal(503, "the database is away") if next(trouble, False) else answer(request)

    api.reply_to = stumble
    assert watch(client, "job_1", console, **FAST).status == "succeeded"
    assert printed(console).count("the server does not answer; trying for 1 s") == 1
    assert [line[:12] for line in printed(console) if "epoch" in line] == ["head epoch 1", "head epoch 2"]


def test_a_server_that_stays_away_ends_the_watch(api, client, make_job, console):
    hung_up = api.Reply(make_job(), cut_after=0)
    api.on("GET", "/v1/jobs/job_1", make_job(), hung_up)
    api.on("GET", "/v1/jobs/job_1/metrics", api.page())
    api.on("GET", "/v1/jobs/job_1/events", api.page())
    with pytest.raises(Unreachable):
        watch(client, "job_1", console, patience=0.2, interval=0.01)
    assert printed(console) == ["running", "the server does not answer; trying for 0.2 s"]


def test_a_job_that_is_not_there_is_not_waited_for(client, console):
    with pytest.raises(NotFound):
        watch(client, "job_1", console, **FAST)


def test_trouble_at_the_first_look_is_not_waited_out(api, client, console):
    api.on("GET", "/v1/jobs/job_1", api.refusal(503, "the database is away"))
    with pytest.raises(Refused):
        watch(client, "job_1", console, **FAST)
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({}, 0.0),
        ({"epoch": 1, "epochs": 4}, 0.0),
        ({"epoch": 3, "epochs": 4, "step": 5, "steps": 10}, 0.625),
        ({"epoch": 4, "epochs": 4, "step": 10, "steps": 10}, 1.0),
        ({"epoch": 5, "epochs": 4, "step": 10, "steps": 0}, 1.0),
    ],
)
def test_the_part_of_a_stage_is_between_0_and_1(fields, part):
    assert stage_part(Progress.model_validate(fields)) == part


def test_stages_without_names_are_counted(make_job):
    progress = {"stage": "all", "stage_index": 1, "stages": 3}
    assert stage_names(Job.model_validate(make_job(progress=progress))) == ["stage 1", "all", "stage 3"]


def test_the_last_line_says_how_a_job_ended(make_job):
    best = {"checkpoint": "ckpt_1", "metric": "val_accuracy", "value": 0.9375}
    error = {"code": "out_of_memory", "message": "batch size 512\nis too much"}
    lines = [
        end_line(Job.model_validate(job))
        for job in (
            make_job("succeeded", best=best),
            make_job("failed", error=error),
            make_job("failed", status_reason="no attempts left"),
            make_job("cancelled"),
        )
    ]
    assert lines == [
        "job_1 succeeded; best val_accuracy 0.9375; get it with `thaw download job_1`",
        "job_1 failed: out_of_memory: batch size 512 is too much",
        "job_1 failed: no attempts left",
        "job_1 cancelled",
    ]
