"""The head: how many outputs the network gets, and which rows of the weights' head it keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from finetune.backbones.weights import Source
from finetune.spec.objectives import Triplet

Action = Literal["kept", "adapted", "replaced", "projection", "removed"]


@dataclass(frozen=True)
class Head:
    """What becomes of the head.

    `outputs` is null where the network gives what its head would take. `whole` says that the weights' head is
    taken as it is; else `rows` are taken, each (row here, row of the weights), and the others are new.
    `kept` and `new` are the classes of taken and of new rows.
    """

    outputs: int | None
    action: Action
    reason: str
    whole: bool = False
    rows: tuple[tuple[int, int], ...] = ()
    kept: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


def outputs_of(objective: Any, classes: Sequence[str]) -> int | None:
    """How many outputs an objective wants of the head; null for none."""
    return objective.embedding_size if isinstance(objective, Triplet) else len(classes)


def decide(objective: Any, keep: str, classes: tuple[str, ...], source: Source | None) -> Head:
    """What becomes of the head, from the objective, `head.keep` and what the weights say of theirs."""
    outputs = outputs_of(objective, classes)
    if isinstance(objective, Triplet):
        return _embedding(outputs, keep, source)
    known: dict[str, int] = {}
    if source is None:
        reason = "the network starts from random weights"
    elif keep == "never":
        reason = 'head.keep is "never"'
    elif source.embeds:
        reason = "the weights are of an embedding network, which knows no classes"
    elif source.classes is None:
        reason = "the weights do not say which classes their head knows"
    else:
        known = {name: row for row, name in enumerate(source.classes)}
        reason = "the weights' head knows none of the classes"
    rows = tuple((row, known[name]) for row, name in enumerate(classes) if name in known)
    kept = tuple(name for name in classes if name in known)
    new = tuple(name for name in classes if name not in known)
    if not rows:
        return Head(outputs, "replaced", reason, new=classes)
    if new:
        reason = f"the weights' head knows {len(kept)} of the {len(classes)} classes"
        return Head(outputs, "adapted", reason, rows=rows, kept=kept, new=new)
    same = source is not None and source.classes == classes
    reason = f"the weights' head knows {'the same' if same else 'all'} classes"
    return Head(outputs, "kept", reason, whole=same, rows=rows, kept=kept)


def _embedding(outputs: int | None, keep: str, source: Source | None) -> Head:
    if outputs is None:
        return Head(None, "removed", "the embedding is the pooled features")
    if keep == "auto" and source is not None and source.embedding_size == outputs:
        return Head(outputs, "kept", f"the weights' head projects to {outputs} numbers too", whole=True)
    return Head(outputs, "projection", f"a new linear projection to {outputs} numbers")


def drop_before(head: nn.Module, p: float) -> None:
    """Dropout on what the head takes, while the head is in training mode.

    A hook and not a module: the names of the weights stay those of the backbone, which any torchvision loads.
    """

    def drop(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (F.dropout(args[0], p, module.training), *args[1:])

    head.register_forward_pre_hook(drop)
