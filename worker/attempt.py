"""The attempt's own process: runs finetune, sends its events up a pipe. It never sees the database.

The fork server imports this module, and with it torch, once (see `worker.preload`); nothing here may touch a
GPU on import.
"""

import multiprocessing
import signal
import time
import traceback
from multiprocessing.connection import Connection
from types import FrameType

from finetune import backbones
from finetune.checkpoint import Resume
from finetune.errors import FinetuneError
from finetune.events import EpochEnded, Progress
from finetune.process import keep_freed_memory, use_cores
from finetune.reasons import reason_of
from finetune.spec.job import ResolvedSpec
from finetune.training import train
from worker.orders import Failed, Message, Order

PROGRESS_EVERY = 0.2  # seconds


class _Stopped(BaseException):
    """The supervisor asked for the end. Not an Exception: nothing on the way may take it for a failure."""


def _stop(signal_number: int, frame: FrameType | None) -> None:
    raise _Stopped


def unusable(paths: tuple[str, ...]) -> dict[str, str]:
    """Which of the operator's backbones cannot be used, and why."""
    return backbones.load(paths).failures


def run(order: Order, connection: Connection) -> None:
    """Runs an attempt to its end, and sends everything it has to say."""
    # Data workers become children of this process and end when it is killed. By default they would be
    # children of another fork server, which loads torch again and waits for them as they wait for it.
    multiprocessing.set_start_method("fork", force=True)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the supervisor decides
    keep_freed_memory()
    use_cores()
    try:
        _train(order, connection)
    except _Stopped:
        return
    except (BrokenPipeError, EOFError):
        return  # the supervisor is gone, and with it the right to write anything
    except FinetuneError as error:
        _send(connection, Failed(error.code, error.message, error.param))
    except Exception as error:
        what = reason_of(error, (order.folder, order.data_dir, order.weights_dir))
        message = f"an error that Thaw has no name for: {what}; the worker's log has more"
        _send(connection, Failed("internal", message, details=traceback.format_exc()))


def _train(order: Order, connection: Connection) -> None:
    resume = None
    if order.resume_weights and order.resume_state:
        resume = Resume(order.resume_weights, order.resume_state, order.best_weights, order.best_sha256)
    events = train(
        ResolvedSpec.model_validate(order.spec),
        order.folder,
        data_dir=order.data_dir,
        weights_dir=order.weights_dir,
        registry=backbones.load(order.backbones),
        device=order.device,
        data_workers=order.data_workers,
        resume=resume,
        job=order.job,
        job_file=order.job_file,
        keep_all=True,
        cache_dir=order.cache_dir,
        cache_bytes=order.cache_bytes,
        checks_dir=order.checks_dir,
        feature_memory_bytes=order.feature_memory_bytes,
    )
    sent = 0.0
    for event in events:
        if (
            isinstance(event, Progress)
            and event.step < event.steps
            and time.monotonic() - sent < PROGRESS_EVERY
        ):
            continue
        sent = time.monotonic()
        _send(connection, event)
        if isinstance(event, EpochEnded):
            connection.recv()


def _send(connection: Connection, message: Message) -> None:
    connection.send(message)
