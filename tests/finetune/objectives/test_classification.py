import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F  # noqa: N812

from finetune.data.dataset import Dataset, Sample
from finetune.objectives import build
from finetune.objectives.classification import balanced_weights, focal_loss
from finetune.spec import CrossEntropy
from finetune.spec.objectives import Focal

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5], [-1.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
LABELS = torch.tensor([0, 2, 1, 0])


def dataset(counts):
    samples = tuple(Sample(Path("x.png"), label) for label, n in enumerate(counts) for _ in range(n))
    return Dataset("numbers", ("a", "b", "c"), samples, samples, True)


def objective(counts, kind=CrossEntropy, **fields):
    return build(kind(**fields), dataset(counts), torch.device("cpu"))


def loss(counts=(2, 1, 1), **fields):
    return objective(counts, **fields).loss(LOGITS, LABELS)


def log_likelihoods():
    return LOGITS.double() - LOGITS.double().exp().sum(1, keepdim=True).log()


def test_cross_entropy_is_the_mean_of_the_labels_negative_log_likelihoods():
    assert loss().item() == pytest.approx(-log_likelihoods()[range(4), LABELS].mean().item())


def test_label_smoothing_spreads_a_part_of_the_target_over_all_classes():
    target = torch.full((4, 3), 0.3 / 3, dtype=torch.float64)
    target[range(4), LABELS] += 0.7
    expected = -(target * log_likelihoods()).sum(1).mean().item()
    assert loss(label_smoothing=0.3).item() == pytest.approx(expected, rel=1e-6)


def test_balanced_weights_are_scikit_learns():
    labels = [0] * 10 + [1] * 3 + [2] * 7
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 2]), y=labels)
    assert balanced_weights([10, 3, 7]).tolist() == pytest.approx(expected.tolist())


def test_balanced_weights_weigh_each_image_by_its_class():
    weights = balanced_weights([10, 3, 7]).double()[LABELS]
    expected = -(weights * log_likelihoods()[range(4), LABELS]).sum() / weights.sum()
    assert loss((10, 3, 7), class_weights="balanced").item() == pytest.approx(expected.item(), rel=1e-6)


def test_equal_classes_balance_to_the_plain_loss():
    assert loss((5, 5, 5), class_weights="balanced").item() == pytest.approx(loss().item())


WEIGHTS = torch.tensor([0.5, 2.0, 1.25])
SHARES = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0], [0.2, 0.4, 0.4], [1.0, 0.0, 0.0]])


def focal_by_hand(gamma, weights=(1.0, 1.0, 1.0), shares=None):
    """Image by image and class by class in float64, from the formula of Lin et al. 2017."""
    total = divisor = 0.0
    for image, label in enumerate(LABELS.tolist()):
        exponentials = [math.exp(logit) for logit in LOGITS[image].tolist()]
        for c in range(3):
            share = float(c == label) if shares is None else shares[image, c].item()
            p = exponentials[c] / sum(exponentials)
            total -= weights[c] * share * (1 - p) ** gamma * math.log(p)
        divisor += weights[label] if shares is None else 1.0
    return total / divisor


def test_focal_loss_has_its_golden_values():
    # -log p and (1 - p)^2 of the labels' probabilities 0.8437947, 1/3, 0.9362396 and 0.2119416
    terms = [0.1698460 * 0.0244001, 1.0986123 * 0.4444444, 0.0658838 * 0.0040654, 1.5514447 * 0.6210360]
    assert objective((2, 1, 1), Focal, name="focal").loss(LOGITS, LABELS).item() == pytest.approx(
        sum(terms) / 4, rel=1e-5
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_loss_is_the_formula(gamma):
    assert focal_loss(LOGITS, LABELS, gamma, None).item() == pytest.approx(focal_by_hand(gamma), rel=1e-5)
    weighted = focal_loss(LOGITS, LABELS, gamma, WEIGHTS).item()
    assert weighted == pytest.approx(focal_by_hand(gamma, WEIGHTS.tolist()), rel=1e-5)
    soft = focal_loss(LOGITS, SHARES, gamma, None).item()
    assert soft == pytest.approx(focal_by_hand(gamma, shares=SHARES), rel=1e-5)
    both = focal_loss(LOGITS, SHARES, gamma, WEIGHTS).item()
    assert both == pytest.approx(focal_by_hand(gamma, WEIGHTS.tolist(), SHARES), rel=1e-5)


BATCHES = st.lists(
    st.tuples(st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=3), st.integers(0, 2)),
    min_size=2,
    max_size=12,
)


