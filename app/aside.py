"""Work beside the server: a process of its own that answers questions one at a time.

What needs torch, takes long or may die on its input runs there: the server stays small and answers meanwhile.
A process that died is started anew. It ends with the server, also with one that is killed.
"""

import importlib
import multiprocessing
import os
import signal
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import structlog

from finetune.spec.problems import Problem

log = structlog.get_logger()

Tell = Callable[[object], None]
Answerer = Callable[[Any, Tell], Any]  # (question, what to say meanwhile) → answer

NOTHING = object()
TRIES = 2  # of a question that the process died on
GRACE_SECONDS = 2.0


class AsideError(Exception):
    """The question was not answered."""


class AsideBusy(AsideError):
    """Other questions took all the time that this one had."""


class AsideSlow(AsideError):
    """The answer took longer than it may; the process was ended."""


class AsideGone(AsideError):
    """The process died on the question, each time, or was ended with the server."""


class AsideRefused(Exception):
    """The answer is a refusal: one of the errors of `finetune`, by its code, sentence and field.

    `problems` are all that it names, where it names several.
    """

    def __init__(
        self, code: str, message: str, param: str | None, problems: tuple[Problem, ...] = ()
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.param, self.problems = code, message, param, problems


class AsideBroke(Exception):
    """The process met an error that nobody has a name for; it goes on. The message has its traceback."""


class Aside:
    """A process that is started by the first question.

    Args:
        name: what logs and the list of processes call it.
        opener: `package.module:function`, called in the process with `arguments`; gives the `Answerer`.
        arguments: plain values that a new process can be given.
        idle_seconds: an unasked process ends after so long, and with it goes its memory.

    Questions and answers are pickled: plain values, or records of modules that load no torch.
    """

    def __init__(
        self, name: str, opener: str, arguments: tuple[Any, ...] = (), idle_seconds: float = 900.0
    ) -> None:
        self._name, self._opener, self._arguments, self._idle = name, opener, arguments, idle_seconds
        self._context = multiprocessing.get_context("spawn")
        self._turn = threading.Lock()
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._closed = False

    def ask(self, question: object, patience: float, heard: Tell | None = None) -> Any:
        """Waits for the answer, for `patience` seconds in all. Safe to call from many threads.

        `heard` is given what the process says before it answers.

        Raises:
            AsideBusy, AsideSlow, AsideGone: there is no answer now; asking again later may help.
            AsideRefused: the answer is a refusal.
            AsideBroke: an error without a name.
        """
        deadline = time.monotonic() + patience
        if not self._turn.acquire(timeout=patience):
            raise AsideBusy(f"the {self._name} is busy")
        try:
            for _ in range(TRIES):
                answer = self._try(question, deadline, heard)
                if answer is not NOTHING:
                    return answer
            raise AsideGone(f"the {self._name} ended while it worked on this")
        finally:
            self._turn.release()

    @property
    def pid(self) -> int | None:
        """The process that answers now, if there is one."""
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    def close(self) -> None:
        """Ends the process for good. Whoever waits for an answer, or asks later, gets none."""
        self._closed = True
        self._end(self._process, self._connection)

    def _try(self, question: object, deadline: float, heard: Tell | None) -> Any:
        """The answer, or NOTHING from a process that died."""
        if self._closed:
            raise AsideGone(f"the {self._name} has ended with the server")
        try:
            connection = self._running()
            _limit_sending(connection, max(0.001, deadline - time.monotonic()))
            with suppress(BlockingIOError):  # it takes nothing in, and so will not answer in time either
                connection.send(question)
            while connection.poll(max(0.0, deadline - time.monotonic())):
                kind, content = connection.recv()
                match kind:
                    case "told":
                        if heard is not None:
                            heard(content)
                    case "answer":
                        return content
                    case "refused":
                        raise AsideRefused(*content)
                    case "broke":
                        raise AsideBroke(content)
        except (EOFError, OSError):
            log.warning("a process beside the server died", process=self._name)
            self._end(self._process, self._connection)
            return NOTHING
        self._end(self._process, self._connection)
        raise AsideSlow(f"the {self._name} took too long")

    def _running(self) -> Connection:
        if self._process is not None and self._connection is not None and self._process.is_alive():
            return self._connection
        self._end(self._process, self._connection)
        ours, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_answer,
            args=(self._opener, self._arguments, theirs, self._idle),
            name=self._name,
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self._connection = ours
        return ours

    @staticmethod
    def _end(process: SpawnProcess | None, connection: Connection | None) -> None:
        if connection is not None:
            connection.close()
        if process is not None and process.is_alive():
            process.terminate()
            process.join(GRACE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()


def _limit_sending(connection: Connection, seconds: float) -> None:
    """Lets a send fail with BlockingIOError that the other side does not take in for so long."""
    whole, part = divmod(seconds, 1)
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(whole), int(part * 1e6)))


def _answer(opener: str, arguments: tuple[Any, ...], connection: Connection, idle: float) -> None:
    """The process: answers until the server is gone or asks nothing for long."""
    from finetune.errors import FinetuneError

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the server ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    module, _, function = opener.partition(":")
    answerer: Answerer | None = None
    with suppress(EOFError, OSError):  # the server is gone
        while connection.poll(idle):
            question = connection.recv()
            try:
                if answerer is None:
                    answerer = getattr(importlib.import_module(module), function)(*arguments)
                reply = ("answer", answerer(question, lambda told: connection.send(("told", told))))
            except FinetuneError as error:
                problems = getattr(error, "problems", ())
                reply = ("refused", (error.code, error.message, error.param, problems))
            except (BrokenPipeError, EOFError):
                raise
            except Exception:
                reply = ("broke", traceback.format_exc())
            connection.send(reply)
