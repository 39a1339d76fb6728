"""Waiting for a database that is busy, for as long as a lease holds and no longer."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from app.store.errors import LeaseLost, StoreUnavailable
from app.store.records import Claim

log = structlog.get_logger()

Result = TypeVar("Result")
PAUSE_SECONDS = 0.25


def patiently(claim: Claim, lease_seconds: float, write: Callable[[], Result]) -> Result:
    """Does a write of an attempt, again and again while the database does not answer.

    Raises:
        LeaseLost: the job is another's, or the database has been silent for a whole lease.
    """
    begun = time.monotonic()
    while True:
        try:
            return write()
        except StoreUnavailable as error:
            log.warning("the database does not answer", job=claim.job_id, cause=str(error.__cause__))
            if time.monotonic() - begun > lease_seconds:
                raise LeaseLost(claim.job_id, claim.attempt) from error
            time.sleep(PAUSE_SECONDS)
