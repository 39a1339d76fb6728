"""Modules by name: finding them, their parameters, and short lists that stand for many."""

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from torch import Tensor, nn

from finetune.spec.problems import closest

HEAD = "head"  # stands for the head's modules in every backbone that has no module of that name


class UnknownModule(Exception):
    """A name or glob that matches no module; the message has the closest names."""


def matching(model: nn.Module, heads: tuple[str, ...], pattern: str) -> list[str]:
    """The modules that a name or a glob means, with everything inside them, in the order of registration.

    Raises:
        UnknownModule: it matches nothing.
    """
    names = [name for name, _ in model.named_modules() if name]
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found and pattern == HEAD:
        found = list(heads)
    if not found:
        raise UnknownModule(f"no module is called {pattern!r}; {closest(pattern, names)}")
    return within(names, found)


def within(names: Iterable[str], roots: Collection[str]) -> list[str]:
    """Those of the names that are one of the roots or lie inside one."""
    return [name for name in names if any(name == root or name.startswith(f"{root}.") for root in roots)]


def owner(tensor: str) -> str:
    """The module that a parameter or buffer belongs to directly."""
    return tensor.rpartition(".")[0]


def copy_of_state(model: nn.Module) -> dict[str, Tensor]:
    """The network's parameters and buffers as they are now, for `load_state_dict`."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """How many parameters each module that has some owns directly, in the order of registration."""
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        counts[owner(name)] = counts.get(owner(name), 0) + parameter.numel()
    return counts


def summarize(model: nn.Module, owners: Collection[str]) -> dict[str, int]:
    """The fewest modules that hold exactly the given owners of parameters, with the parameters in each.

    A module whose own parameters are meant while some inside it are not stands for itself alone.
    """
    counts = parameter_counts(model)
    chosen = set(owners) & set(counts)
    summary: dict[str, int] = {}

    def visit(name: str, around: list[str]) -> None:
        inside = within(around, [name]) if name else around
        if chosen.isdisjoint(inside):
            return
        if chosen.issuperset(inside):
            summary[name or "(whole network)"] = sum(counts[n] for n in inside)
            return
        if name in chosen:
            summary[name or "(network's own)"] = counts[name]
        for child, _ in model.get_submodule(name).named_children():
            visit(f"{name}.{child}" if name else child, inside)

    visit("", list(counts))
    return summary


FEWEST_BLOCKS = 5
LARGEST_BLOCK = 0.9  # of all parameters but the heads'


def blocks(model: nn.Module, containers: Collection[str], heads: tuple[str, ...] = ()) -> list[str]:
    """The network's blocks from the input to the head: its children, those of a container each by itself.

    What holds vectors alone (a normalisation, a scale) belongs to the block before it, and so do the heads
    behind the first of `heads`; modules without parameters are no blocks.
    """
    found: list[str] = []

    def belongs_to_the_last(name: str, module: nn.Module) -> bool:
        if all(parameter.ndim < 2 for parameter in module.parameters()):
            return True
        return bool(within(heads[:1], found[-1:]) and within(heads[1:], [name]))

    def visit(parent: str) -> None:
        for child, module in model.get_submodule(parent).named_children():
            name = f"{parent}.{child}" if parent else child
            if name in containers:
                visit(name)
            elif _has_parameters(module) and not (found and belongs_to_the_last(name, module)):
                found.append(name)

    visit("")
    return found


def containers_of(model: nn.Module, heads: tuple[str, ...]) -> tuple[str, ...]:
    """Which modules to open so that `blocks` gives a network's blocks, for one that nobody has looked at.

    Modules without a forward of their own (lists) are opened always: nothing calls them. Beyond that the
    largest block is, as long as it holds nearly everything or there are fewer than five.
    """
    counts = parameter_counts(model)

    def size(block: str) -> int:
        return sum(counts[name] for name in within(counts, [block]) if not within([name], heads))

    def is_list(block: str) -> bool:
        return type(model.get_submodule(block)).forward is nn.Module.forward and not within(heads, [block])

    def opens(block: str) -> bool:
        parts = list(filter(_has_parameters, model.get_submodule(block).children()))
        return len(parts) > 1 and not within(heads, [block])

    opened: list[str] = []
    while True:
        found = blocks(model, opened, heads)
        lists = list(filter(is_list, found))
        largest = max(filter(opens, found), key=size, default=None)
        if lists:
            opened += lists
        elif largest and (
            len(found) < FEWEST_BLOCKS or size(largest) > LARGEST_BLOCK * sum(map(size, found))
        ):
            opened.append(largest)
        else:
            return tuple(opened)


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
