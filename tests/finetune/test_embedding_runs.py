"""Whole runs with the triplet objective: figures, resuming, checkpoints and what they start, alarms."""

import json

import pytest
import safetensors.torch
import torch
from torch import nn

from finetune.backbones import Backbone, Registry
from finetune.checkpoint import Resume
from finetune.errors import OutOfMemory
from finetune.events import EpochEnded, RunStarted
from finetune.network import build, draw
from finetune.spec import JobSpec

FIGURES = ["loss", "recall@1", "recall@5", "map@r", "active_triplets", "variance"]
STAGE = {
    "name": "all",
    "epochs": 2,
    "lr": {"schedule": {"name": "constant", "lr": 0.05}},
    "augmentation": "standard",
}


@pytest.fixture
def embedding(job):
    """Makes specs with the triplet objective; keywords are fields of the objective, but for `stage`."""

    def make(stage=STAGE, backbone=None, **fields):
        objective = {"name": "triplet", "classes_per_batch": 3, "images_per_class": 4, **fields}
        return job(stage, objective=objective, backbone=backbone or {"name": "tiny", "weights": None})

    return make


@pytest.mark.parametrize(
    "fields", [{}, {"embedding_size": 5, "normalize": False}], ids=["removed", "projected"]
)
def test_each_epoch_has_the_figures_of_an_embedding_and_the_best_is_by_recall(
    embedding, run, told, tmp_path, fields
):
    events = run(embedding(**fields), tmp_path)
    for record in told.records(events):
        assert list(record.train) == ["loss", "active_triplets"]
        assert list(record.val) == FIGURES
        assert not record.nonfinite
    best = told.result(events)["best"]
    assert best["metric"] == "val_recall@1"
    assert best["value"] == max(record.val["recall@1"] for record in told.records(events))


def test_the_plan_shows_the_embedding_and_the_batches(embedding, run, tmp_path):
    started = next(event for event in run(embedding(), tmp_path) if isinstance(event, RunStarted))
    assert (started.plan["head"]["action"], started.plan["head"]["outputs"]) == ("removed", None)
    (stage,) = started.plan["stages"]
    assert stage["steps_per_epoch"] == 2  # 24 images in batches of 12
    assert "batches of 3 classes with 4 images: batch_size is that of validation" in stage["options"]


def test_a_head_that_projects_is_trained_alone_on_features_computed_once(embedding, run, told, tmp_path):
    stage = {**STAGE, "freeze": {"policy": "backbone"}, "augmentation": "none"}
    events = run(embedding(stage, embedding_size=5), tmp_path)
    assert next(event for event in events if isinstance(event, RunStarted)).plan["stages"][0]["features_once"]
    first, last = told.records(events)
    assert last.val["loss"] != first.val["loss"]


def test_a_run_goes_on_from_an_interruption_to_the_same_bytes_whatever_the_data_workers(
    embedding, run, told, tmp_path
):
    spec = {**embedding(mining="all"), "checkpoints": {"keep_last": 5}}
    whole = told.checkpoints(run(spec, tmp_path / "whole"))
    resume = Resume(whole[0].weights, whole[0].state)
    rest = told.checkpoints(run(spec, tmp_path / "rest", resume=resume, data_workers=2))
    assert len(rest) == 1
    assert rest[0].sha256 == whole[1].sha256


@pytest.mark.parametrize("mining", ["all", "semihard", "hard"])
def test_bf16_trains_with_each_mining(embedding, run, told, tmp_path, mining):
    records = told.records(run({**embedding(mining=mining), "precision": "bf16"}, tmp_path))
    assert all(record.train["loss"] >= 0 and not record.nonfinite for record in records)


@pytest.mark.parametrize("mining", ["all", "semihard", "hard"])
def test_training_teaches_hues_to_lie_together(embedding, run, told, tmp_path, mining):
    losses = []
    for lr in (1e-12, 0.05):
        stage = {"epochs": 4, "lr": {"schedule": {"name": "constant", "lr": lr}}}
        spec = embedding(stage, mining=mining, margin=1.2)
        losses.append(told.records(run(spec, tmp_path / str(lr)))[-1].val["loss"])
    assert losses[1] < 0.5 * losses[0]


def test_an_embedding_that_collapses_is_told_with_what_helps_after_two_epochs(embedding, run, told, tmp_path):
    stage = {"epochs": 3, "lr": {"schedule": {"name": "constant", "lr": 1e-12}}}
    (warning,) = told.warnings(run(embedding(stage, margin=50.0), tmp_path))
    assert "stage 'stage-1' has learnt nothing for 2 epochs: the embedding has collapsed" in warning
    assert "mining semihard or all where it is hard" in warning


def test_an_embedding_that_learns_raises_no_alarm(embedding, run, told, tmp_path):
    stage = {"epochs": 3, "lr": {"schedule": {"name": "constant", "lr": 0.05}}}
    assert told.warnings(run(embedding(stage), tmp_path)) == []


