"""Tensors as bytes and back, with their memory layout: kernels round by it, and so bytes depend on it."""

import json
from collections.abc import Sequence

import torch
from torch import Tensor

ALIGNMENT = 64  # bytes


def pack(tensor: Tensor) -> list[memoryview]:
    """A tensor on the CPU as a header and its memory, which is not copied.

    Raises:
        ValueError: its memory has gaps or is shared by several of its elements.
    """
    extent = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    if extent != tensor.numel():
        raise ValueError("only a tensor that fills its memory can be packed")
    return [header_of(tensor.dtype, tensor.shape, tensor.stride()), bytes_of(tensor)]


def header_of(dtype: torch.dtype, shape: Sequence[int], stride: Sequence[int]) -> memoryview:
    """What `pack` puts before a tensor's memory."""
    text = json.dumps({"dtype": str(dtype), "shape": list(shape), "stride": list(stride)}).encode()
    header = len(text).to_bytes(4, "little") + text
    return memoryview(header.ljust(-len(header) % ALIGNMENT + len(header)))


def bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a tensor on the CPU that fills it, as it lies there."""
    return tensor.detach().as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy().data


def unpack(content: bytearray | memoryview) -> Tensor:
    """The inverse of `pack`; the tensor's memory is that of `content`."""
    end = 4 + int.from_bytes(content[:4], "little")
    about = json.loads(bytes(content[4:end]))
    dtype = getattr(torch, about["dtype"].removeprefix("torch."))
    flat = torch.frombuffer(content, dtype=dtype, offset=end + -end % ALIGNMENT)
    return flat.as_strided(about["shape"], about["stride"])
