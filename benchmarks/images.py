"""The images that all loops see: the photographs of a folder, or photograph-like ones where there is none."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = ("train", "val")
LIKE_HYMENOPTERA = {("train", "ants"): 123, ("train", "bees"): 121, ("val", "ants"): 70, ("val", "bees"): 83}
SIZES = ((500, 333), (500, 375), (500, 334), (375, 500), (333, 500), (500, 400))


def lay_out(source: Path | None, folder: Path, most: int | None = None, copies: int = 1) -> dict[str, int]:
    """Fills `folder` with `train/CLASS/*.jpg` and `val/CLASS/*.jpg`; says how many images a split has.

    JPEG files are copied as they are. What is none (hymenoptera has a placeholder) is left out, so that no
    loop does more than another. `most` is the number of images that a class of a split keeps; `copies` is how
    often each training image is there.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if source is None:
        for (split, name), count in LIKE_HYMENOPTERA.items():
            _draw(folder / split / name, count if most is None else min(count, most), split == "val")
    else:
        for split in SPLITS:
            for kind in sorted(path for path in (source / split).iterdir() if path.is_dir()):
                _copy(kind, folder / split / kind.name, most)
    for image in list((folder / "train").rglob("*.jpg")):
        for copy in range(1, copies):
            shutil.copyfile(image, image.with_stem(f"{image.stem}-{copy}"))
    return {split: sum(1 for _ in (folder / split).rglob("*.jpg")) for split in SPLITS}


def _copy(source: Path, target: Path, most: int | None) -> None:
    target.mkdir(parents=True)
    for path in list(_jpegs(source))[:most]:
        shutil.copyfile(path, target / f"{path.stem}.jpg")


def _jpegs(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        with suppress(OSError), Image.open(path) as image:
            image.load()
            if image.format == "JPEG":
                yield path


def _draw(folder: Path, count: int, of_val: bool) -> None:
    """Soft patches with grain, whose files have the size of photographs; a class has more red than blue."""
    folder.mkdir(parents=True)
    for number in range(count):
        dice = np.random.RandomState((number, of_val, len(folder.name), ord(folder.name[0])))
        width, height = SIZES[number % len(SIZES)]
        patches = dice.randint(0, 200, (9, 12, 3)).astype("uint8")
        patches[..., 0 if folder.name == "ants" else 2] += 55
        soft = Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)
        grain = dice.randint(-20, 21, (height, width, 3))
        pixels = (np.asarray(soft, dtype="int16") + grain).clip(0, 255).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{number:04}.jpg", quality=90)
