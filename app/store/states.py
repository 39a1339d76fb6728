from enum import StrEnum


class Status(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # a worker holds it and trains
    PAUSING = "pausing"  # a worker holds it and was asked to save and give it back
    PAUSED = "paused"  # nobody holds it; waits to be resumed by a client
    CANCELLING = "cancelling"  # a worker holds it and was asked to stop for good
    CANCELLED = "cancelled"  # ended because a client asked for it
    SUCCEEDED = "succeeded"  # ended with a result
    FAILED = "failed"  # ended with an error


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"  # the job succeeded with it
    FAILED = "failed"  # the job failed with it
    CANCELLED = "cancelled"  # a client cancelled the job
    RELEASED = "released"  # the worker gave the job back, to be paused or taken by another
    LOST = "lost"  # the worker was not heard of until its lease ran out


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.PAUSED, Status.CANCELLED}),
    Status.RUNNING: frozenset(
        {Status.QUEUED, Status.PAUSING, Status.CANCELLING, Status.SUCCEEDED, Status.FAILED}
    ),
    Status.PAUSING: frozenset({Status.PAUSED, Status.CANCELLING, Status.SUCCEEDED, Status.FAILED}),
    Status.PAUSED: frozenset({Status.QUEUED, Status.CANCELLED}),
    Status.CANCELLING: frozenset({Status.CANCELLED}),
    Status.CANCELLED: frozenset(),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
}

ENDED = frozenset(status for status, following in TRANSITIONS.items() if not following)
ACTIVE = frozenset({Status.RUNNING, Status.PAUSING, Status.CANCELLING})  # a worker holds the job

# A worker is to take the job, or to let go of it.
FOR_WORKERS = frozenset({Status.QUEUED, Status.PAUSING, Status.CANCELLING})

RETRYABLE = frozenset({Status.FAILED, Status.CANCELLED})

# What becomes of a held job when its worker lets go of it before the end.
GIVEN_BACK = {
    Status.RUNNING: Status.QUEUED,
    Status.PAUSING: Status.PAUSED,
    Status.CANCELLING: Status.CANCELLED,
}


def sources(wanted: Status) -> list[Status]:
    """Return the states from which a job may become `wanted`."""
    return [status for status in Status if wanted in TRANSITIONS[status]]
