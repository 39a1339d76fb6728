import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.report.one_label import OneLabel

NAMES = tuple(f"class {letter}" for letter in "abcdefgh")


def answers(logits, labels, loss=None):
    logits, labels = torch.as_tensor(logits, dtype=torch.float32), torch.as_tensor(labels)
    loss = torch.nn.functional.cross_entropy(logits, labels).item() if loss is None else loss
    files = [f"val/{number:03}.png" for number in range(len(labels))]
    return OneLabel.of(files, NAMES[: logits.shape[1]], labels, logits, loss)


def drawn(images, classes, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, generator=generator) * scale
    return logits, torch.randint(classes, (images,), generator=generator)


@pytest.mark.parametrize("classes", [2, 3, 5, 6, 8])
def test_every_figure_is_scikit_learns_on_the_stored_predictions(classes, stored, recomputed, same):
    for seed in range(5):
        found = answers(*drawn(60, classes, seed))
        same(found.report(), recomputed("one_label", stored(found)))


def test_classes_that_no_image_is_of_and_that_are_never_predicted_count_as_in_scikit_learn(
    stored, recomputed, same
):
    logits, labels = drawn(40, 8)
    logits[:, 5] = -50
    labels[labels == 2] = 3
    labels[labels == 5] = 6
    found = answers(logits, labels)
    report = found.report()
    same(report, recomputed("one_label", stored(found)))
    assert report["per_class"][2]["support"] == 0
    assert report["per_class"][5] == {
        "name": "class f",
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "support": 0,
    }


def test_a_network_that_gives_one_class_alone_is_scikit_learns_too(stored, recomputed, same):
    logits, labels = drawn(30, 3)
    logits[:, 1] += 12
    found = answers(logits, labels)
    report = found.report()
    same(report, recomputed("one_label", stored(found)))
    assert report["figures"]["balanced_accuracy"] == pytest.approx(1 / 3)


def test_of_equal_classes_the_first_is_the_prediction_and_the_first_five_are_the_top(
    stored, recomputed, same
):
    found = answers(torch.zeros(16, 8), torch.arange(16) % 8)
    report = found.report()
    assert report["figures"]["accuracy"] == 1 / 8
    assert report["figures"]["top_5_accuracy"] == 5 / 8
    expected = recomputed("one_label", stored(found))
    del expected["figures"]["top_5_accuracy"]  # scikit-learn takes the last five of equal ones
    del expected["mistakes"]  # all are equally probable, in no order
    same(report, expected)


def test_fewer_than_six_classes_have_no_top_five():
    assert answers(*drawn(20, 5)).report()["figures"]["top_5_accuracy"] is None
    assert answers(*drawn(20, 6)).report()["figures"]["top_5_accuracy"] is not None


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(1, 50), st.integers(0, 1000), st.sampled_from([0.0, 0.1, 3.0, 60.0]))
def test_the_matrix_sums_to_the_images_and_the_shares_of_the_bins_to_one(classes, images, seed, scale):
    report = answers(*drawn(images, classes, seed, scale)).report()
    assert sum(map(sum, report["confusion"])) == images
    assert [sum(row) for row in report["confusion"]] == [row["support"] for row in report["per_class"]]
    assert sum(row["share"] for row in report["calibration"]["bins"]) == pytest.approx(1)
    wrong = images - sum(row[place] for place, row in enumerate(report["confusion"]))
    assert report["mistake_count"] == wrong
    assert len(report["mistakes"]) == min(wrong, 50)


def test_mistakes_are_the_most_probable_fifty():
    logits, labels = drawn(300, 3)
    report = answers(logits, labels).report()
    probabilities = [mistake["probability"] for mistake in report["mistakes"]]
    assert len(probabilities) == 50 < report["mistake_count"]
    assert probabilities == sorted(probabilities, reverse=True)
    wrong = logits.argmax(1) != labels
    assert probabilities[0] == pytest.approx(logits[wrong].softmax(1).amax().item())


def test_outputs_that_are_no_numbers_leave_out_calibration_and_are_no_mistakes():
    logits, labels = drawn(20, 3)
    logits[4] = float("nan")
    found = answers(logits, labels, float("nan"))
    report = found.report()
    assert int((~found.finite).sum()) == 1
    assert report["calibration"] is None
    assert sum(map(sum, report["confusion"])) == 20
    assert all(mistake["file"] != "val/004.png" for mistake in report["mistakes"])


def test_so_many_classes_that_a_matrix_would_be_too_large_have_none(monkeypatch):
    monkeypatch.setattr("finetune.report.class_figures.MOST_CLASSES", 7)
    assert answers(*drawn(20, 7)).report()["confusion"] is not None
    report = answers(*drawn(20, 8)).report()
    assert report["confusion"] is None
    assert len(report["per_class"]) == 8
