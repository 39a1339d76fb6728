"""Gradient checkpointing: blocks keep what they took, and compute the rest again in the backward pass.

Less memory for more computing (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"). Neither
losses, nor gradients, nor buffers are other than without it: dropout repeats its mask, and what a block's
forward changes in its buffers (BatchNorm's statistics) is changed once.
"""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint


@contextmanager
def rematerialized(model: nn.Module, blocks: Collection[str]) -> Iterator[None]:
    """Inside, the blocks run under torch's checkpointing wherever gradients are computed.

    `blocks` are dotted names of modules, as `modules.blocks` gives them. No name of a parameter or module
    changes; a deep copy of the network made inside goes on with blocks of its own.
    """
    chosen = [model.get_submodule(name) for name in blocks]
    for block in chosen:
        # A bound method and no closure: a deep copy binds it to the copied block, not to this one.
        block.forward = MethodType(_forward, block)
    try:
        yield
    finally:
        for block in chosen:
            del block.forward


def _forward(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        return type(block).forward(block, *args, **kwargs)

    if not torch.is_grad_enabled() or not _needs_gradients(block, (*args, *kwargs.values())):
        return run(*args, **kwargs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        state = _Buffers(block)
        return state.watched(), state.as_before()

    return checkpoint(run, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _needs_gradients(block: nn.Module, inputs: tuple[Any, ...]) -> bool:
    tensors = (value for value in inputs if isinstance(value, Tensor))
    return any(p.requires_grad for p in block.parameters()) or any(t.requires_grad for t in tensors)


class _Buffers:
    """The buffers that a block's forward changes, as they were before it."""

    def __init__(self, block: nn.Module) -> None:
        self._block = block
        self._before: dict[tuple[nn.Module, str], Tensor] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around the first computing: finds out which change."""
        seen = [
            (module, name, buffer, buffer._version, buffer.clone())
            for module in self._block.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        yield
        for module, name, buffer, version, copy in seen:
            # torch's normalisation moves its statistics without counting that as a change of the tensor.
            moves = isinstance(module, _NormBase) and module.training
            if moves or module._buffers[name] is not buffer or buffer._version != version:
                self._before[module, name] = copy

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """Around the second computing, which so sees what the first one saw; its changes are dropped."""
        now = {place: place[0]._buffers[place[1]] for place in self._before}
        for (module, name), before in self._before.items():
            module._buffers[name] = before.clone()
        try:
            yield
        finally:
            for (module, name), buffer in now.items():
                module._buffers[name] = buffer
