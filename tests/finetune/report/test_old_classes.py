import pytest
import torch

from finetune.report.old_classes import OldAnswers, images_of

CLASSES = ("ants", "bees", "flies", "wasps")
LABELS = torch.tensor([0, 0, 1, 2, 2, 2, 2])


def logits(*predictions):
    return torch.nn.functional.one_hot(torch.tensor(predictions), len(CLASSES)).float()


@pytest.fixture
def old():
    """Ants, flies and wasps were known; no image is of wasps. One ant is taken for a bee, which is new."""
    before = logits(0, 0, 2, 2, 2, 0)
    after = logits(1, 0, 1, 2, 0, 0, 2)
    after[0, 0] = 0.5
    return OldAnswers.of([0, 2, 3], LABELS, before, after)


def test_images_of_old_classes_are_judged_among_these_and_among_all(old):
    found = old.report(CLASSES, LABELS, torch.tensor([1, 0, 1, 2, 0, 0, 2]))
    assert found["images"] == 6
    assert found["before"] == pytest.approx(5 / 6)
    assert found["after_among_old"] == pytest.approx(4 / 6)
    assert found["after"] == pytest.approx(3 / 6)


def test_the_largest_regression_comes_first_and_a_class_without_images_last(old):
    found = old.report(CLASSES, LABELS, torch.tensor([1, 0, 1, 2, 0, 0, 2]))
    assert found["per_class"] == [
        {"name": "ants", "support": 2, "before": 1.0, "after_among_old": 1.0, "after": 0.5, "change": -0.5},
        {
            "name": "flies",
            "support": 4,
            "before": 0.75,
            "after_among_old": 0.5,
            "after": 0.5,
            "change": -0.25,
        },
        {
            "name": "wasps",
            "support": 0,
            "before": None,
            "after_among_old": None,
            "after": None,
            "change": None,
        },
    ]


def test_what_was_said_is_stored_beside_the_images_of_old_classes_alone(old):
    assert old.columns(CLASSES, len(LABELS)) == {
        "prediction_before": ["ants", "ants", None, "flies", "flies", "flies", "ants"],
        "prediction_among_old": ["ants", "ants", None, "flies", "ants", "ants", "flies"],
    }


def test_no_kept_class_has_no_images():
    assert images_of([], LABELS).tolist() == []
    assert images_of([2, 1], LABELS).tolist() == [2, 3, 4, 5, 6]
