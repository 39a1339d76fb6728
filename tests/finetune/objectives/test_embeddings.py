import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from finetune.learning import collapsed
from finetune.objectives import embeddings
from finetune.objectives.embeddings import placed, retrieval
from finetune.seeds import derive

MARGIN = 0.2


def cloud(seed, labels, apart, size=5):
    """Points around a centre for each class, in float64, on the unit sphere."""
    generator = torch.Generator().manual_seed(derive(seed, "cloud"))
    centres = torch.randn(max(labels) + 1, size, dtype=torch.float64, generator=generator)
    noise = torch.randn(len(labels), size, dtype=torch.float64, generator=generator)
    return placed(apart * centres[torch.tensor(labels)] + noise, normalize=True)


def by_hand(points, labels, margin):
    """Every triplet and every neighbour, one after the other."""
    count = len(labels)
    distance = [[math.dist(a, b) for b in points.tolist()] for a in points.tolist()]
    losses, at_1, at_5, precisions = [], [], [], []
    for anchor in range(count):
        others = [i for i in range(count) if i != anchor]
        same = [i for i in others if labels[i] == labels[anchor]]
        different = [i for i in others if labels[i] != labels[anchor]]
        if not same:
            continue
        for p, n in itertools.product(same, different):
            losses.append(max(0.0, distance[anchor][p] - distance[anchor][n] + margin))
        nearest = sorted(others, key=lambda i: (distance[anchor][i], labels[i] == labels[anchor]))
        right = [labels[i] == labels[anchor] for i in nearest]
        at_1.append(any(right[:1]))
        at_5.append(any(right[:5]))
        r = len(same)
        precisions.append(sum(sum(right[: i + 1]) / (i + 1) for i in range(r) if right[i]) / r)
    return {
        "recall_at_1": sum(at_1) / len(at_1),
        "recall_at_5": sum(at_5) / len(at_5),
        "map_at_r": sum(precisions) / len(precisions),
        "loss": sum(losses) / len(losses),
        "active": sum(loss > 0 for loss in losses) / len(losses),
    }


LABELS = [0, 0, 1, 2, 1, 3, 0, 2, 1, 0, 2, 3, 0, 4, 0, 2, 1, 2, 0, 1, 3, 2, 1, 0, 2, 1, 3, 0, 1, 2]


@pytest.mark.parametrize("apart", [0.0, 0.7, 3.0])
def test_figures_are_those_of_every_triplet_and_every_neighbour_one_by_one(apart):
    points = cloud(1, LABELS, apart)
    found = retrieval(points, torch.tensor(LABELS), MARGIN)
    expected = by_hand(points, LABELS, MARGIN)
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, abs=1e-6)


def test_the_images_held_at_once_change_no_figure(monkeypatch):
    points, labels = cloud(2, LABELS, 0.7), torch.tensor(LABELS)
    whole = retrieval(points, labels, MARGIN)
    monkeypatch.setattr(embeddings, "ROWS", 7)
    parts = retrieval(points, labels, MARGIN)
    assert vars(parts) == pytest.approx(vars(whole), rel=1e-6)


def test_recall_and_precision_are_pytorch_metric_learnings_where_each_class_has_two_images():
    labels = torch.arange(6).repeat(9)
    points = cloud(3, labels.tolist(), 1.0).float()
    found = retrieval(points, labels, MARGIN)
    calculator = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
        knn_func=CustomKNN(LpDistance(normalize_embeddings=False)),
    )
    theirs = calculator.get_accuracy(points, labels)
    assert 0.2 < found.recall_at_1 < 1
    assert found.recall_at_1 == pytest.approx(theirs["precision_at_1"])
    assert found.map_at_r == pytest.approx(theirs["mean_average_precision_at_r"])


def test_an_image_alone_in_its_class_is_no_anchor_and_is_in_the_way_of_others():
    points = torch.tensor([[0.0], [1.0], [0.4]], dtype=torch.float64)
    found = retrieval(points, torch.tensor([0, 0, 1]), MARGIN)
    assert (found.recall_at_1, found.recall_at_5) == (0.0, 1.0)
    assert found.map_at_r == 0.0
    # Anchor 0: 1 - 0.4 + 0.2; anchor 1: 1 - 0.6 + 0.2.
    assert found.loss == pytest.approx((0.8 + 0.6) / 2)
    assert found.active == 1.0


def test_perfectly_parted_classes_have_every_figure_at_its_best():
    points = torch.tensor([[0.0], [0.1], [9.0], [9.1]], dtype=torch.float64)
    found = retrieval(points, torch.tensor([0, 0, 1, 1]), MARGIN)
    assert (found.recall_at_1, found.map_at_r, found.loss, found.active) == (1.0, 1.0, 0.0, 0.0)


def test_an_embedding_that_is_one_point_finds_nothing_and_its_loss_is_the_margin():
    found = retrieval(torch.ones(12, 3), torch.arange(12) // 4, MARGIN)
    assert (found.recall_at_1, found.map_at_r, found.active, found.variance) == (0.0, 0.0, 1.0, 0.0)
    assert found.loss == pytest.approx(MARGIN)


def test_variance_is_the_mean_over_the_dimensions_and_spread_the_root_mean_square_distance():
    points = cloud(4, LABELS, 1.0)
    found = retrieval(points, torch.tensor(LABELS), MARGIN)
    assert found.variance == pytest.approx(points.var(0, correction=0).mean().item())
    assert found.spread == pytest.approx(torch.cdist(points, points).square().mean().sqrt().item())


def test_an_embedding_that_is_not_finite_has_no_figures_and_no_crash():
    points = torch.ones(4, 2)
    points[1, 0] = math.inf
    found = retrieval(points, torch.tensor([0, 0, 1, 1]), MARGIN)
    assert all(math.isnan(figure) for figure in vars(found).values())


@given(
    labels=st.lists(st.integers(0, 3), min_size=3, max_size=14).filter(
        lambda labels: 1 < len(set(labels)) < len(labels)
    ),
    seed=st.integers(0, 1000),
    apart=st.floats(0, 4),
)
@settings(max_examples=60, deadline=None)
def test_figures_of_any_labels_are_those_by_hand(labels, seed, apart):
    points = cloud(seed, labels, apart, size=2)
    found = retrieval(points, torch.tensor(labels), MARGIN)
    expected = by_hand(points, labels, MARGIN)
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, abs=1e-6)


def sign_of(points, labels, margin=MARGIN):
    found = retrieval(points, torch.tensor(labels), margin)
    return collapsed(found.spread, found.loss, found.active, margin)


def test_a_healthy_embedding_raises_no_alarm():
    assert sign_of(cloud(5, LABELS, 2.0), LABELS) is None


def test_an_embedding_in_one_place_has_collapsed():
    point = placed(torch.ones(30, 5, dtype=torch.float64) + 1e-3 * cloud(6, LABELS, 1.0), normalize=True)
    assert sign_of(point, LABELS).startswith("the embedding has collapsed: two images are 0.00")


def test_an_embedding_in_which_classes_are_no_nearer_to_themselves_stands_at_the_margin():
    # In very many dimensions all points are about as far from one another.
    labels = [0, 1, 2] * 10
    points = cloud(7, labels, 0.0, size=20_000)
    assert sign_of(points, labels).startswith("the loss stands at the margin (0.2 of 0.2)")
    nearer = placed(points + 0.3 * torch.eye(3, 20_000, dtype=torch.float64)[labels], normalize=True)
    assert sign_of(nearer, labels) is None
