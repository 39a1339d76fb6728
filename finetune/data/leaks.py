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
    """Pairs in which each image that leaks, of both sides, stands once at least."""
    ours, theirs = _by_content(train, facts), _by_content(val, facts)
    exact = _pairs((ours[content], theirs[content]) for content in ours if content in theirs)
    left = [content for content in ours if content not in theirs and facts[ours[content][0]].look.hash]
    right = [content for content in theirs if facts[theirs[content][0]].look.hash]
    looks = ([facts[by[content][0]].look for content in some] for by, some in ((ours, left), (theirs, right)))
    near = _pairs((ours[left[i]], theirs[right[j]]) for i, j in near_pairs(*looks))
    return Leaks(exact, near)


def _pairs(copies: Iterable[tuple[list[Path], list[Path]]]) -> tuple[Pair, ...]:
    """Of groups of copies on both sides, with no more pairs than there are images."""
    pairs: list[Pair] = []
    said: set[Path] = set()
    for ours, theirs in copies:
        for pair in (*((path, theirs[0]) for path in ours), *((ours[0], path) for path in theirs)):
            if not said.issuperset(pair):
                pairs.append(pair)
                said.update(pair)
    return tuple(sorted(pairs))


def _by_content(paths: Iterable[Path], facts: Mapping[Path, FileFacts]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(facts[path].sha256, []).append(path)
    return found
