"""Clients that cost little themselves: pollers, slow downloads, and a look at a job's heartbeats."""

import asyncio
import hashlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

CHUNK = 2**16  # bytes


@dataclass
class Seen:
    """What clients have seen: the seconds of each poll, how often each status, whole downloads' SHA-256."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    downloads: Counter[str] = field(default_factory=Counter)
    received: int = 0  # bytes of downloads, those that were not ended included

    def percentile(self, number: int) -> float:
        """So many of a hundred polls took no longer; in seconds."""
        ranked = sorted(self.seconds)
        return ranked[min(len(ranked) - 1, len(ranked) * number // 100)]


async def poll(port: int, path: str, every: float, offset: float, stop: asyncio.Event, seen: Seen) -> None:
    """Asks for `path` once in `every` seconds, over one connection, beginning after `offset` seconds."""
    due = time.perf_counter() + offset
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while not await _stopped(stop, due - time.perf_counter()):
            begun = time.perf_counter()
            status, length = await _ask(reader, writer, path)
            await reader.readexactly(length)
            seen.seconds.append(time.perf_counter() - begun)
            seen.statuses[status] += 1
            due = max(due + every, time.perf_counter())
    finally:
        writer.close()


async def download_slowly(port: int, path: str, pause: float, stop: asyncio.Event, seen: Seen) -> None:
    """Downloads a file again and again, 64 KiB at a time, with a pause after each; the last one is left."""
    while not stop.is_set():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            status, length = await _ask(reader, writer, path)
            seen.statuses[status] += 1
            digest = hashlib.sha256()
            while length:
                part = await reader.read(min(CHUNK, length))
                if not part:
                    raise ConnectionError(f"a download broke with {length} bytes to come")
                digest.update(part)
                length -= len(part)
                seen.received += len(part)
                if length and await _stopped(stop, pause):
                    return
            seen.downloads[digest.hexdigest()] += 1
        finally:
            writer.close()


async def watch_heartbeats(database: Path, job: str, lease: float, stop: asyncio.Event) -> float:
    """The longest time, in seconds, that a running job's last heartbeat was ago at any look."""
    oldest = 0.0
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        while not await _stopped(stop, 0.1):
            query = "SELECT lease_until FROM jobs WHERE id = ? AND lease_until IS NOT NULL"
            for (until,) in connection.execute(query, (job,)):
                oldest = max(oldest, time.time() + lease - until)
    return oldest


async def press(
    port: int,
    polled: str,
    downloaded: str,
    ended: Callable[[], bool],
    *,
    pollers: int = 200,
    downloads: int = 20,
    pause: float = 0.25,
) -> Seen:
    """Polls once a second and downloads slowly until `ended`, which is asked every second, in a thread."""
    seen, stop = Seen(), asyncio.Event()
    asked = [poll(port, polled, 1.0, n / pollers, stop, seen) for n in range(pollers)]
    slow = [download_slowly(port, downloaded, pause, stop, seen) for _ in range(downloads)]
    tasks = [asyncio.create_task(each) for each in (*asked, *slow)]
    while not await asyncio.to_thread(ended):
        broken = [task for task in tasks if task.done()]
        if broken:
            break
        await asyncio.sleep(1.0)
    stop.set()
    await asyncio.gather(*tasks)
    return seen


async def _stopped(stop: asyncio.Event, seconds: float) -> bool:
    """Whether it is time to stop; waits so long for it."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), max(seconds, 0.0))
    return stop.is_set()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> tuple[int, int]:
    """Sends a request; gives the status and the length of the body, which is still to be read."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head.split(" ", 2)[1])
    return status, int(head.partition("content-length:")[2].split("\r\n", 1)[0] or 0)
