import pytest
import torch

from finetune.packing import pack, unpack

TENSORS = {
    "a vector": torch.arange(5.0),
    "a scalar": torch.tensor(3.0),
    "bytes": torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4),
    "an image as Pillow's": torch.arange(24, dtype=torch.uint8).reshape(2, 4, 3).permute(2, 0, 1),
    "channels last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "pooled": torch.randn(4, 3, 1, 1).contiguous(memory_format=torch.channels_last),
    "half precision": torch.randn(3, 2).bfloat16(),
    "part of a longer one": torch.arange(9.0)[3:7],
    "not a number": torch.tensor([float("nan"), float("inf"), -0.0]),
}


@pytest.mark.parametrize("tensor", TENSORS.values(), ids=TENSORS)
def test_a_tensor_comes_back_with_its_bits_and_its_layout(tensor):
    back = unpack(bytearray(b"".join(pack(tensor))))
    assert (back.dtype, back.shape, back.stride()) == (tensor.dtype, tensor.shape, tensor.stride())
    assert back.contiguous().reshape(-1).view(torch.uint8).tolist() == (
        tensor.contiguous().reshape(-1).view(torch.uint8).tolist()
    )


def test_what_comes_back_can_be_written_to():
    back = unpack(bytearray(b"".join(pack(torch.zeros(3)))))
    back += 1
    assert back.tolist() == [1, 1, 1]


@pytest.mark.parametrize("tensor", [torch.zeros(1).expand(3), torch.zeros(4, 4)[:, :2]])
def test_a_tensor_that_does_not_fill_its_memory_is_refused(tensor):
    with pytest.raises(ValueError, match="fills its memory"):
        pack(tensor)
