"""Writes to a database, or reads from it, as workers, clients and servers do, in a process of its own.

`python -m tests.traffic write URL ARTIFACTS STOP SIZE` and `… read …`. It says "ready", waits for a line,
goes on until there is a file STOP, and prints what it did as JSON; `refused` are the times that the database
did not answer.
"""

import hashlib
import json
import os
import secrets
import sys
import threading
from collections import Counter
from pathlib import Path

from app.store.attempts import claim, finish, heartbeat
from app.store.checkpoints import list_checkpoints
from app.store.database import Database
from app.store.epochs import list_epochs
from app.store.errors import StoreUnavailable
from app.store.events import list_events
from app.store.jobs import create_job, get_job, list_jobs
from app.store.records import Claim, NewCheckpoint
from app.store.reports import drop_checkpoints, record_epoch
from app.store.states import Status

EPOCHS = 4
READERS = 10  # threads of a process that reads
LEASE = 600.0


class Traffic:
    """One process's."""

    def __init__(self, db: Database, artifacts: Path, stop: Path, size: int) -> None:
        self._db, self._artifacts, self._stop = db, artifacts, stop
        self._size = size
        self.done: Counter[str] = Counter()
        self.refused: list[str] = []

    def write(self) -> None:
        """Submits jobs, takes them, and brings them to their end."""
        worker = f"w{os.getpid()}"
        while self._goes_on():
            try:
                create_job(self._db, spec={"notes": "y" * 2000}, resolved_spec={}, metadata={"team": "zoo"})
                self.done["submitted"] += 1
                held = claim(self._db, worker, LEASE)
                if held is not None:
                    self._run(held)
            except StoreUnavailable as error:
                self.refused.append(str(error.__cause__))

    def read(self) -> None:
        """Asks what pages and clients ask."""
        while self._goes_on():
            try:
                found, _ = list_jobs(self._db, limit=5)
                self.done["looks"] += 1
                for job in found[:2]:
                    for look in (get_job, list_epochs, list_events, list_checkpoints):
                        look(self._db, job.id)
                        self.done["looks"] += 1
            except StoreUnavailable as error:
                self.refused.append(str(error.__cause__))

    def _goes_on(self) -> bool:
        """Until it is to stop, and has had a turn."""
        return not (self._stop.exists() and (self.done or self.refused))

    def _run(self, held: Claim) -> None:
        for epoch in range(1, EPOCHS + 1):
            # New each time: SQLite writes no page that stays as it is.
            heartbeat(self._db, held, LEASE, {"notes": secrets.token_hex(self._size // 2)})
            self.done["heartbeats"] += 1
            new = self._checkpoint(held, epoch)
            place = {"stage": "all", "stage_index": 0, "epoch": epoch, "global_epoch": epoch}
            best = {"checkpoint": new.id, "metric": "val_accuracy", "value": 0.5}
            record_epoch(self._db, held, LEASE, place, new, best)
            self._retain(held)
            self.done["epochs"] += 1
        finish(self._db, held, Status.SUCCEEDED, "done")
        self.done["jobs"] += 1

    def _checkpoint(self, held: Claim, epoch: int) -> NewCheckpoint:
        path = self._artifacts / held.job_id / f"attempt-{held.attempt}" / f"epoch-{epoch:05d}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = f"{held.job_id} {epoch}".encode() * 20
        path.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        return NewCheckpoint(path.relative_to(self._artifacts).as_posix(), len(content), sha256)

    def _retain(self, held: Claim) -> None:
        """Keeps the newest alone: files go while somebody may be making a backup of them."""
        *old, _ = list_checkpoints(self._db, held.job_id)
        for gone in drop_checkpoints(self._db, held, LEASE, [checkpoint.id for checkpoint in old]):
            (self._artifacts / gone.path).unlink()


def main(kind: str, url: str, artifacts: str, stop: str, size: str) -> int:
    """Says what was done."""
    db = Database(url)
    traffic = Traffic(db, Path(artifacts), Path(stop), int(size))
    db.ping()
    print("ready", flush=True)
    sys.stdin.readline()
    work, number = (traffic.write, 1) if kind == "write" else (traffic.read, READERS)
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    db.dispose()
    print(json.dumps({"done": traffic.done, "refused": traffic.refused}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
