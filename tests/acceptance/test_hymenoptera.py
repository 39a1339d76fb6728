"""The issue's own check: ants and bees, with real weights, where they are."""

from pathlib import Path

import pytest

from client.api import ThawClient

SHARED = Path(__file__).resolve().parents[3] / "shared"
DATA = SHARED / "data" / "hymenoptera"
WEIGHTS = SHARED / "weights" / "mobilenet_v1.safetensors"


@pytest.mark.timeout(1100)  # two minutes of two free cores
@pytest.mark.skipif(
    not (DATA.is_dir() and WEIGHTS.is_file()), reason="../shared has no hymenoptera or no weights"
)
def test_two_stages_with_their_defaults_end_at_0_93_or_more_on_ants_and_bees(make_house, ended, repository):
    house = make_house(
        data_dir=DATA.parent,
        weights_dir=WEIGHTS.parent,
        backbones="examples.mobilenet_v1:backbone",
        data_workers=1,
    )
    (house.root / "examples").symlink_to(repository / "examples")
    house.serve()
    house.work(OMP_NUM_THREADS=2)
    spec = {
        "dataset": {"path": "hymenoptera"},
        "backbone": {"name": "mobilenet_v1", "weights": {"file": "mobilenet_v1.safetensors"}},
        "recipe": {"name": "two_stage"},
    }
    with ThawClient(house.url) as client:
        job = ended(client, client.submit(spec).id, 1000)
        assert job.status == "succeeded", job.error
        assert [record.stage for record in client.metrics(job.id)] == ["head"] * 60 + ["all"] * 12
        report = client.report(job.id)
    assert job.result["val"]["accuracy"] >= 0.93
    assert job.best.value >= 0.93
    assert report.figures["accuracy"] == job.best.value
    assert report.matrix is not None
    assert sum(sum(row) for row in report.matrix) == report.images == 153
    assert report.reproduced.difference == 0.0
