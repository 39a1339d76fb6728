"""What a network starts from: weights by name, a safetensors file, an earlier job's checkpoint."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from finetune.backbones import timm
from finetune.backbones import torchvision as tv
from finetune.backbones.named import Named
from finetune.backbones.row import Backbone
from finetune.data.paths import Irregular, Outside, open_below, resolve_below
from finetune.data.preprocessing import Preprocessing
from finetune.errors import SpecInvalid, WeightsIncompatible, WeightsNotFound
from finetune.modules import within
from finetune.spec.job import BackboneSpec, FileWeights, JobWeights
from finetune.spec.problems import Problem, closest

Shapes = Mapping[str, tuple[int, ...]]
Rows = tuple[tuple[int, int], ...]  # of heads, each (row here, row of the weights)


@dataclass(frozen=True)
class Source:
    """Weights that exist, not yet read. `shapes` is None where only reading tells (a library's).

    `read` takes the network that they are for, as `Named` says.
    """

    label: str
    read: Callable[[nn.Module], dict[str, Tensor]]
    shapes: Shapes | None = None
    classes: tuple[str, ...] | None = None
    embeds: bool = False  # weights of an embedding network: their head is a projection, or there is none
    embedding_size: int | None = None  # of the projection
    preprocessing: Preprocessing | None = None
    backbone: str | None = None


# Whose named weights are found how, by the backbone's source.
LIBRARIES: dict[str, Callable[[Backbone, str], Named]] = {
    "torchvision": tv.named_weights,
    "timm": timm.named_weights,
}


def find_source(
    spec: BackboneSpec, backbone: Backbone, weights_dir: Path, job_file: Path | None
) -> Source | None:
    """The weights that a spec names, or None for random ones.

    `job_file` is the checkpoint that `{"job": …}` stands for; whoever knows the jobs has looked it up.

    Raises:
        SpecInvalid: the backbone has no weights of that name.
        WeightsNotFound: the file is not there.
        WeightsIncompatible: the file is no safetensors file.
    """
    match spec.weights:
        case None:
            return None
        case str() as name:
            return _named(backbone, name)
        case FileWeights(file=file):
            return _file(weights_file(weights_dir, file), weights_dir, file, "backbone.weights.file")
        case JobWeights() as chosen:
            label = f"checkpoint {chosen.checkpoint!r} of {chosen.job}"
            if job_file is None or not job_file.is_file():
                raise WeightsNotFound(f"there is no {label}", "backbone.weights.job")
            return _file(job_file, job_file.parent, label, "backbone.weights.job")


def weights_file(weights_dir: Path, file: str) -> Path:
    """The weights file below the weights root; the same answer for one that is absent and one outside.

    Raises:
        WeightsNotFound: there is none.
    """
    try:
        path = resolve_below(weights_dir, file)
    except Outside:
        path = None
    if path is None or not path.is_file():
        here = sorted(p.relative_to(weights_dir).as_posix() for p in weights_dir.rglob("*.safetensors"))
        message = f"there is no weights file {file!r} below the weights root; {closest(file, here)}"
        raise WeightsNotFound(message, "backbone.weights.file")
    return path


def _named(backbone: Backbone, name: str) -> Source:
    if name not in (*backbone.weights, *(("DEFAULT",) if backbone.weights else ())):
        if backbone.weights:
            message = f"{backbone.name} has no weights {name!r}; {closest(name, backbone.weights)}"
        else:
            message = (
                f'{backbone.name} has no named weights: give null (random), {{"file": …}} or {{"job": …}}'
            )
        raise SpecInvalid([Problem("backbone.weights", message, "unknown_weights")])
    named = LIBRARIES[backbone.source](backbone, name)
    return Source(
        label=named.label,
        read=named.read,
        classes=named.classes,
        preprocessing=named.preprocessing,
        backbone=backbone.name,
    )


def _file(path: Path, root: Path, label: str, param: str) -> Source:
    try:
        with _opened(path, root) as name, safetensors.safe_open(name, framework="pt") as file:
            metadata = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no dict
    except (safetensors.SafetensorError, OSError, Outside, Irregular) as error:
        raise WeightsIncompatible(
            f"{label} is not a safetensors file that can be read: {error}", param
        ) from error
    return Source(
        label=label,
        read=lambda model: _tensors(path, root, label, param),
        shapes=shapes,
        backbone=metadata.get("backbone"),
        **_told(metadata),
    )


@contextmanager
def _opened(path: Path, root: Path) -> Iterator[str]:
    """A name that leads to the file that is open and nowhere else: safetensors opens files by name alone."""
    with open_below(path, root) as file:
        yield f"/dev/fd/{file.fileno()}"


def _tensors(path: Path, root: Path, label: str, param: str) -> dict[str, Tensor]:
    """Reads a file that was looked into before; meanwhile it may have been removed or written over."""
    try:
        with _opened(path, root) as name:
            tensors: dict[str, Tensor] = safetensors.torch.load_file(name)
            return tensors
    except (FileNotFoundError, Outside, Irregular) as error:
        raise WeightsNotFound(f"{label} is gone", param) from error
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsIncompatible(f"{label} can no longer be read", param) from error


def _told(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What our checkpoints tell of a `Source`: the head's classes or embedding size, the preprocessing.

    What other tools write there is left out.
    """
    try:
        classes, preprocessing = json.loads(metadata["classes"]), json.loads(metadata["preprocessing"])
        names, prepared = tuple(map(str, classes)), Preprocessing.from_json(preprocessing)
        if metadata.get("objective") == "triplet":
            outputs = json.loads(metadata["outputs"])
            size = outputs if type(outputs) is int else None
            return {"embeds": True, "embedding_size": size, "preprocessing": prepared}
        return {"classes": names, "preprocessing": prepared}
    except (KeyError, TypeError, ValueError):
        return {}


def differences(
    model: nn.Module, heads: tuple[str, ...], whole: bool, rows: Rows, shapes: Shapes, source: Source
) -> str | None:
    """A sentence with the first tensors in which weights and network differ, or None where they fit.

    The head's tensors count where they are kept: as they are (`whole`), or some `rows` of them. Counters of
    batches are not needed: not every tool writes them.
    """
    own = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    if rows and source.classes is not None:  # the weights' head has a row for each of their classes
        own |= {n: (len(source.classes), *shape[1:]) for n, shape in own.items() if within([n], heads)}

    def counts(name: str) -> bool:
        in_head = bool(within([name], heads))
        return (whole or bool(rows) or not in_head) and not name.endswith("num_batches_tracked")

    missing = [n for n in own if counts(n) and n not in shapes]
    unknown = [n for n in shapes if counts(n) and n not in own]
    reshaped = [n for n in own if counts(n) and n in shapes and own[n] != tuple(shapes[n])]
    parts = []
    if missing:
        parts.append(f"lack {_some(missing)}")
    if unknown:
        parts.append(f"have {_some(unknown)}, which the network has not")
    if reshaped:
        first = reshaped[0]
        parts.append(f"have {first} as {list(shapes[first])} where the network has {list(own[first])}")
    if not parts:
        return None
    origin = f" (they are of {source.backbone})" if source.backbone else ""
    return f"the weights {source.label} do not fit{origin}: they {'; they '.join(parts)}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def copy_into(model: nn.Module, heads: tuple[str, ...], whole: bool, rows: Rows, source: Source) -> None:
    """Reads the weights and copies them into the network, of the head what is kept.

    Raises:
        WeightsIncompatible: names or shapes differ.
        WeightsNotFound: they cannot be had.
    """
    state = source.read(model)
    wrong = differences(model, heads, whole, rows, {n: tuple(t.shape) for n, t in state.items()}, source)
    if wrong:
        raise WeightsIncompatible(wrong, "backbone.weights")
    taken = state if whole else {n: t for n, t in state.items() if not within([n], heads)}
    model.load_state_dict(taken, strict=False)
    if rows and not whole:
        _copy_rows(model, heads, rows, state)


def _copy_rows(model: nn.Module, heads: tuple[str, ...], rows: Rows, state: dict[str, Tensor]) -> None:
    """Copies rows, each (row here, row of the weights), of the head's tensors (classes, …)."""
    here, there = ([pair[side] for pair in rows] for side in (0, 1))
    for name, tensor in model.state_dict().items():
        if within([name], heads):
            tensor[here] = state[name][there].to(tensor.dtype)
