import pytest
import torch

from finetune.report.class_figures import Counts, accuracy, confusion_matrix


def test_what_has_nothing_to_divide_by_is_nothing():
    counts = Counts.of_single(torch.tensor([0, 0]), torch.tensor([0, 1]), 3)
    assert counts.rows(["a", "b", "c"]) == [
        {"name": "a", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2},
        {"name": "b", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0},
        {"name": "c", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0},
    ]
    assert counts.macro_f1() == pytest.approx(1 / 3)  # of a and b; c is neither a label nor a prediction
    assert counts.balanced_accuracy() == 0.5  # of a alone


def test_rows_of_the_matrix_are_labels_and_columns_predictions():
    labels, predictions = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 1])
    assert confusion_matrix(labels, predictions, 2) == [[1, 2], [0, 1]]
    assert accuracy(labels, predictions) == 0.5
