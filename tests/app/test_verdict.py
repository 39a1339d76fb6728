import pytest

from app.comparison import compare
from app.verdict import answer, method

GOOD, BAD = {0: 0.90, 1: 0.91, 2: 0.92}, {0: 0.80, 1: 0.80, 2: 0.83}
NOISY = {0: 0.95, 1: 0.85, 2: 0.91}


def said(variants, metric="val_accuracy", ended=6, jobs=6):
    return answer(metric, variants, compare(variants), ended, jobs)


def test_a_difference_beyond_the_noise_is_said_with_its_figures():
    assert said({"two_stage": BAD, "joint": GOOD}) == (
        "joint beats two_stage by 10 ± 1 points of val_accuracy over 3 seeds (paired test, p = 0.0033)"
    )


def test_of_a_loss_the_lower_one_wins():
    assert said({"a": GOOD, "b": BAD}, "val_loss").startswith("b beats a by 0.1 ± 0.01 val_loss")


def test_a_difference_within_the_noise_is_called_so():
    text = said({"a": GOOD, "b": NOISY})
    assert text == (
        "a has the best mean, but is ahead only within the noise: of b by 0.667 ± 5.5 points of val_accuracy "
        "over 3 seeds (paired test, p = 0.85)"
    )


def test_of_many_variants_the_best_is_held_against_each_other_one():
    text = said({"a": GOOD, "b": BAD, "c": NOISY, "d": {0: 0.1}})
    assert text.startswith("a beats b by ")
    assert "within the noise: of c by " in text
    assert text.endswith("a shares too few seeds with d")


def test_the_best_mean_can_lose_over_the_seeds_that_are_shared():
    text = said({"a": {0: 0.5, 1: 0.51, 2: 0.5, 3: 1.0, 4: 1.0, 5: 1.0}, "b": {0: 0.6, 1: 0.62, 2: 0.61}})
    assert text.startswith("a loses to b by 10.7")


def test_before_the_end_it_is_so_far_or_too_early():
    assert said({"a": GOOD, "b": BAD}, ended=6, jobs=8).startswith("so far, with 6 of 8 jobs ended: a beats")
    assert said({"a": {0: 1.0}, "b": {}}, ended=1, jobs=4) == "too early to say: 1 of 4 jobs have ended"
    assert said({"a": {}}, ended=0, jobs=3) == "too early to say: 0 of 3 jobs have ended"


def test_an_end_without_two_shared_seeds_says_what_it_would_take():
    assert said({"a": {0: 1.0}, "b": {0: 0.5}}) == (
        "nothing can be said: it takes two seeds for which the jobs of two variants have succeeded"
    )


def test_one_variant_has_a_mean_and_nothing_to_compare_with():
    assert said({"a": GOOD}) == (
        "a has a mean val_accuracy of 0.91 over 3 seeds; there is no other variant to compare it with"
    )
    assert said({"a": {}}) == "nothing can be said: no job has succeeded"


@pytest.mark.parametrize(("variants", "corrected"), [(1, False), (2, False), (3, True)])
def test_the_method_names_the_correction_where_there_is_one(variants, corrected):
    assert ("Holm's correction over 3 pairs" in method(variants)) == corrected
    assert "t-test" in method(variants)
