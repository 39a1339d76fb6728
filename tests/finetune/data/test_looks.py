import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from finetune.data import looks as module
from finetune.data.looks import Look, look_at, near_pairs

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "hymenoptera"


def encoded(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return Image.open(content).convert("RGB")


def half(image):
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR)


COPIES = {
    "the same": lambda image: image,
    "JPEG of quality 40": lambda image: encoded(image, "JPEG", quality=40),
    "JPEG of quality 95": lambda image: encoded(image, "JPEG", quality=95),
    "PNG": lambda image: encoded(image, "PNG"),
    "WebP": lambda image: encoded(image, "WEBP", quality=60),
    "half the size": half,
    "half the size as JPEG of quality 40": lambda image: encoded(half(image), "JPEG", quality=40),
    "one and a half times the size": lambda image: image.resize(
        (image.width * 3 // 2, image.height * 3 // 2)
    ),
    "another shape": lambda image: image.resize((224, 224)),
}


@pytest.fixture(scope="module")
def photographs(photograph):
    return [photograph(seed, (200, 150)) for seed in range(60)]


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_is_near_to_its_original_alone(photographs, copy):
    originals = [look_at(image) for image in photographs]
    copies = [look_at(copy(image)) for image in photographs]
    assert near_pairs(originals, copies) == [(i, i) for i in range(len(photographs))]


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared has no hymenoptera")
def test_real_photographs_are_near_to_their_copies_alone():
    images = [Image.open(path).convert("RGB") for path in sorted(REAL.glob("val/*/*.jpg"))[::3]]
    originals = [look_at(image) for image in images]
    for copy in (COPIES["JPEG of quality 40"], COPIES["half the size"], COPIES["PNG"]):
        copies = [look_at(copy(image)) for image in images]
        assert near_pairs(originals, copies) == [(i, i) for i in range(len(images))]


def drawn(number, size, noise):
    """A shape of a colour of its own at a place of its own."""
    dice = random.Random(number)
    ground = np.random.RandomState(number).randint(0, noise + 1, (size, size, 3)).astype("uint8")
    image = Image.fromarray(ground)
    left, top = dice.randrange(size // 3), dice.randrange(size // 3)
    colour = tuple(dice.randrange(40, 256) for _ in range(3))
    shape = (ImageDraw.Draw(image).ellipse, ImageDraw.Draw(image).rectangle)[number % 2]
    shape((left, top, left + size // 2, top + size // 2), fill=colour)
    return image


def digits(size):
    datasets = pytest.importorskip("sklearn.datasets")
    for pixels in datasets.load_digits().images[:300]:
        yield Image.fromarray((pixels * 15.9).astype("uint8")).convert("RGB").resize((size, size))


DRAWINGS = {
    **{f"shapes of {size}, noise {noise}": (size, noise) for size in (24, 64, 128, 224) for noise in (0, 60)},
    "digits of 8": (8, None),
    "digits of 32": (32, None),
    "digits of 128": (128, None),
}


@pytest.mark.parametrize(("size", "noise"), DRAWINGS.values(), ids=DRAWINGS)
def test_drawings_that_look_alike_are_no_copies(size, noise):
    images = digits(size) if noise is None else (drawn(number, size, noise) for number in range(300))
    hashed = [look for look in map(look_at, images) if look.hash]
    alike = [(i, j) for i, j in near_pairs(hashed, hashed) if i < j]
    assert len(alike) <= len(hashed) / 100  # two may happen to have nearly one colour at nearly one place


@pytest.mark.parametrize("size", [(31, 200), (200, 31), (8, 8)])
def test_tiny_images_have_no_hash(photograph, size):
    assert look_at(photograph(1, size)).hash == b""


@pytest.mark.parametrize("colour", ["white", "black", "red"])
def test_flat_images_have_no_hash(colour):
    image = Image.new("RGB", (100, 100), colour)
    ImageDraw.Draw(image).text((20, 40), "nothing here", fill="grey")
    look = look_at(image)
    assert look.hash == look.thumbnail == b""
    assert look.entropy < 0.5


def test_what_all_images_share_is_no_sign_of_a_copy(photograph):
    scene, frames = photograph(1, (320, 240)), []
    for number in range(40):
        frame = scene.copy()
        ImageDraw.Draw(frame).point((number, number), fill="white")
        frames.append(look_at(frame))
    assert near_pairs(frames[:20], frames[20:]) == []
    assert near_pairs(frames[:3], frames[3:6]) == [(i, j) for i in range(3) for j in range(3)]


def test_nothing_is_near_to_nothing(photograph):
    one = look_at(photograph(1))
    assert near_pairs([], [one]) == near_pairs([one], []) == near_pairs([], []) == []


def test_many_looks_are_compared_with_few(monkeypatch):
    compared = []
    candidates = module._candidates

    def count(ours, theirs):
        for i, j in candidates(ours, theirs):
            compared.append(len(i))
            yield i, j

    monkeypatch.setattr(module, "_candidates", count)
    hashes = np.random.RandomState(0).randint(0, 256, (6000, 8)).astype("uint8")
    looks = [Look(3.0, row.tobytes(), bytes(192)) for row in hashes]
    assert near_pairs(looks[:5000], [*looks[5000:], looks[7]]) == [(7, 1000)]
    assert sum(compared) < 5000 * 1001 / 100
    compared.clear()
    same = [looks[0]] * 3000
    assert near_pairs(same, same) == []
    assert sum(compared) == 0
