"""Times training with and without an open page: `python benchmarks/page.py`.

While one job trains, in turn and for a few epochs each: nobody looks; a program asks the server for all that
an open page asks for, at the same times; the page is open in a browser on this very machine. The program
costs the server what a browser on another machine does, which is the usual case: it draws nothing here.
Epochs during which that changes do not count. The worker has one thread. Prints the images per second of each
epoch that counts, and the server's processor time as a share of a core.
"""

import argparse
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = str(ROOT)  # for the server and the worker

from playwright.sync_api import Browser, Request, sync_playwright  # noqa: E402  # found by the lines above

from benchmarks.serving import served  # noqa: E402
from benchmarks.start import draw  # noqa: E402
from client.api import ThawClient  # noqa: E402
from tests.page.browser import launch  # noqa: E402

SPEC: dict[str, Any] = {
    "dataset": {"path": "noise", "on_problem": "skip"},
    "backbone": {"name": "resnet18", "weights": None},
    "image_size": 64,
    "batch_size": 8,
}
TICKS = os.sysconf("SC_CLK_TCK")
LOOK_SECONDS = 1.0
EPOCHS_EACH = 2


def server_of(home: Path) -> tuple[int, str]:
    """The process id and the port of the server whose home this is."""
    for entry in Path("/proc").iterdir():
        try:
            command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:  # none, or one that has just ended
            continue
        if b"\0serve\0" in command and os.fsencode(home) in environment:
            (port,) = re.findall(rb"\0THAW_PORT=(\d+)\0", environment)
            return int(entry.name), port.decode()
    raise RuntimeError("there is no server")


def processor_seconds(pid: int) -> float:
    """What a process has used so far, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Looking(Protocol):
    """Somebody who looks at a job."""

    def wait(self) -> None:
        """Looks on for `LOOK_SECONDS`."""

    def end(self) -> None:
        """Looks no more."""


class Nobody:
    """Nobody looks."""

    def wait(self) -> None:
        """Waits."""
        time.sleep(LOOK_SECONDS)

    def end(self) -> None:
        """Nothing is to be ended."""


class OpenPage:
    """A job's page in a browser. `asked` is what it asks for: seconds since it opened, and paths."""

    def __init__(self, browser: Browser, site: str, job: str) -> None:
        self.asked: list[tuple[float, str]] = []
        self._page, begun = browser.new_page(), time.monotonic()

        def note(request: Request) -> None:
            self.asked.append((time.monotonic() - begun, request.url.removeprefix(site)))

        self._page.on("request", note)
        self._page.goto(f"{site}/jobs/{job}")

    def wait(self) -> None:
        """The page runs, and is listened to, while its browser is waited for."""
        self._page.wait_for_timeout(1000 * LOOK_SECONDS)

    def end(self) -> None:
        """Closes the page."""
        self._page.close()


class Asking(Nobody):
    """A program that asks for what an open page asked for, at the same times, with the ETags it was given.

    It asks for the events after those that the page had seen then: it is given more of them than a page would
    be, which costs the server more, not less.
    """

    def __init__(self, asked: list[tuple[float, str]], site: str) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(asked, site))
        self._thread.start()

    def end(self) -> None:
        """Asks no more."""
        self._over.set()
        self._thread.join()

    def _ask(self, asked: list[tuple[float, str]], site: str) -> None:
        begun, tags = time.monotonic(), dict[str, str]()
        with httpx.Client(base_url=site, trust_env=False) as client:
            for after, path in asked:
                if self._over.wait(max(0.0, begun + after - time.monotonic())):
                    return
                answer = client.get(path, headers={"If-None-Match": tags[path]} if path in tags else {})
                if answer.status_code != httpx.codes.NOT_MODIFIED:
                    answer.raise_for_status()
                if "ETag" in answer.headers:
                    tags[path] = answer.headers["ETag"]


class Watch:
    """A job that trains, and what each way to look at it cost."""

    def __init__(self, client: ThawClient, server: int, spec: dict[str, Any]) -> None:
        self._client, self._server = client, server
        self.job, self._over = client.submit(spec).id, False
        self.epochs: dict[str, list[int]] = {}  # those that passed from begin to end while somebody looked so
        self.shares: dict[str, list[float]] = {}  # of a core, what the server took

    def look(self, name: str, looking: Looking) -> bool:
        """Looks for `EPOCHS_EACH` epochs; says whether the job trains on."""
        begun, used, first = time.monotonic(), processor_seconds(self._server), self._epoch() + 1
        while self._epoch() < first + EPOCHS_EACH and not self._over:
            looking.wait()
        share = (processor_seconds(self._server) - used) / (time.monotonic() - begun)
        looking.end()
        if self._over:
            return False
        self.epochs.setdefault(name, []).extend(range(first, first + EPOCHS_EACH))
        self.shares.setdefault(name, []).append(share)
        return True

    def rates(self, name: str) -> list[float]:
        """Images per second of the epochs that count."""
        found = {epoch.global_epoch: epoch.images_per_second for epoch in self._client.metrics(self.job)}
        return [found[number] or 0.0 for number in self.epochs[name]]

    def _epoch(self) -> int:
        """The epoch under way; notes whether the job is over."""
        job = self._client.job(self.job)
        if job.status in ("failed", "cancelled"):
            raise SystemExit(f"the job {job.status}: {job.error}")
        self._over = job.ended
        return (job.progress.epoch or 0) if job.progress else 0


def main() -> int:
    """Runs everything once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=8, help="of the three ways to look")
    rounds = parser.parse_args().rounds
    epochs = (3 * rounds + 1) * (EPOCHS_EACH + 1) + 3
    spec = {**SPEC, "recipe": {"name": "joint", "epochs": epochs}}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        draw(home / "data" / "noise", train=256, val=8)
        settings = {"THAW_DATA_DIR": str(home / "data"), "THAW_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
        browser = launch(playwright)
        with served(home, settings) as client:
            server, port = server_of(home)
            site = f"http://127.0.0.1:{port}"
            watch = Watch(client, server, spec)
            first = OpenPage(browser, site, watch.job)
            watch.look("the first epochs, which do not count", first)
            kinds: dict[str, Callable[[], Looking]] = {
                "nobody looks": Nobody,
                "a program asks as the page does": lambda: Asking(first.asked, site),
                "the page is open here": lambda: OpenPage(browser, site, watch.job),
            }
            while all(watch.look(name, look()) for name, look in kinds.items()):
                pass
            rates = {name: watch.rates(name) for name in kinds}
        browser.close()
    print(f"the page asks for {len(first.asked)} things in {first.asked[-1][0]:.0f} s")
    alone = statistics.median(rates["nobody looks"])
    for name in kinds:
        median, share = statistics.median(rates[name]), 100 * statistics.median(watch.shares[name])
        ratio = median / alone
        print(f"{name}: median {median:.1f} images/s ({ratio:.3f}), the server {share:.1f} % of a core")
        print("  " + " ".join(f"{one:.1f}" for one in rates[name]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
