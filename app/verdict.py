"""An experiment's outcome in words."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from app.comparison import LEVEL, Comparison, Values
from finetune.spec.objectives import lower_is_better


def method(variants: int) -> str:
    """A sentence that says how so many variants are compared."""
    pairs = variants * (variants - 1) // 2
    corrected = f", Holm's correction over {pairs} pairs of variants" if pairs > 1 else ""
    return (
        "two-sided t-test of the differences paired by seed, over the seeds for which both variants' jobs "
        f"have succeeded{corrected}, level {LEVEL:g}; the sign test where all differences are the same; "
        "± is the sample standard deviation"
    )


def answer(
    metric: str, variants: Mapping[str, Values], comparisons: Sequence[Comparison], ended: int, jobs: int
) -> str:
    """What can be said by now: the best variant, what it beats, and what is within the noise.

    Args:
        metric: what is compared.
        variants: each one's values by seed, of the jobs that have succeeded.
        comparisons: every pair of them.
        ended: how many jobs have ended.
        jobs: how many there are.
    """
    tested = any(comparison.p_value is not None for comparison in comparisons)
    if tested:
        said = _ranking(metric, variants, comparisons)
        return said if ended == jobs else f"so far, with {ended} of {jobs} jobs ended: {said}"
    if ended < jobs:
        return f"too early to say: {ended} of {jobs} jobs have ended"
    if len(variants) > 1:
        return "nothing can be said: it takes two seeds for which the jobs of two variants have succeeded"
    (name, values), *_ = variants.items()
    if not values:
        return "nothing can be said: no job has succeeded"
    mean = f"{name} has a mean {metric} of {fmean(values.values()):.4g} over {_seeds(len(values))}"
    return f"{mean}; there is no other variant to compare it with"


def _ranking(metric: str, variants: Mapping[str, Values], comparisons: Sequence[Comparison]) -> str:
    sign = -1.0 if lower_is_better(metric) else 1.0
    scores = {name: sign * fmean(values.values()) for name, values in variants.items() if values}
    best = max(scores, key=scores.__getitem__)
    beaten, better, alike, unknown = [], [], [], []
    for pair in comparisons:
        if best not in (pair.a, pair.b):
            continue
        other = pair.b if pair.a == best else pair.a
        if pair.mean_difference is None or pair.p_value is None:
            unknown.append(other)
        elif not pair.differs:
            alike.append(f"{other} by {_figures(metric, pair)}")
        elif (pair.mean_difference * sign > 0) == (pair.a == best):
            beaten.append(f"{other} by {_figures(metric, pair)}")
        else:  # over the seeds that they share; its mean over all of its own seeds is the best
            better.append(f"{other} by {_figures(metric, pair)}")
    parts = [
        f"{best} beats {_joined(beaten)}" if beaten else "",
        f"{best} loses to {_joined(better)}" if better else "",
        f"{best} has the best mean, but is ahead only within the noise: of {_joined(alike)}" if alike else "",
        f"{best} shares too few seeds with {_joined(unknown)}" if unknown else "",
    ]
    return "; ".join(part for part in parts if part)


def _figures(metric: str, pair: Comparison) -> str:
    assert pair.mean_difference is not None, "it was tested"
    assert pair.p_adjusted is not None, "it was tested"
    assert pair.std_difference is not None, "it was tested"
    p = f"p = {pair.p_adjusted:.2g}" if pair.p_adjusted >= 1e-4 else "p < 0.0001"
    # A loss has a scale of its own; all else are shares, whose differences people tell in points.
    scale, unit = (1.0, metric) if lower_is_better(metric) else (100.0, f"points of {metric}")
    difference = f"{scale * abs(pair.mean_difference):.3g} ± {scale * pair.std_difference:.2g} {unit}"
    return f"{difference} over {_seeds(pair.n)} (paired test, {p})"


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"
