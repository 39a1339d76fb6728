"""A network cut in two, the part that stands still in a stage and the rest: see `finetune.still_part`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, fx, nn

from finetune.modules import within

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
        return repr(signature_of(self.validation, self.at))

    def still(self, model: nn.Module) -> dict[str, Tensor]:
        """See `Boundary`."""
        nodes = up_to(self.validation, self.at)
        modules = [str(node.target) for node in nodes if node.op == "call_module"]
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        own = {str(node.target) for node in nodes if node.op == "get_attr"}
        held = own.union(*(within(tensors, [name]) for name in modules)) if modules else own
        return {name: tensor for name, tensor in tensors.items() if name in held}

    def prefix(self, model: nn.Module) -> nn.Module:
        """See `Boundary`."""
        graph, values = fx.Graph(), dict[fx.Node, fx.Node]()
        for node in up_to(self.validation, self.at):
            values[node] = graph.node_copy(node, values.__getitem__)
        graph.output(next(new for old, new in values.items() if old.name == self.at))
        return fx.GraphModule(model, graph, "Prefix").eval()

    def suffix(self, model: nn.Module) -> Forward:
        """See `Boundary`."""
        graphs = {True: self.training, False: self.validation}
        parts = {mode: fx.GraphModule(model, self._rest(graph), "Suffix") for mode, graph in graphs.items()}
        return lambda features: parts[model.training](features)

    def _rest(self, whole: fx.Graph) -> fx.Graph:
        before = {node.name for node in up_to(whole, self.at)}
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


def up_to(graph: fx.Graph, name: str) -> list[fx.Node]:
    """The nodes that a node depends on, and itself, in the graph's order."""
    nodes = {node.name: node for node in graph.nodes}
    needed, left = set[fx.Node](), [nodes[name]]
    while left:
        node = left.pop()
        if node not in needed:
            needed.add(node)
            left += node.all_input_nodes
    return [node for node in graph.nodes if node in needed]


def signature_of(graph: fx.Graph, name: str) -> list[tuple[str, ...]]:
    """What the nodes up to one do, the same in every process."""
    return [(n.name, n.op, _called(n.target), str(n.args), str(n.kwargs)) for n in up_to(graph, name)]


def _called(target: Any) -> str:
    """A function by its name: as text it has an address."""
    return target if isinstance(target, str) else f"{target.__module__}.{target.__qualname__}"
