"""Pictures that say "this image is not available": hardly anything is on them, unlike on the others."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from finetune.data.facts import FileFacts

# Measured in bits of entropy (see `Look`): the placeholder among the ants and bees has 0.46, drawn ones have
# 0.02 to 0.6 (as JPEG, too); the plainest of 397 photographs, an insect on white, has 1.18, the next 2.86.
PLAIN = 0.75
OTHERS = 3.0  # times as much at least on nearly all the others
MOST = 0.02  # of the contents of a dataset
FEWEST = 10  # contents, below which nothing is unlike the others


def find_placeholders(paths: Iterable[Path], facts: Mapping[Path, FileFacts]) -> list[Path]:
    """The sound files that are plain where hardly any other is, in their order.

    In a dataset of drawings, digits or products on white this is usual, and none is found.
    """
    paths = [path for path in paths if facts[path].sound]
    entropies = {facts[path].sha256: facts[path].look.entropy for path in paths}
    plain = {content for content, entropy in entropies.items() if entropy < PLAIN}
    others = sorted(entropy for content, entropy in entropies.items() if content not in plain)
    if len(entropies) < FEWEST or len(plain) > max(1, MOST * len(entropies)):
        return []
    usual = others[len(others) // 20]  # all but one in twenty have more
    return [
        path for path in paths if facts[path].sha256 in plain and facts[path].look.entropy * OTHERS < usual
    ]
