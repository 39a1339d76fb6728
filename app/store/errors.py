"""What the store refuses.

StoreError
├── JobNotFound          no job has this id
├── ExperimentNotFound   no experiment has this id
├── UnknownCursor        a page is asked for after a job that is not there
├── IdempotencyConflict  the key was used with another request
├── TransitionRefused    the job's state does not allow it
├── NotEnded             only ended jobs can be deleted
├── ExperimentEnded      all jobs of the experiment have ended
├── ExperimentNotEnded   only experiments whose jobs have ended can be deleted
├── NotRetryable         only failed and cancelled jobs can be tried again
├── AlreadyRetried       an experiment tries a variant with a seed once at a time
├── CheckpointGone       the checkpoint that a branch is to start from is not there any more
├── StillBranched        a job that has not ended starts from a checkpoint of what is to be deleted
├── TooManyWaiting       the owner has as many waiting jobs as one may have
├── KeyNotFound          no key has this id
├── LeaseLost            the attempt no longer holds its job
├── NotStorable          no database can hold a value that was given
└── StoreUnavailable     the database does not answer
    └── NotMigrated      the database lacks tables or columns of this version
"""

from app.store.states import Status


class StoreError(Exception):
    """The store refused something; the message may be shown to clients."""


class JobNotFound(StoreError):
    """There is no job `job_id`."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id}")
        self.job_id = job_id


class ExperimentNotFound(StoreError):
    """There is no experiment `experiment_id`."""

    def __init__(self, experiment_id: str) -> None:
        super().__init__(f"there is no experiment {experiment_id}")
        self.experiment_id = experiment_id


class UnknownCursor(StoreError):
    """There is no job (or experiment) `after` to continue a list from."""

    def __init__(self, after: str, kind: str = "job") -> None:
        super().__init__(f"there is no {kind} {after} to continue after")
        self.after = after


class IdempotencyConflict(StoreError):
    """The idempotency key `key` was used before, with another request."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the idempotency key {key!r} was used before with another request")
        self.key = key


class TransitionRefused(StoreError):
    """The job is `current` and cannot become `wanted`."""

    def __init__(self, job_id: str, current: Status, wanted: Status) -> None:
        super().__init__(f"job {job_id} is {current} and cannot become {wanted}")
        self.job_id = job_id
        self.current = current
        self.wanted = wanted


class NotEnded(StoreError):
    """The job is `current`, and only ended jobs can be deleted."""

    def __init__(self, job_id: str, current: Status) -> None:
        super().__init__(f"job {job_id} is {current}; only ended jobs can be deleted")
        self.job_id = job_id
        self.current = current


class ExperimentEnded(StoreError):
    """All jobs of the experiment have ended: nothing of it can be cancelled."""

    def __init__(self, experiment_id: str) -> None:
        super().__init__(f"experiment {experiment_id} has ended and cannot be cancelled")
        self.experiment_id = experiment_id


class ExperimentNotEnded(StoreError):
    """So many jobs of the experiment have not ended, and only ended ones can be deleted."""

    def __init__(self, experiment_id: str, jobs: int) -> None:
        have = "job has" if jobs == 1 else "jobs have"
        super().__init__(
            f"{jobs} {have} not ended in experiment {experiment_id}; cancel it before it can be deleted"
        )
        self.experiment_id = experiment_id


class NotRetryable(StoreError):
    """The job is `current`, and only failed and cancelled jobs can be tried again."""

    def __init__(self, job_id: str, current: Status) -> None:
        super().__init__(f"job {job_id} is {current}; only failed and cancelled jobs can be tried again")
        self.job_id = job_id
        self.current = current


class AlreadyRetried(StoreError):
    """Job `other` tries the same again, and has not ended."""

    def __init__(self, job_id: str, other: str) -> None:
        super().__init__(f"job {other} has the place of job {job_id} in its experiment, and has not ended")
        self.job_id = job_id
        self.other = other


class CheckpointGone(StoreError):
    """There is no checkpoint `checkpoint_id` any more."""

    def __init__(self, checkpoint_id: str) -> None:
        super().__init__(f"checkpoint {checkpoint_id} is not there any more")
        self.checkpoint_id = checkpoint_id


class StillBranched(StoreError):
    """Job `branch` starts from a checkpoint of what is to be deleted, and has not ended."""

    def __init__(self, branch: str) -> None:
        super().__init__(
            f"job {branch} starts from a checkpoint of it, and has not ended: wait for it, or cancel it"
        )
        self.branch = branch


class TooManyWaiting(StoreError):
    """The owner has `waiting` jobs queued or paused, and together with the new ones more than `most`."""

    def __init__(self, owner: str, waiting: int, most: int) -> None:
        super().__init__(
            f"{waiting} jobs of {owner or 'nobody'} are queued or paused, and {most} may be "
            "(THAW_OWNER_JOBS): wait until some have run, or cancel some"
        )
        self.owner, self.waiting, self.most = owner, waiting, most


class KeyNotFound(StoreError):
    """There is no key `name`."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no key {name}; `thaw keys list` shows all")
        self.name = name


class LeaseLost(StoreError):
    """Attempt `attempt` no longer holds the job: nothing of it may be written any more."""

    def __init__(self, job_id: str, attempt: int) -> None:
        super().__init__(f"attempt {attempt} no longer holds job {job_id}")
        self.job_id = job_id
        self.attempt = attempt


class NotStorable(StoreError):
    """A text with a NUL in it, or a number beyond all bounds."""

    def __init__(self) -> None:
        super().__init__("a text or a number in this request is none that can be stored")


class StoreUnavailable(StoreError):
    """The database does not answer, or not in time; the cause has the driver's words."""

    def __init__(self, words: str = "the database does not answer; try again") -> None:
        super().__init__(words)


class NotMigrated(StoreUnavailable):
    """The database lacks tables or columns that this version of Thaw needs."""

    def __init__(self) -> None:
        super().__init__("the database is not of this version: run `thaw up`, or `python -m app migrate`")
