"""Running a row's process to its end, timed and its memory watched."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.memory import MemoryWatch, tree_of
from benchmarks.records import BEGUN, Record, told
from benchmarks.rows import Row
from benchmarks.work import Task, Work

ROOT = Path(__file__).resolve().parent.parent
OWN = ("THAW_", "OMP_", "MKL_NUM", "MALLOC_")  # whatever is set here: all rows get the same, and all cores
MOST_SECONDS = 3600


@dataclass(frozen=True)
class Launcher:
    """Starts processes whose files lie below `folder`; `peers` is the Python of the peers' environment."""

    folder: Path
    peers: Path

    def run(self, row: Row, work: Work, options: Mapping[str, Any]) -> list[Record]:
        """Runs a row once. A row that fails, or cannot be run here, gives a record that says why."""
        if row.of_peers and not self.peers.exists():
            return [Record(row.name, skipped="the peers are not installed: make bench-peers")]
        own = self.folder / row.name
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        (self.folder / f"{row.name}.log").unlink(missing_ok=True)
        task = Task(row.name, work, str(own), {**row.options, **options}).write(own / "task.json")
        try:
            return self._run(row, task)
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def _run(self, row: Row, task: Path) -> list[Record]:
        command = [self.peers if row.of_peers else sys.executable, "-m", row.module, task]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
        begun = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment, **row.environment, BEGUN: str(begun)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        memory = MemoryWatch(process.pid)
        memory.start()
        try:
            output, errors = process.communicate(timeout=MOST_SECONDS)
        except subprocess.TimeoutExpired:
            return [Record(row.name, skipped=f"failed: it took longer than {MOST_SECONDS} s")]
        finally:
            if process.poll() is None:
                _end(process)
            peak = memory.stop()
        total = time.monotonic() - begun
        records = told(output)
        if process.returncode or not records:
            (self.folder / f"{row.name}.log").write_text(output + errors)
            return [Record(row.name, skipped=f"failed with exit code {process.returncode}: {_last(errors)}")]
        for record in records:
            record.seconds.setdefault("total", total)
            record.memory = peak
        return records


def _end(process: "subprocess.Popen[str]") -> None:
    """Ends a process that is still at work, with all that it has started."""
    for pid in tree_of(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def _last(errors: str) -> str:
    lines = [line for line in errors.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
