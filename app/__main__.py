"""The server's side of the command line: `python -m app serve | migrate | keys | doctor | backup`."""

import resource
import sys
from pathlib import Path

import structlog
import uvicorn

from app import key_commands
from app.binding import BindingRefused, check_binding
from app.logs import configure
from app.settings import Settings, SettingsError, load_settings
from app.store.migrate import migrate
from app.store.sqlite_faults import warning_of

GRACE_SECONDS = 5
MOST_FILES = 4096
USAGE = (
    "usage: python -m app migrate | prepare | serve | keys | doctor [--json] "
    "| backup FILE [--artifacts FOLDER]\n"
)


def main(arguments: list[str]) -> int:
    """Runs one of the commands; `prepare` is all that can be done before serving. Returns the exit code."""
    configure()
    if arguments[:1] == ["doctor"] and set(arguments[1:]) <= {"--json"}:
        return _examine(as_json="--json" in arguments)
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    match arguments:
        case ["migrate"]:
            migrate(settings.database_url)
        case ["prepare"]:
            migrate(settings.database_url)
            return 0 if _may_listen(settings) else 2
        case ["serve"]:
            return _serve(settings) if _may_listen(settings) else 2
        case ["keys", *rest]:
            return key_commands.run(settings, rest)
        case ["backup", file]:
            return _back_up(settings, Path(file), None)
        case ["backup", file, "--artifacts", folder]:
            return _back_up(settings, Path(file), Path(folder))
        case _:
            sys.stderr.write(USAGE)
            return 2
    return 0


def _may_listen(settings: Settings) -> bool:
    try:
        check_binding(settings)
    except BindingRefused as refusal:
        sys.stderr.write(f"{refusal}.\n")
        return False
    return True


def _serve(settings: Settings) -> int:
    from app.connections import protocol
    from app.main import create_app

    _allow_many_files()
    log = structlog.get_logger()
    log.info("server starts", address=f"http://{settings.host}:{settings.port}")
    if fault := warning_of(settings.database_url):
        log.warning(fault)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        http=protocol(settings.client_seconds),
        ws="none",
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return 0


def _examine(*, as_json: bool) -> int:
    from app.doctor import examination

    try:
        findings = examination.examine(load_settings())
    except SettingsError as error:
        findings = examination.unsettled(str(error))
    show = examination.as_json if as_json else examination.as_text
    sys.stdout.write(f"{show(findings)}\n")
    return 0 if examination.is_healthy(findings) else 1


def _back_up(settings: Settings, file: Path, artifacts: Path | None) -> int:
    from app.backup import back_up
    from app.store.copies import CopyFailed

    try:
        made = back_up(settings, file.expanduser().absolute(), artifacts)
    except CopyFailed as error:
        sys.stderr.write(f"thaw: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"thaw: {error.filename or file}: {error.strerror}\n")
        return 1
    sys.stdout.write(f"{file}: the database, {made.database_bytes:,} bytes\n")
    if artifacts is not None:
        new = f"{made.new_files} of them new, {made.new_bytes:,} bytes"
        sys.stdout.write(f"{artifacts}: {made.files - len(made.lost)} files, {new}\n")
    for path in made.lost:
        sys.stderr.write(f"thaw: {path} is named by the database, and is gone or damaged\n")
    return 1 if made.lost else 0


def _allow_many_files() -> None:
    """Every connection is an open file, and a shell may allow fewer of them than the server takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
