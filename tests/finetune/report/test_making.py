"""Whole runs and the reports that they end with."""

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from PIL import Image
from pydantic import TypeAdapter

from finetune.checkpoint import Resume
from finetune.errors import DiskFull
from finetune.events import ReportReady, RunEnded
from finetune.report.fields import Report
from finetune.trained import open_model

HEAD = {
    "name": "head",
    "epochs": 2,
    "freeze": {"policy": "backbone"},
    "lr": {"schedule": {"name": "constant", "lr": 0.1}},
}
ALL = {"name": "all", "epochs": 2, "lr": {"schedule": {"name": "constant", "lr": 0.05}}}
BCE = {"name": "binary_cross_entropy"}
TRIPLET = {"name": "triplet", "classes_per_batch": 3, "images_per_class": 4}
CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "features once": ([HEAD], {}),
    "two stages": ([HEAD, ALL], {"data_workers": 2}),
    "moving average": ([{**ALL, "ema": {"decay": 0.8}}], {"checkpoints": {"weights": "ema"}}),
    "chosen by loss": ([HEAD, ALL], {"checkpoints": {"metric": "val_loss"}}),
    "focal": ([ALL], {"objective": {"name": "focal"}, "precision": "bf16"}),
    "several labels": ([HEAD, ALL], {"objective": BCE, "dataset": {"path": "many/labels.csv"}}),
    "several labels, one each": ([ALL], {"objective": BCE}),
    "triplet": ([ALL], {"objective": TRIPLET}),
    "triplet with a projection": (
        [HEAD],
        {"objective": {**TRIPLET, "embedding_size": 4, "normalize": False}},
    ),
}


@pytest.fixture(scope="module")
def data_dir(pictures, tmp_path_factory):
    """`hues`, the same with another class, and a manifest in which an image has any number of labels."""
    root = tmp_path_factory.mktemp("data")
    for hue in ("blue", "green", "red"):
        pictures(root / "hues" / "train" / hue, hue, 8)
        pictures(root / "hues" / "val" / hue, hue, 5)
    for hue in ("blue", "grey", "red"):
        pictures(root / "more" / "train" / hue, hue, 8)
        pictures(root / "more" / "val" / hue, hue, 5)
    lines = ["path,labels,split"]
    labels = {"blue": "cold", "green": "cold|calm", "red": "warm", "grey": ""}
    for hue, said in labels.items():
        for split, count in (("train", 8), ("val", 4)):
            pictures(root / "many" / split / hue, hue, count)
            lines += [f"{split}/{hue}/{number:02d}.png,{said},{split}" for number in range(count)]
    (root / "many" / "labels.csv").write_text("\n".join(lines))
    return root


def ready(events):
    """The event of the report, which is the last but one."""
    assert isinstance(events[-1], RunEnded)
    assert isinstance(events[-2], ReportReady)
    return events[-2]


