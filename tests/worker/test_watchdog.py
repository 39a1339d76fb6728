import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from finetune.events import Progress, StageStarted
from worker.watchdog import Watchdog, busy_seconds


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves on."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr("worker.watchdog.time.monotonic", lambda: now.seconds)
    return now


def attempt(busy):
    return SimpleNamespace(busy_seconds=lambda: busy)


def step(number):
    return Progress("all", 0, 1, 1, 5, number, 10, 12.5, 60.0)


def test_a_step_that_takes_longer_than_it_may_hangs_whatever_its_processes_do(clock):
    dog = Watchdog(100)
    dog.hear(step(1))
    clock.seconds += 99
    assert dog.finding(attempt(1e9)) is None
    clock.seconds += 2
    assert dog.finding(attempt(1e9)) == "nothing was heard of it for 100 s"


def test_outside_of_steps_an_attempt_may_compute_for_as_long_as_it_likes(clock):
    dog = Watchdog(100)
    dog.hear(StageStarted("head", 0, 1, 10, 100, True))
    for busy in range(40):
        clock.seconds += 30
        assert dog.finding(attempt(busy)) is None


@pytest.mark.parametrize("drift", [0.0, 0.01])
def test_outside_of_steps_an_attempt_hangs_that_does_not_compute(clock, drift):
    dog = Watchdog(100)
    dog.hear(step(10))  # the last one of its epoch
    found = []
    for tick in range(6):
        clock.seconds += 30
        found.append(dog.finding(attempt(5 + drift * tick)))
    assert found[:3] == [None, None, None]
    assert found[-1] == "its processes have done nothing for 100 s"


def test_where_nobody_can_tell_whether_it_computes_it_never_hangs(clock):
    dog = Watchdog(100)
    dog.hear(step(10))
    for _ in range(20):
        clock.seconds += 30
        assert dog.finding(attempt(None)) is None


CHILD = """
import time
end = time.process_time() + 0.3
while time.process_time() < end:
    pass
time.sleep(60)
"""
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {CHILD!r}]).wait()"


def test_the_time_of_a_process_is_that_of_those_below_it_too(until, proc):
    process = subprocess.Popen([sys.executable, "-c", PARENT])
    try:
        until(lambda: (busy_seconds(process.pid) or 0) > 0.3, 30, "the child has computed")
        before = busy_seconds(process.pid)
        time.sleep(0.3)
        assert before is not None
        assert (busy_seconds(process.pid) or 0) - before < 0.2
    finally:
        for child in proc.descendants(process.pid):
            os.kill(child, 9)
        process.kill()
        process.wait()
    assert busy_seconds(process.pid) is None
