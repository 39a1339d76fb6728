import os

import pytest
import torch

from finetune.process import cores, use_cores


@pytest.fixture
def eight(monkeypatch):
    """A process that may use eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 3),
        ("1000 100000", 1),
        ("9900000 100000", 8),
    ],
)
def test_a_containers_share_of_the_cores_counts(eight, tmp_path, limit, expected):
    (tmp_path / "cpu.max").write_text(limit)
    assert cores(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("150000", 2)])
def test_so_does_that_of_the_older_control_groups(eight, tmp_path, quota, expected):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cores(tmp_path) == expected


def test_without_a_limit_all_cores_that_the_process_may_use_count(eight, tmp_path):
    assert cores(tmp_path) == 8


def test_torch_takes_the_cores_unless_the_operator_says_otherwise(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.setattr("finetune.process.cores", lambda: 1)
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        torch.set_num_threads(2)
        assert use_cores() == 2
        monkeypatch.delenv("OMP_NUM_THREADS")
        monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
        assert use_cores() == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
