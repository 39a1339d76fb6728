"""Starts the server, brings the database up to date, works on keys: `python -m app serve|migrate|keys`."""

import logging
import sys

import structlog
import uvicorn

from app import key_commands
from app.binding import BindingRefused, check_binding
from app.settings import Settings, SettingsError, load_settings
from app.store.migrate import migrate

GRACE_SECONDS = 5


def main(arguments: list[str]) -> int:
    """Runs one of the commands; `prepare` is all that can be done before serving. Returns the exit code."""
    # Warnings and errors of uvicorn go to stderr by logging's last resort; its access log is ours.
    # Plain tracebacks: the usual ones show every variable, which takes seconds and may hold secrets.
    show = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(
        processors=[*structlog.get_config()["processors"][:-1], show],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
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
        case _:
            sys.stderr.write("usage: python -m app migrate | prepare | serve | keys\n")
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
    from app.main import create_app

    structlog.get_logger().info("server starts", address=f"http://{settings.host}:{settings.port}")
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
