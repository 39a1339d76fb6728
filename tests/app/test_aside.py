import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from app.aside import Aside, AsideBroke, AsideBusy, AsideGone, AsideRefused, AsideSlow
from finetune.errors import ImageInvalid


def open_parrot(word):
    """What the process of these tests answers with."""

    def answer(question, tell):
        match question:
            case "pid":
                return os.getpid()
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case ("die once", path):
                if not os.path.exists(path):  # noqa: PTH110  # the process has nothing but a path's text
                    open(path, "w").close()  # noqa: PTH123
                    os.kill(os.getpid(), signal.SIGKILL)
            case ("sleep", seconds):
                time.sleep(seconds)
            case "refuse":
                raise ImageInvalid("no such image", "images.0")
            case "break":
                raise ZeroDivisionError("by nothing")
            case "count":
                tell(1)
                tell(2)
        return word, question

    return answer


@pytest.fixture
def parrot():
    made = Aside("parrot", "tests.app.test_aside:open_parrot", ("hello",))
    yield made
    made.close()


def test_a_question_is_answered_by_another_process_that_stays(parrot):
    assert parrot.pid is None
    assert parrot.ask("what", 60) == ("hello", "what")
    pid = parrot.ask("pid", 60)
    assert pid != os.getpid()
    assert parrot.ask("pid", 60) == pid == parrot.pid


def test_what_the_process_says_meanwhile_is_heard_before_the_answer(parrot):
    told: list[object] = []
    parrot.ask("count", 60, told.append)
    assert told == [1, 2]


def test_a_refusal_and_an_error_come_back_and_the_process_goes_on(parrot):
    pid = parrot.ask("pid", 60)
    with pytest.raises(AsideRefused) as refused:
        parrot.ask("refuse", 60)
    assert (refused.value.code, refused.value.message) == ("image_invalid", "no such image")
    assert refused.value.param == "images.0"
    with pytest.raises(AsideBroke, match="ZeroDivisionError: by nothing"):
        parrot.ask("break", 60)
    assert parrot.ask("pid", 60) == pid


def test_a_process_that_takes_nothing_in_holds_nobody_up_for_longer_than_its_time(parrot):
    pid = parrot.ask("pid", 60)
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(AsideSlow):
        parrot.ask(b"more than a pipe holds" * 1_000_000, 1.5)
    assert time.monotonic() - begun < 30
    assert parrot.ask("pid", 60) != pid


def test_a_process_that_was_killed_between_questions_is_started_anew(parrot):
    pid = parrot.ask("pid", 60)
    os.kill(pid, signal.SIGKILL)
    assert parrot.ask("what", 60) == ("hello", "what")
    assert parrot.ask("pid", 60) != pid


def test_a_process_that_dies_on_a_question_is_asked_once_more(parrot, tmp_path):
    question = ("die once", str(tmp_path / "died"))
    assert parrot.ask(question, 60) == ("hello", question)


def test_a_question_that_kills_every_process_is_given_up_and_the_next_one_is_answered(parrot):
    with pytest.raises(AsideGone):
        parrot.ask("die", 60)
    assert parrot.ask("what", 60) == ("hello", "what")


def test_an_answer_that_takes_too_long_ends_the_process_and_the_next_question_gets_a_new_one(parrot):
    pid = parrot.ask("pid", 60)
    with pytest.raises(AsideSlow):
        parrot.ask(("sleep", 60), 0.3)
    assert parrot.ask("pid", 60) != pid


def test_a_closed_one_ends_the_question_that_is_asked_and_starts_no_other_process(parrot):
    parrot.ask("pid", 60)
    failed = []

    def ask():
        try:
            parrot.ask(("sleep", 60), 120)
        except AsideGone as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.2)
    parrot.close()
    asking.join(30)
    assert failed
    assert parrot.pid is None
    with pytest.raises(AsideGone):
        parrot.ask("what", 60)
    assert parrot.pid is None


def test_a_question_waits_no_longer_for_others_than_it_may(parrot):
    parrot.ask("pid", 60)
    other = threading.Thread(target=parrot.ask, args=(("sleep", 2), 60))
    other.start()
    time.sleep(0.3)
    with pytest.raises(AsideBusy):
        parrot.ask("pid", 0.2)
    other.join()


def test_an_unasked_process_ends_and_a_question_starts_another(until):
    parrot = Aside("parrot", "tests.app.test_aside:open_parrot", ("hello",), idle_seconds=0.2)
    pid = parrot.ask("pid", 60)
    until(lambda: parrot.pid is None)
    assert parrot.ask("pid", 60) != pid
    parrot.close()


def test_who_waits_when_it_is_closed_gets_no_answer_and_starts_no_other_process():
    parrot = Aside("parrot", "tests.app.test_aside:open_parrot", ("hello",))
    parrot.ask("what", 60)
    caught: list[Exception] = []

    def wait():
        try:
            parrot.ask(("sleep", 600), 600)
        except AsideGone as error:
            caught.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.2)  # it has asked by then
    parrot.close()
    waiting.join(20)
    assert len(caught) == 1
    assert parrot.pid is None


KILLED = """
import time
from app.aside import Aside
if __name__ == "__main__":
    print(Aside("parrot", "tests.app.test_aside:open_parrot", ("hello",)).ask("pid", 60), flush=True)
    time.sleep(60)
"""


def test_the_process_ends_with_a_server_that_is_killed(until, proc, tmp_path):
    (tmp_path / "server.py").write_text(KILLED)
    command = [sys.executable, str(tmp_path / "server.py")]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    environment = os.environ | {"PYTHONPATH": root}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        server.kill()
    until(lambda: not proc.alive(pid))
