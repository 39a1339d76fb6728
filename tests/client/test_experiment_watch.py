import io

import pytest
from rich.console import Console

from client.api import ThawClient
from client.errors import NotFound, Unreachable
from client.experiment_watch import watch_experiment

FAST = {"patience": 1.0, "interval": 0.01}
LOOKS = [(None,) * 4, (0.9, None, None, None), (0.9, None, None, None), (0.9, 0.8, None, None)]


@pytest.fixture
def console():
    return Console(file=io.StringIO(), force_terminal=False, width=200, markup=False, highlight=False)


@pytest.fixture
def play(api, make_experiment):
    """Lets the server play an experiment: the jobs' values at each look, the last of which is its end."""

    def start(*looks, status="succeeded"):
        state = {"look": -1}

        def experiment(request):
            state["look"] = min(state["look"] + 1, len(looks) - 1)
            now = looks[state["look"]]
            etag = f'"{now}"'
            if request.headers.get("if-none-match") == etag:
                return api.Reply(status=304)
            last = state["look"] == len(looks) - 1
            return api.Reply(make_experiment(status if last else "running", now), headers={"ETag": etag})

        api.on("GET", "/v1/experiments/exp_1", experiment)

    return start


def test_each_job_that_ends_is_said_once_and_in_order(client, play, console):
    play(*LOOKS, (0.9, 0.8, 0.5, 0.25))
    assert watch_experiment(client, "exp_1", console, **FAST).status == "succeeded"
    lines = console.file.getvalue().splitlines()
    assert [line.partition(" succeeded")[0] for line in lines] == [
        "joint with seed 0",
        "two_stage with seed 0",
        "joint with seed 1",
        "two_stage with seed 1",
    ]
    assert lines[0].endswith("(1/4 jobs ended, job_0)")


def test_an_unchanged_experiment_is_not_sent_again(client, play, console, api):
    play(*LOOKS, (0.9, 0.8, 0.5, 0.25))
    watch_experiment(client, "exp_1", console, **FAST)
    assert api.requests[2].headers["if-none-match"] == f'"{LOOKS[1]}"'


def test_on_a_terminal_the_table_stands_while_it_runs_and_is_gone_at_the_end(client, play):
    screen = io.StringIO()
    terminal = Console(file=screen, width=200, force_terminal=True, markup=False, highlight=False)
    play((0.9, None, None, None), (0.9, 0.8, 0.5, 0.25))
    watch_experiment(client, "exp_1", terminal, **FAST)
    shown = screen.getvalue()
    assert "exp_1 running, 1/4 jobs ended" in shown
    assert "it is too early to say" in shown
    assert "with seed" not in shown
    assert shown.endswith(("\x1b[2K", "\x1b[?25h"))  # the table's lines are erased, the cursor is back


def test_a_server_that_is_away_for_a_while_is_waited_for(client, api, play, console, make_experiment):
    down = api.refusal(503, "the database does not answer; try again")
    api.on("GET", "/v1/experiments/exp_1", make_experiment(), down, down, make_experiment("succeeded"))
    assert watch_experiment(client, "exp_1", console, **FAST).ended
    assert console.file.getvalue().count("the server does not answer; trying for 1 s") == 1


def test_an_unknown_experiment_and_nobody_there_are_errors_at_once(api, client, console, nobody):
    with pytest.raises(NotFound):
        watch_experiment(client, "exp_9", console, **FAST)
    with ThawClient(nobody) as lost, pytest.raises(Unreachable):
        watch_experiment(lost, "exp_1", console, **FAST)
