"""News of jobs for any number of streams: one look at the database at a time, whoever follows what."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import structlog
from starlette.concurrency import run_in_threadpool

from app.store.database import Database
from app.store.doorbells import Doorbell
from app.store.errors import StoreUnavailable
from app.store.events import News, look_for_events
from app.store.records import Event

log = structlog.get_logger()

POLL_SECONDS = 0.2  # between two looks, where nobody rings
REST_SECONDS = 0.05  # between two looks, however often somebody rings
KEPT = 200  # events of a job, for the streams that have not sent them yet


class Channel:
    """What is known of one job that streams follow. `ended` says that no more events will come."""

    def __init__(self) -> None:
        self.streams = 0
        self.newest: int | None = None  # the id up to which events are known; None before the first look
        self.ended = False
        self.changed = asyncio.Event()  # of this state; the next one has another
        self._recent = deque[Event]()
        self._before = 0  # events up to this id are no longer here, or never were

    def since(self, after: int) -> list[Event] | None:
        """The events with an id above `after`; None where some of them are in the database alone."""
        if self.newest is None or after < self._before:
            return None
        return [event for event in self._recent if event.id > after]

    def take(self, news: News) -> None:
        """Takes over what a look has found, and wakes the streams if it is anything new."""
        before = (self.newest, self.ended)
        if self.newest is None:
            self.newest = self._before = news.newest
        for event in news.events:
            self._recent.append(event)
            self.newest = event.id
        while len(self._recent) > KEPT:
            self._before = self._recent.popleft().id
        # The end is a job's last event: while there are more to fetch, it has not come yet.
        self.ended = news.ended and self.newest >= news.newest
        if (self.newest, self.ended) != before:
            self.changed.set()
            self.changed = asyncio.Event()


class Feed:
    """Looks for news while anybody follows a job. To be used in the server's event loop alone.

    Meanwhile a doorbell hangs in `doorbells`, at which whoever writes an event on this machine rings.
    """

    def __init__(self, db: Database, doorbells: Path) -> None:
        self._db, self._doorbells = db, doorbells
        self._channels: dict[str, Channel] = {}
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def follow(self, job_id: str) -> Iterator[Channel]:
        """Gives the job's channel, which is kept up to date for as long as the context is entered."""
        channel = self._channels.setdefault(job_id, Channel())
        channel.streams += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            yield channel
        finally:
            channel.streams -= 1
            if not channel.streams:
                del self._channels[job_id]

    def close(self) -> None:
        """Looks no longer."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        door = _Door(self._doorbells)
        try:
            while self._channels:
                await door.listen()
                door.rung.clear()  # before the look, so that nothing comes in between
                await self._look_once()
                await asyncio.sleep(REST_SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS - REST_SECONDS):
                        await door.rung.wait()
        finally:
            await door.close()

    async def _look_once(self) -> None:
        after = {job_id: channel.newest for job_id, channel in self._channels.items()}
        try:
            found = await run_in_threadpool(look_for_events, self._db, after)
        except StoreUnavailable as error:
            log.warning("the database does not answer", error=str(error))
        except Exception:  # one look that breaks must not leave all streams without news
            log.exception("a look for events broke")
        else:
            for job_id, news in found.items():
                if (channel := self._channels.get(job_id)) is not None:
                    channel.take(news)


class _Door:
    """A doorbell in an event loop: `rung` is set when somebody rings. Its file system keeps nobody up."""

    def __init__(self, folder: Path) -> None:
        self.rung = asyncio.Event()
        self._folder, self._name = folder, str(uuid4())
        self._bell: Doorbell | None = None

    async def listen(self) -> None:
        """Hangs the bell, anew where somebody has removed it. Where it cannot hang, nobody rings."""
        if self._bell is None:
            try:
                self._bell = await run_in_threadpool(Doorbell, self._folder, self._name)
            except OSError as error:  # too many open files
                log.warning("streams look for events by themselves", error=str(error))
                return
        else:
            self._unheard()  # a bell that is hung anew is another one to the event loop
            await run_in_threadpool(self._bell.hang)
        asyncio.get_running_loop().add_reader(self._bell.fileno(), self._hear)

    def _hear(self) -> None:
        if self._bell is not None and self._bell.has_rung():
            self.rung.set()

    def _unheard(self) -> None:
        if self._bell is not None:
            asyncio.get_running_loop().remove_reader(self._bell.fileno())

    async def close(self) -> None:
        """Takes the bell down."""
        if self._bell is not None:
            self._unheard()
            await run_in_threadpool(self._bell.take_down)
