"""The one door to whatever runs attempts: an order in, a stream of messages out, a way to end it.

Here it starts a local process. Other engines come in by the same door; nobody else knows how an attempt runs.
"""

import multiprocessing
import multiprocessing.forkserver
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Protocol

from app.store.doorbells import Doorbell
from worker.orders import Message, Order
from worker.watchdog import busy_seconds

PRELOADED = ["worker.first", "worker.preload"]  # by the fork server, in this order
WARM_UP_SECONDS = 120.0  # for torch, from a slow disk, and the operator's backbones


class AttemptGone(Exception):
    """The attempt's process is gone and will say no more; the message says how it ended."""


class Attempt(Protocol):
    """A running attempt."""

    def receive(self, timeout: float, bell: Doorbell) -> Message | None:
        """The next message, or None after `timeout` seconds without one, or once `bell` rings.

        Raises:
            AttemptGone: there will be none.
        """

    def acknowledge(self) -> None:
        """Says that an ended epoch is stored; the attempt waits for it."""

    def wait(self, seconds: float) -> None:
        """Lets an attempt that has said all it had to say end by itself."""

    def busy_seconds(self) -> float | None:
        """The processor time that it has taken with all its processes; None where nobody can tell."""

    def save(self) -> None:
        """Asks it to save at its next step and then to end; where it makes no steps, to end at once."""

    def stop(self) -> None:
        """Ends it as it is, at once."""


class Engine(Protocol):
    """Starts attempts."""

    def start(self, order: Order) -> Attempt:
        """Starts one."""


class LocalEngine:
    """One process an attempt on this machine, forked from a server that has torch loaded."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        resource_tracker.ensure_running()  # before: whoever starts it lets the signal through again
        with _held_back(signal.SIGTERM):
            multiprocessing.forkserver.ensure_running()

    def warm_up(self, backbones: tuple[str, ...]) -> dict[str, str]:
        """Waits until the fork server has torch loaded, which may take longer than a job's lease.

        Returns which of the operator's backbones cannot be used, and why. They are loaded in a process of
        their own, which may crash or hang as it likes.
        """
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_check, args=(backbones, theirs), name="backbones")
        process.start()
        theirs.close()
        try:
            if not ours.poll(WARM_UP_SECONDS):
                return {"all": f"they were not loaded in {WARM_UP_SECONDS:g} seconds"}
            failures: dict[str, str] = ours.recv()
            return failures
        except EOFError:
            return {"all": "the process that loads them ended: each attempt may end likewise"}
        finally:
            process.kill()
            process.join()
            ours.close()

    def start(self, order: Order) -> "LocalAttempt":
        """Starts the process. It is gone when its attempt is over, with all its memory."""
        # Imported by name in the new process: torch stays out of this one.
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_run, args=(order, theirs), name=f"{order.job}-attempt-{order.attempt}"
        )
        process.start()
        theirs.close()
        return LocalAttempt(process, ours)


@contextmanager
def _held_back(number: signal.Signals) -> Iterator[None]:
    """Holds a signal back, also from what is started meanwhile, which begins with that.

    Some send SIGTERM to all of a service's processes: the fork server ends with its worker, and not before.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check(backbones: tuple[str, ...], connection: Connection) -> None:
    from worker.attempt import unusable

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all
    connection.send(unusable(backbones))


def _run(order: Order, connection: Connection) -> None:
    from worker.attempt import run

    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the fork server holds it back
    run(order, connection)


class LocalAttempt:
    """An attempt in a process of this machine."""

    def __init__(self, process: ForkServerProcess, connection: Connection) -> None:
        self._process, self._connection = process, connection

    def receive(self, timeout: float, bell: Doorbell) -> Message | None:
        """See `Attempt`."""
        # Looked at first: what a process that is gone has said is in the pipe. Data workers hold the pipe
        # open for some seconds after the process itself was killed.
        alive = self._process.is_alive()
        try:
            telling = (self._connection, self._process.sentinel, bell.fileno())
            if self._connection in wait(telling, timeout if alive else 0.0):
                message: Message = self._connection.recv()
                return message
        except (EOFError, OSError) as error:
            self._process.join(5.0)
            raise AttemptGone(self._ending()) from error
        if alive:
            return None
        raise AttemptGone(self._ending())

    def acknowledge(self) -> None:
        """See `Attempt`."""
        try:
            self._connection.send(True)
        except OSError as error:
            raise AttemptGone(self._ending()) from error

    def wait(self, seconds: float) -> None:
        """See `Attempt`."""
        self._process.join(seconds)

    def busy_seconds(self) -> float | None:
        """See `Attempt`."""
        return None if self._process.pid is None else busy_seconds(self._process.pid)

    def save(self) -> None:
        """See `Attempt`."""
        if self._process.is_alive():
            self._process.terminate()

    def stop(self) -> None:
        """See `Attempt`."""
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()

    def _ending(self) -> str:
        code = self._process.exitcode
        if code is None:
            return "its process stopped talking"
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (often the system, out of memory)" if name == "SIGKILL" else ""
            return f"its process was ended by {name}{hint}"
        return f"its process ended with exit code {code}"
