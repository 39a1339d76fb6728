"""What jobs may name here: backbones, datasets, weights. Torch is loaded while the server already answers."""

import gc
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from app.callers import Caller
from app.own_datasets import OwnDatasets
from app.settings import Settings
from app.store import checkpoints, owners
from app.store.database import Database
from app.store.records import Checkpoint
from finetune.spec import BackboneSpec, JobSpec, JobWeights, Problem, ResolvedSpec, parse_part

if TYPE_CHECKING:
    from finetune.backbones import Registry
    from finetune.plan import Plan


log = structlog.get_logger()


class Shelf:
    """The backbones, loaded once for all requests."""

    def __init__(self, backbones: Sequence[str]) -> None:
        self._backbones = tuple(backbones)
        self._registry: Registry | None = None
        self._loading = threading.Lock()

    def start_loading(self) -> threading.Thread:
        """Loads the backbones in a thread of its own: the server answers meanwhile.

        So the operator reads at start which of them cannot be used, and no request waits for torch.
        """
        thread = threading.Thread(target=self._load, name="backbones", daemon=True)
        thread.start()
        return thread

    def _load(self) -> None:
        _ = self.registry
        # Torch and the rest stay: each search of them for garbage would hold up all requests for 0.2 seconds.
        gc.collect()
        gc.freeze()

    @property
    def registry(self) -> "Registry":
        """The backbones. Whoever asks while they are being loaded waits."""
        with self._loading:
            if self._registry is None:
                from finetune import backbones

                self._registry = backbones.load(self._backbones)
                for path, reason in self._registry.failures.items():
                    log.warning("a backbone cannot be used", backbone=path, reason=reason)
            return self._registry


class Catalog:
    """Checks specs against what there is for a caller, and draws up plans."""

    def __init__(self, settings: Settings, db: Database, shelf: Shelf, caller: Caller) -> None:
        self._settings, self._db, self._shelf, self._caller = settings, db, shelf, caller
        self._datasets = OwnDatasets(settings.data_dir, db, caller)

    @property
    def registry(self) -> "Registry":
        """The backbones."""
        return self._shelf.registry

    def check(self, body: Any) -> list[Problem]:
        """Every problem of a request."""
        from finetune import preflight

        settings, seen = self._settings, self._datasets.masked(body)
        problems = preflight.check(seen, self.registry, settings.data_dir, settings.weights_dir)
        problems = [self._datasets.reworded(problem, body) for problem in problems]
        backbone = parse_part(BackboneSpec, body, "backbone")
        if backbone is not None and isinstance(backbone.weights, JobWeights):
            problems += self._job_weights_problems(backbone.weights)
        return problems

    def resolve(self, spec: JobSpec) -> ResolvedSpec:
        """A spec that has no problems of its own, with its recipe expanded and every default filled in."""
        from finetune.network import resolve_with

        return resolve_with(self.registry, spec)

    def plan(self, spec: JobSpec) -> "Plan":
        """The plan of a spec that has no problems of its own.

        Raises:
            FinetuneError: the data or the weights do not allow a plan.
        """
        from finetune.data.dataset import open_dataset
        from finetune.features import Room
        from finetune.network import draw
        from finetune.plan import make_plan
        from finetune.tables import tables_of

        settings, resolved = self._settings, self.resolve(spec)
        self._datasets.check(resolved.dataset.path)
        dataset = open_dataset(settings.data_dir, resolved.dataset, resolved.seed)
        job_file = self._job_file(resolved.backbone)
        blueprint = draw(resolved, self.registry, dataset.classes, settings.weights_dir, job_file)
        room = Room(settings.feature_memory_bytes, settings.cache_bytes)
        return make_plan(resolved, blueprint, dataset, tables_of(resolved, blueprint, dataset, room))

    def _job_weights_problems(self, weights: JobWeights) -> list[Problem]:
        if self._checkpoint(weights) is not None:
            return []
        message = f"there is no checkpoint {weights.checkpoint!r} of a job {weights.job!r}"
        return [Problem("backbone.weights.job", message, "weights_not_found")]

    def _job_file(self, backbone: BackboneSpec) -> Path | None:
        if not isinstance(backbone.weights, JobWeights):
            return None
        found = self._checkpoint(backbone.weights)
        return self._settings.artifacts_dir / found.path if found else None

    def _checkpoint(self, weights: JobWeights) -> Checkpoint | None:
        """The checkpoint of a job that the caller sees."""
        owner = owners.owner_of_job(self._db, weights.job)
        if owner is None or not self._caller.sees(owner):
            return None
        return checkpoints.get_checkpoint(self._db, weights.job, weights.checkpoint)
