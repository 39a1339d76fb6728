import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score, f1_score

from finetune.data.dataset import Dataset, Sample
from finetune.objectives import build
from finetune.objectives.multilabel import (
    average_precisions,
    best_threshold,
    positive_weights,
    probabilities_of,
)
from finetune.spec.objectives import BinaryCrossEntropy

CPU = torch.device("cpu")
LOGITS = torch.tensor([[2.0, -1.0], [0.5, 0.0], [-3.0, 1.5]])
LABELS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])


def objective(labels, classes=("a", "b"), **fields):
    samples = tuple(Sample(Path("x.png"), label) for label in labels)
    dataset = Dataset("labels.csv", classes, samples, samples, True, multi_label=True)
    return build(BinaryCrossEntropy(name="binary_cross_entropy", **fields), dataset, CPU)


PLAIN = objective([(0,), (1,), (0, 1), ()])


def evaluated(logits, labels, cuts=()):
    """The evaluation of outputs that come in batches."""
    parts = [slice(a, b) for a, b in zip((0, *cuts), (*cuts, len(logits)), strict=True)]
    classes = tuple("abcde"[: logits.shape[1]])
    return objective([(0,)], classes).evaluate(lambda batch: batch, [(logits[p], labels[p]) for p in parts])


def by_hand(pos_weight=(1.0, 1.0)):
    """The mean over images and classes in float64."""
    p = 1 / (1 + np.exp(-LOGITS.double().numpy()))
    y, w = LABELS.double().numpy(), np.array(pos_weight)
    return float(-(w * y * np.log(p) + (1 - y) * np.log(1 - p)).mean())


def test_the_loss_is_the_mean_over_images_and_classes():
    assert PLAIN.loss(LOGITS, LABELS).item() == pytest.approx(by_hand(), rel=1e-6)


def test_balanced_weighs_positives_by_negatives_over_positives():
    assert positive_weights([2, 3], 8).tolist() == pytest.approx([3.0, 5 / 3])
    balanced = objective([(0,), (0, 1), (), (1,), (), (1,), (), ()], class_weights="balanced")
    assert balanced.loss(LOGITS, LABELS).item() == pytest.approx(by_hand((3.0, 5 / 3)), rel=1e-6)
    assert balanced.evaluate(lambda x: x, [(LOGITS, LABELS)]).figures["loss"] == pytest.approx(by_hand())


def test_one_label_an_image_is_that_class_and_no_other():
    one = torch.tensor([0, 1, 1])
    assert PLAIN.loss(LOGITS, one).item() == PLAIN.loss(LOGITS, LABELS).item()
    assert PLAIN.evaluate(lambda x: x, [(LOGITS, one)]) == PLAIN.evaluate(lambda x: x, [(LOGITS, LABELS)])


def test_micro_batches_weighed_together_have_the_loss_of_the_whole():
    parts = [(LOGITS[:1], LABELS[:1]), (LOGITS[1:], LABELS[1:])]
    weights = [PLAIN.weight(labels) for _, labels in parts]
    losses = [PLAIN.loss(*part) for part in parts]
    together = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
    assert together.item() == pytest.approx(PLAIN.loss(LOGITS, LABELS).item(), rel=1e-6)


def test_the_training_figures_are_the_loss_and_the_part_of_right_labels():
    tally = PLAIN.tally()
    tally.add(torch.tensor(1.0), LOGITS[:1], LABELS[:1])
    tally.add(torch.tensor(4.0), LOGITS[1:], LABELS[1:])
    assert tally.figures() == pytest.approx({"loss": 3.0, "label_accuracy": 5 / 6})


def test_a_share_of_a_label_is_there_from_a_half_on():
    tally = PLAIN.tally()
    tally.add(torch.tensor(0.0), torch.tensor([[3.0, 3.0]]), torch.tensor([[0.7, 0.3]]))
    assert tally.figures()["label_accuracy"] == 0.5


SHAPES = st.tuples(st.integers(2, 25), st.integers(1, 5))
# Few values, so that many are equal, or any; none so small that a step between two is lost in sklearn's sums.
VALUES = st.one_of(st.sampled_from([-2.0, -1.0, 0.0, 1.0]), st.floats(-30, 30, width=32))


@st.composite
def outputs_and_labels(draw):
    """Logits (N, classes) and labels of which each class has one at least."""
    shape = draw(SHAPES)
    logits = draw(arrays.arrays(np.float32, shape, elements=VALUES))
    labels = draw(arrays.arrays(np.bool_, shape))
    for column in range(shape[1]):
        labels[draw(st.integers(0, shape[0] - 1)), column] = True
    return torch.from_numpy(logits), torch.from_numpy(labels)


@given(outputs_and_labels())
def test_the_average_precisions_are_scikit_learns(pair):
    logits, labels = pair
    columns = range(logits.shape[1])
    expected = [average_precision_score(labels[:, c].numpy(), logits[:, c].numpy()) for c in columns]
    assert average_precisions(logits, labels).tolist() == pytest.approx(expected, abs=1e-6)
    mean = evaluated(logits, labels.float()).figures["map"]
    assert mean == pytest.approx(np.mean(expected), abs=1e-6)


