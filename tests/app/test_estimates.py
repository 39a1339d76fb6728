from copy import deepcopy

import pytest

from app.estimates import estimate
from app.store.records import Pace

STAGE = {
    "name": "all",
    "epochs": 4,
    "freeze": {"policy": "none"},
    "augmentation": {"name": "standard"},
    "features_once": True,
    "feature_views": None,
}
SPEC = {
    "backbone": {"name": "resnet18"},
    "image_size": None,
    "batch_size": 32,
    "precision": "auto",
    "dataset": {"path": "zoo"},
    "stages": [STAGE],
}


def _record(seconds, stage=0, images=100):
    parts = {"data": 0.0, "train": seconds, "val": seconds / 2, "checkpoint": 0.0}
    return {"stage_index": stage, "images_per_second": images / seconds, "seconds": parts}


def _pace(seconds=2.0, epochs=4, beside=10.0, job="job_a", **changes):
    spec = deepcopy(SPEC) | changes
    records = [_record(seconds) for _ in range(epochs)]
    return Pace(job, spec, beside + 1.5 * seconds * spec["stages"][0]["epochs"], records)


def test_stage_takes_as_long_by_the_image_as_an_earlier_one_of_its_kind():
    # 100 images took 3 seconds an epoch; 200 images and 4 epochs take 24, and what is beside them 10.
    told = estimate(SPEC, 200, [_pace()])
    assert told.seconds == pytest.approx(34.0)
    assert told.because == "as job_a took"


def test_epochs_that_were_not_looked_at_do_not_count_as_time_beside():
    assert estimate(SPEC, 100, [_pace(epochs=2)]).seconds == pytest.approx(22.0)


def test_job_of_the_same_settings_goes_before_a_newer_one():
    newer = _pace(seconds=20.0, job="job_b", image_size=64)
    assert estimate(SPEC, 100, [newer, _pace()]).because == "as job_a took"


def test_without_a_job_of_the_backbone_nothing_is_claimed():
    told = estimate(SPEC, 100, [])
    assert (told.seconds, told.because) == (None, "no job with resnet18 has succeeded here yet")


def test_stage_of_another_kind_gives_no_estimate():
    frozen = {**STAGE, "name": "head", "freeze": {"policy": "backbone"}}
    told = estimate({**SPEC, "stages": [STAGE, frozen]}, 100, [_pace()])
    assert told.seconds is None
    assert "a stage like head" in told.because
