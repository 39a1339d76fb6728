"""Whole runs on images with several labels each: spots of three colours."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

import finetune
from finetune.backbones import Registry, backbone
from finetune.data.dataset import open_dataset
from finetune.data.decoding import decode
from finetune.data.preprocessing import Preprocessing
from finetune.errors import SpecInvalid
from finetune.events import EpochEnded
from finetune.network import draw, resolve_with
from finetune.objectives import build
from finetune.plan import make_plan
from finetune.spec import JobSpec
from finetune.tables import tables_of

ROOT = Path(__file__).parents[2]
CLASSES = ["blue", "green", "red"]
HALF = (0.5, 0.5, 0.5)
BCE = {"name": "binary_cross_entropy"}
STAGES = [
    {
        "name": "head",
        "epochs": 3,
        "freeze": {"policy": "backbone"},
        "lr": {"schedule": {"name": "constant", "lr": 0.5}},
    },
    {
        "name": "all",
        "epochs": 4,
        "lr": {"schedule": {"name": "linear", "lr": 0.2, "end_lr": 0.0}},
        "augmentation": "light",
    },
]


class Patches(nn.Module):
    """Two convolutions whose largest answers the head sees: what is somewhere in the image."""

    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(16, num_classes)

    def forward(self, images):
        return self.head(self.body(self.stem(images)).amax((2, 3)))


class Blind(Patches):
    """Sees the same in every image."""

    def forward(self, images):
        return super().forward(images * 0)


@pytest.fixture(scope="module")
def registry():
    preprocessing = Preprocessing(16, 16, HALF, HALF)
    return Registry(
        {
            name: backbone(name=name, head="head", preprocessing=preprocessing)(build)
            for name, build in {"patches": Patches, "blind": Blind}.items()
        }
    )


def write_spots(folder, counts, classes=CLASSES):
    """Images with a spot of each colour of their labels, and a manifest with these counts of splits."""
    dice = random.Random(0)
    (folder / "images").mkdir(parents=True)
    lines = ["path,labels,split"]
    for split, count in counts.items():
        for number in range(count):
            labels = [name for name in classes if dice.random() < 0.4]
            image = Image.new("RGB", (16, 16), tuple(dice.randrange(60) for _ in range(3)))
            for name in labels:
                colour = tuple(230 if name == other else 20 for other in ("red", "green", "blue"))
                place = CLASSES.index(name) % 2 * 8, dice.randrange(2) * 8
                image.paste(colour, (*place, place[0] + 7, place[1] + 7))
            image.save(folder / "images" / f"{split}{number:03d}.png")
            lines.append(f"images/{split}{number:03d}.png,{'|'.join(labels)},{split}")
    (folder / "labels.csv").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("spots")
    write_spots(root / "spots", {"train": 48, "val": 24})
    write_spots(root / "two", {"train": 24, "val": 12}, ["green", "red"])
    return root


def spec(**fields):
    return {
        "dataset": {"path": "spots/labels.csv"},
        "backbone": {"name": "patches", "weights": None},
        "objective": BCE,
        "stages": STAGES,
        "batch_size": 8,
        "precision": "fp32",
        "checkpoints": {"keep_last": 20},
        **fields,
    }


@pytest.fixture(scope="module")
def train(data_dir, registry):
    def run(folder, job, **options):
        settings = {"data_dir": data_dir, "registry": registry, "device": "cpu", **options}
        return list(finetune.train(job, folder, **settings))

    return run


@pytest.fixture(scope="module")
def events(train, tmp_path_factory):
    return train(tmp_path_factory.mktemp("run"), spec())


@pytest.fixture(scope="module")
def ended(events):
    return [event for event in events if isinstance(event, EpochEnded)]


def metadata(checkpoint):
    with safetensors.safe_open(checkpoint.weights, "pt") as file:
        return file.metadata()


def outputs(ended, data_dir, registry, epoch):
    """Logits and labels of the validation images, by hand."""
    dataset = open_dataset(data_dir, JobSpec.model_validate(spec()).dataset, 0)
    row = registry.find("patches")
    model = row.make(3, 16).eval()
    model.load_state_dict(safetensors.torch.load_file(ended[epoch].checkpoint.weights))
    pixels = torch.stack([row.preprocessing.centre(decode(sample.path)) for sample in dataset.val])
    with torch.no_grad():
        logits = model(row.preprocessing.normalize(pixels))
    labels = torch.zeros(len(logits), 3)
    for image, sample in zip(labels, dataset.val, strict=True):
        image[torch.tensor(sample.label, dtype=torch.int64)] = 1
    return logits, labels


def test_it_learns_what_is_in_the_images(ended):
    records = [event.record for event in ended]
    assert [set(record.train) for record in records] == [{"loss", "label_accuracy"}] * 7
    assert [set(record.val) for record in records] == [{"loss", "map", "f1"}] * 7
    assert (records[-1].val["map"] or 0) > 0.9  # chance gives 0.4
    assert (records[-1].train["label_accuracy"] or 0) > 0.9


def test_the_best_checkpoint_is_the_one_with_the_best_map(ended):
    values = [event.record.val["map"] or 0.0 for event in ended]
    assert [(e.checkpoint.metric, e.checkpoint.value) for e in ended] == [("val_map", v) for v in values]
    best = [value > max(values[:index], default=0) for index, value in enumerate(values)]
    assert [event.checkpoint.best for event in ended] == best


def test_the_features_of_a_head_only_stage_are_computed_once(events, ended, data_dir, registry):
    started = [event for event in events if type(event).__name__ == "StageStarted"]
    assert [event.features_once for event in started] == [True, False]
    logits, labels = outputs(ended, data_dir, registry, 2)  # the last epoch of the head alone
    objective = build(JobSpec.model_validate(spec()).objective, _dataset(data_dir), torch.device("cpu"))
    expected = objective.evaluate(lambda x: x, [(logits, labels)])
    assert ended[2].record.val == pytest.approx(expected.figures, abs=1e-5)


def _dataset(data_dir):
    return open_dataset(data_dir, JobSpec.model_validate(spec()).dataset, 0)


def f1_at(thresholds, logits, labels):
    """The mean F1 of the classes, each given from its threshold on."""
    given = logits.sigmoid() >= torch.tensor([thresholds[name] for name in CLASSES])
    right = (given & (labels > 0)).sum(0)
    return (2 * right / (given.sum(0) + labels.sum(0))).mean().item()


def test_a_checkpoint_tells_its_objective_and_the_thresholds_that_gave_its_f1(ended, data_dir, registry):
    for index, event in enumerate(ended):
        told = metadata(event.checkpoint)
        assert (told["objective"], json.loads(told["classes"])) == ("binary_cross_entropy", CLASSES)
        thresholds = json.loads(told["thresholds"])
        assert sorted(thresholds) == CLASSES
        f1 = f1_at(thresholds, *outputs(ended, data_dir, registry, index))
        assert f1 == pytest.approx(event.record.val["f1"], abs=1e-6)


def test_a_checkpoint_of_averages_has_the_thresholds_of_the_averages(train, data_dir, registry, tmp_path):
    stages = [{**STAGES[1], "epochs": 3, "ema": {"decay": 0.9}}]
    events = train(tmp_path / "run", spec(stages=stages, checkpoints={"weights": "ema", "keep_last": 9}))
    found = [event for event in events if isinstance(event, EpochEnded)]
    for index, event in enumerate(found):
        thresholds = json.loads(metadata(event.checkpoint)["thresholds"])
        f1 = f1_at(thresholds, *outputs(found, data_dir, registry, index))
        assert f1 == pytest.approx((event.record.val_ema or {})["f1"], abs=1e-6)
    assert any((event.record.val_ema or {})["f1"] != event.record.val["f1"] for event in found)


def test_a_repeated_and_a_resumed_run_write_the_same_bytes(train, ended, tmp_path):
    from finetune.checkpoint import Resume

    again = [e.checkpoint.sha256 for e in train(tmp_path / "a", spec()) if isinstance(e, EpochEnded)]
    assert again == [event.checkpoint.sha256 for event in ended]
    at = ended[4].checkpoint
    resumed = train(tmp_path / "b", spec(), resume=Resume(at.weights, at.state), data_workers=1)
    assert [e.checkpoint.sha256 for e in resumed if isinstance(e, EpochEnded)] == again[5:]


def test_balanced_class_weights_change_the_training_and_not_how_it_is_validated(train, ended, tmp_path):
    stage = {**STAGES[0], "epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.0}}}
    records = [
        next(e.record for e in train(tmp_path / kind, job) if isinstance(e, EpochEnded))
        for kind in ("none", "balanced")
        for job in [spec(stages=[stage], objective={**BCE, "class_weights": kind})]
    ]
    assert records[0].val == records[1].val
    plain, balanced = (record.train["loss"] or 0.0 for record in records)
    assert 0 < plain < balanced  # labels are rarer than their absence


def test_rows_of_classes_that_the_head_knew_are_kept(train, registry, data_dir, ended, tmp_path):
    stages = [{**STAGES[0], "epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.0}}}]
    first = train(tmp_path / "two", spec(dataset={"path": "two/labels.csv"}, stages=stages))
    (old,) = [event.checkpoint for event in first if isinstance(event, EpochEnded)]
    weights = {"name": "patches", "weights": {"file": old.weights.name}}
    events = train(tmp_path / "three", spec(backbone=weights, stages=stages), weights_dir=old.weights.parent)
    head = next(e.plan["head"] for e in events if type(e).__name__ == "RunStarted")
    assert (head["action"], head["kept"], head["new"]) == ("adapted", ["green", "red"], ["blue"])
    (new,) = [event.checkpoint for event in events if isinstance(event, EpochEnded)]
    before, after = (safetensors.torch.load_file(c.weights)["head.weight"] for c in (old, new))
    assert torch.equal(after[1:], before)


def test_binary_cross_entropy_takes_images_with_one_label_each_too(train, pictures, tmp_path):
    for hue in ("blue", "green", "red"):
        pictures(tmp_path / "hues" / hue, hue, 10)
    job = spec(dataset={"path": "hues"})
    records = [e.record for e in train(tmp_path / "run", job, data_dir=tmp_path) if isinstance(e, EpochEnded)]
    assert (records[-1].val["map"] or 0) > 0.6  # chance gives a third


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "triplet"])
def test_plan_and_run_refuse_an_objective_that_takes_one_label(name, train, registry, data_dir, tmp_path):
    job = spec(objective={"name": name}, stages=STAGES[1:])
    with pytest.raises(SpecInvalid, match="take binary_cross_entropy") as refused:
        train(tmp_path / "run", job)
    assert refused.value.param == "objective"
    resolved = resolve_with(registry, JobSpec.model_validate(job))
    dataset = _dataset(data_dir)
    blueprint = draw(resolved, registry, dataset.classes, tmp_path, None)
    with pytest.raises(SpecInvalid, match="take binary_cross_entropy"):
        tables_of(resolved, blueprint, dataset)


def test_the_plan_names_the_objective_the_metric_and_the_classes(registry, data_dir, tmp_path):
    resolved = resolve_with(
        registry, JobSpec.model_validate(spec(objective={**BCE, "class_weights": "balanced"}))
    )
    dataset = _dataset(data_dir)
    blueprint = draw(resolved, registry, dataset.classes, tmp_path, None)
    plan = make_plan(resolved, blueprint, dataset, tables_of(resolved, blueprint, dataset))
    assert plan.objective == "binary_cross_entropy (class_weights balanced)"
    assert (plan.metric, plan.classes, plan.images) == ("val_map", CLASSES, {"train": 48, "val": 24})


def test_a_network_that_says_the_same_of_every_image_is_noticed(train, tmp_path):
    stage = {"name": "all", "epochs": 2, "lr": {"schedule": {"name": "constant", "lr": 0.1}}}
    events = train(tmp_path, spec(stages=[stage], backbone={"name": "blind", "weights": None}))
    warnings = [event.message for event in events if type(event).__name__ == "Warned"]
    (message,) = [text for text in warnings if "learnt" in text]
    assert message.startswith(
        "stage 'all' has learnt nothing for 2 epochs: every validation image got the same labels (rates: "
    )


def test_the_documented_lines_give_an_images_labels(train, data_dir, tmp_path):
    """The lines of docs/loading.md, in a process that has nothing of ours."""
    stages = [{"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.01}}}]
    job = spec(backbone={"name": "resnet18", "weights": None}, image_size=32, stages=stages)
    (ended,) = [event for event in train(tmp_path / "run", job) if isinstance(event, EpochEnded)]
    (tmp_path / "best.safetensors").write_bytes(ended.checkpoint.weights.read_bytes())
    thresholds = json.loads(metadata(ended.checkpoint)["thresholds"])
    section = (ROOT / "docs" / "loading.md").read_text().split("## Several labels an image")[0:2]
    lines = [part.split("```python\n")[1].split("```")[0] for part in section]
    said = "print(json.dumps([p.item() for p in probabilities]))"
    (tmp_path / "lines.py").write_text("\n".join([*lines, said]))
    (tmp_path / "photo.jpg").write_bytes((data_dir / "spots" / "images" / "val000.png").read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", "lines.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    labels, probabilities = done.stdout.splitlines()[-2:]
    pairs = zip(CLASSES, json.loads(probabilities), strict=True)
    assert labels == str([name for name, p in pairs if p >= thresholds[name]])
