from pathlib import Path

import pytest
import torch

from finetune.data.dataset import Dataset, Sample
from finetune.objectives import build
from finetune.spec.objectives import Triplet

# Two classes on a line, so that every distance is a difference of two numbers.
PLACES = torch.tensor([[0.0], [1.0], [3.0], [2.5], [4.0], [9.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 0, 1, 1, 1])
MARGIN = 2.0


def objective(**fields):
    samples = tuple(Sample(Path("x.png"), label) for label in LABELS.tolist())
    spec = Triplet.model_validate({"name": "triplet", "margin": MARGIN, "normalize": False, **fields})
    return build(spec, Dataset("line", ("a", "b"), samples, samples, True), torch.device("cpu"))


# d(anchor, positive) - d(anchor, negative) + 2 of each triplet, by hand: anchor, positive, negatives 3, 4, 5
# (or 0, 1, 2 for the other class).
#   0: p1 (1): 0.5 -1 -6     p2 (3): 2.5  1 -4
#   1: p0 (1): 1.5  0 -5     p2 (2): 2.5  1 -4
#   2: p0 (3): 4.5  4 -1     p1 (2): 3.5  3 -2
#   3: p4 (1.5): 1 2 3       p5 (6.5): 6 7 8
#   4: p3 (1.5): -0.5 0.5 2.5   p5 (5): 3 4 6
#   5: p3 (6.5): -0.5 0.5 2.5   p4 (5): -2 -1 1
ABOVE_ZERO = [
    *(0.5, 2.5, 1),
    *(1.5, 2.5, 1),
    *(4.5, 4, 3.5, 3),
    *(1, 2, 3, 6, 7, 8),
    *(0.5, 2.5, 3, 4, 6),
    *(0.5, 2.5, 1),
]
# Above 0 and below the margin: the negative is further away than the positive, by less than the margin.
SEMIHARD = [0.5, 1, 1.5, 1, 1, 0.5, 0.5, 1]
# Of each image the furthest positive and the nearest negative.
HARDEST = [2.5, 2.5, 4.5, 8, 6, 2.5]


@pytest.mark.parametrize(
    ("mining", "losses"), [("all", ABOVE_ZERO), ("semihard", SEMIHARD), ("hard", HARDEST)]
)
def test_the_loss_of_six_images_is_the_mean_of_their_mined_triplets_by_hand(mining, losses):
    loss = objective(mining=mining).loss(PLACES, LABELS)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(sum(losses) / len(losses), abs=1e-9)


def test_hard_mining_counts_images_without_loss_and_all_does_not():
    far = torch.tensor([[0.0], [1.0], [2.0], [6.0], [9.0], [9.5]], dtype=torch.float64)
    # Furthest positives 2, 1, 2, 3.5, 3, 3.5, nearest negatives 6, 5, 4, 4, 7, 7.5.
    assert objective(mining="hard").loss(far, LABELS).item() == pytest.approx(1.5 / 6)
    # Of image 3: 9 is 3 away, 9.5 is 3.5, the negatives 6, 5, 4.
    assert objective(mining="all").loss(far, LABELS).item() == pytest.approx((1.0 + 0.5 + 1.5) / 3)


def test_a_gradient_step_pulls_the_positive_and_pushes_the_negative():
    places = PLACES[[0, 1, 3]].clone().requires_grad_()
    objective(mining="all").loss(places, torch.tensor([0, 0, 1])).backward()
    assert places.grad is not None
    # Anchor 0: (x1 - x0) - (x3 - x0) + 2; anchor 1: (x1 - x0) - (x3 - x1) + 2. Each has half the weight.
    assert places.grad.flatten().tolist() == pytest.approx([-0.5, 1.5, -1.0])


@pytest.mark.parametrize("mining", ["all", "semihard", "hard"])
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]], ids=["one class", "no two alike"])
def test_a_batch_without_triplets_has_the_loss_zero_and_a_gradient_of_zeros(mining, labels):
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = objective(mining=mining).loss(outputs, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0.0
    assert outputs.grad is not None
    assert outputs.grad.count_nonzero() == 0


@pytest.mark.parametrize("mining", ["all", "semihard", "hard"])
def test_images_in_one_point_have_a_finite_gradient(mining):
    outputs = torch.ones(6, 3, requires_grad=True)
    loss = objective(mining=mining, normalize=True).loss(outputs, LABELS)
    loss.backward()
    assert torch.isfinite(loss)
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize("mining", ["all", "semihard", "hard"])
def test_under_bf16_autocast_the_loss_is_computed_in_fp32(mining):
    outputs = torch.randn(40, 16, generator=torch.Generator().manual_seed(1)).bfloat16()
    labels = torch.arange(40) % 5
    ours = objective(mining=mining, normalize=True, margin=0.2)
    expected = ours.loss(outputs.double(), labels).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = ours.loss(outputs, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_normalized_embeddings_lose_their_length():
    ours = objective(normalize=True, mining="all", margin=0.5)
    outputs = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    scaled = outputs * torch.arange(1.0, 7.0)[:, None]
    assert ours.loss(scaled, LABELS).item() == pytest.approx(ours.loss(outputs, LABELS).item())
    assert ours.evaluate(lambda x: x, [(scaled, LABELS)]).figures == pytest.approx(
        ours.evaluate(lambda x: x, [(outputs, LABELS)]).figures
    )


def test_a_batch_weighs_as_many_as_its_images():
    assert objective().weight(LABELS).item() == 6.0


def test_training_figures_are_the_mean_loss_and_the_share_of_triplets_that_violate_the_margin():
    ours = objective(mining="hard")
    tally = ours.tally()
    loss = ours.loss(PLACES, LABELS)
    tally.add(loss, PLACES, LABELS)
    tally.add(torch.tensor(0.0), PLACES * 100, LABELS)  # of 36 triplets 15 are still active at that scale
    figures = tally.figures()
    assert figures["loss"] == pytest.approx(loss.item() / 2)
    still = sum(value - MARGIN + MARGIN / 100 > 0 for value in ABOVE_ZERO)
    assert figures["active_triplets"] == pytest.approx((len(ABOVE_ZERO) + still) / 72)


@pytest.mark.parametrize("size", [1, 4, 6])
def test_validation_takes_all_triplets_whatever_the_mining_and_the_batches(size):
    batches = [(PLACES[at : at + size], LABELS[at : at + size]) for at in range(0, 6, size)]
    for mining in ("all", "semihard", "hard"):
        figures = objective(mining=mining).evaluate(lambda x: x, batches).figures
        assert list(figures) == ["loss", "recall@1", "recall@5", "map@r", "active_triplets", "variance"]
        assert figures["loss"] == pytest.approx(sum(ABOVE_ZERO) / 36)
        assert figures["active_triplets"] == pytest.approx(len(ABOVE_ZERO) / 36)


def test_a_collapsed_embedding_gets_a_sign_with_advice_for_embeddings():
    found = objective(normalize=True, margin=0.2).evaluate(lambda x: x, [(torch.ones(6, 4), LABELS)])
    assert "collapsed" in found.sign
    assert "semihard" in found.advice
    assert objective().evaluate(lambda x: x, [(PLACES, LABELS)]).sign is None
