"""torchvision's classification models: where each family keeps its head, its blocks and its aux outputs."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from urllib.error import URLError

import torchvision
from torch import Tensor, nn

from finetune.backbones.named import Named
from finetune.backbones.row import Backbone
from finetune.data.preprocessing import Preprocessing
from finetune.errors import WeightsNotFound


@dataclass(frozen=True)
class Family:
    """Models whose names begin alike and that are built alike."""

    prefix: str
    heads: tuple[str, ...]
    containers: tuple[str, ...] = ()
    aux_weight: float = 0.0
    size_option: str | None = None
    centred: bool = False  # takes inputs in [-1, 1]; torchvision rescales them inside, only with its weights


FAMILIES = (
    Family("alexnet", ("classifier.6",), ("features", "classifier")),
    Family("convnext", ("classifier.2",), ("features",)),
    Family("densenet", ("classifier",), ("features",)),
    Family("efficientnet", ("classifier.1",), ("features",)),
    Family("googlenet", ("fc", "aux1.fc2", "aux2.fc2"), aux_weight=0.3, centred=True),
    Family("inception", ("fc", "AuxLogits.fc"), aux_weight=0.4, centred=True),
    Family("maxvit", ("classifier.5",), ("blocks",)),
    Family("mnasnet", ("classifier.1",), ("layers",)),
    Family("mobilenet_v2", ("classifier.1",), ("features",)),
    Family("mobilenet_v3", ("classifier.3",), ("features",)),
    Family("regnet", ("fc",), ("trunk_output",)),
    Family("resnet", ("fc",)),
    Family("resnext", ("fc",)),
    Family("shufflenet", ("fc",)),
    Family("squeezenet", ("classifier.1",), ("features",)),
    Family("swin", ("head",), ("features",)),
    Family("vgg", ("classifier.6",), ("features", "classifier")),
    Family("vit", ("heads.head",), ("encoder", "encoder.layers"), size_option="image_size"),
    Family("wide_resnet", ("fc",)),
)


def names() -> list[str]:
    """The classification models that torchvision has and whose head we know."""
    return [name for name in torchvision.models.list_models(module=torchvision.models) if _family(name)]


@cache
def find(name: str) -> Backbone | None:
    """The row of one of torchvision's models, or None where there is no such model."""
    family = _family(name)
    if family is None or name not in names():
        return None
    weights = torchvision.models.get_model_weights(name)
    return Backbone(
        name=name,
        build=partial(_build, _builder(name)),
        heads=family.heads,
        preprocessing=_preprocessing(weights.DEFAULT, family),
        source="torchvision",
        aux_weight=family.aux_weight,
        containers=family.containers,
        weights=tuple(weight.name for weight in weights),
        size_option=family.size_option,
    )


def _family(name: str) -> Family | None:
    return next((family for family in FAMILIES if name.startswith(family.prefix)), None)


def _builder(name: str) -> Callable[..., nn.Module]:
    return torchvision.models.get_model_builder(name)  # type: ignore[no-any-return]  # torchvision has no types


def _build(builder: Callable[..., nn.Module], num_classes: int, **options: int) -> nn.Module:
    with warnings.catch_warnings():
        # GoogLeNet and Inception announce a future change of their initial weights; theirs are drawn as now.
        warnings.filterwarnings("ignore", category=FutureWarning)
        return builder(weights=None, num_classes=num_classes, **options)


def named_weights(backbone: Backbone, name: str) -> Named:
    """Weights by a name that the row has, or `DEFAULT`. Reading them may download them."""
    weights = torchvision.models.get_model_weights(backbone.name)[name]

    def read(model: nn.Module) -> dict[str, Tensor]:
        try:
            return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
        except (URLError, OSError, RuntimeError) as error:
            reason = getattr(error, "reason", error)
            raise WeightsNotFound(
                f"the weights {name!r} of {backbone.name} could not be downloaded ({reason})",
                "backbone.weights",
            ) from error

    return Named(
        label=f"{weights} (torchvision)",
        read=read,
        classes=tuple(weights.meta["categories"]),
        preprocessing=preprocessing_of(backbone.name, name),
    )


def preprocessing_of(name: str, weights: str) -> Preprocessing:
    """What the named weights expect."""
    family = _family(name)
    assert family is not None, name
    return _preprocessing(torchvision.models.get_model_weights(name)[weights], family)


def _preprocessing(weights: torchvision.models.WeightsEnum, family: Family) -> Preprocessing:
    transform = weights.transforms()
    return Preprocessing(
        resize=transform.resize_size[0],
        crop=transform.crop_size[0],
        mean=(0.5, 0.5, 0.5) if family.centred else tuple(transform.mean),
        std=(0.5, 0.5, 0.5) if family.centred else tuple(transform.std),
        interpolation=transform.interpolation.value,
    )


def parameter_count(name: str) -> int:
    """As torchvision documents it, which saves building the network."""
    return int(torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"])
