"""The attempt's own process: runs finetune, sends its events up a pipe. It never sees the database.

The fork server imports this module, and with it torch, once (see `worker.preload`); nothing here may touch a
GPU on import.
"""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from types import FrameType

from finetune import backbones
from finetune.checkpoint import Resume, sha256_of
from finetune.errors import FinetuneError, WeightsIncompatible
from finetune.events import EpochEnded, Event, Progress
from finetune.heap import keep_freed_memory
from finetune.process import use_cores
from finetune.reasons import reason_of
from finetune.spec.job import ResolvedSpec
from finetune.stopping import Stopping
from finetune.training import train
from worker.orders import Failed, FellBack, Message, Order, ResumePoint

PROGRESS_EVERY = 0.2  # seconds


class _Stopped(BaseException):
    """The supervisor asked for the end. Not an Exception: nothing on the way may take it for a failure."""


class _Unreadable(Exception):
    """What the attempt is to go on from cannot be read now."""


def unusable(paths: tuple[str, ...]) -> dict[str, str]:
    """Which of the operator's backbones cannot be used, and why."""
    return backbones.load(paths).failures


def run(order: Order, connection: Connection) -> None:
    """Runs an attempt to its end, and sends everything it has to say."""
    # Data workers become children of this process and end when it is killed. By default they would be
    # children of another fork server, which loads torch again and waits for them as they wait for it.
    multiprocessing.set_start_method("fork", force=True)
    stopping = Stopping()
    _listen(stopping)
    keep_freed_memory()
    use_cores()
    try:
        _train(order, connection, stopping)
    except _Stopped:
        return
    except (BrokenPipeError, EOFError):
        return  # the supervisor is gone, and with it the right to write anything
    except _Unreadable:  # another attempt may be able to: the job is not failed for it
        traceback.print_exc()
        raise SystemExit(1) from None
    except FinetuneError as error:
        _send(connection, Failed(error.code, error.message, error.param))
    except Exception as error:
        what = reason_of(error, (order.folder, order.data_dir, order.weights_dir))
        message = f"an error that Thaw has no name for: {what}; the worker's log has more"
        _send(connection, Failed("internal", message, details=traceback.format_exc()))


def _listen(stopping: Stopping) -> None:
    """Saves on SIGTERM, and ends. What ends a service may send it to all, and a terminal SIGINT."""
    ours = os.getpid()

    def save(number: int, frame: FrameType | None) -> None:
        # A data worker, which is forked from here, has nothing to save.
        if os.getpid() != ours or not stopping.ask():
            raise _Stopped

    signal.signal(signal.SIGTERM, save)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _train(order: Order, connection: Connection, stopping: Stopping) -> None:
    try:
        point, damaged = first_sound(order.points)
    except OSError as error:
        raise _Unreadable from error
    if damaged:
        what = "; ".join(f"{bad.place} ({file})" for bad, file in damaged)
        ids = tuple(bad.id for bad, _ in damaged)
        _send(connection, FellBack(point.id if point else None, ids, what))
    _check_job_file(order)
    events = train(
        ResolvedSpec.model_validate(order.spec),
        order.folder,
        data_dir=order.data_dir,
        weights_dir=order.weights_dir,
        registry=backbones.load(order.backbones),
        device=order.device,
        data_workers=order.data_workers,
        resume=_resume(point) if point else None,
        job=order.job,
        job_file=order.job_file,
        keep_all=True,
        cache_dir=order.cache_dir,
        cache_bytes=order.cache_bytes,
        checks_dir=order.checks_dir,
        feature_memory_bytes=order.feature_memory_bytes,
        stopping=stopping,
    )
    for event in _worth_telling(events):
        _send(connection, event)
        if isinstance(event, EpochEnded):
            connection.recv()


def first_sound(
    points: Sequence[ResumePoint],
) -> tuple[ResumePoint | None, list[tuple[ResumePoint, str]]]:
    """The newest point whose files are sound, if any, and those before it with a damaged file of each.

    A file is sound that has the SHA-256 with which its row was written.
    """
    damaged = list[tuple[ResumePoint, str]]()
    for point in points:
        file = _resume(point).damaged()
        if file is None:
            return point, damaged
        damaged.append((point, file))
    return None, damaged


def _resume(point: ResumePoint) -> Resume:
    best = point.best, point.best_sha256
    return Resume(point.weights, point.state, *best, point.weights_sha256, point.state_sha256)


def _check_job_file(order: Order) -> None:
    """Holds the checkpoint of another job that this one begins with against its SHA-256.

    Raises:
        WeightsIncompatible: it is another.
    """
    file, sha256 = order.job_file, order.job_file_sha256
    if file is not None and sha256 is not None and file.is_file() and sha256_of(file) != sha256:
        raise WeightsIncompatible(
            "the checkpoint of the job that this one begins with is damaged: its SHA-256 is not the one that "
            "it was written with",
            "backbone.weights",
        )


def _worth_telling(events: Iterator[Event]) -> Iterator[Event]:
    """All events, but of the steps only some a second, and the last of each epoch."""
    sent = 0.0
    for event in events:
        if isinstance(event, Progress):
            if event.step < event.steps and time.monotonic() - sent < PROGRESS_EVERY:
                continue
            sent = time.monotonic()
        yield event


def _send(connection: Connection, message: Message) -> None:
    connection.send(message)
