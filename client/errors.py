"""The client's errors. Each message is one line that a person can act on.

ThawError
├── Unreachable         nobody answers at the address
├── AnswerUnreadable    somebody answers, in another language
├── Refused             the server says no
│   ├── NotFound
│   └── Unavailable     the server cannot answer now, and says when to ask again
├── DownloadFailed
│   ├── DownloadBroken  the connection kept breaking; what arrived is kept
│   └── DownloadCorrupt the bytes are not the checkpoint's
├── UploadBroken        the connection broke while a dataset was sent; nothing of it is there
├── SourceUnusable      what is to be uploaded is no folder of files and no zip archive
├── SpecUnreadable      a spec file that is no JSON or YAML
├── AddressInvalid      --url is no HTTP address
├── KeyUnusable         a key has not the form of one, or others can read its file
└── ProcessFailed       the server, the worker or what prepares them ended by itself
"""

from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

from client.models import ErrorBody, Problem
from client.text import one_line

REFUSED_INPUT = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
"""The answers that mean: what was sent is wrong, and stays wrong when it is sent again."""


class ThawError(Exception):
    """What the client raises; `exit_code` is what the command line ends with."""

    exit_code = 1

    def lines(self) -> list[str]:
        """What to tell a person, a line each."""
        return [one_line(str(self))]


class Unreachable(ThawError):
    """Nobody answers at the address."""

    exit_code = 4

    def __init__(self, url: str, cause: Exception | None = None) -> None:
        detail = f" ({one_line(str(cause))})" if cause is not None and str(cause) else ""
        super().__init__(f"no Thaw server at {url}; start one with `thaw up`{detail}")


class AnswerUnreadable(ThawError):
    """Somebody answers at the address, but it is not Thaw's API."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url} did not answer as a Thaw server does: {reason}")


class Refused(ThawError):
    """The server refused: `status` is HTTP's, `code`, `param` and `details` are the server's."""

    def __init__(self, status: int, body: ErrorBody) -> None:
        super().__init__(one_line(body.message))
        self.status = status
        self.code = body.code
        self.param = body.param
        self.details: Sequence[Problem] = body.details
        self.exit_code = 2 if status in REFUSED_INPUT else 1

    def lines(self) -> list[str]:
        """The message, then each detail as `param: message`; the first often is the message."""
        if self.details:
            message, *_ = super().lines()
            problems = [_problem_line(problem.param, problem.message) for problem in self.details]
            return [message, *(line for line in problems if line != message)]
        if self.param and self.param not in str(self):
            return [_problem_line(self.param, str(self))]
        return super().lines()


class NotFound(Refused):
    """There is no such job, checkpoint or address on the server."""


class Unavailable(Refused):
    """The server cannot answer now, or is asked too often.

    `retry_after` is the seconds after which it says to ask again.
    """

    def __init__(self, status: int, body: ErrorBody, retry_after: float) -> None:
        super().__init__(status, body)
        self.retry_after = retry_after


class DownloadFailed(ThawError):
    """A checkpoint did not arrive."""


class DownloadBroken(DownloadFailed):
    """The connection kept breaking. The next download goes on from what is in `part`."""

    def __init__(self, part: Path, received: int) -> None:
        super().__init__(
            f"the download keeps breaking; {received} bytes are in {part}, the next try goes on there"
        )
        self.part = part


class DownloadCorrupt(DownloadFailed):
    """The bytes that arrived do not have the checkpoint's SHA-256; they have been removed."""

    def __init__(self, target: Path, expected: str, actual: str) -> None:
        super().__init__(
            f"{target.name} arrived with SHA-256 {actual[:12]}… and should have {expected[:12]}…; removed"
        )
        self.expected = expected
        self.actual = actual


class UploadBroken(ThawError):
    """The connection broke while a dataset was sent. The server keeps all of it or nothing."""

    exit_code = 4

    def __init__(self, url: str, name: str, cause: Exception) -> None:
        detail = one_line(str(cause)) or type(cause).__name__
        super().__init__(
            f"the connection to {url} broke ({detail}); nothing of {name!r} is left there, send it again"
        )


class SourceUnusable(ThawError):
    """What is to be uploaded, or something in it, cannot be sent."""

    exit_code = 2

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.path = path


class SpecUnreadable(ThawError):
    """A spec file that cannot be read as JSON or YAML, or holds what JSON cannot say."""

    exit_code = 2

    def __init__(self, source: str, reason: str, line: int | None = None) -> None:
        where = source if line is None else f"{source}, line {line}"
        super().__init__(f"{where}: {reason}")
        self.line = line


class AddressInvalid(ThawError):
    """The server's address is no HTTP URL."""

    exit_code = 2

    def __init__(self, url: str) -> None:
        super().__init__(f"{url!r} is no address of a server; it looks like http://127.0.0.1:8321")


class KeyUnusable(ThawError):
    """A key that has not the form of one, or a file of one that others can read."""

    exit_code = 2


class ProcessFailed(ThawError):
    """A process that should have kept running, or should have succeeded, did not."""


def _problem_line(param: str | None, message: str) -> str:
    return one_line(f"{param}: {message}" if param else message)
