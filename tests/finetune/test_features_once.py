"""Whole runs with features computed once: to the bit what the loop without them gives, wherever they lie."""

import pytest
import torch
from safetensors.torch import load_file

from finetune.checkpoint import Resume
from finetune.events import EpochEnded, FeaturesReady, RunEnded, StageStarted, Warned

HEAD = {"policy": "backbone"}
TOP = {"policy": "before", "module": "body.1"}
DISK = {"feature_memory_bytes": 0}
RESNET = {
    "backbone": {"name": "resnet18", "weights": None},
    "image_size": 32,
    "head": {"dropout": 0.2},
}


def a_stage(freeze=HEAD, epochs=2, **fields):
    return {
        "epochs": epochs,
        "freeze": freeze,
        "lr": {"schedule": {"name": "constant", "lr": 0.1}},
        "optimizer": {"name": "sgd", "momentum": 0.9},
        **fields,
    }


def shas(told, events):
    return [checkpoint.sha256 for checkpoint in told.checkpoints(events)]


def ready(events):
    return [event for event in events if isinstance(event, FeaturesReady)]


def once(events):
    return [event.features_once for event in events if isinstance(event, StageStarted)]


EXACT = {
    "head": (a_stage(), {"head": {"dropout": 0.5}}),
    "top": (a_stage(TOP), {}),
    "a middle module frozen too": (a_stage({"policy": "except", "modules": ["body.0", "head"]}), {}),
    "named modules": (a_stage({"policy": "modules", "modules": ["stem", "body.0.*"]}), {}),
    "batch norm follows the data": (a_stage(HEAD, batch_norm="update"), {}),
    "light": (a_stage(augmentation="light", epochs=3), {}),
    "light top": (a_stage(TOP, augmentation="light", epochs=3), {}),
    "as many views as epochs": (a_stage(TOP, augmentation="standard", feature_views=2), {}),
    "average of the weights": (a_stage(TOP, ema={"decay": 0.5}), {"checkpoints": {"weights": "ema"}}),
    "gradient checkpointing": (a_stage(TOP, gradient_checkpointing=True), {}),
    "accumulated": (a_stage(TOP, accumulate=2, max_grad_norm=0.1), {}),
    "balanced": (a_stage(TOP, sampler="balanced"), {}),
    "other training size": (a_stage(TOP), {"preprocessing": {"train_size": 12}}),
    "resnet18 head": (a_stage(), RESNET),
    "resnet18 top": (a_stage({"policy": "before", "module": "layer3"}), RESNET),
    "resnet18 light": (a_stage(augmentation="light"), RESNET),
}


@pytest.mark.parametrize(("stage", "fields"), EXACT.values(), ids=EXACT)
def test_in_fp32_the_result_is_to_the_bit_that_of_computing_them_in_each_epoch(
    job, run, told, tmp_path, stage, fields
):
    with_features = run(job(stage, **fields), tmp_path / "once")
    anew = {key: value for key, value in stage.items() if key != "feature_views"} | {"features_once": False}
    without = run(job(anew, **fields), tmp_path / "anew")
    assert (once(with_features), once(without)) == ([True], [False])
    assert shas(told, with_features) == shas(told, without)
    for record, other in zip(told.records(with_features), told.records(without), strict=True):
        assert (record.train, record.val, record.val_ema) == (other.train, other.val, other.val_ema)


@pytest.mark.parametrize("objective", ["triplet", "binary_cross_entropy"])
def test_other_objectives_and_auxiliary_networks_have_the_same_bits_too(job, run, told, tmp_path, objective):
    objectives = {
        "triplet": {"name": "triplet", "embedding_size": 4, "classes_per_batch": 2, "images_per_class": 4},
        "binary_cross_entropy": {"name": "binary_cross_entropy"},
    }
    runs = [
        run(job(a_stage(TOP, features_once=once), objective=objectives[objective]), tmp_path / str(once))
        for once in (True, False)
    ]
    assert shas(told, runs[0]) == shas(told, runs[1])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "stages",
    [
        [a_stage(TOP)],
        [a_stage(augmentation="light")],
        [a_stage(TOP, epochs=4, augmentation="trivial", feature_views=2)],
    ],
    ids=["none", "light", "views"],
)
def test_memory_or_disk_cold_or_warm_with_data_workers_or_without_the_result_is_the_same(
    job, run, told, tmp_path, stages, precision
):
    spec = job(*stages, precision=precision)
    expected = shas(told, run(spec, tmp_path / "plain"))
    views = 1 if stages[0].get("augmentation") is None else 2
    turns = [
        ("cold disk", DISK, (views * 24 + 9, 0), "disk"),
        ("warm disk", DISK | {"data_workers": 2}, (0, views * 24 + 9), "disk"),
        ("warm memory", {}, (0, views * 24 + 9), "memory"),
    ]
    for turn, options, counts, kept in turns:
        events = run(spec, tmp_path / turn, cache_dir=tmp_path / "cache", **options)
        (told_of,) = ready(events)
        assert (told_of.computed, told_of.cached) == counts
        assert (told_of.views, told_of.kept) == (views, kept)
        assert shas(told, events) == expected
    other = tmp_path / "other"
    assert shas(told, run(spec, tmp_path / "cold", cache_dir=other, data_workers=2)) == expected


