import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, ttest_rel

from app.comparison import compare, holm, mean_and_std, paired_p
from finetune.spec.objectives import lower_is_better

SCORE = st.floats(0, 1, allow_nan=False)
SEEDED = st.dictionaries(st.integers(0, 6), SCORE, max_size=6)
VARIANTS = st.dictionaries(st.sampled_from("abcde"), SEEDED, min_size=2, max_size=5)


@given(st.lists(st.tuples(SCORE, SCORE), min_size=2, max_size=12))
def test_p_is_that_of_scipys_paired_t_test(pairs):
    differences = [a - b for a, b in pairs]
    # scipy warns, and cannot be held to anything, where rounding is all that the differences differ by.
    if max(differences) - min(differences) > 1e-6:
        expected = ttest_rel(*zip(*pairs, strict=True)).pvalue
        assert paired_p(differences) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_p_of_three_seeds_by_hand():
    # Differences 1, 2, 3: mean 2, standard deviation 1, t = 2 √3; with two degrees of freedom
    # p = 1 - t / √(2 + t²).
    t = 2 * math.sqrt(3)
    assert paired_p([1, 2, 3]) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-12)


def test_two_runs_that_never_differ_have_p_1():
    assert paired_p([0.0, 0.0, 0.0]) == 1.0


def test_a_constant_difference_is_no_certainty_but_what_the_sign_test_says():
    assert [paired_p([0.1] * n) for n in (2, 3, 6)] == [0.5, 0.25, 0.03125]


def test_a_difference_that_is_constant_but_for_rounding_is_constant():
    a, b = {0: 0.9, 1: 0.8, 2: 0.7}, {0: 0.8, 1: 0.7, 2: 0.6}
    assert len({a[seed] - b[seed] for seed in a}) > 1
    (pair,) = compare({"a": a, "b": b})
    assert (pair.p_value, pair.differs) == (0.25, False)


def test_one_seed_says_nothing():
    assert paired_p([0.5]) is None
    assert paired_p([]) is None


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, and none below the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_p_values_and_bonferroni_and_keeps_their_order(p_values):
    adjusted = holm(p_values)
    for p, corrected in zip(p_values, adjusted, strict=True):
        assert p <= corrected <= min(1.0, p * len(p_values)) + 1e-12
    by_p = [corrected for _, corrected in sorted(zip(p_values, adjusted, strict=True))]
    assert by_p == sorted(by_p)
    # Holm holds the family-wise error, which is stricter than the false discovery rate.
    assert all(h >= b - 1e-12 for h, b in zip(adjusted, false_discovery_control(p_values), strict=True))


@given(VARIANTS)
def test_swapping_two_variants_flips_the_sign_and_nothing_else(variants):
    there = {(pair.a, pair.b): pair for pair in compare(variants)}
    back = compare(dict(reversed(variants.items())))
    assert len(there) == len(back) == len(variants) * (len(variants) - 1) // 2
    for pair in back:
        other = there[pair.b, pair.a]
        assert pair.n == other.n
        assert pair.mean_difference == (None if other.mean_difference is None else -other.mean_difference)
        assert (pair.std_difference, pair.p_value, pair.p_adjusted, pair.differs) == (
            other.std_difference,
            other.p_value,
            other.p_adjusted,
            other.differs,
        )


def test_only_seeds_that_both_have_are_compared():
    (pair,) = compare({"a": {0: 0.5, 1: 0.75, 2: 1.0}, "b": {1: 0.5, 2: 0.5, 3: 0.0}})
    assert (pair.n, pair.mean_difference) == (2, 0.375)
    assert pair.std_difference == pytest.approx(0.25 / math.sqrt(2))


def test_pairs_without_two_shared_seeds_are_null_and_not_counted_by_holm():
    good, bad = {0: 0.90, 1: 0.91, 2: 0.92}, {0: 0.80, 1: 0.80, 2: 0.83}
    pairs = {(pair.a, pair.b): pair for pair in compare({"a": good, "b": bad, "c": {0: 0.5}})}
    assert pairs["a", "b"].p_adjusted == pairs["a", "b"].p_value
    assert pairs["a", "b"].differs
    alone = pairs["a", "c"]
    assert (alone.n, alone.p_value, alone.p_adjusted, alone.differs) == (1, None, None, False)
    assert alone.mean_difference == pytest.approx(0.4)
    assert alone.std_difference is None


def test_the_correction_can_turn_a_difference_into_noise():
    three = {"a": {0: 0.9, 1: 0.9, 2: 0.92}, "b": {0: 0.8, 1: 0.84, 2: 0.8}, "c": {0: 0.1, 1: 0.9, 2: 0.5}}
    alone = compare({name: three[name] for name in "ab"})[0]
    among = compare(three)[0]
    assert (alone.differs, among.differs) == (True, False)
    assert among.p_value == alone.p_value == pytest.approx(alone.p_adjusted or 0)
    assert among.p_adjusted == pytest.approx(3 * (alone.p_value or 0))


def test_spread_needs_two_values():
    assert mean_and_std([]) == (None, None)
    assert mean_and_std([0.5]) == (0.5, None)
    assert mean_and_std([1.0, 3.0]) == (2.0, math.sqrt(2))


def test_less_is_better_of_losses_alone():
    assert [lower_is_better(metric) for metric in ("val_loss", "val_accuracy", "val_recall_at_1")] == [
        True,
        False,
        False,
    ]
