"""Asking about any number of files: several in a request, and one that is refused does not stop others."""

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path

from client.api import ThawClient
from client.errors import Refused
from client.predictions import Prediction

MOST_FILES = 32
MOST_BYTES = 16 * 2**20
"""Of one request, so that it is answered soon and meets no server's limit. A larger file goes alone."""

Outcome = Prediction | str
"""What is predicted for a file, or why nothing is."""


class Asker:
    """Asks about files, all of them of the checkpoint that answers first: `best` may change meanwhile."""

    def __init__(self, client: ThawClient, job_id: str, checkpoint: str, top: int) -> None:
        self._client, self._job_id, self._checkpoint, self._top = client, job_id, checkpoint, top

    def outcomes(self, files: Sequence[Path]) -> Iterator[tuple[Path, Outcome]]:
        """Each file's outcome, in the files' order.

        Raises:
            Refused: the server refuses for a reason that is none of the files.
        """
        for batch in _batches(files):
            found: dict[int, Outcome] = {n: why for n, file in enumerate(batch) if (why := _unreadable(file))}
            found |= self._ask(batch, [n for n in range(len(batch)) if n not in found])
            yield from ((file, found[n]) for n, file in enumerate(batch))

    def _ask(self, batch: Sequence[Path], wanted: Sequence[int]) -> dict[int, Outcome]:
        """The outcomes of the files at some indices. What is refused is left out, the rest asked again."""
        if not wanted:
            return {}
        files = [batch[n] for n in wanted]
        try:
            answer = self._client.predict(self._job_id, files, self._checkpoint, self._top)
        except Refused as error:
            refused: dict[int, Outcome] = {wanted[n]: why for n, why in _refused_images(error, len(wanted))}
            if refused:
                return refused | self._ask(batch, [n for n in wanted if n not in refused])
            if error.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                raise
            if len(wanted) == 1:
                return {wanted[0]: str(error)}
            half = len(wanted) // 2
            return self._ask(batch, wanted[:half]) | self._ask(batch, wanted[half:])
        self._checkpoint = answer.checkpoint
        return dict(zip(wanted, answer.data, strict=True))


def _batches(files: Sequence[Path]) -> Iterator[list[Path]]:
    batch, size = list[Path](), 0
    for file in files:
        own = file.stat().st_size if file.is_file() else 0
        if batch and (len(batch) == MOST_FILES or size + own > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += own
    if batch:
        yield batch


def _unreadable(file: Path) -> str | None:
    """Why a file cannot be sent, in the system's words."""
    try:
        with file.open("rb"):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _refused_images(error: Refused, sent: int) -> Iterator[tuple[int, str]]:
    """Which of the images the refusal is about, and why each is refused."""
    named = [(problem.param, problem.message) for problem in error.details] or [(error.param, str(error))]
    for param, message in named:
        match = re.fullmatch(r"images\.(\d{1,4})", param or "")
        if match and int(match[1]) < sent:
            yield int(match[1]), message
