"""Is there a database, is it of this version, and is it sound?"""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import make_url

from app.doctor.findings import Finding, error, warning, well
from app.store.database import Database
from app.store.errors import StoreUnavailable
from app.store.migrate import is_current
from app.store.soundness import find_damage

ABOUT = "database"
MOST_LOG = 64 * 2**20  # bytes of SQLite's log beside the file
SHARED = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "glusterfs")
MOUNTS = Path("/proc/mounts")
BACKUP = "stop Thaw and restore the newest backup (docs/operating.md)"
UPDATE = "`thaw up` brings an older one up to date; a newer one needs the Thaw that wrote it"


def look(db: Database, url: str) -> Iterator[Finding]:
    """All of it. What comes after an error here is of no use."""
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    file = Path(parsed.database or "")
    if sqlite and not file.exists():
        yield warning(ABOUT, f"there is no database {file} yet", "`thaw up` makes it")
        return
    where = str(file) if sqlite else f"PostgreSQL's database {parsed.database}"
    try:
        if not is_current(db):
            yield error(ABOUT, f"{where} is of another version", UPDATE)
            return
        yield well(ABOUT, f"{where} answers, and is of this version")
        if sqlite:
            yield from _file(db, file)
    except StoreUnavailable as unavailable:
        words = _words(unavailable)
        yield error(ABOUT, f"{where} does not answer: {words}", _remedy(sqlite, words))


def can_be_read(findings: list[Finding]) -> bool:
    """Whether the database's rows are worth looking at."""
    return any(finding.level == "ok" for finding in findings)


def _file(db: Database, file: Path) -> Iterator[Finding]:
    damage = find_damage(db)
    if damage:
        yield error(ABOUT, f"{file} is damaged: {damage[0]}", BACKUP)
    else:
        yield well(ABOUT, "it is sound")
    log = file.with_name(f"{file.name}-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > MOST_LOG:
        yield warning(
            ABOUT,
            f"its log {log.name} has {size:,} bytes: somebody reads for long, and it cannot be taken over",
            "end programs that hold the database open; a start of the server takes the log over",
        )
    kind = _file_system(file)
    if kind in SHARED:
        yield error(
            ABOUT,
            f"{file} lies on a network's file system ({kind}), where SQLite's locks do not hold",
            "THAW_HOME_DIR on a disk of this machine, or THAW_DATABASE_URL=postgresql://…",
        )


def _file_system(file: Path) -> str:
    """The kind of the file system that holds a file; empty where the system does not say."""
    try:
        rows = [line.split() for line in MOUNTS.read_text().splitlines()]
    except OSError:
        return ""
    path = file.resolve()
    on_the_way = [(len(row[1]), row[2]) for row in rows if len(row) > 2 and path.is_relative_to(row[1])]
    return max(on_the_way, default=(0, ""))[1]


def _words(unavailable: StoreUnavailable) -> str:
    cause = getattr(unavailable.__cause__, "orig", None) or unavailable.__cause__ or unavailable
    return str(cause).strip().splitlines()[0]


def _remedy(sqlite: bool, words: str) -> str:
    if "malformed" in words or "not a database" in words:
        return BACKUP
    if sqlite:
        return "look whether this user may write to the file and its folder, and whether the disk is full"
    return "start PostgreSQL, or mend THAW_DATABASE_URL"
