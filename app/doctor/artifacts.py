"""Do the rows and the files in the artifacts folder fit?"""

import time
from collections.abc import Iterator

from app.doctor.findings import Finding, error, warning, well
from app.orphans import find_orphans, total_bytes
from app.settings import Settings
from app.store.artifacts import stored_files
from app.store.database import Database

ABOUT = "artifacts"
NAMED = 3  # files in a message


def look(db: Database, settings: Settings) -> Iterator[Finding]:
    """Rows whose files are gone or cut short, and files that belong to no row."""
    with db.read() as connection:
        files = list(stored_files(connection))
    lost = [file.path for file in files if _size(settings, file.path) != file.size]
    if lost:  # a job that trains may have let go of some since
        with db.read() as connection:
            named = {file.path for file in stored_files(connection)}
        lost = [path for path in lost if path in named]
    if lost:
        more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
        yield error(
            ABOUT,
            f"files of checkpoints or reports are gone or cut short: {', '.join(lost[:NAMED])}{more}",
            f"copy them from a backup into {settings.artifacts_dir}, or delete their jobs",
        )
    orphans = find_orphans(db, settings.artifacts_dir, time.time())
    if orphans:
        yield warning(
            ABOUT,
            f"{len(orphans)} files or folders ({total_bytes(orphans):,} bytes) belong to no row, as "
            f"{orphans[0].path}",
            "nothing, if this is the right database: the server removes them a day after it first sees them",
        )
    if not lost and not orphans:
        yield well(ABOUT, f"{len(files)} files, all that the rows name")


def _size(settings: Settings, path: str) -> int | None:
    try:
        return (settings.artifacts_dir / path).stat().st_size
    except OSError:
        return None