def report_in(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_a_run_ends_with_a_report_whose_figures_are_scikit_learns(
    case, job, run, told, tmp_path, recomputed, same
):
    stages, fields = CASES[case]
    options = {"data_workers": fields.get("data_workers", 0)}
    spec = job(*stages, **{name: value for name, value in fields.items() if name != "data_workers"})
    events = run(spec, tmp_path, job="job_7", **options)
    event, report = ready(events), report_in(tmp_path)
    TypeAdapter(Report).validate_python(report)
    same(report, recomputed(report["kind"], tmp_path / "predictions.parquet"))
    best = told.result(events)["best"]
    again = report["reproduced"]
    assert (again["metric"], again["stored"]) == (best["metric"], best["value"])
    assert again["again"] == best["value"], "on the same processor the score comes again to the last bit"
    assert (event.figures, event.reproduced) == (report["figures"], again)
    assert report["checkpoint"]["global_epoch"] == best["global_epoch"]
    assert report["checkpoint"]["stage"] == best["stage"]
    assert report["checkpoint"]["sha256"] == hashlib.sha256(event.weights.read_bytes()).hexdigest()
    assert (report["job"], report["nonfinite"]) == ("job_7", 0)
    assert not any("loaded anew" in warning for warning in told.warnings(events))


def test_the_event_names_the_files_by_size_and_hash(job, run, tmp_path):
    files = ready(run(job(HEAD), tmp_path)).files
    for path, sha256, size in (
        (files.report, files.sha256, files.size),
        (files.predictions, files.predictions_sha256, files.predictions_size),
    ):
        content = path.read_bytes()
        assert path.parent == tmp_path
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (sha256, size)
    assert {p.name for p in tmp_path.iterdir() if "tmp" in p.name} == set()


def test_the_reports_figures_are_those_of_the_best_epoch(job, run, told, tmp_path):
    events = run(job(HEAD, ALL), tmp_path)
    best, figures = told.result(events)["best"]["val"], report_in(tmp_path)["figures"]
    assert (figures["accuracy"], figures["loss"]) == (best["accuracy"], best["loss"])


@pytest.mark.parametrize("stages", [(ALL,), (HEAD,)], ids=["images", "features"])
def test_a_run_in_bf16_is_compared_in_bf16_and_reported_in_fp32(stages, job, run, told, tmp_path):
    events = run(job(*stages, precision="bf16", checkpoints={"metric": "val_loss"}), tmp_path)
    ready(events)
    report, best = report_in(tmp_path), told.result(events)["best"]
    again, loss = report["reproduced"], report["figures"]["loss"]
    assert (again["precision"], again["again"]) == ("bf16", best["value"])
    assert again["in_fp32"] == loss == pytest.approx(best["value"], rel=0.05)
    assert loss != best["value"], "bf16 rounds"


def test_a_repeated_run_writes_the_same_bytes(job, run, tmp_path):
    first, second = (ready(run(job(HEAD), tmp_path / name)).files for name in ("one", "two"))
    assert (first.sha256, first.predictions_sha256) == (second.sha256, second.predictions_sha256)


def test_predictions_are_what_the_checkpoint_says_of_each_file(job, run, tmp_path, data_dir, registry):
    event = ready(run(job(HEAD, ALL), tmp_path))
    table = pq.read_table(event.files.predictions)
    rows = table.to_pylist()
    assert [row["file"] for row in rows] == [
        f"val/{hue}/{number:02d}.png" for hue in ("blue", "green", "red") for number in range(5)
    ]
    assert [row["label"] for row in rows] == [row["file"].split("/")[1] for row in rows]
    trained = open_model(event.weights, registry)
    for row in rows[::4]:
        pixels = np.asarray(Image.open(data_dir / "hues" / row["file"]).convert("RGB"))
        view = trained.preprocessing.centre(torch.from_numpy(pixels.copy()).permute(2, 0, 1))
        expected = trained.answers(view[None])[0]
        assert row["probabilities"] == pytest.approx(expected.tolist(), abs=1e-5)
        assert row["prediction"] == trained.classes[expected.argmax()]
        assert row["probability"] == max(row["probabilities"])


def test_several_labels_are_judged_at_the_thresholds_of_the_checkpoint(job, run, tmp_path, registry):
    spec = job(HEAD, ALL, objective=BCE, dataset={"path": "many/labels.csv"})
    event = ready(run(spec, tmp_path))
    thresholds = open_model(event.weights, registry).thresholds
    report = report_in(tmp_path)
    assert {row["name"]: row["threshold"] for row in report["per_class"]} == pytest.approx(thresholds)
    rows = pq.read_table(event.files.predictions).to_pylist()
    assert [row["labels"] for row in rows if row["file"] == "val/green/00.png"] == [["calm", "cold"]]
    assert [row["labels"] for row in rows if row["file"] == "val/grey/00.png"] == [[]]
    for row in rows:
        given = [
            name
            for name, value in zip(report["classes"], row["probabilities"], strict=True)
            if value >= thresholds[name]
        ]
        assert row["predictions"] == given


def test_a_run_that_was_interrupted_reports_as_the_whole_one(job, run, told, tmp_path):
    spec = job(HEAD, ALL, checkpoints={"keep_last": 9})
    whole = run(spec, tmp_path / "whole", keep_all=True)
    for at in told.checkpoints(whole)[1:]:
        best = ready(whole).weights
        events = run(spec, tmp_path / at.weights.stem, resume=Resume(at.weights, at.state, best))
        # After a best epoch of its own a run reports on that; its bytes are the same.
        assert ready(events).files.sha256 == ready(whole).files.sha256
        assert ready(events).files.predictions_sha256 == ready(whole).files.predictions_sha256


def test_a_range_test_has_no_report(job, run, tmp_path):
    events = run(job(ALL, range_test={"steps": 10}), tmp_path)
    assert not any(isinstance(event, ReportReady) for event in events)
    assert not (tmp_path / "report.json").exists()


def test_a_network_without_finite_answers_has_a_report_that_says_so(job, run, told, tmp_path):
    spec = job(ALL, backbone={"name": "overflowing", "weights": None}, checkpoints={"metric": "val_loss"})
    events = run(spec, tmp_path)
    report = report_in(tmp_path)
    assert report["nonfinite"] == report["images"] == 15
    assert report["reproduced"] == {
        "metric": "val_loss",
        "stored": None,
        "again": None,
        "difference": None,
        "precision": "fp32",
        "in_fp32": None,
    }
    assert report["figures"]["loss"] is None
    assert report["calibration"] is None
    assert sum(map(sum, report["confusion"])) == 15
    assert ready(events).figures == report["figures"]


def test_a_full_disk_at_the_end_leaves_no_half_of_a_report(job, run, tmp_path, monkeypatch):
    def full(table, path):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("finetune.report.making.write_table", full)
    with pytest.raises(DiskFull, match=r"predictions\.parquet"):
        run(job(HEAD), tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("epoch-")] == []


@pytest.fixture
def first(job, run, tmp_path, registry):
    """The file of a job's best checkpoint on blue, green and red, in a weights root."""
    root = tmp_path / "weights"
    root.mkdir()
    best = ready(run(job(HEAD, ALL), tmp_path / "first")).weights
    best.rename(root / "first.safetensors")
    return root


def after(job, first, path, **fields):
    weights = {"file": "first.safetensors"}
    fast = {**HEAD, "lr": {"schedule": {"name": "constant", "lr": 0.5}}}
    return job(fast, dataset={"path": path}, backbone={"name": "tiny", "weights": weights}, **fields)


def test_old_classes_are_compared_with_the_network_that_the_run_began_with(
    job, run, first, tmp_path, registry, data_dir
):
    event = ready(run(after(job, first, "more"), tmp_path / "second", weights_dir=first))
    old, rows = report_in(tmp_path / "second")["old_classes"], pq.read_table(event.files.predictions)
    began = open_model(first / "first.safetensors", registry)
    images = [row for row in rows.to_pylist() if row["label"] in ("blue", "red")]
    assert all(row["prediction_before"] is None for row in rows.to_pylist() if row["label"] == "grey")
    for row in images:
        pixels = np.asarray(Image.open(data_dir / "more" / row["file"]).convert("RGB"))
        view = began.preprocessing.centre(torch.from_numpy(pixels.copy()).permute(2, 0, 1))
        blue, _, red = began.answers(view[None])[0].tolist()
        assert row["prediction_before"] == ("blue" if blue >= red else "red")
        now = dict(zip(("blue", "grey", "red"), row["probabilities"], strict=True))
        assert row["prediction_among_old"] == ("blue" if now["blue"] >= now["red"] else "red")
    columns = {
        "before": "prediction_before",
        "after_among_old": "prediction_among_old",
        "after": "prediction",
    }
    for figure, column in columns.items():
        right = [row[column] == row["label"] for row in images]
        assert old[figure] == pytest.approx(sum(right) / len(right))
        for of_class in old["per_class"]:
            own = [row[column] == row["label"] for row in images if row["label"] == of_class["name"]]
            assert of_class[figure] == pytest.approx(sum(own) / len(own))
            assert of_class["support"] == len(own) == 5
    changes = [row["change"] for row in old["per_class"]]
    assert changes == sorted(changes)
    assert old["images"] == 10


def test_a_head_that_keeps_all_classes_is_compared_on_all_images(job, run, first, tmp_path):
    run(after(job, first, "hues"), tmp_path / "second", weights_dir=first)
    report, before = report_in(tmp_path / "second"), report_in(tmp_path / "first")
    old = report["old_classes"]
    assert old["images"] == 15
    assert old["before"] == before["figures"]["accuracy"]
    assert old["after"] == old["after_among_old"] == report["figures"]["accuracy"]


@pytest.mark.parametrize("case", ["random weights", "a head that is replaced", "several labels"])
def test_without_rows_that_were_kept_there_are_no_old_classes(job, run, first, tmp_path, case):
    fields = {
        "random weights": {},
        "a head that is replaced": {"head": {"keep": "never"}},
        "several labels": {"objective": BCE},
    }[case]
    spec = (
        job(HEAD, dataset={"path": "more"})
        if case == "random weights"
        else after(job, first, "more", **fields)
    )
    run(spec, tmp_path / "second", weights_dir=first)
    assert report_in(tmp_path / "second")["old_classes"] is None


def test_weights_that_are_gone_at_the_end_cost_the_comparison_and_not_the_run(
    job, run, told, first, tmp_path, data_dir, registry
):
    import finetune

    spec, events = after(job, first, "more"), []
    for event in finetune.train(
        spec, tmp_path / "second", data_dir=data_dir, weights_dir=first, registry=registry, device="cpu"
    ):
        events.append(event)
        (first / "first.safetensors").unlink(missing_ok=True)
    assert report_in(tmp_path / "second")["old_classes"] is None
    warning = told.warnings(events)[-1]
    assert warning.startswith("the report cannot compare the old classes with how the run began")
    assert "first.safetensors is gone" in warning
    assert str(tmp_path) not in warning
    assert isinstance(ready(events), ReportReady)


def test_dropout_before_the_head_does_not_stand_in_the_way(job, run, told, tmp_path):
    events = run(job(HEAD, ALL, head={"dropout": 0.5}), tmp_path)
    assert report_in(tmp_path)["reproduced"]["difference"] == 0.0
    assert set(safetensors.torch.load_file(ready(events).weights)) >= {"head.weight", "head.bias"}
