import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from finetune.report.calibration import calibration_of


def test_the_error_is_torchmetrics_where_no_probability_is_one():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(500, generator=generator) * 0.999
    right = torch.rand(500, generator=generator) < probabilities**2
    for bins in (1, 7, 10, 15):
        found = calibration_of(probabilities, right, bins)
        expected = binary_calibration_error(probabilities, right.long(), n_bins=bins, norm="l1")
        assert found["error"] == pytest.approx(expected.item(), abs=1e-5)
        assert len(found["bins"]) == bins


def test_a_probability_of_one_is_in_the_last_bin_and_an_edge_in_the_bin_above():
    found = calibration_of(torch.tensor([1.0, 1.0, 0.95, 0.5, 0.0]), torch.tensor([1, 0, 1, 1, 0]) > 0)
    counts = [row["count"] for row in found["bins"]]
    assert counts == [1, 0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert found["bins"][9]["accuracy"] == pytest.approx(2 / 3)
    assert found["bins"][1]["mean_confidence"] is None
    assert found["bins"][1]["accuracy"] is None


def test_a_network_that_is_right_as_often_as_it_says_has_no_error():
    probabilities = torch.tensor([0.25] * 4 + [0.75] * 4)
    right = torch.tensor([1, 0, 0, 0, 1, 1, 1, 0]) > 0
    assert calibration_of(probabilities, right)["error"] == pytest.approx(0)
    assert calibration_of(torch.ones(4), torch.zeros(4) > 0)["error"] == pytest.approx(1)
