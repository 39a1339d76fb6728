"""Finding a backbone by name: torchvision's, and those that the operator registered."""

import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from finetune.backbones import torchvision as tv
from finetune.backbones.row import Backbone
from finetune.backbones.skeleton import skeleton
from finetune.errors import SpecInvalid
from finetune.spec.problems import Problem, closest


@dataclass(frozen=True)
class Registry:
    """The backbones that there are here. `failures` says which registered ones cannot be loaded, and why."""

    registered: dict[str, Backbone] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Every name that `backbone.name` may be, the operator's first."""
        return [*self.registered, *(name for name in tv.names() if name not in self.registered)]

    def find(self, name: str) -> Backbone:
        """The backbone of that name.

        Raises:
            SpecInvalid: there is none; the message has the closest names.
        """
        found = self.registered.get(name) or tv.find(name)
        if found is None:
            raise SpecInvalid([Problem("backbone.name", self._unknown(name), "unknown_backbone")])
        return found

    def _unknown(self, name: str) -> str:
        if name.startswith("timm/"):
            return f"backbone {name!r}: timm's models are not in this version"
        unloaded = "".join(f"; {path} could not be loaded: {why}" for path, why in self.failures.items())
        return f"there is no backbone {name!r}; {closest(name, self.names())}{unloaded}"


def load(paths: Iterable[str]) -> Registry:
    """Imports the operator's backbones, each `package.module:attribute`.

    One that fails does not take the others down: it stands in `failures` with its reason.
    """
    registered: dict[str, Backbone] = {}
    failures: dict[str, str] = {}
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last, so that nothing of the operator's hides an installed module
    for path in paths:
        module, _, attribute = path.partition(":")
        try:
            row = getattr(importlib.import_module(module), attribute)
            if not isinstance(row, Backbone):
                failures[path] = f"is no backbone but {type(row).__name__}; see finetune.backbones.backbone"
                continue
            skeleton(row, row.num_classes, row.preprocessing.crop)
        except SpecInvalid as error:
            failures[path] = error.message
            continue
        except Exception as error:  # whatever an operator's module raises is its own, and is shown
            failures[path] = f"{type(error).__name__}: {error}"
            continue
        registered[row.name] = row
    return Registry(registered, failures)
