"""Images that stand on both sides, to train on and to validate with: the score is then too good."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from finetune.data.facts import FileFacts
from finetune.data.looks import near_pairs

Pair = tuple[Path, Path]  # an image to train on, and the one to validate with


@dataclass(frozen=True)
class Leaks:
    """Pairs of one content, and pairs that are near copies: re-encoded or resized."""

    exact: tuple[Pair, ...]
    near: tuple[Pair, ...]

    def by_kind(self) -> dict[str, tuple[Pair, ...]]:
        """The pairs under the names of their problems, where there are any."""
        found = {"leak": self.exact, "near_leak": self.near}
        return {kind: pairs for kind, pairs in found.items() if pairs}


def find_leaks(train: Iterable[Path], val: Iterable[Path], facts: Mapping[Path, FileFacts]) -> Leaks:
    """Each image to train on that leaks, once, with the first image of validation that it equals."""
    ours, theirs = _by_content(train, facts), _by_content(val, facts)
    both = [content for content in ours if content in theirs]
    exact = [(path, theirs[content][0]) for content in both for path in ours[content]]
    left = [content for content in ours if content not in theirs and facts[ours[content][0]].look.hash]
    right = [content for content in theirs if facts[theirs[content][0]].look.hash]
    looks = ([facts[by[content][0]].look for content in some] for by, some in ((ours, left), (theirs, right)))
    near: dict[Path, Path] = {}
    for i, j in near_pairs(*looks):
        for path in ours[left[i]]:
            near.setdefault(path, theirs[right[j]][0])
    return Leaks(tuple(sorted(exact)), tuple(sorted(near.items())))


def _by_content(paths: Iterable[Path], facts: Mapping[Path, FileFacts]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(facts[path].sha256, []).append(path)
    return found
