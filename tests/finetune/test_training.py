import copy
import dataclasses
import inspect
import json

import pytest
import safetensors.torch
import torch
from torch.nn import functional as F  # noqa: N812
from torch.optim.optimizer import register_optimizer_step_pre_hook

import finetune
from finetune.backbones import Registry
from finetune.data.decoding import decode
from finetune.errors import (
    DatasetInvalid,
    DatasetNotFound,
    FrozenChanged,
    NonfiniteLoss,
    OutOfMemory,
    SpecInvalid,
    WeightsNotFound,
)
from finetune.events import EpochEnded, Progress, RunEnded, RunStarted, StageEnded, StageStarted
from finetune.spec import JobSpec

CONSTANT = {"schedule": {"name": "constant", "lr": 0.05}}
GOLDEN_LOSSES = [1.115528, 1.108854, 1.10995, 1.101632, 0.946508, 1.055799, 0.700813, 0.986032]
STILL = {"schedule": {"name": "constant", "lr": 0.0}}
EVERYTHING = {"epochs": 2, "lr": CONSTANT, "augmentation": "standard"}


def weights(checkpoint):
    return safetensors.torch.load_file(checkpoint.weights)


def images_of(data_dir, registry, name, split):
    """A split as the network takes it, by hand."""
    preprocessing = registry.find(name).preprocessing
    files = sorted((data_dir / "hues" / split).rglob("*.png"))
    pixels = torch.stack([preprocessing.centre(decode(file)) for file in files])
    classes = sorted({file.parent.name for file in files})
    return preprocessing.normalize(pixels), torch.tensor([classes.index(file.parent.name) for file in files])


def loaded(registry, name, checkpoint):
    model = registry.find(name).make(3, 16)
    model.load_state_dict(weights(checkpoint))
    return model


def test_two_stages_have_their_golden_losses(job, run, told, tmp_path):
    """Seeded, in fp32, on one thread: whatever changes order, views, rates or weights changes these."""
    losses = [(r.train["loss"], r.val["loss"]) for r in told.records(run(job(), tmp_path))]
    assert [number for pair in losses for number in pair] == pytest.approx(GOLDEN_LOSSES, abs=1e-4)


def test_a_notebook_needs_a_spec_a_folder_and_a_for_loop(job, data_dir, registry, tmp_path, monkeypatch):
    monkeypatch.chdir(data_dir)
    seen = [type(event) for event in finetune.train(job(), tmp_path / "run", registry=registry)]
    assert seen[0] is RunStarted
    assert seen[-1] is RunEnded
    parameters = list(inspect.signature(finetune.train).parameters)
    assert parameters[:2] == ["spec", "folder"]


def test_a_spec_object_does_as_well_as_its_json(job, run, told, tmp_path):
    one = told.checkpoints(run(job(), tmp_path / "a"))[-1]
    other = told.checkpoints(run(JobSpec.model_validate(job()), tmp_path / "b"))[-1]
    assert one.sha256 == other.sha256


def test_events_come_in_order_and_count_from_one(job, run, tmp_path):
    events = run(job(), tmp_path)
    kinds = {
        RunStarted: "r",
        StageStarted: "s",
        Progress: "p",
        EpochEnded: "e",
        StageEnded: "S",
        RunEnded: "R",
    }
    assert "".join(kinds.get(type(event), "") for event in events) == "r" + "spppepppeS" * 2 + "R"
    progress = [event for event in events if isinstance(event, Progress)]
    assert [(p.stage, p.stage_index, p.epoch, p.step) for p in progress[:7]] == [
        *(("head", 0, 1, step) for step in (1, 2, 3)),
        *(("head", 0, 2, step) for step in (1, 2, 3)),
        ("all", 1, 1, 1),
    ]
    assert {(p.stages, p.epochs, p.steps) for p in progress} == {(2, 2, 3)}
    records = [event.record for event in events if isinstance(event, EpochEnded)]
    assert [(r.stage, r.stage_index, r.epoch, r.global_epoch) for r in records] == [
        ("head", 0, 1, 1),
        ("head", 0, 2, 2),
        ("all", 1, 1, 3),
        ("all", 1, 2, 4),
    ]
    assert [(e.stage, e.epochs, e.stopped_early) for e in events if isinstance(e, StageEnded)] == [
        ("head", 2, False),
        ("all", 2, False),
    ]


