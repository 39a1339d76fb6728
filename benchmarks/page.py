"""Times training with and without an open page: `python benchmarks/page.py`.

Trains the same job in turn with nobody looking, with a program that asks the server for all that an open page
asks for at the same times, and with the page open in a browser on this very machine. The program stands for a
browser on another machine, which is the usual case: it costs the server the same, and draws nothing.
The worker has one thread. Prints the images per second of every epoch but the first, and the server's
processor time as a share of a core.
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
from typing import Protocol

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

SPEC = {
    "dataset": {"path": "noise", "on_problem": "skip"},
    "backbone": {"name": "resnet18", "weights": None},
    "recipe": {"name": "joint", "epochs": 4},
    "image_size": 64,
    "batch_size": 8,
}
OVER = ("succeeded", "failed", "cancelled")
TICKS = os.sysconf("SC_CLK_TCK")
LOOK_SECONDS = 2.0
JOB = "{job}"  # stands for a job's id in a path


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
            self.asked.append((time.monotonic() - begun, request.url.removeprefix(site).replace(job, JOB)))

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

    The newest events that the page had seen were another job's: this program is given all events of its own
    each time, which costs the server more, not less.
    """

    def __init__(self, asked: list[tuple[float, str]], site: str, job: str) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(asked, site, job))
        self._thread.start()

    def end(self) -> None:
        """Asks no more."""
        self._over.set()
        self._thread.join()

    def _ask(self, asked: list[tuple[float, str]], site: str, job: str) -> None:
        begun, tags = time.monotonic(), dict[str, str]()
        with httpx.Client(base_url=site, trust_env=False) as client:
            for after, path in asked:
                if self._over.wait(max(0.0, begun + after - time.monotonic())):
                    return
                own = path.replace(JOB, job)
                answer = client.get(own, headers={"If-None-Match": tags[own]} if own in tags else {})
                if answer.status_code != httpx.codes.NOT_MODIFIED:
                    answer.raise_for_status()
                if "ETag" in answer.headers:
                    tags[own] = answer.headers["ETag"]


def train(
    client: ThawClient, server: int, look: Callable[[str], Looking]
) -> tuple[list[float], float, Looking]:
    """Images per second of each epoch but the first, the server's share of a core, and who looked."""
    job = client.submit(SPEC)
    looking = look(job.id)
    begun, used = time.monotonic(), processor_seconds(server)
    while (job := client.job(job.id)).status not in OVER:
        looking.wait()
    share = (processor_seconds(server) - used) / (time.monotonic() - begun)
    looking.end()
    if job.status != "succeeded":
        raise SystemExit(f"the job {job.status}: {job.error}")
    return [epoch.images_per_second or 0.0 for epoch in client.metrics(job.id)[1:]], share, looking


def main() -> int:
    """Runs everything once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        draw(home / "data" / "noise", train=512, val=8)
        settings = {"THAW_DATA_DIR": str(home / "data"), "THAW_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
        browser = launch(playwright)
        with served(home, settings) as client:
            server, port = server_of(home)
            site = f"http://127.0.0.1:{port}"
            # Fills the caches, and says what an open page asks for.
            _, _, first = train(client, server, lambda job: OpenPage(browser, site, job))
            assert isinstance(first, OpenPage)
            kinds: dict[str, Callable[[str], Looking]] = {
                "nobody looks": lambda job: Nobody(),
                "a program asks as the page does": lambda job: Asking(first.asked, site, job),
                "the page is open here": lambda job: OpenPage(browser, site, job),
            }
            rates: dict[str, list[float]] = {name: [] for name in kinds}
            shares: dict[str, list[float]] = {name: [] for name in kinds}
            for _ in range(rounds):
                for name, look in kinds.items():
                    speeds, share, _ = train(client, server, look)
                    rates[name] += speeds
                    shares[name].append(share)
        browser.close()
    print(f"the page asks for {len(first.asked)} things in {first.asked[-1][0]:.0f} s")
    alone = statistics.median(rates["nobody looks"])
    for name in kinds:
        median, share = statistics.median(rates[name]), 100 * statistics.median(shares[name])
        print(
            f"{name}: median {median:.1f} images/s ({median / alone:.3f}), the server {share:.1f} % of a core"
        )
        print("  " + " ".join(f"{one:.1f}" for one in rates[name]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
