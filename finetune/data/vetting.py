"""A dataset made ready for a run: its files looked at, those with problems refused or left out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finetune.data.dataset import Dataset, Sample, list_dataset, refuse_unfit, split_listing
from finetune.data.examination import Examination, examine_dataset
from finetune.data.facts import Keep, Stamp
from finetune.data.fingerprints import of_dataset
from finetune.data.judging import RULES, judge, leak, leak_problem
from finetune.data.leaks import Leaks, find_leaks
from finetune.data.listing import Listed, Listing, class_problems, count_labels, names
from finetune.data.placeholders import find_placeholders
from finetune.data.problems import counted, first_of
from finetune.errors import DatasetInvalid
from finetune.spec.job import DatasetSpec

UNSOUND = ("unreadable", "not_an_image")
MOST_SHOWN = 10  # files of a kind in an error

Files = Mapping[str, Sequence[Path]]  # by kind of problem


@dataclass(frozen=True)
class Vetted:
    """What a run trains on. `skipped` are the names of the files that it does without, by kind of problem.

    `stamps` tell a file that is changed while the run goes on. `opened` files were opened to check them;
    `known` ones had been before and are as they were.
    """

    dataset: Dataset
    fingerprint: str
    stamps: Mapping[Path, Stamp]
    opened: int
    known: int
    warnings: tuple[str, ...]
    skipped: dict[str, tuple[str, ...]]


def vet(
    data_dir: Path,
    spec: DatasetSpec,
    seed: int,
    checks_dir: Path | None = None,
    keeping: Callable[[Listing], Keep] | None = None,
) -> Vetted:
    """Checks a dataset, and splits what is left of it. See `examine_dataset` for `checks_dir`.

    `keeping` says what is to be done with the images of a listing that are decoded.

    Raises:
        DatasetNotFound: there is none.
        DatasetInvalid: it cannot be trained on, or not as the spec says.
    """
    listing = list_dataset(data_dir, spec.path)
    refuse_unfit(listing)
    keep = keeping(listing) if keeping else None
    seen = examine_dataset(data_dir, listing, checks_dir, keep=keep)
    skip, found = spec.on_problem == "skip", _of_single_files(seen)
    gone = {path for kind, paths in found.items() if skip or kind in UNSOUND for path in paths}
    # Taken out before the split, so that the run is that of a dataset from which they were removed.
    images = {split: tuple(i for i in some if i.path not in gone) for split, some in listing.images.items()}
    if gone and skip:
        _refuse_the_rest(listing, images, found)
    dataset = split_listing(replace(listing, images=images), spec, seed)
    leaks = find_leaks(_paths(dataset.train), _paths(dataset.val), seen.facts)
    if skip:
        by_kind = leaks.by_kind().items()
        found |= {kind: list(dict.fromkeys(ours for ours, _ in pairs)) for kind, pairs in by_kind}
        dataset = _without(dataset, found)
    else:
        _refuse(seen, found, leaks, spec.on_problem)
    return Vetted(
        dataset=dataset,
        fingerprint=of_dataset(seen) or "",
        stamps={path: one.stamp for path, one in seen.facts.items()},
        opened=seen.opened,
        known=seen.known,
        warnings=tuple(_warnings(seen, leaks, skip)),
        skipped={kind: tuple(map(seen.name, paths)) for kind, paths in found.items() if skip},
    )


def _of_single_files(seen: Examination) -> dict[str, list[Path]]:
    found = {kind: [path for path, one in seen.facts.items() if one.verdict == kind] for kind in UNSOUND}
    found["placeholder"] = find_placeholders(seen.facts, seen.facts)
    return {kind: paths for kind, paths in found.items() if paths}


def _paths(samples: Sequence[Sample]) -> list[Path]:
    return [sample.path for sample in samples]


def _refuse(seen: Examination, found: Files, leaks: Leaks, on_problem: str | None) -> None:
    """Raises an error where there are files that the run must not do with."""
    named = {
        kind: [seen.name(path) + _why(seen, path) for path in paths]
        for kind, paths in found.items()
        if on_problem == "fail" or kind in UNSOUND
    }
    if on_problem == "fail":
        for kind, pairs in leaks.by_kind().items():
            named[kind] = [f"{seen.name(ours)} (is {seen.name(theirs)})" for ours, theirs in pairs]
    if named:
        count = counted([name for some in named.values() for name in some], "file")
        listed = "; ".join(f"{kind}: {first_of(some, MOST_SHOWN)}" for kind, some in named.items())
        raise DatasetInvalid(
            f"{count} of {seen.listing.name!r} with problems: {listed}. Mend or remove them, or train "
            'without them with "on_problem": "skip"',
            "dataset.path",
        )


def _why(seen: Examination, path: Path) -> str:
    reason = seen.facts[path].reason
    return f" ({reason})" if reason else ""


def _refuse_the_rest(listing: Listing, images: dict[str, tuple[Listed, ...]], found: Files) -> None:
    """Raises an error where what is left would be no dataset to train on."""
    counts = {split: count_labels(some) for split, some in images.items()}
    problems = class_problems(listing.classes, counts)
    if problems:
        raise DatasetInvalid(f"{_left_out(found)}, {'; '.join(problems)}", "dataset.path")


def _left_out(found: Files) -> str:
    kinds = ", ".join(f"{len(paths)} {kind}" for kind, paths in found.items())
    return f"without the files that are left out ({kinds})"


def _without(dataset: Dataset, found: Files) -> Dataset:
    """The dataset without the images to train on that leak; what is left can be trained on."""
    leaking = {path for kind in ("leak", "near_leak") for path in found.get(kind, ())}
    left = replace(dataset, train=tuple(one for one in dataset.train if one.path not in leaking))
    empty = [name for name, n in zip(left.classes, left.class_counts(), strict=True) if n == 0]
    if empty or not left.val:
        lacking = f"no image to train on of {names(empty)}" if empty else "none to validate with"
        raise DatasetInvalid(f"{_left_out(found)} {dataset.name!r} has {lacking}: add images", "dataset.path")
    return left


def _warnings(seen: Examination, leaks: Leaks, skip: bool) -> Iterator[str]:
    """What the owner should know; leaks of the split that the run has, and not of the listed one."""
    left_out = (*UNSOUND, "placeholder") if skip else ()
    for problem in judge(seen, [rule for rule in RULES if rule is not leak]):
        if problem.kind not in left_out:
            yield problem.message
    if not skip:
        for kind, pairs in leaks.by_kind().items():
            yield leak_problem(seen, kind, pairs).message
