"""What tells kept features from others besides images and views: weights, code, the machine."""

import hashlib
import inspect
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

import finetune.data
from finetune.cache import key_of
from finetune.packing import bytes_of

# Our own on the way from an image's file to its features, beside the folder `data`.
ON_THE_WAY = (
    "boundary",
    "device",
    "feature_views",
    "feeds",
    "folding",
    "kept_features",
    "packing",
    "rows",
    "seeds",
)


def machine(device: torch.device) -> tuple[object, ...]:
    """What rounds, and how."""
    return (
        str(torch.__version__),
        str(torchvision.__version__),
        device.type,
        torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
    )


def digest_of(tensors: dict[str, Tensor]) -> str:
    """Over names and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {tensor.stride()}\n".encode())
        digest.update(_memory(tensor))
    return digest.hexdigest()


def _memory(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, in the order in which they lie where that needs no copy."""
    tensor = tensor.detach().cpu()
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return bytes_of(tensor.contiguous())


def code_of(model: nn.Module) -> str:
    """Over the files that the classes of all modules stand in: an operator's own have no version number."""
    files = set()
    for kind in {type(module) for module in model.modules()}:
        with suppress(TypeError, OSError):  # a class that was typed into a notebook
            files.add(inspect.getfile(kind))
    return key_of(sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files))


@cache
def own_code() -> str:
    """Over our files on the way from an image's file to its features."""
    data = Path(inspect.getfile(finetune.data)).parent
    files = [*sorted(data.glob("*.py")), *(data.parent / f"{name}.py" for name in ON_THE_WAY)]
    return key_of([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
