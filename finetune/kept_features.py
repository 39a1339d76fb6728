"""Features from the cache, where the same network has taken the same images to the same bytes before."""

import hashlib
import inspect
from contextlib import suppress
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from finetune.cache import Cache, key_of
from finetune.data.fingerprints import of_samples
from finetune.data.loading import Batch
from finetune.features import compute
from finetune.feeds import Source, features_of
from finetune.packing import pack, unpack


class Features:
    """Computes what a head takes of a split, or finds it in the cache.

    `backbone` says which network it is; its weights are looked at.
    """

    def __init__(self, cache: Cache | None, root: Path, backbone: object) -> None:
        self._computed = self._taken = 0
        self._cache, self._root, self._backbone = cache, root, backbone

    def __call__(self, model: nn.Module, head: str, source: Source) -> Tensor:
        """See `features_of`."""
        key = self._key(model, head, source) if self._cache else None
        kept = self._cache.get("features", key) if self._cache and key else None
        if kept is not None:
            self._taken += source.loader.count
            return unpack(kept).to(source.device)
        features = features_of(model, head, source)
        self._computed += source.loader.count
        if self._cache and key:
            self._cache.put("features", key, pack(features.cpu()))
        return features

    def counted(self) -> tuple[int, int]:
        """Of how many images features were computed, and taken from the cache, since it was last asked."""
        counts, self._computed, self._taken = (self._computed, self._taken), 0, 0
        return counts

    def _key(self, model: nn.Module, head: str, source: Source) -> str | None:
        """Of all that the bytes depend on; None for a network that is not the same after a batch."""
        weights = _digest_of_all_but(head, model)
        answer = _answer(model, head, source)
        if answer is None:
            return None
        try:
            samples = of_samples(source.loader.samples, self._root)
        except OSError:  # computing says what is wrong with the file
            return None
        return key_of(
            samples,
            source.preprocessing,
            self._backbone,
            head,
            weights,
            answer,
            _digest_of_code(model),
            source.loader.batch_size,  # a product's rounding depends on the number of its rows
            _machine(source.device),
        )


def _machine(device: torch.device) -> tuple[object, ...]:
    return (
        str(torch.__version__),
        str(torchvision.__version__),
        device.type,
        torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
    )


def _digest_of_all_but(head: str, model: nn.Module) -> str:
    """Over the names and bytes of parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted({**dict(model.named_parameters()), **dict(model.named_buffers())}.items()):
        if not name.startswith(f"{head}."):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _digest_of_code(model: nn.Module) -> str:
    """Over the files that the classes of all modules stand in: an operator's own have no version number."""
    files = set()
    for kind in {type(module) for module in model.modules()}:
        with suppress(TypeError, OSError):  # a class that was typed into a notebook
            files.add(inspect.getfile(kind))
    return key_of(sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files))


def _answer(model: nn.Module, head: str, source: Source) -> str | None:
    """A digest of what becomes of two made-up images on the way from decoded pixels to features.

    It stands for whatever is on that way and has no name: code, settings of torch, kernels of the processor.
    None where the network's buffers move with what goes by; they are put back.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        views = [source.loader.view(image) for image in _made_up(source.preprocessing.resize)]
    batch = Batch(torch.stack(views), torch.zeros(2))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    features = compute(model, head, (images for images, _ in source.place(iter([batch]))))
    moved = [buffer for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])]
    for name, buffer in model.named_buffers():
        buffer.copy_(before[name])
    if moved:
        return None
    return hashlib.sha256(features.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()


def _made_up(side: int) -> tuple[Tensor, Tensor]:
    """Noise, and large patches of colour, both somewhat larger than the side and not square."""
    height, width = side + 7, side + 31
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    patch = width // 8 + 1
    patches = noise[:, :8, :8].repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    return noise, patches[:, :height, :width]
