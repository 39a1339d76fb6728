"""Checkpoints: weights as safetensors that any torch program reads, and the state from which a run goes on.

Files appear whole or not at all: temporary file beside the target, fsync, rename, fsync of the folder.
"""

import errno
import hashlib
import json
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from finetune import disk as disks
from finetune.errors import DiskFull, WeightsIncompatible

STATE_VERSION = 3


@dataclass(frozen=True)
class Resume:
    """The checkpoint, or the state within an epoch, to go on from.

    A state within an epoch has no file of weights: it holds them itself. `best` is the file of the best
    checkpoint so far, with its SHA-256 where that is known; without it, it is looked for beside `state` under
    the name that a run gives it. With the other SHA-256s it can be told whether the files are damaged.
    """

    weights: Path | None
    state: Path
    best: Path | None = None
    best_sha256: str | None = None
    weights_sha256: str | None = None
    state_sha256: str | None = None

    def damaged(self) -> str | None:
        """The name of a file that is gone or is not what it was when it was written; None where none is.

        Raises:
            OSError: one cannot be read now, which says nothing about what is in it.
        """
        of_best = None if self.best == self.weights else self.best
        files = (
            (self.weights, self.weights_sha256),
            (self.state, self.state_sha256),
            (of_best, self.best_sha256),
        )
        return next((path.name for path, sha256 in files if path and _is_damaged(path, sha256)), None)


def _is_damaged(path: Path, sha256: str | None) -> bool:
    try:
        path.stat()
        return sha256 is not None and sha256_of(path) != sha256
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.EIO:
            return True
        raise


@dataclass(frozen=True)
class BestFile:
    """The file of the best checkpoint so far, and what tells whether it still is what it was.

    `own` says that this process wrote it.
    """

    weights: Path
    global_epoch: int
    sha256: str | None
    own: bool = False


def stem_of(global_epoch: int, step: int = 0) -> str:
    """What the files of an epoch's checkpoint are called, or of a step within it, but for their suffixes."""
    return f"epoch-{global_epoch:05d}" + (f"-step-{step:07d}" if step else "")


def write_atomically(
    path: Path, write: Callable[[Path], object], needed: int | None = None
) -> tuple[str, int]:
    """Writes a file through `write(temporary path)`; gives its SHA-256 and its size in bytes.

    Args:
        path: the file.
        write: writes the file whose path it gets.
        needed: about how many bytes it will have; where there are fewer left, nothing is written.

    Raises:
        DiskFull: there is no room; nothing is left behind.
    """
    temporary, disk = path.with_name(f".{path.name}.tmp"), disks.disk
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(path, needed)
        disk.write(temporary, write)
        size = temporary.stat().st_size
        with ThreadPoolExecutor(1, "checksum") as thread:  # the processor's work, while the disk does its own
            summing = thread.submit(sha256_of, temporary)
            disk.sync(temporary)
        sha256 = summing.result()
        disk.rename(temporary, path)
        disk.sync(path.parent)
    except BaseException as error:  # an attempt that is to stop leaves nothing behind either
        temporary.unlink(missing_ok=True)
        if is_disk_full(error):  # safetensors and torch wrap the system's error in errors of their own
            raise _full(path, needed) from error
        raise
    return sha256, size


def _check_room(path: Path, needed: int | None) -> None:
    if needed is not None and disks.disk.free_bytes(path.parent) < needed:
        raise _full(path, needed)


def _full(path: Path, needed: int | None) -> DiskFull:
    room = ""
    if needed is not None:
        free = disks.disk.free_bytes(next(folder for folder in path.parents if folder.exists()))
        room = f"it needs {needed:,} bytes and {free:,} were free; "
    return DiskFull(f"no room left for {path.name}: {room}free some space where the artifacts are", needed)


def sha256_of(path: Path) -> str:
    """A file's SHA-256, in hexadecimal digits.

    Raises:
        OSError: it is gone, or cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that there is no room; libraries hide the system's own in theirs."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or "os error 28" in str(error)


def save_weights(path: Path, model: nn.Module, metadata: dict[str, Any]) -> tuple[str, int]:
    """Writes weights and buffers; metadata that is no string is written as JSON."""
    tensors: dict[str, torch.Tensor] = {}
    places = set()
    for name, tensor in model.state_dict().items():
        own = tensor.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        # safetensors writes no memory twice: a tied weight is written under each of its names as a copy.
        tensors[name] = own.clone() if place in places else own
        places.add(place)
    texts = {k: v if isinstance(v, str) else json.dumps(v, sort_keys=True) for k, v in metadata.items()}

    def write(temporary: Path) -> None:
        safetensors.torch.save_file(tensors, temporary, {"format": "pt", **texts})
        _sort_header(temporary)

    return write_atomically(path, write, bytes_in(tensors))


def bytes_in(value: object) -> int:
    """How many bytes the tensors in nested dictionaries and lists have."""
    if isinstance(value, Tensor):
        return value.nbytes
    inside: Iterable[object] = value.values() if isinstance(value, Mapping) else ()
    if isinstance(value, list | tuple):
        inside = value
    return sum(map(bytes_in, inside))


def _sort_header(path: Path) -> None:
    """Puts the header's metadata in order. safetensors writes it in another order in every process.

    The header is JSON behind its length (8 bytes, little-endian), filled up with spaces.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(length))


def load_weights(path: Path, model: nn.Module) -> None:
    """Loads weights that `save_weights` wrote for the same network.

    Raises:
        WeightsIncompatible: the file is damaged or of another network.
    """
    try:
        put_back(model, safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, RuntimeError, OSError) as error:
        raise WeightsIncompatible(f"the checkpoint {path.name} cannot be loaded: {error}") from error


def put_back(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives a network the parameters and buffers that its own `state_dict` once named."""
    weights = OrderedDict(tensors)
    # Neither kind of file keeps versions of modules; without its own, torchvision's MNASNet takes no weights.
    weights._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]  # torch's place for them
    model.load_state_dict(weights)


def save_state(path: Path, state: dict[str, Any]) -> tuple[str, int]:
    """Writes a resume state: plain values and tensors only."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a path, torch does not say that the disk is full
            torch.save({"version": STATE_VERSION, **state}, file)

    return write_atomically(path, write, bytes_in(state))


def load_state(path: Path) -> dict[str, Any]:
    """Reads a resume state. Nothing in the file is executed (`weights_only`).

    Raises:
        WeightsIncompatible: it is damaged, or written by a version of Thaw that wrote it otherwise.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, OSError) as error:
        raise WeightsIncompatible(f"the resume state {path.name} cannot be read: it is damaged") from error
    if state.pop("version", None) != STATE_VERSION:
        raise WeightsIncompatible(f"the resume state {path.name} was written by another version of Thaw")
    return state
