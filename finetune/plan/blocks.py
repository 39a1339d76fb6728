"""The freeze map: the network's blocks, and what a stage does with each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from finetune.backbones import Backbone
from finetune.freezing import Freezing
from finetune.modules import blocks, parameter_counts, within

State = Literal["frozen", "trained", "partly", "head"]


@dataclass(frozen=True)
class Block:
    """A block, with what stands between it and the next one. `owners` are the modules that own parameters."""

    name: str
    owners: tuple[str, ...]
    parameters: int
    is_head: bool


def blocks_of(model: nn.Module, backbone: Backbone) -> list[Block]:
    """The blocks from the input to the head; every parameter is in one of them."""
    counts = parameter_counts(model)
    names = [name for name, _ in model.named_modules()]
    found = blocks(model, backbone.containers, backbone.heads)
    starts = [0, *(names.index(name) for name in found[1:]), len(names)]
    return [
        _block(name, names[starts[i] : starts[i + 1]], counts, backbone.heads) for i, name in enumerate(found)
    ]


def _block(name: str, members: Sequence[str], counts: dict[str, int], heads: tuple[str, ...]) -> Block:
    owners = tuple(member for member in members if member in counts)
    is_head = bool(within([name], heads) or within(heads[:1], [name]))
    return Block(name, owners, sum(counts[owner] for owner in owners), is_head)


def state_of(block: Block, freezing: Freezing) -> State:
    """What a stage with this freezing does with a block."""
    frozen = sum(owner in freezing.modules for owner in block.owners)
    if frozen == len(block.owners):
        return "frozen"
    if frozen:
        return "partly"
    return "head" if block.is_head else "trained"