def test_a_stage_says_how_much_it_trains_and_freezes(job, run, tmp_path):
    head, everything = [e for e in run(job(), tmp_path) if isinstance(e, StageStarted)]
    assert (head.trained_parameters, head.features_once, everything.features_once) == (27, True, False)
    assert everything.frozen_parameters == 0
    assert head.trained_parameters + head.frozen_parameters == everything.trained_parameters


def test_a_record_holds_what_an_epoch_took_and_is_plain_json(job, run, told, tmp_path):
    for record in told.records(run(job(), tmp_path)):
        assert set(record.seconds) == {"data", "train", "val", "checkpoint"}
        assert record.seconds["train"] > 0
        assert record.seconds["checkpoint"] > 0
        assert record.images_per_second > 0
        assert record.peak_memory_bytes > 1_000_000
        json.dumps(dataclasses.asdict(record), allow_nan=False)


def test_in_the_last_stage_the_time_that_is_left_is_estimated(job, run, tmp_path):
    stages = [{"epochs": 2, "lr": CONSTANT}, {"epochs": 3, "lr": CONSTANT}]
    progress = [e for e in run(job(*stages), tmp_path) if isinstance(e, Progress)]
    known = [p.seconds_left is not None for p in progress]
    assert known == [False] * 6 + [False] * 3 + [True] * 6
    left = [p.seconds_left for p in progress if p.seconds_left is not None]
    assert all(seconds > 0 for seconds in left)
    assert left[-1] < left[0] * 1.5


def test_the_result_has_the_last_and_the_best_epoch(job, run, told, tmp_path):
    events = run(job(), tmp_path)
    records, result = told.records(events), told.result(events)
    assert result["epochs"] == 4
    assert result["val"] == records[-1].val
    best = max(records, key=lambda r: (r.val["accuracy"], -r.global_epoch))
    assert (result["best"]["global_epoch"], result["best"]["value"]) == (
        best.global_epoch,
        best.val["accuracy"],
    )
    assert [c.best for c in told.checkpoints(events)].index(True) == 0