class Branched(nn.Module):
    """Two branches, the second of which gives an output in training mode only."""

    def __init__(self, num_classes):
        super().__init__()
        self.main, self.head = nn.Conv2d(3, 6, 3, 2), nn.Linear(6, num_classes)
        self.branch, self.aux = nn.Conv2d(3, 4, 3, 2), nn.Linear(4, num_classes)

    def forward(self, images):
        output = self.head(self.main(images).relu().mean((2, 3)))
        return (output, self.aux(self.branch(images).relu().mean((2, 3)))) if self.training else output


@pytest.mark.parametrize("size", [None, 5])
def test_auxiliary_outputs_are_embeddings_whose_loss_trains_their_branch(
    embedding, run, told, registry, tmp_path, size
):
    like = registry.find("tiny").preprocessing
    both = [
        Backbone(f"weight-{weight}", Branched, ("head", "aux"), like, "registered", aux_weight=weight)
        for weight in (0.0, 0.5)
    ]
    found = {}
    for row in both:
        spec = embedding(backbone={"name": row.name, "weights": None}, embedding_size=size, margin=1.2)
        ours = Registry({row.name: row})
        (*_, checkpoint) = told.checkpoints(run(spec, tmp_path / row.name, registry=ours))
        found[row.aux_weight] = safetensors.torch.load_file(checkpoint.weights)
    moved = {name for name in found[0.0] if not torch.equal(found[0.0][name], found[0.5][name])}
    branch = {"branch.weight", "branch.bias"}
    assert moved == branch | ({"aux.weight", "aux.bias"} if size else set())


def test_too_little_memory_names_the_classes_of_a_batch(embedding, run, tmp_path, monkeypatch):
    def no_room(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("finetune.objectives.triplet.Embedding.loss", no_room)
    with pytest.raises(OutOfMemory, match="3 classes of 4 images") as caught:
        run(embedding(), tmp_path)
    assert caught.value.param == "objective.classes_per_batch"


@pytest.fixture(scope="module")
def trained(data_dir, registry, job, tmp_path_factory):
    """The last checkpoints of two triplet jobs, with a projection and without."""
    import finetune

    found = {}
    for size in (None, 5):
        objective = {
            "name": "triplet",
            "classes_per_batch": 3,
            "images_per_class": 4,
            "embedding_size": size,
            "normalize": size is None,
        }
        folder = tmp_path_factory.mktemp(f"embedding-{size}")
        events = finetune.train(
            job(STAGE, objective=objective), folder, data_dir=data_dir, registry=registry, device="cpu"
        )
        found[size] = [event.checkpoint.weights for event in events if isinstance(event, EpochEnded)][-1]
    return found


@pytest.mark.parametrize("size", [None, 5])
def test_a_checkpoint_says_that_it_embeds_into_how_many_numbers_and_on_the_sphere_or_not(trained, size):
    with safetensors.safe_open(trained[size], "pt") as file:
        metadata = file.metadata()
        names = set(file.keys())
    assert metadata["objective"] == "triplet"
    assert json.loads(metadata["outputs"]) == size
    assert json.loads(metadata["normalize"]) == (size is None)
    assert ("head.weight" in names) == (size is not None)


def test_a_classifiers_checkpoint_says_its_objective_and_outputs(job, run, told, tmp_path):
    checkpoint = told.checkpoints(run(job(), tmp_path))[-1]
    with safetensors.safe_open(checkpoint.weights, "pt") as file:
        metadata = file.metadata()
    assert (metadata["objective"], json.loads(metadata["outputs"])) == ("cross_entropy", 3)
    assert "normalize" not in metadata


def blueprint(spec, registry, file):
    parsed = JobSpec.model_validate({**spec, "backbone": {"name": "tiny", "weights": {"file": file.name}}})
    return draw(parsed, registry, ("blue", "green", "red"), file.parent, None)


@pytest.mark.parametrize("size", [None, 5])
def test_a_classifier_starts_from_an_embedding_with_a_new_head(trained, registry, job, size):
    drawn = blueprint(job(), registry, trained[size])
    assert (drawn.head.action, drawn.head.outputs) == ("replaced", 3)
    stem = build(drawn, 0, 0.0).state_dict()["stem.0.weight"]
    assert torch.equal(stem, safetensors.torch.load_file(trained[size])["stem.0.weight"])


@pytest.mark.parametrize(
    ("size", "then", "action"),
    [
        (5, 5, "kept"),
        (5, 6, "projection"),
        (5, None, "removed"),
        (None, 5, "projection"),
        (None, None, "removed"),
    ],
)
def test_an_embedding_goes_on_from_another_with_its_projection_where_the_size_is_the_same(
    trained, registry, embedding, size, then, action
):
    drawn = blueprint(embedding(embedding_size=then), registry, trained[size])
    assert drawn.head.action == action
    ours = build(drawn, 0, 0.0).state_dict()
    theirs = safetensors.torch.load_file(trained[size])
    shared = [name for name in ours if name in theirs and (action == "kept" or not name.startswith("head"))]
    assert all(torch.equal(ours[name], theirs[name]) for name in shared)
    assert ("head.weight" in shared) == (action == "kept")
