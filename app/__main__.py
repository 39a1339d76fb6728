"""Starts the server or brings the database up to date: `python -m app serve`, `python -m app migrate`."""

import resource
import sys

import structlog
import uvicorn

from app.logs import configure
from app.settings import Settings, SettingsError, load_settings
from app.store.migrate import migrate

GRACE_SECONDS = 5
MOST_FILES = 4096


def main(arguments: list[str]) -> int:
    """Runs one of the two. Returns the exit code."""
    configure()
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    match arguments:
        case ["migrate"]:
            migrate(settings.database_url)
        case ["serve"]:
            _serve(settings)
        case _:
            sys.stderr.write("usage: python -m app migrate | serve\n")
            return 2
    return 0


def _serve(settings: Settings) -> None:
    from app.connections import protocol
    from app.main import create_app

    _allow_many_files()

    structlog.get_logger().info("server starts", address=f"http://{settings.host}:{settings.port}")
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


def _allow_many_files() -> None:
    """Every connection is an open file, and a shell may allow fewer of them than the server takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
