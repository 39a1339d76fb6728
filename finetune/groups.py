"""Named parameter groups: one readable list, each trained parameter in it exactly once."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from finetune.freezing import BATCH_NORM, Freezing
from finetune.modules import blocks, matching, owner, summarize
from finetune.spec.schedules import LrPlan

DEFAULT = "default"
NORMS = (BATCH_NORM, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Group:
    """Parameters with one learning-rate factor. `modules` says briefly where they are."""

    name: str
    factor: float
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    count: int
    decays: bool = True  # false: the optimizer's weight decay leaves it alone


@dataclass(frozen=True)
class Grouping:
    """A stage's groups, and the entries of its plan that got no parameter."""

    groups: tuple[Group, ...]
    idle: tuple[str, ...]


def groups_of(
    model: nn.Module,
    heads: tuple[str, ...],
    containers: tuple[str, ...],
    freezing: Freezing,
    lr: LrPlan,
    *,
    spares: bool = False,
) -> Grouping:
    """Sorts the trained parameters into groups; empty groups are left out.

    With `spares`, weight decay leaves norms and biases alone: a group that has some is two.

    Raises:
        UnknownModule: a factor names a module that is not there.
    """
    entries = (
        _layer_entries(model, heads, containers, lr.layer_decay)
        if lr.layer_decay
        else _entries(model, heads, lr)
    )
    frozen = set(freezing.parameters)
    members: list[list[str]] = [[] for _ in entries]
    for name, _ in model.named_parameters():
        if name not in frozen:
            first = next(
                i for i, (_, _, owners) in enumerate(entries) if owners is None or owner(name) in owners
            )
            members[first].append(name)
    groups = tuple(
        group
        for (name, factor, _), found in zip(entries, members, strict=True)
        for group in _by_decay(model, name, factor, found, spares)
    )
    _check_each_once(model, frozen, groups)
    used = {name for (name, _, _), found in zip(entries, members, strict=True) if found}
    idle = () if lr.layer_decay else tuple(n for n, _, _ in entries if n not in used and n != DEFAULT)
    return Grouping(groups, idle)


Entry = tuple[str, float, frozenset[str] | None]  # name, factor, the owners it takes (None: whatever is left)


def _entries(model: nn.Module, heads: tuple[str, ...], lr: LrPlan) -> list[Entry]:
    entries: list[Entry] = [
        (
            _name(factor.modules),
            factor.factor,
            frozenset(name for pattern in factor.modules for name in matching(model, heads, pattern)),
        )
        for factor in lr.factors
    ]
    return [*entries, (DEFAULT, lr.default_factor, None)]


def _name(modules: list[str]) -> str:
    name = ",".join(modules)
    return f"{name} (module)" if name == DEFAULT else name


def _layer_entries(
    model: nn.Module, heads: tuple[str, ...], containers: tuple[str, ...], decay: float
) -> list[Entry]:
    """One entry a block, the last with factor 1. What belongs to no block goes with the nearest before it."""
    names = [name for name, _ in model.named_modules()]
    found = blocks(model, containers, heads)
    starts = [0, *(names.index(block) for block in found[1:]), len(names)]
    return [
        (block, decay ** (len(found) - 1 - i), frozenset(names[starts[i] : starts[i + 1]]))
        for i, block in enumerate(found)
    ]


def _by_decay(
    model: nn.Module, name: str, factor: float, parameters: list[str], spares: bool
) -> Iterator[Group]:
    """One group, or where norms and biases are spared the two parts of it."""
    spared = [p for p in parameters if spares and _is_norm_or_bias(model, p)]
    others = [p for p in parameters if p not in set(spared)]
    if others:
        yield _group(model, name, factor, others, decays=True)
    if spared:
        yield _group(model, f"{name} (no decay)", factor, spared, decays=False)


def _is_norm_or_bias(model: nn.Module, parameter: str) -> bool:
    """All that has one dimension, and of the layers known to normalise also what has more."""
    module = model.get_submodule(owner(parameter))
    return model.get_parameter(parameter).ndim <= 1 or isinstance(module, NORMS)


def _group(model: nn.Module, name: str, factor: float, parameters: list[str], *, decays: bool) -> Group:
    owners = {owner(parameter) for parameter in parameters}
    count = sum(model.get_parameter(parameter).numel() for parameter in parameters)
    return Group(name, factor, tuple(summarize(model, owners)), tuple(parameters), count, decays)


def _check_each_once(model: nn.Module, frozen: set[str], groups: tuple[Group, ...]) -> None:
    times = Counter(name for group in groups for name in group.parameters)
    trained = [name for name, _ in model.named_parameters() if name not in frozen]
    wrong = [name for name in trained if times[name] != 1]
    assert not wrong, f"parameters that are not in exactly one group: {wrong[:3]}"
    assert len(times) == len(trained), "a frozen parameter is in a group"
