"""The network and what its outputs mean, as one graph of operations."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from finetune.export.preparing import Preparing
from finetune.trained import TrainedModel

INPUT = "images"
EXAMPLES = 2  # images of the batch that is traced; with one, the batch's size would become a constant
EXAMPLE_SIZES = (96, 80)  # of images that the graph prepares; any other two would do


def output_of(model: TrainedModel) -> str:
    """What the graph calls its output."""
    return "embedding" if model.answer == "embedding" else "probabilities"


class Answering(nn.Module):
    """A trained network, called with what `Preprocessing.normalize` gives, or with whole decoded images.

    Gives probabilities (N, classes), or embeddings (N, size).
    """

    def __init__(self, model: TrainedModel, preprocessing: bool) -> None:
        super().__init__()
        self.preparing = Preparing(model.preprocessing) if preprocessing else nn.Identity()
        # Weights that lie as they are listed: torch's file of a graph has trouble with others.
        self.network = model.network.to(memory_format=torch.contiguous_format)
        self._answers_of = model.answers_of

    def forward(self, images: Tensor) -> Tensor:
        """The answers."""
        return self._answers_of(self.network(self.preparing(images)))


def trace(model: TrainedModel, preprocessing: bool) -> ExportedProgram:
    """The graph, for batches of any size, and with `preprocessing` for uint8 images of any size.

    Raises:
        Exception: whatever torch says of a network that is no graph of operations, or the network itself.
    """
    crop = model.preprocessing.crop
    dynamic = {0: Dim("batch")}
    images = torch.zeros(EXAMPLES, 3, crop, crop)
    if preprocessing:
        images = torch.zeros(EXAMPLES, 3, *EXAMPLE_SIZES, dtype=torch.uint8)
        dynamic |= {2: Dim("height"), 3: Dim("width")}
    with silence():
        answering = Answering(model, preprocessing).eval()
        program = torch.export.export(answering, (images,), dynamic_shapes={INPUT: dynamic})
    _forget_source(program)
    return program


def _forget_source(program: ExportedProgram) -> None:
    """Takes away the lines of code that operations come from: they name folders of this machine."""
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)


@contextmanager
def silence() -> Iterator[None]:
    """Keeps some versions of torch from warning of their own exporters' use of a part of torch."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        yield
