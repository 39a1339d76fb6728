"""Whether compiling a stage's network pays: a rule, and what it goes by, measured once and kept."""

import json
from dataclasses import asdict, dataclass

from finetune.cache import Cache, key_of

FEWEST_BATCHES = 200  # below which nothing is measured, not even a batch
WORTH_MEASURING = 1200.0  # seconds of training; two minutes of compiling and measuring are a tenth of them


@dataclass(frozen=True)
class Choice:
    """Whether a stage's network runs compiled, and why."""

    compiled: bool
    reason: str

    def __str__(self) -> str:
        return f"{'on' if self.compiled else 'off'}: {self.reason}"


@dataclass(frozen=True)
class Costs:
    """Seconds of compiling, and of a batch there and back: as it is, and compiled."""

    compile: float
    eager: float
    compiled: float

    def judge(self, batches: int) -> Choice:
        """Whether so many batches repay compiling."""
        gain = f"{_count(batches)} of {self.compiled:.3g} s instead of {self.eager:.3g} s"
        pays = batches * (self.eager - self.compiled) > self.compile
        repay = "repay" if pays else "do not repay"
        return Choice(pays, f"{gain} {repay} {self.compile:.3g} s of compiling")


def too_few(batches: int) -> Choice | None:
    """The choice where the batches left are too few to look at, else None."""
    if batches >= FEWEST_BATCHES:
        return None
    return Choice(
        False, f"{_count(batches)} are too few to find out whether it pays ({FEWEST_BATCHES} at least)"
    )


def too_short(batches: int, eager: float) -> Choice | None:
    """The choice where the batches left, of so many seconds, would not repay measuring, else None.

    A tenth of their time, which compiling often gives, must be as long as compiling often takes, two minutes.
    """
    if batches * eager >= WORTH_MEASURING:
        return None
    return Choice(
        False,
        f"{_count(batches)} of {eager:.3g} s are too short to find out whether it pays "
        f"({WORTH_MEASURING:g} s at least)",
    )


class KeptCosts:
    """Measured costs by what they depend on, in the cache: shared by the jobs of a machine."""

    def __init__(self, cache: Cache | None) -> None:
        self._cache = cache

    def find(self, *parts: object) -> Costs | None:
        """What was measured before, if it was."""
        kept = self._cache.get("compile", key_of(*parts)) if self._cache else None
        try:
            return None if kept is None else Costs(**json.loads(kept))
        except (ValueError, TypeError):  # of another version
            return None

    def keep(self, costs: Costs, *parts: object) -> None:
        """Keeps what was measured, where there is room."""
        if self._cache:
            self._cache.put("compile", key_of(*parts), [memoryview(json.dumps(asdict(costs)).encode())])


def _count(batches: int) -> str:
    return "1 batch" if batches == 1 else f"{batches:,} batches"
