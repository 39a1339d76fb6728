"""Finding a backbone by name: torchvision's, timm's, and those that the operator registered."""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from finetune.backbones import timm
from finetune.backbones import torchvision as tv
from finetune.backbones.row import Backbone
from finetune.backbones.skeleton import skeleton
from finetune.errors import SpecInvalid
from finetune.spec.problems import Problem, closest

GROUP = "thaw.backbones"  # of the entry points with which an installed package registers its own


@dataclass(frozen=True)
class Registry:
    """The backbones that there are here. `failures` says which registered ones cannot be loaded, and why."""

    registered: dict[str, Backbone] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Every name that `backbone.name` may be, the operator's first. Loads timm where it is installed."""
        return [*self._without_timm(), *(name for name in timm.names() if name not in self.registered)]

    def find(self, name: str) -> Backbone:
        """The backbone of that name.

        Raises:
            SpecInvalid: there is none, with the closest names; or it cannot be built.
        """
        found = self.registered.get(name) or (timm if name.startswith(timm.PREFIX) else tv).find(name)
        if found is None:
            raise SpecInvalid([Problem("backbone.name", self._unknown(name), "unknown_backbone")])
        return found

    def rows(self) -> Iterator[Backbone]:
        """Every backbone in the order of `names`; timm's are not built for it, and lack their containers."""
        for name in self.names():
            row = self.registered.get(name) or (timm.row if name.startswith(timm.PREFIX) else tv.find)(name)
            assert row is not None, name
            yield row

    def _without_timm(self) -> list[str]:
        return [*self.registered, *(name for name in tv.names() if name not in self.registered)]

    def _unknown(self, name: str) -> str:
        if name.startswith(timm.PREFIX):
            reason = timm.missing(name)
            return reason or f"there is no backbone {name!r}; {closest(name, timm.names())}"
        unloaded = "".join(f"; {path} could not be loaded: {why}" for path, why in self.failures.items())
        return f"there is no backbone {name!r}; {closest(name, self._without_timm())}{unloaded}"


def load(paths: Iterable[str]) -> Registry:
    """Imports the operator's backbones: `paths`, each `package.module:attribute`, and the entry points.

    One that fails does not take the others down: it stands in `failures` with its reason.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last, so that nothing of the operator's hides an installed module
    registry = Registry()
    for path in paths:
        _register(registry, path, partial(_imported, path))
    for point in entry_points(group=GROUP):
        _register(registry, f"entry point {point.name} = {point.value}", point.load)
    return registry


def _imported(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _register(registry: Registry, origin: str, imported: Callable[[], Any]) -> None:
    try:
        row = imported()
        if not isinstance(row, Backbone):
            reason = f"is no backbone but {type(row).__name__}; see finetune.backbones.backbone"
        elif row.name in registry.registered:
            reason = f"is called {row.name!r}, as another registered backbone is"
        else:
            skeleton(row, row.num_classes, row.preprocessing.crop)
            registry.registered[row.name] = row
            return
    except SpecInvalid as error:
        reason = error.message
    except (Exception, SystemExit) as error:  # whatever an operator's module raises is its own, and is shown
        reason = f"{type(error).__name__}: {error}"
    registry.failures[origin] = reason
