"""A network as a graph, in which every module that a stage treats in one way is one node.

Modules that stand still whole, or train whole, are not looked into: what they do in Python they go on doing.
Only the forward of modules with both inside is followed, and in it nothing may look at values.
"""

import random
import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_tracing = threading.Lock()  # fx puts itself in place of torch's own `Module.__call__`, for all threads


class Untraceable(Exception):
    """The network's own code looks at values, draws or counts: one look at it does not say what it does."""


class _Tracer(fx.Tracer):
    """Follows the forward of the `mixed` modules alone, and of one thread alone."""

    def __init__(self, mixed: Collection[str]) -> None:
        super().__init__()
        self._mixed, self._thread = mixed, threading.get_ident()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self._mixed

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def graph_of(model: nn.Module, mixed: Collection[str]) -> fx.Graph:
    """The graph of a network in the modes in which its modules are.

    Raises:
        Untraceable: see there.
    """
    tensors = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    with _tracing:
        before = _outside(model, mixed)
        try:
            graph = _Tracer(mixed).trace(model)
        except Exception as error:  # whatever a network does with what is no tensor
            raise Untraceable(str(error)) from error
        if _outside(model, mixed) != before:
            raise Untraceable("it draws or counts in Python")
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    made = [node for node in graph.nodes if node.op == "get_attr" and node.target not in tensors]
    if len(placeholders) != 1 or made:
        raise Untraceable("it takes more than images, or makes tensors of its own")
    return graph


def _outside(model: nn.Module, mixed: Collection[str]) -> tuple[object, ...]:
    """What the forward of the mixed modules may leave changed beside its result."""
    own = [
        (name, key, id(value))
        for name in sorted(mixed)
        for key, value in vars(model.get_submodule(name)).items()
    ]
    return random.getstate(), torch.get_rng_state().numpy().tobytes(), own


@dataclass
class Measured:
    """What a node did: its multiply-adds, whether it drew random numbers, and the shape of its tensor."""

    multiply_adds: int = 0
    random: bool = False
    shape: tuple[int, ...] | None = None


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types there
    """Counts what is done inside its context, into `now`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nor here
        self.now = Measured()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.now.multiply_adds += count(*args, **(kwargs or {}), out_val=out) // 2
        self.now.random = self.now.random or torch.Tag.nondeterministic_seeded in func.tags
        return out


class _Measuring(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.watch, self.measured = Watch(), dict[str, Measured]()

    def run_node(self, n: fx.Node) -> Any:
        self.watch.now = self.measured[n.name] = Measured()
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.measured[n.name].shape = tuple(result.shape)
        return result


def measure(model: nn.Module, graph: fx.Graph, images: Tensor) -> dict[str, Measured]:
    """Runs the graph on images, on the meta device, and says by name what each node did.

    Raises:
        Untraceable: it does not run there.
    """
    run = _Measuring(fx.GraphModule(model, graph))
    try:
        with torch.no_grad(), run.watch:
            run.run(images)
    except Exception as error:  # a network may raise anything on tensors without values
        raise Untraceable(str(error)) from error
    return run.measured
