"""Where the part of a network ends that stands still in a stage: what it gives need be computed only once.

The part is a prefix: it depends on the image alone, on frozen tensors and modules in eval mode, and draws
nothing. One tensor crosses the boundary, the same one in training and in validation.
"""

import copy
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache

import torch
from torch import Tensor, fx, nn

from finetune import freezing as freezings
from finetune.backbones import Backbone, skeleton
from finetune.boundary import Boundary, Cut, HeadInput, signature_of, up_to
from finetune.freezing import Freezing
from finetune.modules import owner, within
from finetune.tracing import Measured, Untraceable, Watch, graph_of, measure


class NoBoundary(Exception):
    """Nothing can be computed once; the message says why."""


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
        if node.name in also and signature_of(training, node.name) == signature_of(validation, node.name)
    ]
    held = [node for node in cuts if _has_parameters(model, up_to(training, node.name))]
    if not held:
        raise NoBoundary(_why_not(model, training, frozen))
    at = held[-1].name
    prefix = {node.name for node in up_to(training, at)}
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
    before = set(up_to(graph, name))
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
    images = torch.empty(2, 3, side, side, device="meta")
    if _draws_before(model, heads[0], images, freezing):
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
            output = model.eval()(images)
    except Exception:  # a registered network may look at values, which a skeleton has none of
        return None
    if len(seen) != 1 or seen[0][1] is not output:
        return None
    prefix, whole = costs[0] // 2, watch.now.multiply_adds // 2  # of one image of two
    return HeadInput(heads[0], tuple(seen[0][0].shape[1:]), prefix, whole - prefix)


def _draws_before(model: nn.Module, head: str, images: Tensor, freezing: Freezing) -> bool:
    """Whether random numbers are drawn in training before the head, as `F.dropout` does in what holds it."""
    watch, drawn = Watch(), list[bool]()
    begin = model.get_submodule(head).register_forward_pre_hook(lambda *_: drawn.append(watch.now.random))
    freezings.set_training_mode(model, freezing)
    with suppress(Exception), torch.no_grad(), watch:  # a registered network may look at values
        model(images)
    begin.remove()
    return any(drawn)
