"""A server and a worker of the benchmarks' own, with a fresh home, ended when they are no longer needed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from client.api import ThawClient
from client.errors import ThawError

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120.0
STARTED = "worker started"  # what a worker writes to its log once it has loaded torch


@contextmanager
def served(folder: Path, settings: Mapping[str, str]) -> Iterator[ThawClient]:
    """A Thaw whose files lie in `folder`; `settings` are further environment variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("THAW_")},
        "THAW_HOME_DIR": str(folder / "home"),
        "THAW_PORT": str(port),
        **settings,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "thaw.log").open("w") as log:
        command = [sys.executable, "-m", "client", "up"]
        thaw = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            with ThawClient(f"http://127.0.0.1:{port}") as client:
                _wait_for(client, thaw, folder / "thaw.log")
                yield client
        finally:
            thaw.send_signal(signal.SIGINT)
            thaw.wait()


def _wait_for(client: ThawClient, thaw: "subprocess.Popen[bytes]", log: Path) -> None:
    """Waits until the server answers and the worker has warmed up."""
    deadline = time.monotonic() + START_SECONDS
    while not (_answers(client) and STARTED in log.read_text()):
        if thaw.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Thaw did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def _answers(client: ThawClient) -> bool:
    try:
        client.jobs(limit=1)
    except ThawError:
        return False
    return True
