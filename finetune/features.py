"""Features once: where only the head is trained and each image has one view, the rest runs once per image.

What the head takes is kept in memory, and the stage's epochs run over it.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from finetune.freezing import Freezing
from finetune.modules import owner, within
from finetune.spec.augmentations import NoAugmentation
from finetune.spec.stages import StageSpec

MEMORY_LIMIT = 2 * 2**30  # bytes of features; a larger dataset is computed anew each epoch


@dataclass(frozen=True)
class HeadInput:
    """What the head takes of one image, and whether what it gives is what the network gives."""

    shape: tuple[int, ...]
    gives_the_output: bool

    def bytes(self, images: int) -> int:
        """Memory for the features of so many images in float32."""
        return images * 4 * int(torch.tensor(self.shape).prod())


def head_input(skeleton: nn.Module, head: str, image_size: int) -> HeadInput | None:
    """Sends a batch through the skeleton and looks at the head; None where that cannot be done."""
    seen: list[tuple[Tensor, Tensor]] = []
    thread = threading.get_ident()

    def look(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if threading.get_ident() == thread:  # others may send batches through it just now
            seen.append((args[0], output))

    hook = skeleton.get_submodule(head).register_forward_hook(look)
    try:
        with torch.no_grad():
            output = skeleton(torch.empty(2, 3, image_size, image_size, device="meta"))
    except Exception:  # a registered network may look at values, which a skeleton has none of
        return None
    finally:
        hook.remove()
    if not seen:
        return None
    taken, given = seen[-1]
    return HeadInput(tuple(taken.shape[1:]), len(seen) == 1 and given is output)


def only_head_trains(model: nn.Module, heads: tuple[str, ...], stage: StageSpec, freezing: Freezing) -> bool:
    """Whether a stage's images have one view each and everything but the one head stands still."""
    names = [name for name, _ in model.named_modules()]
    trained = {name for name in names if name not in freezing.eval_modules and name}
    head = set(within(names, heads))
    above = {name for name in names if any(h.startswith(f"{name}.") for h in heads)}
    owners = {owner(name) for name, _ in model.named_parameters() if name not in freezing.parameters}
    return (
        isinstance(stage.augmentation, NoAugmentation)
        and stage.mix is None  # a mixed image is new in each epoch
        and len(heads) == 1
        and trained <= head | above
        and owners <= head
        and bool(head & trained)
    )


def compute(model: nn.Module, head: str, images: Iterable[Tensor]) -> Tensor:
    """What the head takes of each image, (images, *shape), float32, on the model's device.

    `images` are batches as the network takes them. The model is left in eval mode.
    """
    taken: list[Tensor] = []
    hook = model.get_submodule(head).register_forward_pre_hook(lambda m, args: taken.append(args[0].detach()))
    model.eval()
    try:
        with torch.no_grad():
            for batch in images:
                model(batch)
    finally:
        hook.remove()
    return torch.cat(taken)
