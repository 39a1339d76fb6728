import pytest
import torch

from finetune.rows import Layout, Rows

CPU = torch.device("cpu")


def batches():
    torch.manual_seed(0)
    images = torch.randn(6, 4, 3, 5)
    return {
        "vectors": torch.randn(6, 7),
        "contiguous": images,
        "channels last": images.contiguous(memory_format=torch.channels_last),
        "tokens first": torch.randn(9, 6, 4).transpose(0, 1),
        "with gaps": torch.randn(6, 8, 3)[:, ::2],
        "one pixel": torch.randn(6, 4, 1, 1).contiguous(memory_format=torch.channels_last),
        "bf16": images.bfloat16(),
    }


@pytest.mark.parametrize("name", batches())
def test_images_come_back_from_rows_to_the_bit_and_as_they_lay_in_memory(name):
    batch = batches()[name]
    layout = Layout.of(batch)
    rows = layout.rows(batch)
    assert rows.shape == (6, layout.numbers)
    assert layout.bytes == rows[0].numel() * batch.element_size()
    again = layout.images(rows)
    assert torch.equal(again, batch)
    assert again.dtype == batch.dtype
    if name in ("vectors", "contiguous", "channels last", "bf16"):
        assert again.stride() == batch.stride()


@pytest.mark.parametrize("name", batches())
def test_a_pick_from_one_part_or_several_is_the_same(name):
    batch = batches()[name]
    layout = Layout.of(batch)
    rows = layout.rows(batch)  # three images in two views
    images, views = [2, 0, 0, 1, 2], [1, 1, 0, 0, 0]
    expected = batch[[5, 3, 0, 1, 2]]
    for parts in ([rows], [rows[:3], rows[3:]]):
        given = Rows(parts, layout, 3, CPU)
        picked = given.pick(given.places(images, views))
        assert torch.equal(picked, expected)
        assert picked[0].stride() == layout.images(rows)[0].stride()


def test_what_becomes_of_a_batch_is_not_seen_in_the_rows():
    rows = torch.arange(6.0).reshape(3, 2)
    for parts in ([rows], [rows, rows]):
        given = Rows(parts, Layout.of(rows), 3, CPU)
        given.pick(given.places([0, 1], [0, 0])).zero_()
    assert torch.equal(rows, torch.arange(6.0).reshape(3, 2))
