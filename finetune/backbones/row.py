"""What a backbone is: a function that builds the network, and a small row about it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from finetune.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class Backbone:
    """A network that can be fine-tuned.

    `build(num_classes)` gives it with random weights; called with an image batch (N, 3, H, W) it gives logits
    (N, num_classes), in training mode perhaps followed by auxiliary logits. `heads` are the dotted names of
    the classifying layers, the one that gives the logits first. `aux_weight` is what the loss of each
    auxiliary output counts. `containers` are the dotted names of modules whose children count as blocks of
    their own (`modules.blocks`). `source` is `torchvision`, `timm` or `registered`.
    """

    name: str
    build: Callable[..., nn.Module]
    heads: tuple[str, ...]
    preprocessing: Preprocessing
    source: str
    num_classes: int = 1000
    aux_weight: float = 0.0
    containers: tuple[str, ...] = field(default=(), compare=False)  # no part of what is built
    weights: tuple[str, ...] = ()
    size_option: str | None = None  # what the builder calls the image size, where the network is made for one

    def options(self, image_size: int) -> dict[str, int]:
        """What the builder takes besides the number of classes."""
        return {self.size_option: image_size} if self.size_option else {}

    def make(self, outputs: int | None, image_size: int) -> nn.Module:
        """Builds the network with random weights, drawn from torch's global generator.

        With `outputs` null it has no head and gives what the head would take.
        """
        if outputs is not None:
            return self.build(outputs, **self.options(image_size))
        model = self.build(self.num_classes, **self.options(image_size))
        for head in self.heads:
            model.set_submodule(head, nn.Identity())
        return model


def backbone(
    name: str, head: str, preprocessing: Preprocessing, containers: tuple[str, ...] = ()
) -> Callable[[Callable[[int], nn.Module]], Backbone]:
    """Turns a function of the number of classes into a backbone that `THAW_BACKBONES` can name.

    `containers` are dotted names of modules whose children count as blocks of their own (`layer_decay`).
    """

    def row(build: Callable[[int], nn.Module]) -> Backbone:
        return Backbone(
            name=name,
            build=build,
            heads=(head,),
            preprocessing=preprocessing,
            source="registered",
            containers=containers,
        )

    return row
