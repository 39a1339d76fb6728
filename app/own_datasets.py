"""The datasets below the data root as a caller sees them: the operator's, and those of the caller's owner.

Whose a dataset is stands at its top folder. One that nobody has uploaded was put there by the operator, for
all. Another owner's is not there at all: not in lists, not by name, not among the names that are close.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from app.callers import Caller
from app.store import uploads
from app.store.database import Database
from app.store.records import Upload
from finetune.data.dataset import dataset_names
from finetune.data.paths import Outside, resolve_below
from finetune.errors import DatasetNotFound
from finetune.spec import DatasetSpec, parse_part
from finetune.spec.problems import Problem, closest

FIELD, CODE = "dataset.path", DatasetNotFound.code
_NOWHERE = "/"  # a path at which there never is a dataset


class OwnDatasets:
    """What a caller may list, look at, train on and replace."""

    def __init__(self, data_dir: Path, db: Database, caller: Caller) -> None:
        self._data_dir, self._db, self._caller = data_dir, db, caller

    def names(self) -> list[str]:
        """The names of the datasets, sorted."""
        found = dataset_names(self._data_dir)
        if self._caller.sees_all:
            return found
        others = {u.name for u in uploads.list_uploads(self._db) if not self._caller.sees(u.owner)}
        return [name for name in found if not others & self._tops(name)]

    def check(self, path: str) -> None:
        """Refuses a path at which there is nothing for the caller.

        Raises:
            DatasetNotFound: something may be there, but it is another's.
        """
        if not self._sees(path):
            raise DatasetNotFound(self.missing(path), FIELD)

    def missing(self, path: str) -> str:
        """The sentence for a path at which there is nothing for the caller."""
        near = closest(path, self.names())
        return f"there is no dataset {path[:100]!r} below the data root; {near}"

    def may_replace(self, name: str) -> bool:
        """Whether an upload may take the place of what has this name; what the operator put there stays."""
        found = uploads.get_upload(self._db, name)
        return self._caller.sees_all or (found is not None and found.owner == self._caller.owner)

    def stored(self) -> list[Upload]:
        """The uploads of the caller's owner that are there."""
        mine = uploads.list_uploads(self._db, self._caller.owner)
        return [upload for upload in mine if (self._data_dir / upload.name).is_dir()]

    def masked(self, body: Any) -> Any:
        """A spec in which a dataset that is not there for the caller has a path at which there is none."""
        path = _path_of(body)
        if path is None or self._sees(path):
            return body
        return {**body, "dataset": {**body["dataset"], "path": _NOWHERE}}

    def reworded(self, problem: Problem, body: Any) -> Problem:
        """The problem of a masked spec as one of the spec that was sent, with the caller's names alone."""
        path = _path_of(body)
        if self._caller.sees_all or path is None or (problem.param, problem.code) != (FIELD, CODE):
            return problem
        return Problem(FIELD, self.missing(path), CODE)

    def _sees(self, path: str) -> bool:
        if self._caller.sees_all:
            return True
        tops = self._tops(path)
        if not tops or any(top.startswith(".") for top in tops):  # nowhere, or an upload on its way
            return False
        found = [uploads.get_upload(self._db, top) for top in tops]
        return all(upload is None or self._caller.sees(upload.owner) for upload in found)

    def _tops(self, path: str) -> set[str]:
        """The folder right below the data root that a path names, and the one that a link leads into."""
        try:
            real = resolve_below(self._data_dir, path)
        except Outside:
            return set()
        return {PurePosixPath(path).parts[0], real.relative_to(self._data_dir.resolve()).parts[0]}


def _path_of(body: Any) -> str | None:
    dataset = parse_part(DatasetSpec, body, "dataset")
    return dataset.path if dataset is not None else None
