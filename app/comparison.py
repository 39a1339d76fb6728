"""Which variants of an experiment differ by more than the noise: pure functions of the values by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean, stdev

from scipy.special import stdtr

LEVEL = 0.05
"""How often variants that are equally good may be said to differ, over all pairs of an experiment."""
SAME = 1e-12
"""Differences that spread by less than this part of the values are the same but for rounding."""

Values = Mapping[int, float]
"""A variant's value of the metric by seed."""


@dataclass(frozen=True)
class Comparison:
    """Two variants over the seeds that both have a value for; differences are `a` minus `b`.

    `p_value` is of this pair alone, `p_adjusted` corrected for the number of pairs; both are None, and
    `differs` is false, where fewer than two seeds are shared.
    """

    a: str
    b: str
    n: int
    mean_difference: float | None
    std_difference: float | None
    p_value: float | None
    p_adjusted: float | None = None
    differs: bool = False


def compare(variants: Mapping[str, Values]) -> list[Comparison]:
    """Every pair of variants, in the order in which they are given."""
    pairs = [_pair(a, b, variants[a], variants[b]) for a, b in combinations(variants, 2)]
    adjusted = iter(holm([pair.p_value for pair in pairs if pair.p_value is not None]))
    return [
        pair if pair.p_value is None else replace(pair, p_adjusted=(p := next(adjusted)), differs=p < LEVEL)
        for pair in pairs
    ]


def paired_p(differences: Sequence[float], size: float = 1.0) -> float | None:
    """The two-sided p-value of "the differences' mean is zero" by the paired t-test (Student 1908).

    Differences that are all the same leave the t-test no variance: it would call two runs that happen to
    differ by one image each a certainty. There the sign test decides (2 in 2^n for n signs that agree), and
    differences that are all zero have p = 1.

    Args:
        differences: one a seed.
        size: how large the compared values are, which rounding errors are measured by.

    Returns:
        None for fewer than two differences.
    """
    n = len(differences)
    if n < 2:
        return None
    mean, spread = fmean(differences), stdev(differences)
    if spread <= SAME * size:
        return 1.0 if abs(mean) <= SAME * size else 2.0 ** (1 - n)
    t = mean / (spread / math.sqrt(n))
    return float(2 * stdtr(n - 1, -abs(t)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number, in the order given (Holm 1979); never above Bonferroni's."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return adjusted


def mean_and_std(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The mean (None of nothing) and the sample standard deviation (None of fewer than two)."""
    return (fmean(values) if values else None), (stdev(values) if len(values) > 1 else None)


def _pair(a: str, b: str, of_a: Values, of_b: Values) -> Comparison:
    seeds = [seed for seed in of_a if seed in of_b]
    differences = [of_a[seed] - of_b[seed] for seed in seeds]
    size = max((max(abs(of_a[seed]), abs(of_b[seed])) for seed in seeds), default=0.0)
    return Comparison(a, b, len(seeds), *mean_and_std(differences), paired_p(differences, size))
