"""Small pictures: read from the cache, or drawn by a process beside the server, one at a time."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
from starlette.concurrency import run_in_threadpool

from app.aside import Aside, AsideBusy
from app.settings import Settings
from finetune.cache import Cache
from finetune.data.pictures import KIND, key_for

PATIENCE = 20.0  # seconds for a picture and those before it
MOST_WAITING = 128  # requests; a page shows a hundred pictures at most


@dataclass(frozen=True)
class Wanted:
    """A picture that may be asked for: the image's file, the longest side, and what it is kept under."""

    path: str
    side: int
    key: str


class Pictures:
    """Answers with pictures. Whoever waits for one holds up no other requests, as for the predictor."""

    def __init__(self, settings: Settings) -> None:
        self._cache = Cache(settings.cache_dir, settings.cache_bytes)
        arguments = (settings.data_dir, settings.cache_dir, settings.cache_bytes)
        self._aside = Aside("drawer", "finetune.data.pictures:open_drawer", arguments)
        self._turn = anyio.CapacityLimiter(1)
        self._waiting = 0

    @staticmethod
    def want(path: Path, side: int) -> Wanted:
        """The picture of a file as it is now.

        Raises:
            OSError: it is not there.
        """
        name = os.fspath(path)
        return Wanted(name, side, key_for(name, path.stat(), side))

    async def get(self, wanted: Wanted) -> bytes:
        """The picture, a JPEG.

        Raises:
            AsideError: there is no answer now; asking again later may help.
            AsideRefused: the image cannot be read.
        """
        kept = await run_in_threadpool(self._cache.get, KIND, wanted.key)
        return bytes(kept) if kept is not None else await self._ask(wanted)

    async def _ask(self, wanted: Wanted) -> bytes:
        if self._waiting >= MOST_WAITING:
            raise AsideBusy("the drawer of pictures is busy")
        deadline = time.monotonic() + PATIENCE

        def ask() -> bytes:
            patience = max(0.0, deadline - time.monotonic())
            drawn: bytes = self._aside.ask((wanted.path, wanted.side), patience)
            return drawn

        self._waiting += 1
        try:
            with anyio.fail_after(PATIENCE):
                return await anyio.to_thread.run_sync(ask, limiter=self._turn)
        except TimeoutError as error:
            raise AsideBusy("the drawer of pictures is busy") from error
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Ends the process. Whoever waits for a picture gets none."""
        self._aside.close()
