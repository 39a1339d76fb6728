"""Where the part of a network ends that stands still in a stage: what it gives need be computed only once.

The part is a prefix: it depends on the image alone, on frozen tensors and modules in eval mode, and draws
nothing. One tensor crosses the boundary, the same one in training and in validation.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn

from finetune import freezing as freezings
from finetune.backbones import Backbone, skeleton
from finetune.freezing import Freezing
from finetune.modules import owner, within
from finetune.tracing import Measured, Untraceable, Watch, graph_of, measure

Forward = Callable[[Tensor], Tensor]


class Boundary(Protocol):
    """A network cut in two."""

    @property
    def before(self) -> str:
        """The module that comes next."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what crosses for one image."""

    @property
    def prefix_cost(self) -> int:
        """An image's multiply-adds up to the boundary."""

    @property
    def suffix_cost(self) -> int:
        """Those behind it."""

    @property
    def signature(self) -> str:
        """What tells the way to what crosses from others, besides the modules' own code."""

    def still(self, model: nn.Module) -> dict[str, Tensor]:
        """The parameters and buffers that what crosses depends on."""

    def prefix(self, model: nn.Module) -> nn.Module:
        """From images to what crosses. It shares the model's modules."""

    def suffix(self, model: nn.Module) -> Forward:
        """From what crosses to the outputs, in the mode in which the model is. It shares its modules."""


class NoBoundary(Exception):
    """Nothing can be computed once; the message says why."""


@dataclass(frozen=True, eq=False)
class Cut:
    """A boundary in the network's graph, `at` a node of it; one graph for training and one for validation."""

    before: str
    shape: tuple[int, ...]
    prefix_cost: int
    suffix_cost: int
    at: str
    training: fx.Graph
    validation: fx.Graph

    @property
    def signature(self) -> str:
        """See `Boundary`."""
        return repr(_signature(self.validation, self.at))

    def still(self, model: nn.Module) -> dict[str, Tensor]:
        """See `Boundary`."""
        nodes = _up_to(self.validation, self.at)
        modules = [str(node.target) for node in nodes if node.op == "call_module"]
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        own = {str(node.target) for node in nodes if node.op == "get_attr"}
        held = own.union(*(within(tensors, [name]) for name in modules)) if modules else own
        return {name: tensor for name, tensor in tensors.items() if name in held}

    def prefix(self, model: nn.Module) -> nn.Module:
        """See `Boundary`."""
        graph, values = fx.Graph(), dict[fx.Node, fx.Node]()
        for node in _up_to(self.validation, self.at):
            values[node] = graph.node_copy(node, values.__getitem__)
        graph.output(next(new for old, new in values.items() if old.name == self.at))
        return fx.GraphModule(model, graph, "Prefix").eval()

    def suffix(self, model: nn.Module) -> Forward:
        """See `Boundary`."""
        graphs = {True: self.training, False: self.validation}
        parts = {mode: fx.GraphModule(model, self._rest(graph), "Suffix") for mode, graph in graphs.items()}
        return lambda features: parts[model.training](features)

    def _rest(self, whole: fx.Graph) -> fx.Graph:
        before = {node.name for node in _up_to(whole, self.at)}
        graph, values = fx.Graph(), dict[fx.Node, fx.Node]()
        for node in whole.nodes:
            if node.name == self.at:
                values[node] = graph.placeholder("features")
            elif node.op != "get_attr" and node.name in before:
                continue
            elif values.keys() >= set(node.all_input_nodes):  # else it leads nowhere: an assertion, say
                values[node] = graph.node_copy(node, values.__getitem__)
        for node in reversed(graph.nodes):
            if node.op == "get_attr" and not node.users:
                graph.erase_node(node)
        return graph


@dataclass(frozen=True, eq=False)
class HeadInput:
    """The boundary before the one head of a network that cannot be traced, found by looking at its calls."""

    before: str
    shape: tuple[int, ...]
    prefix_cost: int
    suffix_cost: int

    @property
    def signature(self) -> str:
        """See `Boundary`."""
        return f"input of {self.before}"

    def still(self, model: nn.Module) -> dict[str, Tensor]:
        """See `Boundary`."""
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        return {name: tensor for name, tensor in tensors.items() if not within([name], [self.before])}

    def prefix(self, model: nn.Module) -> nn.Module:
        """See `Boundary`."""
        return _UpToHead(model, self.before)

    def suffix(self, model: nn.Module) -> Forward:
        """See `Boundary`."""
        return model.get_submodule(self.before)


