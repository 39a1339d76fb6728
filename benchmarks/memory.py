"""How much memory a process and its descendants take that could not be read again from a file."""

import threading
import time
from contextlib import suppress
from pathlib import Path

EVERY = 0.2  # seconds
EVERY_OF_SEVERAL = 3.0  # what processes share is counted by walking their pages, which is felt


class MemoryWatch(threading.Thread):
    """Looks at a tree of processes until it is stopped; knows the most that it has seen.

    Anonymous memory and shared memory without a file, in bytes: `tree` of all processes together, what
    several share counted once, and `largest` of the largest one. Pages of mapped files (a cache) do not
    count: the kernel takes them back whenever it needs the room.
    """

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root, self._stopped = root, threading.Event()
        self.peak = {"tree": 0, "largest": 0}

    def run(self) -> None:
        """Looks again and again."""
        walk_at = 0.0
        while not self._stopped.wait(EVERY):
            found = tree_of(self._root)
            self.peak["largest"] = max(self.peak["largest"], *map(own_bytes, found))
            if len(found) == 1 or time.monotonic() >= walk_at:
                walk_at = time.monotonic() + EVERY_OF_SEVERAL
                bytes_ = map(own_bytes if len(found) == 1 else shared_bytes, found)
                self.peak["tree"] = max(self.peak["tree"], sum(bytes_))

    def stop(self) -> dict[str, int]:
        """Ends it, and gives the most that there was."""
        self._stopped.set()
        self.join()
        return self.peak


def tree_of(root: int) -> list[int]:
    """A process and its descendants that there are now."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(parents.get(pid, ()))
    return found


def own_bytes(pid: int) -> int:
    """Of a process, with all that it shares: costs next to nothing to ask."""
    return _sum(Path(f"/proc/{pid}/status"), ("RssAnon", "RssShmem"))


def shared_bytes(pid: int) -> int:
    """Of a process among several: its part of each page that others have, too."""
    return _sum(Path(f"/proc/{pid}/smaps_rollup"), ("Pss_Anon", "Pss_Shmem"))


def _sum(path: Path, names: tuple[str, ...]) -> int:
    with suppress(OSError):  # it has ended
        rows = (line.split() for line in path.read_text().splitlines())
        return sum(int(row[1]) * 1024 for row in rows if row[0].rstrip(":") in names)
    return 0