def test_a_checkpoints_figures_are_those_of_its_weights(job, run, told, data_dir, registry, tmp_path):
    events = run(job(), tmp_path)
    record, checkpoint = told.records(events)[-1], told.checkpoints(events)[-1]
    inputs, labels = images_of(data_dir, registry, "tiny", "val")
    with torch.no_grad():
        logits = loaded(registry, "tiny", checkpoint).eval()(inputs)
    assert record.val["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert record.val["accuracy"] == (logits.argmax(1) == labels).double().mean().item()


@pytest.mark.parametrize("augmentation", ["none", "standard"])
def test_what_is_frozen_keeps_its_bytes_and_the_rest_moves(job, run, told, tmp_path, augmentation):
    frozen = {"policy": "modules", "modules": ["stem", "body.0"]}
    stage = {"epochs": 2, "freeze": frozen, "lr": CONSTANT, "augmentation": augmentation}
    first = {**stage, "epochs": 1, "lr": STILL, "freeze": {"policy": "backbone"}, "augmentation": "none"}
    before, *_, after = map(weights, told.checkpoints(run(job(first, stage), tmp_path, keep_all=True)))
    still = {name for name in before if name.startswith(("stem.", "body.0."))}
    assert {name for name in before if torch.equal(before[name], after[name])} == still
    assert len(still) == 12


def test_with_batch_norm_update_only_the_statistics_of_what_is_frozen_move(job, run, told, tmp_path):
    stage = {"epochs": 1, "freeze": {"policy": "backbone"}, "batch_norm": "update", "lr": CONSTANT}
    still = {**stage, "batch_norm": "eval", "lr": STILL}
    before, after = map(weights, told.checkpoints(run(job(still, stage), tmp_path, keep_all=True)))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    statistics = {name for name in before if "running" in name or "num_batches" in name}
    assert moved == {"head.weight", "head.bias"} | statistics


@pytest.mark.parametrize("augmentation", ["none", "standard"])
def test_the_weights_do_not_depend_on_the_number_of_data_workers(job, run, told, tmp_path, augmentation):
    stage = {**EVERYTHING, "augmentation": augmentation}
    head = {"epochs": 1, "freeze": {"policy": "backbone"}, "lr": CONSTANT}
    spec = job(head, stage, head={"dropout": 0.3})
    alone, helped = (run(spec, tmp_path / str(count), data_workers=count) for count in (0, 2))
    assert told.checkpoints(alone)[-1].sha256 == told.checkpoints(helped)[-1].sha256


def test_the_seed_decides_and_nothing_else_does(job, run, told, tmp_path):
    one, again, other = (
        told.checkpoints(run(job(EVERYTHING, seed=seed), tmp_path / str(number)))[-1].sha256
        for number, seed in enumerate((1, 1, 2))
    )
    assert one == again
    assert one != other


def test_the_optimizer_gets_in_every_step_what_the_plan_says(job, run, tmp_path):
    stages = [
        {
            "epochs": 3,
            "lr": {
                "schedule": {"name": "cosine", "lr": 0.1, "end_lr": 0.01},
                "factors": [{"modules": ["head"], "factor": 10}, {"modules": ["body"], "factor": 0.5}],
                "default_factor": 0.1,
                "warmup_epochs": 1.5,
            },
        },
        {"epochs": 2, "lr": {"schedule": {"name": "list", "values": [0.1, 0.01]}, "layer_decay": 0.5}},
    ]
    had = []
    spy = register_optimizer_step_pre_hook(
        lambda optimizer, args, kwargs: had.append({g["name"]: g["lr"] for g in optimizer.param_groups})
    )
    try:
        events = run(job(*stages), tmp_path)
    finally:
        spy.remove()
    plan = next(event.plan for event in events if isinstance(event, RunStarted))
    assert len(had) == 3 * (3 + 2)
    for stage, steps in zip(plan["stages"], (had[:9], had[9:]), strict=True):
        assert stage["steps_per_epoch"] == 3
        for epoch in stage["lr"]:
            at = (epoch["epoch"] - 1) * 3
            assert (steps[at], steps[at + 2]) == (epoch["first"], epoch["last"])
    records = [event.record for event in events if isinstance(event, EpochEnded)]
    assert [record.lr for record in records] == [had[at] for at in range(0, 15, 3)]
    assert set(had[0]) == {"head", "body", "default"}
    assert had[0]["head"] == pytest.approx(100 * had[0]["default"])


def test_early_stopping_ends_the_stage_and_the_next_one_follows(job, run, told, tmp_path):
    waiting = {"epochs": 9, "lr": STILL, "freeze": {"policy": "backbone"}}
    waiting["early_stopping"] = {"metric": "val_accuracy", "patience": 2}
    events = run(job(waiting, {**EVERYTHING, "epochs": 1}), tmp_path)
    ended = [event for event in events if isinstance(event, StageEnded)]
    assert [(e.epochs, e.stopped_early) for e in ended] == [(3, True), (1, False)]
    assert [r.global_epoch for r in told.records(events)] == [1, 2, 3, 4]


def test_max_grad_norm_bounds_a_step(job, run, told, tmp_path):
    stage = {
        "epochs": 1,
        "freeze": {"policy": "backbone"},
        "optimizer": {"name": "sgd", "momentum": 0.0},
        "lr": {"schedule": {"name": "constant", "lr": 1.0}},
    }
    still = {**stage, "lr": STILL}

    def way(max_grad_norm):
        spec = job(still, {**stage, "max_grad_norm": max_grad_norm}, batch_size=24)
        before, after = map(
            weights, told.checkpoints(run(spec, tmp_path / str(max_grad_norm), keep_all=True))
        )
        return sum((after[n] - before[n]).square().sum().item() for n in ("head.weight", "head.bias")) ** 0.5

    free = way(None)
    assert free > 0.02
    assert way(0.01) == pytest.approx(0.01, rel=1e-3)
    assert way(100.0) == pytest.approx(free)


def test_a_loss_that_is_not_finite_ends_the_run_naming_stage_epoch_and_step(job, run, tmp_path):
    spec = job({**EVERYTHING, "name": "all"}, backbone={"name": "poisoned", "weights": None})
    with pytest.raises(NonfiniteLoss, match="in stage 'all', epoch 2, step 1: a smaller learning rate"):
        run(spec, tmp_path)


def test_a_validation_loss_that_is_not_finite_is_null_and_the_run_goes_on(job, run, told, tmp_path):
    stage = {**EVERYTHING, "early_stopping": {"patience": 9}}
    spec = job(
        stage,
        backbone={"name": "overflowing", "weights": None},
        checkpoints={"metric": "val_loss", "keep_last": 1},
    )
    records = told.records(run(spec, tmp_path))
    assert [(r.val["loss"], r.nonfinite) for r in records] == [(None, True)] * 2
    json.dumps(dataclasses.asdict(records[0]), allow_nan=False)


@pytest.mark.parametrize("augmentation", ["none", "light"])
def test_a_network_that_moves_a_frozen_buffer_fails_by_name(job, run, tmp_path, augmentation):
    stage = {"name": "head", "epochs": 2, "freeze": {"policy": "backbone"}, "lr": CONSTANT}
    spec = job({**stage, "augmentation": augmentation}, backbone={"name": "restless", "weights": None})
    with pytest.raises(FrozenChanged, match=r"stage 'head' froze stem\.seen, and epoch 1 changed it"):
        run(spec, tmp_path)


def test_only_the_checkpoints_that_the_spec_keeps_stay_on_disk(job, data_dir, registry, tmp_path):
    stage = {"epochs": 6, "lr": {"schedule": {"name": "constant", "lr": 0.3}}}
    spec = job(stage, checkpoints={"keep_last": 2, "keep_best": 2, "metric": "val_loss"})
    values: list[float | None] = []
    for event in finetune.train(spec, tmp_path, data_dir=data_dir, registry=registry, device="cpu"):
        if isinstance(event, EpochEnded):
            assert event.checkpoint.weights.is_file()
            assert event.checkpoint.state.is_file()
            values.append(event.checkpoint.value)
            assert values[-1] == event.record.val["loss"]
    best = sorted(range(6), key=lambda epoch: values[epoch] or 0.0)[:2]
    expected = {f"epoch-{epoch + 1:05d}" for epoch in {*best, 4, 5}}
    assert {path.name for path in tmp_path.glob("epoch-*")} == {
        f"{stem}{suffix}" for stem in expected for suffix in (".safetensors", ".state.pt")
    }


def test_with_keep_all_the_caller_removes_checkpoints(job, run, told, tmp_path):
    assert all(c.weights.is_file() for c in told.checkpoints(run(job(), tmp_path, keep_all=True)))


@pytest.mark.parametrize(
    "objective", [{"label_smoothing": 0.3}, {"class_weights": "balanced"}, {"label_smoothing": 0.1}], ids=str
)
def test_the_objectives_options_enter_the_loss(job, run, told, registry, pictures, tmp_path, objective):
    for hue, count in {"blue": 2, "green": 6, "red": 12}.items():
        pictures(tmp_path / "data" / "hues" / "train" / hue, hue, count)
        pictures(tmp_path / "data" / "hues" / "val" / hue, hue, 2)
    stage = {"epochs": 1, "freeze": {"policy": "backbone"}, "lr": STILL}
    spec = job(stage, batch_size=64, objective={"name": "cross_entropy", **objective})
    events = run(spec, tmp_path / "run", data_dir=tmp_path / "data")
    inputs, labels = images_of(tmp_path / "data", registry, "tiny", "train")
    with torch.no_grad():
        logits = loaded(registry, "tiny", told.checkpoints(events)[0]).eval()(inputs)
    balanced = torch.tensor([20 / (3 * count) for count in (2, 6, 12)])
    expected = F.cross_entropy(
        logits,
        labels,
        weight=balanced if "class_weights" in objective else None,
        label_smoothing=objective.get("label_smoothing", 0.0),
    )
    record = told.records(events)[0]
    assert record.train["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert record.train["loss"] != pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-3)


def test_auxiliary_outputs_enter_the_training_loss_with_their_weight(
    job, run, told, data_dir, registry, tmp_path
):
    spec = job(
        {"epochs": 1, "lr": STILL}, backbone={"name": "with_auxiliary", "weights": None}, batch_size=64
    )
    events = run(spec, tmp_path)
    model = loaded(registry, "with_auxiliary", told.checkpoints(events)[0])
    record = told.records(events)[0]
    inputs, labels = images_of(data_dir, registry, "with_auxiliary", "train")
    logits, auxiliary = model(inputs)
    expected = F.cross_entropy(logits, labels) + 0.3 * F.cross_entropy(auxiliary, labels)
    assert record.train["loss"] == pytest.approx(expected.item(), rel=1e-5)
    inputs, labels = images_of(data_dir, registry, "with_auxiliary", "val")
    expected = F.cross_entropy(model.eval()(inputs), labels)
    assert record.val["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_one_image_that_is_left_over_does_not_break_batch_norm(job, run, told, pictures, tmp_path):
    for hue, count in {"blue": 4, "green": 5}.items():
        pictures(tmp_path / "data" / "hues" / "train" / hue, hue, count)
        pictures(tmp_path / "data" / "hues" / "val" / hue, hue, 1)
    progress = run(job(EVERYTHING, batch_size=4), tmp_path / "run", data_dir=tmp_path / "data")
    assert {p.steps for p in progress if isinstance(p, Progress)} == {2}


def test_a_dataset_without_a_val_split_is_split(job, run, tmp_path):
    events = run(job(EVERYTHING, dataset={"path": "loose", "val_fraction": 0.3}), tmp_path)
    plan = next(event.plan for event in events if isinstance(event, RunStarted))
    assert plan["images"] == {"train": 21, "val": 9}


def test_files_that_cannot_be_decoded_are_named_before_training(job, run, data_dir, pictures, tmp_path):
    for hue in ("blue", "red"):
        pictures(tmp_path / "data" / "hues" / hue, hue, 4)
    whole = (tmp_path / "data" / "hues" / "blue" / "00.png").read_bytes()
    (tmp_path / "data" / "hues" / "blue" / "half.png").write_bytes(whole[:200])
    (tmp_path / "data" / "hues" / "red" / "notes.txt").write_text("they are red")
    with pytest.raises(DatasetInvalid) as invalid:
        run(job(), tmp_path / "run", data_dir=tmp_path / "data")
    message = invalid.value.message
    assert message.startswith("2 files of 'hues' with problems: unreadable: blue/half.png (")
    assert "; not_an_image: red/notes.txt (its content is none). Mend or remove them" in message
    assert str(tmp_path) not in message
    assert not (tmp_path / "run").exists()


def test_of_many_files_that_cannot_be_decoded_ten_are_named(job, run, pictures, tmp_path):
    for hue in ("blue", "red"):
        pictures(tmp_path / "data" / "hues" / hue, hue, 4)
        for number in range(6):
            (tmp_path / "data" / "hues" / hue / f"broken{number}.png").touch()
    with pytest.raises(DatasetInvalid, match=r"^12 files .* and 2 more\. Mend "):
        run(job(), tmp_path / "run", data_dir=tmp_path / "data")


REFUSED = [
    ({"dataset": {"path": "hue"}}, DatasetNotFound, "dataset.path", "'hues'"),
    ({"backbone": {"name": "tini", "weights": None}}, SpecInvalid, "backbone.name", "'tiny'"),
    (
        {"backbone": {"name": "tiny", "weights": {"file": "x"}}},
        WeightsNotFound,
        "backbone.weights.file",
        "there are none here",
    ),
    ({"batch_size": "8"}, SpecInvalid, "batch_size", "integer"),
    ({"objective": {"name": "triplet"}}, SpecInvalid, "stages.0.freeze", "would train nothing"),
    (
        {"objective": {"name": "triplet", "embedding_size": 4}},
        SpecInvalid,
        "objective.classes_per_batch",
        "has 3 classes",
    ),
    (
        {"stages.0.freeze": {"policy": "before", "module": "boddy"}},
        SpecInvalid,
        "stages.0.freeze.module",
        "'body'",
    ),
    (
        {"stages.1.freeze": {"policy": "modules", "modules": ["*"]}},
        SpecInvalid,
        "stages.1.freeze",
        "every parameter",
    ),
    (
        {"stages.1.lr.factors": [{"modules": ["hed"], "factor": 2}]},
        SpecInvalid,
        "stages.1.lr.factors",
        "'head'",
    ),
    (
        {"stages.1.lr.schedule": {"name": "exponential", "lr": 1e6, "gamma": 1e6}, "stages.1.epochs": 99},
        SpecInvalid,
        "stages.1.lr.schedule",
        "finite",
    ),
    (
        {"backbone": {"name": "vit_b_16", "weights": None}, "image_size": 50},
        SpecInvalid,
        "image_size",
        "50 pixels",
    ),
]


@pytest.mark.parametrize(
    ("changes", "error", "param", "word"), REFUSED, ids=[f"{param}-{word}" for _, _, param, word in REFUSED]
)
def test_what_cannot_be_trained_is_refused_by_a_named_error(job, run, tmp_path, changes, error, param, word):
    spec = copy.deepcopy(job())
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = spec
        for part in parents:
            place = place[int(part) if part.isdigit() else part]
        place[last] = value
    with pytest.raises(error) as refused:
        run(spec, tmp_path / "run", weights_dir=tmp_path)
    assert refused.value.param == param
    assert word in refused.value.message
    assert not (tmp_path / "run").exists()


def test_all_problems_of_a_spec_are_in_the_error(job, run, tmp_path):
    with pytest.raises(SpecInvalid) as refused:
        run(job(batch_size=0, seed=-1), tmp_path)
    assert [problem.param for problem in refused.value.problems] == ["batch_size", "seed"]


class Hungry(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = torch.nn.Linear(3, num_classes)

    def forward(self, images):
        if self.training:
            torch.empty(2**60)
        return self.head(images.mean((2, 3)))


def test_too_little_memory_names_the_batch_size(job, run, registry, tmp_path):
    row = dataclasses.replace(registry.find("tiny"), name="hungry", build=Hungry, containers=())
    spec = job(EVERYTHING, backbone={"name": "hungry", "weights": None}, batch_size=7)
    with pytest.raises(OutOfMemory, match="batch_size 7") as out:
        run(spec, tmp_path, registry=Registry({"hungry": row}))
    assert out.value.param == "batch_size"


def test_bf16_trains_and_still_evaluates_and_saves_in_fp32(job, run, told, tmp_path):
    events = run(job(EVERYTHING, precision="bf16"), tmp_path)
    assert next(e.precision for e in events if isinstance(e, RunStarted)) == "bf16"
    assert {t.dtype for t in weights(told.checkpoints(events)[-1]).values()} == {torch.float32, torch.int64}
