from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from finetune.data.folders import Dataset, Sample
from finetune.objectives import build
from finetune.objectives.classification import balanced_weights
from finetune.spec import CrossEntropy

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
