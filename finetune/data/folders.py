"""Image folders: `root/{train,val}/CLASS/*`, or `root/CLASS/*` without splits."""

from collections.abc import Iterator
from pathlib import Path

from finetune.data.listing import SPLITS, Counts, Listed, Listing, belongs, class_problems, one_class
from finetune.data.paths import sendable


def list_folder(folder: Path, name: str, root: Path) -> Listing:
    """Lists a dataset's folder below the data root (both real paths) without opening its files."""
    has_splits = (folder / "train").is_dir()
    splits = [s for s in SPLITS if (folder / s).is_dir()] if has_splits else ["train"]
    files = {s: dict(_by_class(folder / s if has_splits else folder, root)) for s in splits}
    classes = tuple(sorted({label for by in files.values() for label in by}))
    images = {
        split: tuple(Listed(path, (label,)) for label, paths in by.items() for path in paths)
        for split, by in files.items()
    }
    counts = {split: {label: len(paths) for label, paths in by.items()} for split, by in files.items()}
    return Listing(name, classes, images, counts, tuple(_problems(name, classes, counts)))


def _by_class(folder: Path, root: Path) -> Iterator[tuple[str, list[Path]]]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith(".") and entry.resolve().is_relative_to(root):
            # What is no regular file, or a link to nothing, is listed too: the check names it.
            inside = [path for path in sorted(entry.rglob("*")) if not path.is_dir()]
            yield sendable(entry.name), [path for path in inside if belongs(path, entry, root)]


def _problems(name: str, classes: tuple[str, ...], counts: Counts) -> list[str]:
    if not classes:
        return [f"{name!r} has no classes: make a folder of images for each, train/CLASS/* or CLASS/*"]
    if not any(n for by in counts.values() for n in by.values()):
        return [*one_class(classes), f"{name!r} has class folders and no images in them"]
    return class_problems(classes, counts)
