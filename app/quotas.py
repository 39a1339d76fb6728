"""How much an owner may have: jobs that wait, and bytes on disk. Admins have no quota."""

from app.callers import Caller
from app.errors import QuotaReached, TooLarge
from app.own_datasets import OwnDatasets
from app.settings import Settings
from app.store import owners
from app.store.database import Database

CODE = "quota_bytes"


class Quota:
    """What the owner of a request's key may have, and has."""

    def __init__(self, settings: Settings, db: Database, caller: Caller) -> None:
        self._settings, self._db, self._caller = settings, db, caller
        self._datasets = OwnDatasets(settings.data_dir, db, caller)

    @property
    def owner(self) -> str:
        """Whose what this request makes is."""
        return self._caller.owner

    @property
    def most_waiting(self) -> int | None:
        """How many of the owner's jobs may be queued or paused; None is no limit."""
        return None if self._caller.sees_all else self._settings.owner_jobs

    def bytes_left(self, without: str | None = None) -> int | None:
        """How many bytes more there may be; None is no limit. `without` is a dataset that is about to go."""
        if self._caller.sees_all:
            return None
        datasets = sum(upload.size for upload in self._datasets.stored() if upload.name != without)
        return max(0, self._settings.owner_bytes - datasets - owners.stored_bytes(self._db, self.owner))

    def check_bytes(self) -> None:
        """Refuses what will store more where there is no room for it.

        Raises:
            QuotaReached: there is none.
        """
        if self.bytes_left() == 0:
            raise QuotaReached(self._sentence(), code=CODE)

    def too_large(self) -> TooLarge:
        """The refusal of an upload that is larger than what is left."""
        return TooLarge(self._sentence(), code=CODE)

    def _sentence(self) -> str:
        most = f"{self._settings.owner_bytes:,} bytes"
        return (
            f"{self.owner or 'nobody'} may have {most} stored here (THAW_OWNER_BYTES): delete jobs that are "
            "no longer needed, replace datasets by smaller ones, or ask the operator for more"
        )
