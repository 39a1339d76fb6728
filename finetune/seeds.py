"""Everything random in a run is drawn from a seed made from what it is for, never from what came before."""

import hashlib


def derive(*parts: int | str) -> int:
    """A seed in [0, 2^63) that depends on all parts and on nothing else.

    `derive(seed, "augment", stage, epoch, index)` is the same in every process and on every machine, which
    is what makes a run independent of interruptions and of the number of data workers.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
