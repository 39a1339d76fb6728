"""What an upload may do here: take a name, fill so much of the disk; and whose the dataset then is."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.callers import Caller
from app.own_datasets import OwnDatasets
from app.quotas import Quota
from app.staging import NameTaken, check_free
from app.store import uploads
from app.store.database import Database
from app.store.scopes import NOBODY

_noting = threading.Lock()  # two uploads of an owner do not both take the last room


class Rights:
    """A caller's, who uploads a dataset."""

    def __init__(self, db: Database, caller: Caller, own: OwnDatasets, quota: Quota) -> None:
        self._db, self._caller, self._own, self._quota = db, caller, own, quota

    def check_length(self, name: str, length: int | None) -> None:
        """Refuses what cannot fit before it is sent; without a length, where nothing fits.

        Raises:
            TooLarge: it is more than the owner may store.
        """
        left = self._quota.bytes_left(name)
        if left is not None and (left == 0 or (length or 0) > left):
            raise self._quota.too_large()

    def check_name(self, target: Path, replace: bool) -> None:
        """Allows a name, which the caller has locked.

        Raises:
            NameTaken: a dataset has it that the caller may not replace, or does not want to.
        """
        if target.is_dir() and not self._own.may_replace(target.name):
            raise NameTaken(f"the name {target.name!r} is taken: take another one")
        check_free(target, replace)

    @contextmanager
    def noted(self, target: Path, size: int) -> Iterator[None]:
        """Notes whose the dataset is before it is in its place, so that it is never there for all by mistake.

        What an error leaves is as it was before.

        Raises:
            TooLarge: it is more than the owner may store.
        """
        name = target.name
        with _noting:
            left = self._quota.bytes_left(name)
            if left is not None and size > left:
                raise self._quota.too_large()
            earlier = uploads.record_upload(self._db, name, self._owner_of(target), size)
            try:
                yield
            except BaseException:
                uploads.restore_upload(self._db, name, earlier)
                raise

    def _owner_of(self, target: Path) -> str | None:
        """Whose it will be: whose it was, or the caller's; None is for all, as what operators put there."""
        before = uploads.get_upload(self._db, target.name) if os.path.lexists(target) else None
        if before is not None:
            return before.owner
        by_operator = self._caller.sees_all and self._caller.owner == NOBODY
        return None if by_operator or os.path.lexists(target) else self._caller.owner
