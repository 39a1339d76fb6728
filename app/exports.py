"""Files of checkpoints in other formats: made when first asked for, by a process beside the server."""

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

import structlog
from anyio import CapacityLimiter, to_thread

from app.aside import Aside, AsideBroke, AsideError, AsideRefused
from app.errors import ApiError, Conflict, NotFound, Unavailable
from app.settings import Settings
from app.store import checkpoints, exports
from app.store.database import Database
from app.store.records import Checkpoint, Job, Json
from app.store.states import ENDED
from finetune.export.orders import Exported, Order, Wanted, target_of

log = structlog.get_logger()

PATIENCE_SECONDS = 300.0  # of a request
MAKING_SECONDS = 1200.0  # that an export may take, with its wait for those before it
MOST_WAITING = 16  # exports that are being made or wait for it


class Exports:
    """Gives the files. One is made at a time, each once, however many ask for it."""

    def __init__(self, settings: Settings, db: Database) -> None:
        self._db, self._artifacts = db, settings.artifacts_dir
        arguments = (settings.data_dir, settings.checks_dir, settings.backbones)
        self._exporter = Aside("exporter", "finetune.export.exporter:open_exporter", arguments)
        self._making: dict[tuple[str, str], asyncio.Task[Json]] = {}
        self._thread = CapacityLimiter(1)  # its own, so that those who wait take none of the server's threads

    async def find(self, job: Job, checkpoint: Checkpoint, wanted: Wanted) -> Json:
        """The record of a file that is there; makes it where it is not.

        Raises:
            Conflict: the network cannot be exported so, or there is nothing to prove the export with.
            NotFound: the checkpoint is gone.
            Unavailable: it is not made yet; asking again will give it.
        """
        found = self._stored(checkpoint, wanted)
        if found is not None:
            return found
        key = (checkpoint.id, wanted.key)
        task = self._making.get(key)
        if task is None:
            if len(self._making) >= MOST_WAITING:
                raise _later(f"{len(self._making)} exports are being made already")
            task = asyncio.create_task(self._make(job, checkpoint, wanted))
            self._making[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        try:
            return await asyncio.wait_for(asyncio.shield(task), PATIENCE_SECONDS)
        except TimeoutError:
            raise _later(f"the export of {checkpoint.id} is still being made") from None

    def path_of(self, record: Json) -> Path:
        """Where a file lies."""
        return self._artifacts / str(record["path"])

    def close(self) -> None:
        """Ends the exporter, and with it what is being made."""
        self._exporter.close()

    def _forget(self, key: tuple[str, str], done: "asyncio.Task[Json]") -> None:
        del self._making[key]
        if not done.cancelled():
            done.exception()  # whoever waited has it; where nobody did any more, asyncio is not to complain

    def _stored(self, checkpoint: Checkpoint, wanted: Wanted) -> Json | None:
        """The record, if there is one and the file is there as it says."""
        record: Json | None = (checkpoint.exports or {}).get(wanted.key)
        if record is None:
            return None
        with suppress(FileNotFoundError):
            if self.path_of(record).stat().st_size == record["size"]:
                return record
        return None

    async def _make(self, job: Job, checkpoint: Checkpoint, wanted: Wanted) -> Json:
        return await to_thread.run_sync(
            self._made, job, checkpoint, wanted, limiter=self._thread, abandon_on_cancel=True
        )

    def _made(self, job: Job, checkpoint: Checkpoint, wanted: Wanted) -> Json:
        now = self._current(job, checkpoint)
        stored = self._stored(now, wanted)
        if stored is not None:  # another request had it made after this one had looked
            return stored
        order = self._order(job, now, wanted)
        try:
            made: Exported = self._exporter.ask(order, MAKING_SECONDS)
        except AsideError as error:
            shutil.rmtree(order.work_folder, ignore_errors=True)  # its process is dead
            raise _later(str(error)) from error
        except AsideRefused as error:
            self._current(job, checkpoint)  # which is the reason, where it was dropped meanwhile
            raise _refusal(error) from error
        except AsideBroke as error:
            self._current(job, checkpoint)
            log.exception("the exporter met an error")
            raise _later("the exporter met an error without a name; the server's log has it") from error
        return self._record(order, made)

    def _record(self, order: Order, made: Exported) -> Json:
        record = {
            "path": order.target.relative_to(self._artifacts).as_posix(),
            "size": made.size,
            "sha256": made.sha256,
            "largest_difference": made.largest_difference,
            "images": made.images,
            "same_data": made.same_data,
        }
        kept = exports.record_export(self._db, order.checkpoint, order.wanted.key, record)
        if kept is None or kept.exports is None:
            order.target.unlink(missing_ok=True)
            raise _dropped(order.job, order.checkpoint)
        log.info("exported", job=order.job, checkpoint=order.checkpoint, format=order.wanted.key)
        stored: Json = kept.exports[order.wanted.key]
        return stored

    def _current(self, job: Job, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint as it is stored now.

        Raises:
            NotFound: it is not any more.
        """
        found = checkpoints.get_checkpoint(self._db, job.id, checkpoint.id)
        if found is None:
            raise _dropped(job.id, checkpoint.id)
        return found

    def _order(self, job: Job, checkpoint: Checkpoint, wanted: Wanted) -> Order:
        last = checkpoints.get_checkpoint(self._db, job.id, "last")
        return Order(
            weights=self._artifacts / checkpoint.path,
            sha256=checkpoint.sha256,
            target=target_of(self._artifacts, job.id, checkpoint.id, wanted),
            wanted=wanted,
            checkpoint=checkpoint.id,
            job=job.id,
            name=job.name,
            spec=job.resolved_spec,
            best=(job.best or {}).get("checkpoint") == checkpoint.id,
            last=last is not None and last.id == checkpoint.id,
            ended=job.status in ENDED,
        )


def _later(why: str) -> Unavailable:
    return Unavailable(f"{why}; ask again in a moment")


def _dropped(job: str, checkpoint: str) -> NotFound:
    return NotFound(f"job {job} has no checkpoint {checkpoint!r} any more", param="checkpoint")


def _refusal(error: AsideRefused) -> ApiError:
    match error.code:
        case "weights_not_found":
            return NotFound(error.message, param="checkpoint")
        case "disk_full":
            return _later(error.message)
        case _:
            return Conflict(error.message, param=error.param, code=error.code)