class _Reached(Exception):
    """The head is reached; carries what it takes. The rest of the forward need not run."""


class _UpToHead(nn.Module):
    def __init__(self, model: nn.Module, head: str) -> None:
        super().__init__()
        self.model, self.head = model, head
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        def stop(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            raise _Reached(args[0])

        hook = self.model.get_submodule(self.head).register_forward_pre_hook(stop, prepend=True)
        try:
            self.model(images)
        except _Reached as reached:
            taken: Tensor = reached.args[0]
            return taken
        finally:
            hook.remove()
        raise AssertionError("a batch went by the head")


@lru_cache(maxsize=64)
def _found(
    backbone: Backbone, outputs: int | None, built_for: int, side: int, freezing: Freezing
) -> Boundary | str:
    model = copy.deepcopy(skeleton(backbone, outputs, built_for))
    try:
        return _find(model, backbone.heads, side, freezing)
    except NoBoundary as error:
        return str(error)


def boundary_of(
    backbone: Backbone, outputs: int | None, built_for: int, side: int, freezing: Freezing
) -> Boundary:
    """The last boundary of a network under a freezing, for training images of `side` pixels.

    Raises:
        NoBoundary: there is none.
    """
    found = _found(backbone, outputs, built_for, side, freezing)
    if isinstance(found, str):
        raise NoBoundary(found)
    return found


def _find(model: nn.Module, heads: tuple[str, ...], side: int, freezing: Freezing) -> Boundary:
    names = [name for name, _ in model.named_modules()]
    still = {name for name in names if freezing.eval_modules.issuperset(_inside(names, name))}
    if not any(True for name in still for _ in model.get_submodule(name).parameters()):
        raise NoBoundary(f"nothing before {_first(model)} stands still")
    mixed = {name for name in names if name not in still and not still.isdisjoint(_inside(names, name))}
    mixed -= set(within(names, heads))  # a head has its dropout from outside, which a graph would not show
    try:
        return _cut(model, still, mixed, side, freezing)
    except Untraceable as error:
        found = _head_input(model, heads, side, freezing)
        if found is None:
            raise NoBoundary("the network's code cannot be followed to where its still part ends") from error
        return found


def _inside(names: list[str], name: str) -> list[str]:
    return within(names, [name]) if name else names


def _first(model: nn.Module) -> str:
    """The module that the first parameter belongs to."""
    return next((owner(name) for name, _ in model.named_parameters()), "") or "the network's own parameters"


def _cut(model: nn.Module, still: set[str], mixed: set[str], side: int, freezing: Freezing) -> Cut:
    freezings.set_training_mode(model, freezing)
    training = graph_of(model, mixed)
    measured = measure(model, training, torch.empty(2, 3, side, side, device="meta"))
    model.eval()
    validation = graph_of(model, mixed)
    frozen = still | set(freezing.parameters) | set(freezing.buffers)
    also = {node.name for node in _candidates(validation, frozen, measured)}
    cuts = [
        node
        for node in _candidates(training, frozen, measured)
        if node.name in also and _signature(training, node.name) == _signature(validation, node.name)
    ]
    held = [node for node in cuts if _has_parameters(model, _up_to(training, node.name))]
    if not held:
        raise NoBoundary(_why_not(model, training, frozen))
    at = held[-1].name
    prefix = {node.name for node in _up_to(training, at)}
    costs = {name: found.multiply_adds // 2 for name, found in measured.items()}  # of one image of two
    shape = measured[at].shape
    assert shape is not None
    return Cut(
        before=_next(training, at),
        shape=shape[1:],
        prefix_cost=sum(cost for name, cost in costs.items() if name in prefix),
        suffix_cost=sum(cost for name, cost in costs.items() if name not in prefix),
        at=at,
        training=training,
        validation=validation,
    )


def _candidates(graph: fx.Graph, frozen: set[str], measured: dict[str, Measured]) -> Iterator[fx.Node]:
    """Nodes, each of which is all that the nodes after it take of the still ones up to it."""
    place = {node: index for index, node in enumerate(graph.nodes)}
    constant: set[fx.Node] = set()
    same: set[fx.Node] = set()  # depend on the images and on what is frozen, and draw nothing
    alive: set[fx.Node] = set()
    for node, index in place.items():
        takes = node.all_input_nodes
        if node.op == "get_attr":
            if node.target in frozen:
                constant.add(node)
            continue
        known = node.op != "call_module" or node.target in frozen
        drawn = measured.get(node.name, Measured()).random
        if node.op == "output" or not known or drawn or not constant.union(same).issuperset(takes):
            continue
        same.add(node)
        alive.add(node)
        # A tensor that leaves towards what moves is alive for good.
        alive = {n for n in alive if any(place[user] > index or user not in same for user in n.users)}
        shape = measured.get(node.name, Measured()).shape
        if alive == {node} and shape and shape[0] == 2 and node.op != "placeholder":
            yield node


def _up_to(graph: fx.Graph, name: str) -> list[fx.Node]:
    """The nodes that a node depends on, and itself, in the graph's order."""
    nodes = {node.name: node for node in graph.nodes}
    needed, left = set[fx.Node](), [nodes[name]]
    while left:
        node = left.pop()
        if node not in needed:
            needed.add(node)
            left += node.all_input_nodes
    return [node for node in graph.nodes if node in needed]


def _signature(graph: fx.Graph, name: str) -> list[tuple[str, ...]]:
    """What the nodes up to one do, the same in every process."""
    return [(n.name, n.op, _called(n.target), str(n.args), str(n.kwargs)) for n in _up_to(graph, name)]


def _called(target: Any) -> str:
    """A function by its name: as text it has an address."""
    return target if isinstance(target, str) else f"{target.__module__}.{target.__qualname__}"


def _has_parameters(model: nn.Module, nodes: list[fx.Node]) -> bool:
    modules = [model.get_submodule(str(node.target)) for node in nodes if node.op == "call_module"]
    return any(True for module in modules for _ in module.parameters())


def _why_not(model: nn.Module, graph: fx.Graph, frozen: set[str]) -> str:
    before = list[fx.Node]()
    for node in graph.nodes:
        if node.op == "call_module" and node.target not in frozen:
            if not _has_parameters(model, before):
                return f"nothing before {node.target} stands still"
            break
        before.append(node)
    return "more than one tensor leaves the part that stands still"


def _next(graph: fx.Graph, name: str) -> str:
    """The first module behind a node that is no part of what leads to it."""
    before = set(_up_to(graph, name))
    behind = (node for node in graph.nodes if node not in before and node.op == "call_module")
    return next((str(node.target) for node in behind), "the outputs")


def _head_input(model: nn.Module, heads: tuple[str, ...], side: int, freezing: Freezing) -> HeadInput | None:
    """The head's input, where all but the head stands still and what the head gives is the output."""
    names = [name for name, _ in model.named_modules()]
    trained = {name for name in names if name not in freezing.eval_modules and name}
    head = set(within(names, heads))
    above = {name for name in names if any(h.startswith(f"{name}.") for h in heads)}
    owners = {owner(name) for name, _ in model.named_parameters() if name not in freezing.parameters}
    if len(heads) != 1 or not trained <= head | above or not owners <= head:
        return None
    watch, seen, costs = Watch(), list[tuple[Tensor, Tensor]](), list[int]()

    def begin(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        costs.append(watch.now.multiply_adds)

    def end(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((args[0], output))

    model.get_submodule(heads[0]).register_forward_pre_hook(begin)
    model.get_submodule(heads[0]).register_forward_hook(end)
    try:
        with torch.no_grad(), watch:
            output = model.eval()(torch.empty(2, 3, side, side, device="meta"))
    except Exception:  # a registered network may look at values, which a skeleton has none of
        return None
    if len(seen) != 1 or seen[0][1] is not output:
        return None
    prefix, whole = costs[0] // 2, watch.now.multiply_adds // 2  # of one image of two
    return HeadInput(heads[0], tuple(seen[0][0].shape[1:]), prefix, whole - prefix)
