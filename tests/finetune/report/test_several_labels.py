import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.report.several_labels import SeveralLabels

NAMES = ("blue", "green", "red", "grey")


def answers(logits, labels, thresholds=None):
    labels = labels.float()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels).item()
    files = [f"images/{number:03}.png" for number in range(len(labels))]
    classes = NAMES[: labels.shape[1]]
    edges = dict(zip(classes, thresholds or [0.5] * len(classes), strict=True))
    return SeveralLabels.of(files, classes, labels, logits, edges, loss)


def drawn(images, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(images, classes, generator=generator) < 0.4
    return torch.randn(images, classes, generator=generator) * 2 + labels, labels


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_every_figure_is_scikit_learns_on_the_stored_predictions(classes, stored, recomputed, same):
    for seed in range(5):
        logits, labels = drawn(50, classes, seed)
        found = answers(logits, labels, thresholds=[0.3, 0.5, 0.62, 0.9][:classes])
        same(found.report(), recomputed("several_labels", stored(found)))


def test_equal_probabilities_are_ranked_as_scikit_learn_does(stored, recomputed, same):
    logits, labels = drawn(40, 3)
    found = answers(logits.round(), labels)
    same(found.report(), recomputed("several_labels", stored(found)))


def test_a_class_that_no_image_is_of_is_left_out_of_the_means(stored, recomputed, same):
    logits, labels = drawn(40, 3)
    labels[:, 1] = False
    found = answers(logits, labels)
    report = found.report()
    same(report, recomputed("several_labels", stored(found)))
    row = report["per_class"][1]
    assert (row["support"], row["recall"], row["f1"]) == (0, 0.0, 0.0)
    assert row["average_precision"] != row["average_precision"]  # NaN, which is written as null
    known = [report["per_class"][place]["average_precision"] for place in (0, 2)]
    assert report["figures"]["map"] == pytest.approx(sum(known) / 2)


@pytest.mark.parametrize("logit", [-4.0, 4.0])
def test_a_network_that_gives_all_labels_or_none_is_scikit_learns_too(logit, stored, recomputed, same):
    found = answers(torch.full((20, 3), logit), drawn(20, 3)[1])
    same(found.report(), recomputed("several_labels", stored(found)))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 4), st.integers(1, 40), st.integers(0, 1000))
def test_each_matrix_sums_to_the_images_and_the_shares_of_the_bins_to_one(classes, images, seed):
    report = answers(*drawn(images, classes, seed)).report()
    assert [sum(map(sum, matrix)) for matrix in report["confusion"]] == [images] * classes
    for matrix, row in zip(report["confusion"], report["per_class"], strict=True):
        assert sum(matrix[1]) == row["support"]
    assert sum(row["share"] for row in report["calibration"]["bins"]) == pytest.approx(1)
    assert report["calibration"]["count"] == images * classes


def test_mistakes_say_what_was_given_and_what_was_missed_the_surest_first():
    logits = torch.tensor([[4.0, -3.0], [-1.0, 0.5], [-0.5, -5.0]])
    labels = torch.tensor([[0, 0], [1, 1], [0, 1]])
    report = answers(logits, labels).report()
    assert report["mistake_count"] == 3
    assert [(m["file"], m["label"], m["mistake"]) for m in report["mistakes"]] == [
        ("images/002.png", "green", "missed"),
        ("images/000.png", "blue", "given"),
        ("images/001.png", "blue", "missed"),
    ]
    assert report["mistakes"][0]["probability"] == pytest.approx(0.0067, abs=1e-4)


def test_what_is_not_below_its_threshold_is_given():
    labels = torch.tensor([[1, 0], [1, 0]])
    found = answers(torch.zeros(2, 2), labels, [0.5, 0.51])
    assert found.given.tolist() == [[True, False], [True, False]]
    assert found.about() == {"thresholds": {"blue": 0.5, "green": pytest.approx(0.51)}}


def test_outputs_that_are_no_numbers_leave_out_what_needs_their_order():
    logits, labels = drawn(10, 3)
    logits[2, 1] = float("nan")
    report = answers(logits, labels).report()
    assert report["calibration"] is None
    assert report["figures"]["map"] != report["figures"]["map"]
    assert all(mistake["file"] != "images/002.png" for mistake in report["mistakes"])
