"""The file of results: all sessions, and every record of each."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.records import Record
from benchmarks.work import Work


@dataclass
class Session:
    """One go of the runner: its ID, the machine, the work, and how many loader processes are best.

    `accuracy_work` is that of the rows that compare accuracy. `searches` are seconds of a short run: by row,
    by number of processes.
    """

    id: str
    machine: dict[str, str]
    work: Work
    accuracy_work: Work
    arguments: list[str]
    workers: dict[str, int] = field(default_factory=dict)
    searches: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass
class Results:
    """What has been measured so far, kept in a file."""

    path: Path
    sessions: list[Session] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def write(self) -> None:
        """Writes the file: after each record, so that a broken run leaves what it has."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        body = {"sessions": [asdict(s) for s in self.sessions], "records": [asdict(r) for r in self.records]}
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps(body, indent=1))
        temporary.replace(self.path)

    def add(self, record: Record) -> None:
        """Adds a record and writes the file."""
        self.records.append(record)
        self.write()

    def session(self, id: str) -> Session:
        """One session."""
        return next(session for session in self.sessions if session.id == id)

    def newest(self, row: str) -> list[Record]:
        """The records of a row in the last session that has any of it with figures, else with a reason."""
        own = [record for record in self.records if record.row == row]
        sound = [record for record in own if record.skipped is None] or own
        return [record for record in sound if record.session == sound[-1].session] if sound else []

    def of(self, row: str, session: str) -> list[Record]:
        """A row's records with figures in a session."""
        return [r for r in self.records if (r.row, r.session) == (row, session) and r.skipped is None]


def read(path: Path) -> Results:
    """The results that a file holds; none where there is no file."""
    if not path.exists():
        return Results(path)
    body = json.loads(path.read_text())
    return Results(
        path,
        [_session(fields) for fields in body["sessions"]],
        [Record.of(fields) for fields in body["records"]],
    )


def _session(fields: dict[str, Any]) -> Session:
    return Session(
        **{**fields, "work": _work(fields["work"]), "accuracy_work": _work(fields["accuracy_work"])}
    )


def _work(fields: dict[str, Any]) -> Work:
    return Work(**{**fields, "crop_scale": tuple(fields["crop_scale"])})
