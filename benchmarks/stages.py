"""What every loop does alike around its stages."""

from collections.abc import Callable
from typing import Protocol

from torch import nn

from benchmarks.frozen import Frozen
from benchmarks.records import Course, Record
from benchmarks.work import STAGES, Task


class Loop(Protocol):
    """A loop that is ready to train; `head` is the name of the part that the head stage trains."""

    model: nn.Module
    head: str

    def run_stage(self, stage: str) -> None:
        """Trains and evaluates a stage's epochs."""


def run(make: Callable[[Task, Record, Course], Loop]) -> None:
    """Makes this process's loop, runs both stages, and tells what they took.

    Called when everything is imported: what came before counts as that.
    """
    task = Task.read()
    record = Record(task.row)
    course = Course(record)
    course.lap("imports")
    loop = make(task, record, course)
    frozen = Frozen(loop.model, loop.head)
    course.lap("preparing")
    for stage in STAGES:
        if task.work.epochs(stage):
            loop.run_stage(stage)
            course.lap(stage)
        if stage == "head":
            record.notes["while frozen"] = frozen.moved()
            course.lap("looking")
    record.tell()
