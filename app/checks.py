"""The checks of datasets' files: each made by the checker beside the server, one at a time per dataset.

A check is made again whenever somebody asks, as it opens only what is new; but what was found a moment ago is
found again, for whoever asks many times.
"""

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import structlog

from app.aside import Aside, AsideBusy, AsideError, AsideRefused, AsideSlow
from finetune.data.dataset import list_dataset
from finetune.data.listing import Listing

log = structlog.get_logger()

PATIENCE_SECONDS = 12 * 3600.0  # for a check and those before it: a million images take hours
MOMENT_SECONDS = 1.0
FORGET_SECONDS = 600.0

Status = Literal["running", "done", "failed"]


@dataclass
class Check:
    """One check. `found` is what the checker answers, once it is done; `message` says why there is none."""

    status: Status = "running"
    done: int = 0
    total: int | None = None
    message: str | None = None
    found: dict[str, Any] | None = None
    ended_at: float = 0.0  # monotonic
    ended: "Future[None]" = field(default_factory=Future)

    def heard(self, told: object) -> None:
        """Takes in how far the checker is."""
        assert isinstance(told, tuple)
        self.done, self.total = told

    def is_old(self) -> bool:
        """Whether it is to be made again."""
        return self.status != "running" and time.monotonic() - self.ended_at > MOMENT_SECONDS

    def end(self, found: dict[str, Any] | None, message: str | None = None) -> None:
        """Keeps what came of it, and wakes who waits."""
        self.found, self.message, self.ended_at = found, message, time.monotonic()
        if found is not None:
            self.done = self.total = found["images"]  # where nothing was new, nothing was told
        self.status = "failed" if found is None else "done"  # last: others read without a lock
        self.ended.set_result(None)


@dataclass
class _Dataset:
    """What is remembered of one: its last check, and what was listed when that began."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    seen: tuple[Listing, Check] | None = None
    asked_at: float = field(default_factory=time.monotonic)


class Checks:
    """What is known of the datasets below a root. Safe to use from many threads."""

    def __init__(self, data_dir: Path, checks_dir: Path) -> None:
        self._data_dir = data_dir
        self._checker = Aside("checker", "finetune.data.checking:open_checker", (data_dir, checks_dir))
        self._known: dict[str, _Dataset] = {}
        self._lock = threading.Lock()

    def look(self, name: str) -> tuple[Listing, Check]:
        """Lists a dataset, and sees to it that it is being checked, or was a moment ago.

        Raises:
            DatasetNotFound: there is none.
        """
        with self._lock:
            self._forget_idle()
            dataset = self._known.setdefault(name, _Dataset())
            dataset.asked_at = time.monotonic()
        with dataset.turn:
            if dataset.seen is None or dataset.seen[1].is_old():
                dataset.seen = None
                listing = list_dataset(self._data_dir, name)
                dataset.seen = listing, self._begin(name)
            return dataset.seen

    def forget(self, name: str) -> None:
        """The dataset is another one now."""
        with self._lock:
            for known in [known for known in self._known if known == name or known.startswith(f"{name}/")]:
                del self._known[known]

    def close(self) -> None:
        """Ends the checker."""
        self._checker.close()

    def _begin(self, name: str) -> Check:
        check = Check()
        threading.Thread(target=self._run, args=(name, check), name=f"check of {name}", daemon=True).start()
        return check

    def _run(self, name: str, check: Check) -> None:
        try:
            found = self._checker.ask(name, PATIENCE_SECONDS, check.heard)
        except AsideRefused as error:
            check.end(None, error.message)
        except AsideError as error:
            check.end(None, f"{_reason(error)}. Asking again checks again")
        except Exception:
            log.exception("a check broke", dataset=name)
            check.end(None, "the check broke; the server's log says where. Asking again checks again")
        else:
            check.end(found)

    def _forget_idle(self) -> None:
        """Names are the clients': what nobody has asked for is not kept for ever."""
        oldest = time.monotonic() - FORGET_SECONDS
        for name, known in list(self._known.items()):
            if known.asked_at < oldest and (known.seen is None or known.seen[1].is_old()):
                del self._known[name]


def _reason(error: AsideError) -> str:
    if isinstance(error, AsideSlow | AsideBusy):
        return "the check took too long and was given up"
    return "the checker ended while it looked at the files"
