import io
import random

import numpy as np
import pytest
import torch
from PIL import Image

from finetune.data.decoding import Undecodable, decode

PIXELS = np.random.RandomState(0).randint(0, 256, (6, 10, 3), dtype="uint8")
RGB = torch.from_numpy(PIXELS).permute(2, 0, 1)


def grey(values, dtype="uint8"):
    return Image.fromarray(np.array(values, dtype=dtype))


def test_a_colour_image_keeps_its_pixels(tmp_path):
    for name in ("x.png", "x.bmp"):
        Image.fromarray(PIXELS).save(tmp_path / name)
        assert torch.equal(decode(tmp_path / name), RGB)


def test_a_jpeg_is_near_to_what_was_saved(tmp_path):
    smooth = np.linspace(0, 255, 32 * 48 * 3).reshape(32, 48, 3).astype("uint8")
    Image.fromarray(smooth).save(tmp_path / "x.jpg", quality=95)
    image = decode(tmp_path / "x.jpg")
    assert (image.shape, image.dtype) == ((3, 32, 48), torch.uint8)
    assert (image.int() - torch.from_numpy(smooth).permute(2, 0, 1).int()).abs().max() < 8


MODES = {
    "png": ["L", "LA", "RGBA", "P", "1", "RGB"],
    "jpg": ["L", "1", "CMYK", "RGB", "YCbCr"],
    "gif": ["L", "LA", "RGBA", "P", "1", "RGB"],
    "bmp": ["L", "RGBA", "P", "1", "RGB"],
    "webp": ["L", "RGBA", "P", "RGB"],
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix in MODES for mode in MODES[suffix]])
def test_every_mode_of_every_format_becomes_bytes_of_three_colours(tmp_path, suffix, mode):
    Image.fromarray(PIXELS).convert(mode).save(tmp_path / f"x.{suffix}")
    image = decode(tmp_path / f"x.{suffix}")
    assert (image.shape, image.dtype) == ((3, 6, 10), torch.uint8)


def test_grey_becomes_three_equal_colours(tmp_path):
    grey([[0, 7], [200, 255]]).save(tmp_path / "x.png")
    assert decode(tmp_path / "x.png").tolist() == [[[0, 7], [200, 255]]] * 3


def test_sixteen_bits_of_grey_are_scaled_and_not_clipped(tmp_path):
    grey([[0, 300], [32768, 65535]], "uint16").save(tmp_path / "x.png")
    assert decode(tmp_path / "x.png").tolist() == [[[0, 1], [128, 255]]] * 3


def test_transparency_is_left_out(tmp_path):
    alpha = np.concatenate([PIXELS, np.full((6, 10, 1), 3, "uint8")], axis=2)
    Image.fromarray(alpha).save(tmp_path / "x.png")
    assert torch.equal(decode(tmp_path / "x.png"), RGB)


def test_a_palette_gives_its_colours(tmp_path):
    image = grey([[0, 1]]).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "x.png", transparency=b"\x00\xff")
    assert decode(tmp_path / "x.png")[:, 0].T.tolist() == [[10, 20, 30], [40, 50, 60]]


def test_of_an_animation_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert decode(tmp_path / "x.gif")[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_turned_image_is_set_upright_by_its_exif_tag(tmp_path, suffix):
    image = Image.new("RGB", (20, 10), "black")
    image.paste("white", (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    image.save(tmp_path / f"x.{suffix}", exif=exif)
    upright = decode(tmp_path / f"x.{suffix}")
    assert upright.shape == (3, 20, 10)
    assert upright[:, :8].min() > 200
    assert upright[:, 12:].max() < 50


def broken_files(folder):
    whole = io.BytesIO()
    Image.fromarray(PIXELS.repeat(9, 0).repeat(9, 1)).save(whole, "JPEG")
    contents = {
        "truncated.jpg": whole.getvalue()[: len(whole.getvalue()) // 2],
        "text.jpg": b"this is no image",
        "empty.png": b"",
        "page.png": b"<!doctype html><title>404</title>",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return contents


def test_what_is_no_whole_image_is_undecodable(tmp_path):
    for name in broken_files(tmp_path):
        with pytest.raises(Undecodable):
            decode(tmp_path / name)


@pytest.mark.filterwarnings("ignore")  # Pillow warns about some of the damage
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_a_damaged_file_decodes_or_is_undecodable_and_nothing_else(tmp_path, kind):
    whole = io.BytesIO()
    Image.fromarray(PIXELS).save(whole, kind)
    draw = random.Random(kind)
    for _ in range(60):
        damaged = bytearray(whole.getvalue())
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        (tmp_path / "x").write_bytes(damaged[: draw.randint(1, 2 * len(damaged))])
        try:
            image = decode(tmp_path / "x")
        except Undecodable:
            continue
        assert (image.ndim, image.shape[0], image.dtype) == (3, 3, torch.uint8)
