"""Running the migration, the server and the worker as processes of one command.

Each child has a session of its own: a terminal's Ctrl-C reaches the parent alone, which ends the children
once and in order. A child gets SIGTERM and time to finish, then it and its own children get SIGKILL.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from client.errors import ProcessFailed

GRACE = 30.0
"""Seconds that a child has between SIGTERM and SIGKILL; the worker finishes its step and saves in them."""
LOOK = 0.05
"""Seconds between two looks at the children."""
ROOT = Path(__file__).resolve().parent.parent

Command = Sequence[str]


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs one of Thaw's modules with this Python."""
    # `python -m` looks in the current folder first, where somebody's own package may be called `app`.
    safe = [] if Path.cwd() == ROOT else ["-P"]
    return [sys.executable, *safe, "-m", module, *arguments]


class StopSignals:
    """Notes requests to stop (Ctrl-C, SIGTERM, a closed terminal) while it is entered.

    Attributes:
        asked: Whether there was one.
        hurried: Whether Ctrl-C came after it. Other signals come in pairs when a terminal closes.
    """

    WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.asked = False
        self.hurried = False
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        for number in self.WATCHED:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Flags alone: a lock taken here could be one that the interrupted code holds.
        self.hurried |= self.asked and number == signal.SIGINT
        self.asked = True


def run_up(preparation: Command, services: Mapping[str, Command], grace: float = GRACE) -> None:
    """Runs the preparation to its end, then the services until a signal asks for their end.

    Args:
        preparation: A command that must succeed before the services start.
        services: Name and command of each process that is to keep running.
        grace: Seconds between SIGTERM and SIGKILL. A second Ctrl-C cuts them short.

    Raises:
        ProcessFailed: when the preparation fails, or a service ends by itself; the others are ended first.
    """
    with StopSignals() as stop:
        if not _prepare(preparation, stop, grace):
            return
        children: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for name, command in services.items():
                children[name] = _start(name, command)
            ended = _first_to_end(children, stop)
        finally:
            end_all(list(children.values()), stop, grace)
        if ended is not None:
            raise ProcessFailed(f"the {ended} {_how(children[ended].returncode)}; everything is stopped")


def end_all(children: Sequence[subprocess.Popen[bytes]], stop: StopSignals, grace: float) -> None:
    """Ends all children at once: SIGTERM, then SIGKILL after the grace time or when hurried."""
    for child in children:
        child.terminate()  # does nothing to one that has ended
    deadline = time.monotonic() + grace
    while any(child.poll() is None for child in children):
        if time.monotonic() > deadline or stop.hurried:
            break
        time.sleep(LOOK)
    for child in children:
        if child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def migrate(command: Command) -> None:
    """Runs the migration to its end; raises ProcessFailed where it does not succeed."""
    status = subprocess.run(command, check=False).returncode
    if status:
        raise ProcessFailed(f"the migration {_how(status)}")


def become(command: Command) -> None:
    """Replaces this process by the command, so that signals and the exit code are the command's own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], list(command))


def _prepare(command: Command, stop: StopSignals, grace: float) -> bool:
    """Runs the preparation; returns False where a signal came first."""
    child = _start("preparation", command)
    try:
        _first_to_end({"preparation": child}, stop)
    finally:
        end_all([child], stop, grace)
    if stop.asked:
        return False
    if child.returncode:
        raise ProcessFailed(f"the preparation {_how(child.returncode)}")
    return True


def _start(name: str, command: Command) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        raise ProcessFailed(f"the {name} cannot be started: {error.strerror}") from None


def _first_to_end(children: Mapping[str, subprocess.Popen[bytes]], stop: StopSignals) -> str | None:
    """Waits for the first child that ends, and names it; None where a signal came first."""
    while not stop.asked:
        for name, child in children.items():
            if child.poll() is not None and not stop.asked:
                return name
        time.sleep(LOOK)
    return None


def _how(status: int) -> str:
    if status < 0:
        return f"was ended by signal {-status}"
    return f"ended with exit code {status}"
