"""`thaw doctor`: what is wrong here, and how to mend it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from app.doctor import artifacts, database, device, folders, jobs, server, versions
from app.doctor.findings import Finding, error
from app.settings import Settings
from app.store.database import Database
from app.store.errors import StoreUnavailable

INDENT = " " * 9


def examine(settings: Settings) -> list[Finding]:
    """Looks at everything. Changes nothing, and goes on where one thing cannot be looked at."""
    return [
        *versions.look(settings.database_url),
        *device.look(settings),
        *folders.look(settings),
        *_database(settings),
        server.look(settings),
    ]


def is_healthy(findings: Iterable[Finding]) -> bool:
    """Whether nothing that was found keeps Thaw from working."""
    return all(finding.level != "error" for finding in findings)


def as_text(findings: Sequence[Finding]) -> str:
    """A line for each, and what mends it below."""
    lines = list[str]()
    for finding in findings:
        lines.append(f"{finding.level:9}{finding.about}: {finding.message}")
        if finding.remedy is not None:
            lines.append(f"{INDENT}→ {finding.remedy}")
    wrong = sum(finding.level == "error" for finding in findings)
    minor = sum(finding.level == "warning" for finding in findings)
    lines.append(f"{wrong} errors, {minor} warnings")
    return "\n".join(lines)


def as_json(findings: Sequence[Finding]) -> str:
    """The same for programs."""
    found = [asdict(finding) for finding in findings]
    return json.dumps({"healthy": is_healthy(findings), "findings": found}, indent=2)


def unsettled(problem: str) -> list[Finding]:
    """What is found where a setting is not valid, and nothing else can be looked at."""
    return [error("settings", problem, "correct it; README.md has the table of settings")]


def _database(settings: Settings) -> list[Finding]:
    """The database and, where it can be read, what its rows say."""
    try:
        db = Database(settings.database_url)
    except ImportError as missing:
        remedy = "install it: `pip install 'thaw[postgresql]'`"
        return [error(database.ABOUT, f"the database's driver is not here: {missing}", remedy)]
    found = list(database.look(db, settings.database_url))
    try:
        if database.can_be_read(found):
            found += [*jobs.look(db, settings), *artifacts.look(db, settings)]
    except StoreUnavailable as unavailable:
        words = f"it stopped answering: {unavailable.__cause__}"
        found.append(error(database.ABOUT, words, "run this again"))
    finally:
        db.dispose()
    return found
