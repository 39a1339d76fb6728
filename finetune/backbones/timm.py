"""timm's models, `timm/NAME`: their heads, blocks, preprocessing and weights, as timm's own tables tell them.

timm is the extra `timm`. It is loaded when one of its models is asked for, or when all names are listed.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from finetune.backbones.named import Named
from finetune.backbones.row import Backbone
from finetune.backbones.skeleton import skeleton
from finetune.data.preprocessing import Preprocessing
from finetune.errors import WeightsIncompatible, WeightsNotFound
from finetune.modules import containers_of

PREFIX = "timm/"
INSTALL = "pip install 'thaw[timm]'"
CLASSES = 1000  # of a row whose weights have no head: networks that were trained without classes

# Heads that timm's own table does not name.
MORE_HEADS = dict.fromkeys(("levit_384_s8", "levit_conv_384_s8"), ("head_dist.linear",))
# Encoders of which timm's own table says that they have a head.
HEADLESS = ("gemma4_vit_167m_enc", "gemma4_vit_570m_enc", "mobilenetv5_300m_enc")


def installed() -> bool:
    """Whether timm is there; does not load it."""
    return find_spec("timm") is not None


@cache
def names() -> tuple[str, ...]:
    """The models that classify, each `timm/NAME`; none where timm is not installed."""
    if not installed():
        return ()
    import timm

    return tuple(PREFIX + name for name in timm.list_models() if _heads(name))


@cache
def row(name: str) -> Backbone | None:
    """The row of a model but for its containers, without building it; None where there is no such model."""
    if name not in names():
        return None
    own = name.removeprefix(PREFIX)
    config = _config(own)
    return Backbone(
        name=name,
        build=partial(_build, own),
        heads=_heads(own),
        preprocessing=_preprocessing(config),
        source="timm",
        num_classes=config["num_classes"] or CLASSES,
        weights=_tags().get(own, ()),
        size_option="img_size" if config["fixed_input_size"] else None,
    )


@cache
def find(name: str) -> Backbone | None:
    """The row of a model, or None where there is no such model.

    Raises:
        SpecInvalid: this version of torch cannot build it.
    """
    found = row(name)
    if found is None:
        return None
    model = skeleton(found, found.num_classes, found.preprocessing.crop)
    return replace(found, containers=containers_of(model, found.heads))


def missing(name: str) -> str | None:
    """Why a name that begins with `timm/` is none of the names, where that is not a slip of the pen."""
    if not installed():
        return f"the backbone {name!r} needs timm, which is not installed here: {INSTALL}"
    own, _, tag = name.removeprefix(PREFIX).partition(".")
    if tag and PREFIX + own in names():
        return f'there is no backbone {name!r}: name "{PREFIX}{own}", with "weights": "{tag}"'
    if not tag and _config(own):
        return f"the backbone {name!r} has no classifier of its own in timm: it cannot be trained here"
    return None


def _config(name: str) -> dict[str, Any]:
    """The record of a model, or of weights where the name has a tag, `NAME.TAG`."""
    import timm

    found = timm.get_pretrained_cfg(name)
    return asdict(found) if found else {}


def _heads(name: str) -> tuple[str, ...]:
    if name in HEADLESS:
        return ()
    heads = _config(name).get("classifier") or ()
    return (*((heads,) if isinstance(heads, str) else heads), *MORE_HEADS.get(name, ()))


@cache
def _tags() -> Mapping[str, tuple[str, ...]]:
    """The tags of every model's weights, the default one first."""
    import timm

    found: dict[str, list[str]] = {}
    for full in timm.list_pretrained():
        name, _, tag = full.partition(".")
        if tag:
            first = _config(name).get("tag") == tag
            found.setdefault(name, []).insert(0 if first else len(found[name]), tag)
    return {name: tuple(tags) for name, tags in found.items()}


def _build(name: str, num_classes: int, img_size: int | None = None) -> nn.Module:
    import timm

    if img_size is None:
        return timm.create_model(name, num_classes=num_classes)
    # Said twice: the network then knows its own size, which reading weights for it asks for.
    overlay = {"input_size": (3, img_size, img_size)}
    return timm.create_model(name, num_classes=num_classes, img_size=img_size, pretrained_cfg_overlay=overlay)


def _preprocessing(config: dict[str, Any]) -> Preprocessing:
    from timm.data.config import resolve_data_config

    data = resolve_data_config(pretrained_cfg=config)  # type: ignore[no-untyped-call]  # timm has few types
    crop = min(data["input_size"][1:])
    return Preprocessing(
        resize=math.floor(crop / data["crop_pct"]),  # as timm rounds it
        crop=crop,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        interpolation=data["interpolation"],
    )


def named_weights(backbone: Backbone, name: str) -> Named:
    """Weights by a tag that the row has, or `DEFAULT`. Reading them may download them."""
    tag = backbone.weights[0] if name == "DEFAULT" else name
    full = f"{backbone.name.removeprefix(PREFIX)}.{tag}"
    return Named(
        label=f"{PREFIX}{full}",
        read=partial(_read, full, f"the weights {name!r} of {backbone.name}"),
        preprocessing=_preprocessing(_config(full)),
    )


def _read(full: str, what: str, model: nn.Module) -> dict[str, Tensor]:
    """The weights as timm loads them: renamed, resampled to the model's image size, checked for gaps."""
    import timm

    config = _config(full)
    about: Any = model.pretrained_cfg
    options: dict[str, Any] = {"img_size": about["input_size"][1:]} if about["fixed_input_size"] else {}
    try:
        with torch.random.fork_rng(devices=[]):
            loaded = timm.create_model(full, pretrained=True, num_classes=config["num_classes"], **options)
    except Exception as error:  # the hub's client raises errors of three libraries
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if "loading state_dict" in str(error):
            raise WeightsIncompatible(f"{what} do not fit: {error}", "backbone.weights") from error
        raise WeightsNotFound(f"{what} could not be downloaded ({reason})", "backbone.weights") from error
    state: dict[str, Tensor] = loaded.state_dict()
    return state