@pytest.mark.parametrize("options", [{}, DISK], ids=["memory", "disk"])
@pytest.mark.parametrize("cold", [True, False])
def test_a_run_that_goes_on_in_the_middle_of_such_a_stage_ends_with_the_same_bits(
    job, run, told, tmp_path, options, cold
):
    spec = job(a_stage(TOP, epochs=4, augmentation="standard", feature_views=3))
    whole = run(spec, tmp_path / "run", cache_dir=tmp_path / "cache", keep_all=True, **options)
    for at, checkpoint in enumerate(told.checkpoints(whole)[:3], start=1):
        cache = tmp_path / (f"cache-{at}" if cold else "cache")
        resume = Resume(checkpoint.weights, checkpoint.state)
        rest = run(spec, tmp_path / f"rest-{at}", cache_dir=cache, resume=resume, **options)
        assert shas(told, rest) == shas(told, whole)[at:]


def test_the_first_epochs_are_those_of_fresh_augmentation_and_later_ones_are_not(job, run, told, tmp_path):
    fields = {"epochs": 4, "augmentation": "standard"}
    fresh = shas(told, run(job(a_stage(TOP, **fields)), tmp_path / "fresh"))
    kept = shas(told, run(job(a_stage(TOP, **fields, feature_views=2)), tmp_path / "kept"))
    assert kept[:2] == fresh[:2]
    assert kept[2] != fresh[2]


def test_in_bf16_folding_and_features_change_the_result_by_rounding_alone(job, run, told, tmp_path):
    records = [
        told.records(run(job(a_stage(**stage), precision="bf16", **fields), tmp_path / name))[-1]
        for name, stage, fields in (
            ("folded", {}, {}),
            ("unfolded", {}, {"fold_batch_norm": False}),
            ("anew", {"features_once": False}, {}),
        )
    ]
    for record in records:
        assert record.train["loss"] == pytest.approx(records[2].train["loss"], rel=0.02)
        assert record.val["loss"] == pytest.approx(records[2].val["loss"], rel=0.02)


def test_a_run_in_bf16_on_kept_features_ends_with_its_report(job, run, tmp_path):
    events = run(job(a_stage(TOP), a_stage({"policy": "none"}), precision="bf16"), tmp_path)
    assert once(events) == [True, False]
    assert isinstance(events[-1], RunEnded)


def test_jobs_share_what_does_not_depend_on_their_seed_or_what_they_train(job, run, told, tmp_path):
    first = run(job(a_stage(TOP)), tmp_path / "first")
    weights = {"name": "tiny", "weights": {"file": "start.safetensors"}}
    told.checkpoints(first)[-1].weights.rename(tmp_path / "start.safetensors")
    kept = {"cache_dir": tmp_path / "cache", "weights_dir": tmp_path}

    def counts(name, *stages, **fields):
        events = run(job(*stages, backbone=weights, **fields), tmp_path / name, **kept)
        return [(event.computed, event.cached) for event in ready(events)]

    assert counts("head", a_stage()) == [(33, 0)]
    assert counts("other seed and rate", a_stage(epochs=3, accumulate=2), seed=7) == [(0, 33)]
    assert counts("light", a_stage(augmentation="light")) == [(24, 33)]
    assert counts("top", a_stage(TOP)) == [(33, 0)]
    assert counts("gradual", a_stage(), a_stage(TOP), seed=3) == [(0, 33), (0, 33)]


