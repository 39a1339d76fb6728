"""Notices an attempt that hangs."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from finetune.events import Progress
from worker.orders import Message

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100  # of processor time in a second
IDLE = 0.001  # of the time; waiting processes look around now and then, and compute no more than this


class Watched(Protocol):
    """An attempt, as the watchdog sees it."""

    def busy_seconds(self) -> float | None:
        """The processor time that it has taken with all its processes; None where nobody can tell."""


class Watchdog:
    """Watches one attempt, which has `stall_seconds` for a step.

    Checking data, computing features and validating have no steps, and may take hours. There an attempt
    hangs whose processes have not computed for as long.
    """

    def __init__(self, stall_seconds: float) -> None:
        self._stall = stall_seconds
        self._in_step = False
        self._since = self._looked = time.monotonic()
        self._busy: float | None = None

    def hear(self, message: Message) -> None:
        """The attempt has said something."""
        self._in_step = isinstance(message, Progress) and message.step < message.steps
        self._since = self._looked = time.monotonic()
        self._busy = None

    def finding(self, attempt: Watched) -> str | None:
        """What shows that the attempt hangs; None where nothing does."""
        now = time.monotonic()
        if self._in_step:
            return (
                f"nothing was heard of it for {self._stall:g} s" if now - self._since > self._stall else None
            )
        if now - self._looked < self._stall / 4:
            return None
        self._looked, busy = now, attempt.busy_seconds()
        if busy is None:
            return None
        if self._busy is None or not 0 <= busy - self._busy <= IDLE * self._stall:
            self._busy, self._since = busy, now
        if now - self._since > self._stall:
            return f"its processes have done nothing for {self._stall:g} s"
        return None


def busy_seconds(pid: int) -> float | None:
    """The processor time that a process and those below it have taken; None where /proc does not tell."""
    times, children = dict[int, int](), dict[int, list[int]]()
    for entry in PROC.glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
            fields = entry.read_text().rpartition(")")[2].split()
            one = int(entry.parent.name)
            times[one] = sum(map(int, fields[11:15]))  # its own, and that of children which it has outlived
            children.setdefault(int(fields[1]), []).append(one)
    if pid not in times:
        return None
    return sum(times[one] for one in _family(pid, children)) / TICKS


def _family(pid: int, children: dict[int, list[int]]) -> list[int]:
    below = [one for child in children.get(pid, ()) for one in _family(child, children)]
    return [pid, *below]
