"""A checkpoint opened from its file alone."""

import pytest
import safetensors.torch
import torch

from finetune.backbones import Registry
from finetune.data.decoding import decode
from finetune.errors import SpecInvalid, WeightsIncompatible, WeightsNotFound
from finetune.trained import open_model, read_about

OBJECTIVES = {
    "classes": {"name": "cross_entropy"},
    "labels": {"name": "binary_cross_entropy"},
    "embedding": {"name": "triplet", "classes_per_batch": 3, "images_per_class": 4, "embedding_size": 5},
}


@pytest.fixture
def trained(job, run, told, tmp_path, registry):
    """The last checkpoint of a short job with an objective."""

    def train(answer="classes"):
        stage = {"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.05}}}
        events = run(job(stage, objective=OBJECTIVES[answer]), tmp_path / answer, job="job_7")
        return told.checkpoints(events)[-1].weights

    return train


@pytest.mark.parametrize("answer", OBJECTIVES)
def test_it_answers_what_its_objective_trained(trained, registry, data_dir, answer):
    model = open_model(trained(answer), registry)
    paths = sorted((data_dir / "hues" / "val").rglob("*.png"))
    answers = model.answers(torch.stack([model.preprocessing.centre(decode(path)) for path in paths]))
    assert model.answer == answer
    assert answers.shape == (len(paths), 5 if answer == "embedding" else 3)
    if answer == "classes":
        assert answers.sum(1).tolist() == pytest.approx([1.0] * len(paths))
    elif answer == "labels":
        assert answers.min() >= 0
        assert answers.max() <= 1
        assert set(model.thresholds) == set(model.classes)
    else:
        assert answers.norm(dim=1).tolist() == pytest.approx([1.0] * len(paths))
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_it_knows_classes_preprocessing_and_where_it_comes_from(trained, registry):
    model = open_model(trained(), registry)
    assert model.classes == ("blue", "green", "red")
    assert model.preprocessing == registry.find("tiny").preprocessing
    assert (model.about["job"], model.about["stage"], model.about["global_epoch"]) == ("job_7", "stage-1", 1)


def test_a_file_that_is_gone_damaged_or_not_ours_is_told_by_name(trained, registry, tmp_path):
    path = trained()
    with pytest.raises(SpecInvalid, match="there is no backbone 'tiny'"):
        open_model(path, Registry())
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(WeightsIncompatible, match=f"{path.name} is damaged"):
        open_model(path, registry)
    safetensors.torch.save_file({"weight": torch.zeros(1)}, path, {"format": "pt"})
    with pytest.raises(WeightsIncompatible, match="no checkpoint of a job"):
        open_model(path, registry)
    path.unlink()
    with pytest.raises(WeightsNotFound, match=f"the checkpoint {path.name} is gone"):
        read_about(path)