def batch(drawn):
    return torch.tensor([logits for logits, _ in drawn]), torch.tensor([label for _, label in drawn])


@given(BATCHES, st.booleans())
def test_focal_loss_with_gamma_0_is_cross_entropy(drawn, weighted):
    logits, labels = batch(drawn)
    weights = WEIGHTS if weighted else None
    expected = F.cross_entropy(logits, labels, weight=weights)
    assert focal_loss(logits, labels, 0.0, weights).item() == pytest.approx(
        expected.item(), abs=1e-6, rel=1e-6
    )
    shares = SHARES[labels]
    expected = F.cross_entropy(logits, shares, weight=weights)
    assert focal_loss(logits, shares, 0.0, weights).item() == pytest.approx(
        expected.item(), abs=1e-6, rel=1e-6
    )


def test_shares_of_one_class_only_are_hard_labels():
    hard = focal_loss(LOGITS, LABELS, 2.0, None)
    assert focal_loss(LOGITS, torch.eye(3)[LABELS], 2.0, None).item() == hard.item()


def test_balanced_focal_loss_weighs_as_cross_entropy_does():
    weights = balanced_weights([10, 3, 7])
    weighted = objective((10, 3, 7), Focal, name="focal", gamma=1.5, class_weights="balanced")
    assert weighted.loss(LOGITS, LABELS).item() == focal_loss(LOGITS, LABELS, 1.5, weights).item()


KINDS = [
    (CrossEntropy, {}),
    (CrossEntropy, {"class_weights": "balanced"}),
    (CrossEntropy, {"label_smoothing": 0.2}),
    (CrossEntropy, {"class_weights": "balanced", "label_smoothing": 0.2}),
    (Focal, {"name": "focal", "class_weights": "balanced"}),
    (Focal, {"name": "focal", "gamma": 0.5}),
]


@pytest.mark.parametrize(("kind", "fields"), KINDS, ids=[f"{k.__name__} {f}" for k, f in KINDS])
@given(drawn=BATCHES, cut=st.integers(1, 11))
def test_two_batches_weighed_together_have_the_loss_of_the_whole(kind, fields, drawn, cut):
    counted = objective((10, 3, 7), kind, **fields)
    logits, labels = batch(drawn)
    cut = min(cut, len(labels) - 1)
    for answers in (labels, SHARES[labels]):
        parts = [(logits[:cut], answers[:cut]), (logits[cut:], answers[cut:])]
        weights = [counted.weight(part) for _, part in parts]
        sums = sum(w * counted.loss(*part) for w, part in zip(weights, parts, strict=True))
        whole = counted.loss(logits, answers)
        assert (sums / sum(weights)).item() == pytest.approx(whole.item(), rel=1e-5, abs=1e-6)
        assert sum(weights).item() == pytest.approx(counted.weight(answers).item())


def test_an_evaluation_is_plain_whatever_the_training_loss():
    plain = objective((10, 3, 7)).evaluate(lambda x: x, [(LOGITS, LABELS)])
    focal = objective((10, 3, 7), Focal, name="focal", class_weights="balanced")
    assert focal.evaluate(lambda x: x, [(LOGITS[:1], LABELS[:1]), (LOGITS[1:], LABELS[1:])]).figures == (
        pytest.approx(plain.figures)
    )
    assert plain.figures == pytest.approx(
        {"loss": -log_likelihoods()[range(4), LABELS].mean().item(), "accuracy": 0.5}
    )


def test_of_shares_the_largest_is_the_label_that_counts():
    tally = objective((1, 1, 1)).tally()
    tally.add(torch.tensor(0.5), LOGITS, torch.tensor([[0.6, 0.4, 0.0]] * 4))
    assert tally.figures() == {"loss": 0.5, "accuracy": 0.5}


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_losss_gradient_is_finite_where_a_probability_has_rounded_to_1(gamma):
    logits = torch.tensor([[60.0, 0.0, 0.0], [0.0, 60.0, 0.0]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([0, 0]), gamma, None)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient[1, 0] < 0  # the wrong one is still learnt from