@given(outputs_and_labels())
def test_f1_is_scikit_learns_for_what_the_thresholds_give(pair):
    logits, labels = pair
    evaluation = evaluated(logits, labels.float(), cuts=(1,))
    given_labels = np.stack(
        [logits[:, c].sigmoid() >= t for c, t in enumerate(evaluation.metadata["thresholds"].values())], 1
    )
    average = {"average": "macro"} if labels.shape[1] > 1 else {"average": "binary"}
    expected = f1_score(labels.numpy().squeeze(), given_labels.squeeze(), zero_division=0, **average)
    assert evaluation.figures["f1"] == pytest.approx(expected, abs=1e-6)


PROBABILITIES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1, width=32))


@given(st.lists(st.tuples(PROBABILITIES, st.booleans()), min_size=1, max_size=25))
def test_no_threshold_gives_a_better_f1_and_no_lower_one_as_good_a_one(pairs):
    probabilities = torch.tensor([p for p, _ in pairs])
    truth = torch.tensor([positive for _, positive in pairs])
    assume(truth.any())

    def f1(threshold):
        taken = probabilities >= threshold
        return 2 * (taken & truth).sum().item() / (taken.sum() + truth.sum()).item()

    threshold, best = best_threshold(probabilities, truth)
    every = {p.item(): f1(p) for p in probabilities}
    assert f1(threshold) == best == max(every.values())
    lowest = min(p for p, value in every.items() if value == best)
    assert threshold <= lowest
    assert all(p < threshold for p in every if p < lowest)


def test_a_threshold_lies_in_the_middle_between_two_images():
    probabilities = torch.tensor([0.9, 0.7, 0.3, 0.1])
    assert best_threshold(probabilities, torch.tensor([True, True, False, False])) == (0.5, 1.0)
    assert best_threshold(probabilities, torch.tensor([True, True, True, True]))[0] == pytest.approx(0.05)


@pytest.mark.parametrize("away", [0.0, 1.0])  # their middle is rounded to the one, or to the other
def test_a_threshold_parts_neighbours_among_float32(away):
    pair = torch.tensor(0.75), torch.nextafter(torch.tensor(0.75), torch.tensor(away))
    lower, upper = sorted(pair)
    threshold, f1 = best_threshold(torch.stack([upper, lower]), torch.tensor([True, False]))
    assert upper >= threshold > lower
    assert f1 == 1.0


def test_a_class_that_no_validation_image_has_is_left_out():
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    logits = torch.tensor([[1.0, 2.0, 3.0], [2.0, 1.0, 0.0], [0.0, -1.0, -2.0]])
    evaluation = evaluated(logits, labels)
    both = evaluated(logits[:, [0, 2]], labels[:, [0, 2]])
    assert evaluation.metadata["thresholds"]["b"] == 0.5
    assert list(evaluation.metadata["thresholds"]) == ["a", "b", "c"]
    assert (evaluation.figures["map"], evaluation.figures["f1"]) == (both.figures["map"], both.figures["f1"])


def test_a_network_that_tells_the_classes_apart_has_learnt():
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    evaluation = evaluated(labels * 4 - 2, labels)
    assert evaluation.sign is None
    assert evaluation.figures == pytest.approx({"loss": math.log1p(math.exp(-2)), "map": 1.0, "f1": 1.0})
    assert evaluation.metadata == {"thresholds": pytest.approx({"a": 0.5, "b": 0.5})}


def test_a_network_that_says_the_same_of_every_image_has_learnt_nothing():
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    assert evaluated(torch.zeros(4, 2), labels).sign == "every validation image got the same labels"
    noise = torch.tensor([[1e-6, 0.0], [0.0, 1e-6], [1e-6, 1e-6], [0.0, 0.0]])
    assert evaluated(noise, labels).sign == "every validation image got the same labels"


def test_a_network_whose_order_is_no_better_than_chance_has_learnt_nothing():
    labels = torch.zeros(10, 2)
    labels[5:, 0] = 1  # five that come last, and one that is the fifth of ten
    labels[4, 1] = 1
    evaluation = evaluated(torch.linspace(1, -1, 10)[:, None].expand(10, 2), labels)
    assert evaluation.figures["map"] == pytest.approx(
        ((1 / 6 + 2 / 7 + 3 / 8 + 4 / 9 + 5 / 10) / 5 + 1 / 5) / 2
    )
    assert evaluation.sign == "the mean average precision is 0.277, and chance would give 0.300"


def test_outputs_that_are_no_numbers_have_no_figures_and_break_nothing():
    evaluation = evaluated(torch.full((3, 2), float("nan")), LABELS)
    assert all(math.isnan(value) for value in evaluation.figures.values())
    assert evaluation.sign == "the outputs for validation images are not numbers"
    assert evaluation.metadata == {"thresholds": {"a": 0.5, "b": 0.5}}


def test_equal_logits_have_equal_probabilities_wherever_they_lie():
    logits = torch.full((11, 3), -18.9531)
    assert len(probabilities_of(logits).unique()) == 1
    assert probabilities_of(logits).dtype == torch.float32
