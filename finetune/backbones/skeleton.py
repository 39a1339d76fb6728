"""A network's structure without its weights: modules, shapes and counts at no cost in memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from finetune.backbones import torchvision as tv
from finetune.backbones.row import Backbone
from finetune.errors import SpecInvalid
from finetune.spec.problems import Problem

# The hook below is torch's own, for all modules of the process.
_building = threading.Lock()


@lru_cache(maxsize=32)
def skeleton(backbone: Backbone, outputs: int | None, image_size: int) -> nn.Module:
    """The backbone on the meta device, with so many outputs, or without its head (`outputs` null).

    Shared between callers: look, do not change.

    Raises:
        SpecInvalid: the backbone cannot be built, or its head is not where its row says.
    """
    with _building, torch.random.fork_rng(devices=[]):
        try:
            model = _build(backbone, outputs, image_size)
        except Exception as error:  # whatever an operator's function raises is its own, and is shown
            raise _broken(backbone, f"cannot be built: {type(error).__name__}: {error}") from error
    modules = dict(model.named_modules())
    for head in backbone.heads:
        if head not in modules:
            raise _broken(backbone, f"has no module {head!r}, which its row names as head")
    return model.to("meta").eval()


def _build(backbone: Backbone, outputs: int | None, image_size: int) -> nn.Module:
    """Each parameter goes to the meta device when it is registered; or, where that fails, all tensors do.

    Some networks (RegNet) compute their widths with small tensors, which need values. Others (timm's Swin v2)
    compute with a parameter's device, or send a batch through a part of themselves to see its shape.
    """
    try:
        with _parameters_on_meta():
            return backbone.make(outputs, image_size)
    except (NotImplementedError, RuntimeError) as first:
        try:
            with torch.device("meta"):
                return backbone.make(outputs, image_size)
        except Exception:  # the first error is about the network; this one may be about the meta device
            raise first from None


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        return None if parameter is None else nn.Parameter(parameter.to("meta"), parameter.requires_grad)

    hook = register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type]  # torch takes what it returns
    try:
        yield
    finally:
        hook.remove()


def _broken(backbone: Backbone, what: str) -> SpecInvalid:
    return SpecInvalid(
        [Problem("backbone.name", f"the backbone {backbone.name!r} {what}", "backbone_broken")]
    )


def check_image_size(backbone: Backbone, image_size: int) -> None:
    """Builds the skeleton for that size and sends a batch through it.

    Raises:
        SpecInvalid: the network does not take it.
    """
    try:
        model = skeleton(backbone, backbone.num_classes, image_size)
        with torch.no_grad():
            model(torch.empty(2, 3, image_size, image_size, device="meta"))
    except Exception as error:  # a network may raise anything on a size that it was not made for
        reason = _first_line(error.__cause__ if isinstance(error, SpecInvalid) and error.__cause__ else error)
        usual = backbone.preprocessing.crop
        message = (
            f"{backbone.name} does not take images of {image_size} pixels ({reason}); its own size is {usual}"
        )
        raise SpecInvalid([Problem("image_size", message, "image_size_unfit")]) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@cache
def parameter_count(backbone: Backbone) -> int:
    """How many parameters the backbone has, with the head of its own number of classes."""
    if backbone.source == "torchvision" and len(backbone.heads) == 1:  # else the figure lacks auxiliary heads
        return tv.parameter_count(backbone.name)
    model = skeleton(backbone, backbone.num_classes, backbone.preprocessing.crop)
    return sum(parameter.numel() for parameter in model.parameters())
