"""The process that predicts, and the queue before it: nobody who waits for it holds up other requests."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import anyio.to_thread

from app.aside import Aside, AsideBusy
from app.settings import Settings
from finetune.predictions import Predictions, Question

PATIENCE = 120.0  # seconds for a question; the first one waits until torch is loaded
MOST_WAITING = 32  # requests whose images are held in memory


class Predictor:
    """Answers one question at a time, in a process that the first one starts."""

    def __init__(self, settings: Settings) -> None:
        arguments = (settings.backbones, settings.predict_device)
        self._aside = Aside("predictor", "finetune.predicting:open_predictor", arguments)
        self._turn = anyio.CapacityLimiter(1)  # of threads: its own, so that no other request lacks one
        self._waiting = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, to be taken before a request's images are read.

        Raises:
            AsideBusy: there is none left.
        """
        if self._waiting >= MOST_WAITING:
            raise AsideBusy("the predictor is busy")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def ask(self, question: Question) -> Predictions:
        """Waits for the answer.

        Raises:
            AsideError: there is no answer now; asking again later may help.
            AsideRefused: the answer is a refusal.
        """
        deadline = time.monotonic() + PATIENCE

        def ask() -> Predictions:
            answer: Predictions = self._aside.ask(question, max(0.0, deadline - time.monotonic()))
            return answer

        try:
            with anyio.fail_after(PATIENCE):
                return await anyio.to_thread.run_sync(ask, limiter=self._turn)
        except TimeoutError as error:
            raise AsideBusy("the predictor is busy") from error

    def close(self) -> None:
        """Ends the process. Whoever waits for an answer gets none."""
        self._aside.close()
