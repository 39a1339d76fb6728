"""Times training with and without an open page: `python benchmarks/page.py`.

Trains the same job in turn with nobody looking and with its page open in a browser. The worker has one
thread, so that on two cores the browser has one of its own, as it has where it runs on another machine.
Prints the images per second of every epoch, and the server's processor time as a share of a core.
"""

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = str(ROOT)  # for the server and the worker

from playwright.sync_api import Browser, sync_playwright  # noqa: E402  # found by the lines above

from benchmarks.serving import served  # noqa: E402
from benchmarks.start import draw  # noqa: E402
from client.api import ThawClient  # noqa: E402
from tests.page.browser import launch  # noqa: E402

SPEC = {
    "dataset": {"path": "noise", "on_problem": "skip"},
    "backbone": {"name": "resnet18", "weights": None},
    "recipe": {"name": "joint", "epochs": 3},
    "image_size": 64,
    "batch_size": 8,
}
OVER = ("succeeded", "failed", "cancelled")
TICKS = os.sysconf("SC_CLK_TCK")


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


def train(client: ThawClient, server: int, port: str, browser: Browser | None) -> tuple[list[float], float]:
    """Images per second of each epoch but the first, and the server's share of a core."""
    job = client.submit(SPEC)
    page = browser.new_page() if browser else None
    if page is not None:
        page.goto(f"http://127.0.0.1:{port}/jobs/{job.id}")
    begun, used = time.monotonic(), processor_seconds(server)
    while (job := client.job(job.id)).status not in OVER:
        if page is not None:
            page.wait_for_timeout(2000)  # the page runs while its browser is listened to
        else:
            time.sleep(2.0)
    share = (processor_seconds(server) - used) / (time.monotonic() - begun)
    if page is not None:
        page.close()
    if job.status != "succeeded":
        raise SystemExit(f"the job {job.status}: {job.error}")
    return [epoch.images_per_second or 0.0 for epoch in client.metrics(job.id)[1:]], share


def main() -> int:
    """Runs everything once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    rates: dict[bool, list[float]] = {False: [], True: []}
    shares: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        draw(home / "data" / "noise", train=512, val=8)
        settings = {"THAW_DATA_DIR": str(home / "data"), "THAW_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
        browser = launch(playwright)
        with served(home, settings) as client:
            server, port = server_of(home)
            train(client, server, port, None)  # fills the caches
            for watched in (False, True) * rounds:
                speeds, share = train(client, server, port, browser if watched else None)
                rates[watched] += speeds
                shares[watched].append(share)
        browser.close()
    for watched, name in ((False, "nobody looks"), (True, "the page is open")):
        median, share = statistics.median(rates[watched]), 100 * statistics.median(shares[watched])
        print(f"{name}: median {median:.1f} images/s, the server {share:.1f} % of a core")
        print("  " + " ".join(f"{one:.1f}" for one in rates[watched]))
    print(f"ratio {statistics.median(rates[True]) / statistics.median(rates[False]):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
