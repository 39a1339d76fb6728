"""A whole number as an image's weight is like so many of the image in the batch, whatever the objective."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune.data.dataset import Dataset, Sample
from finetune.objectives import build
from finetune.spec import CrossEntropy
from finetune.spec.objectives import BinaryCrossEntropy, Focal, Triplet

CPU = torch.device("cpu")
COUNTS = (10, 3, 7)
SAMPLES = tuple(Sample(Path("x.png"), label) for label, n in enumerate(COUNTS) for _ in range(n))
DATASET = Dataset("numbers", ("a", "b", "c"), SAMPLES, SAMPLES, True)
OBJECTIVES = [
    CrossEntropy(),
    CrossEntropy(class_weights="balanced"),
    CrossEntropy(label_smoothing=0.2),
    CrossEntropy(class_weights="balanced", label_smoothing=0.2),
    Focal(name="focal"),
    Focal(name="focal", gamma=0.5, class_weights="balanced"),
    BinaryCrossEntropy(name="binary_cross_entropy"),
    BinaryCrossEntropy(name="binary_cross_entropy", class_weights="balanced"),
]
each_objective = pytest.mark.parametrize(
    "spec", OBJECTIVES, ids=lambda spec: "-".join(str(value) for value in spec.model_dump().values())
)

SHARES = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0], [0.2, 0.4, 0.4]])
SEVERAL = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
ROW = st.tuples(
    st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=3), st.integers(0, 2), st.integers(1, 4)
)
BATCHES = st.lists(ROW, min_size=2, max_size=8)


def batch(drawn):
    logits, labels, weights = zip(*drawn, strict=True)
    return torch.tensor(logits), torch.tensor(labels), torch.tensor(weights, dtype=torch.float32)


def answers_of(spec, labels):
    """What the labels may be: one each, shares of a mixture, any number."""
    return [labels, SHARES[labels], *([SEVERAL[labels]] if isinstance(spec, BinaryCrossEntropy) else [])]


def loss_and_gradient(objective, logits, *labels_and_weights):
    logits = logits.clone().requires_grad_()
    loss = objective.loss(logits, *labels_and_weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.detach(), gradient


@each_objective
@given(drawn=BATCHES)
def test_a_weight_is_like_so_many_of_the_image_in_the_batch(spec, drawn):
    objective = build(spec, DATASET, CPU)
    logits, labels, weights = batch(drawn)
    times = weights.long()
    owner = torch.arange(len(times)).repeat_interleave(times)
    for answers in answers_of(spec, labels):
        loss, gradient = loss_and_gradient(objective, logits, answers, weights)
        repeated, gradients = loss_and_gradient(objective, logits[owner], answers[owner])
        together = torch.zeros_like(gradient).index_add(0, owner, gradients)
        torch.testing.assert_close(loss, repeated, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradient, together, rtol=1e-4, atol=1e-6)
        counted = objective.weight(answers, weights)
        torch.testing.assert_close(counted, objective.weight(answers[owner]), rtol=1e-5, atol=0)


@each_objective
@given(drawn=BATCHES, cut=st.integers(1, 7))
def test_batches_weighed_together_have_the_gradient_of_the_whole(spec, drawn, cut):
    objective = build(spec, DATASET, CPU)
    logits, labels, weights = batch(drawn)
    cut = min(cut, len(labels) - 1)
    for answers in answers_of(spec, labels):
        loss, gradient = loss_and_gradient(objective, logits, answers, weights)
        parts = [(logits[p], answers[p], weights[p]) for p in (slice(cut), slice(cut, None))]
        counts = torch.stack([objective.weight(*part[1:]) for part in parts])
        torch.testing.assert_close(counts.sum(), objective.weight(answers, weights), rtol=1e-5, atol=0)
        shares = counts / counts.sum()
        found = [loss_and_gradient(objective, *part) for part in parts]
        summed = sum(share * own for share, (own, _) in zip(shares, found, strict=True))
        torch.testing.assert_close(summed, loss, rtol=1e-5, atol=1e-6)
        gradients = torch.cat([share * own for share, (_, own) in zip(shares, found, strict=True)])
        torch.testing.assert_close(gradients, gradient, rtol=1e-4, atol=1e-6)


@each_objective
@given(drawn=BATCHES, factor=st.sampled_from([0.001, 0.5, 3.0]))
def test_weights_are_relative_to_those_of_the_batch(spec, drawn, factor):
    objective = build(spec, DATASET, CPU)
    logits, labels, weights = batch(drawn)
    for answers in answers_of(spec, labels):
        loss = objective.loss(logits, answers, weights)
        torch.testing.assert_close(objective.loss(logits, answers, weights * factor), loss)
        plain = objective.loss(logits, answers)
        alike = objective.loss(logits, answers, torch.full_like(weights, factor))
        torch.testing.assert_close(alike, plain, rtol=1e-5, atol=1e-6)


@each_objective
def test_an_image_that_counts_next_to_nothing_teaches_next_to_nothing(spec):
    objective = build(spec, DATASET, CPU)
    logits, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1])
    weights = torch.tensor([1.0, 1.0, 1e-6, 1.0])
    _, gradient = loss_and_gradient(objective, logits, labels, weights)
    assert 0 < gradient[2].abs().max() < 1e-6 < 1e-3 < gradient[[0, 1, 3]].abs().amax(1).min()


@each_objective
def test_the_training_loss_that_is_told_is_the_weighted_mean_over_the_epoch(spec):
    """The share of right answers counts each image once."""
    objective = build(spec, DATASET, CPU)
    logits = torch.tensor([[3.0, -9, -9], [-9.0, 3, -9], [3.0, -9, -9]])
    labels, weights = torch.tensor([0, 1, 1]), torch.tensor([1.0, 2.0, 5.0])
    tally, plain = objective.tally(), objective.tally()
    for part in (slice(2), slice(2, None)):
        loss = objective.loss(logits[part], labels[part], weights[part])
        tally.add(loss, logits[part], labels[part], weights[part])
        plain.add(loss, logits[part], labels[part])
    figures = tally.figures()
    first, last = (
        objective.loss(logits[p], labels[p], weights[p]).item() for p in (slice(2), slice(2, None))
    )
    assert figures["loss"] == pytest.approx((3 * first + 5 * last) / 8)
    (name,) = figures.keys() - {"loss"}
    assert figures[name] == plain.figures()[name] == pytest.approx(2 / 3 if name == "accuracy" else 7 / 9)


def test_the_triplet_objective_takes_no_weights():
    objective = build(Triplet(name="triplet"), DATASET, CPU)
    with pytest.raises(AssertionError, match="three images"):
        objective.loss(torch.randn(3, 2), torch.tensor([0, 0, 1]), torch.ones(3))