def test_where_the_disk_has_no_room_after_all_the_stage_runs_without_and_says_so(
    job, run, told, tmp_path, monkeypatch
):
    spec = job(a_stage(TOP))
    expected = shas(told, run(spec, tmp_path / "plain"))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("finetune.cache.Cache._reserve", full)
    events = run(spec, tmp_path / "run", cache_dir=tmp_path / "cache", **DISK)
    assert shas(told, events) == expected
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert any("computes its features in each epoch: there was no room" in text for text in warnings)
    assert not ready(events)


def test_a_run_that_goes_on_without_the_features_that_it_began_with_says_so(job, run, told, tmp_path):
    spec = job(a_stage(TOP))
    whole = run(spec, tmp_path / "run", cache_dir=tmp_path / "cache", keep_all=True, **DISK)
    first = told.checkpoints(whole)[0]
    resume = Resume(first.weights, first.state)
    for options, says in ((DISK, False), ({**DISK, "cache_bytes": 0}, True)):
        events = run(spec, tmp_path / f"rest-{says}", cache_dir=tmp_path / "cache", resume=resume, **options)
        assert any("began with features computed once" in text for text in told.warnings(events)) == says


def test_too_large_for_memory_and_disk_the_plan_says_so_and_the_run_is_the_same(job, run, told, tmp_path):
    spec = job(a_stage())
    expected = shas(told, run(spec, tmp_path / "plain"))
    options = {"cache_dir": tmp_path / "cache", "cache_bytes": 500, "feature_memory_bytes": 400}
    events = run(spec, tmp_path / "run", **options)
    assert shas(told, events) == expected
    assert once(events) == [False]
    (planned,) = events[0].plan["stages"]
    assert planned["features"] is None
    assert planned["options"] == [
        "features computed in each epoch: too large: 1.06 kB of features, budget 500 bytes"
    ]


def test_frozen_weights_are_the_ones_it_began_with(job, run, told, tmp_path):
    events = run(job(a_stage(TOP)), tmp_path, keep_all=True)
    first, last = (load_file(event.checkpoint.weights) for event in events if isinstance(event, EpochEnded))
    moved = {name for name in first if not torch.equal(first[name], last[name])}
    assert moved
    assert all(name.startswith(("body.1", "head")) for name in moved)


def seen_by_the_stem(action):
    """How many images have gone through the first convolution while something was done."""
    seen = [0]

    def count(module, inputs, output):
        if isinstance(module, torch.nn.Conv2d) and module.in_channels == 3 and output.device.type != "meta":
            seen[0] += len(output)

    hook = torch.nn.modules.module.register_module_forward_hook(count)
    try:
        return action(), seen[0]
    finally:
        hook.remove()


REPORTED = {
    "fp32": ([a_stage(TOP)], {"precision": "fp32"}),
    "bf16": ([a_stage(TOP)], {"precision": "bf16"}),
    "average of the weights": ([a_stage(TOP, ema={"decay": 0.5})], {"checkpoints": {"weights": "ema"}}),
    "several stages": ([a_stage(TOP), a_stage({"policy": "none"})], {"precision": "bf16"}),
}


@pytest.mark.parametrize(("stages", "fields"), REPORTED.values(), ids=REPORTED)
def test_the_report_from_kept_features_is_that_of_the_images(job, run, tmp_path, stages, fields):
    reports = []
    for name, options in (("images", {}), ("cold", {"cache_dir": "cache"}), ("warm", {"cache_dir": "cache"})):
        folder, options = tmp_path / name, {key: tmp_path / cache for key, cache in options.items()}
        run(job(*stages, **fields), folder, **options)
        reports.append([(folder / file).read_bytes() for file in ("report.json", "predictions.parquet")])
    assert reports[0] == reports[1] == reports[2]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_second_job_on_the_same_frozen_part_takes_no_image_through_it_not_for_its_report_either(
    job, run, tmp_path, precision
):
    (_, first), (_, second) = (
        seen_by_the_stem(
            lambda rate=rate: run(
                job(a_stage(lr={"schedule": {"name": "constant", "lr": rate}}), precision=precision),
                tmp_path / str(rate),
                cache_dir=tmp_path / "cache",
            )
        )
        for rate in (0.1, 0.2)
    )
    made_up = {"fp32": 2, "bf16": 3}[precision]  # an image of noise for each look at the frozen part
    assert first >= 33 + made_up
    assert second == made_up
