"""A run's best checkpoint, loaded anew: what comes again, and what fails the run."""

import json
import shutil

import pytest
import safetensors
import safetensors.torch
import torch

import finetune
from finetune.checkpoint import Resume
from finetune.errors import NotReproduced
from finetune.events import EpochEnded, ReportReady, RunEnded, StageEnded
from finetune.report.reproduction import matches, reproduction

SETTLED = {"schedule": {"name": "list", "values": [[0.3, 2], [1e-12, 2]]}}


@pytest.mark.parametrize(
    ("metric", "images", "stored", "again", "comes"),
    [
        ("val_accuracy", 150, 0.9, 0.9, True),
        ("val_accuracy", 150, 0.9, 0.9 + 1 / 150, True),  # an image on the border
        ("val_accuracy", 150, 0.9, 0.9 - 2 / 150, False),
        ("val_recall@1", 50_000, 0.9, 0.9009, True),
        ("val_map", 50_000, 0.9, 0.8985, False),
        ("val_loss", 150, 0.5, 0.5004, True),
        ("val_loss", 150, 0.5, 0.501, False),
        ("val_loss", 150, 0.0, 1e-7, True),
        ("val_loss", 150, None, float("nan"), True),
        ("val_loss", 150, None, float("inf"), True),
        ("val_loss", 150, None, 0.5, False),
        ("val_loss", 150, 0.5, float("nan"), False),
        # In the process that stored it nothing but the last digits may differ.
        ("val_accuracy", None, 0.9, 0.9, True),
        ("val_accuracy", None, 0.9, 0.9 + 1 / 150, False),
        ("val_accuracy", None, 0.9, 0.90002, False),
        ("val_loss", None, 0.5, 0.500004, True),
        ("val_loss", None, 0.5, 0.50001, False),
    ],
)
def test_a_metric_comes_again_but_for_a_borderline_image_or_a_thousandth_of_a_loss(
    metric, images, stored, again, comes
):
    assert matches(metric, stored, again, images) == comes


def test_what_is_not_finite_stands_in_the_report_as_nothing():
    found = reproduction("val_loss", None, float("nan"), "bf16", float("inf"))
    assert (found.stored, found.again, found.difference, found.in_fp32) == (None, None, None, None)
    found = reproduction("val_loss", 0.5, 0.50001, "bf16", 0.49)
    assert (found.stored, found.again, found.in_fp32) == (0.5, 0.50001, 0.49)
    assert found.difference == pytest.approx(1e-5)


def keeping(job, **fields):
    """A job whose best epoch is not its last, with all checkpoints kept."""
    stage = {"name": "all", "epochs": 4, "lr": SETTLED}
    return job(stage, checkpoints={"keep_last": 9, "metric": "val_loss", **fields})


def end_with(spec, folder, data_dir, registry, harm, **options):
    """Runs a job and does harm when its last epoch is over; gives the events."""
    events = finetune.train(
        spec, folder, data_dir=data_dir, registry=registry, device="cpu", keep_all=True, **options
    )
    found, best = [], None
    for event in events:
        found.append(event)
        if isinstance(event, EpochEnded) and event.checkpoint.best:
            best = event.checkpoint.weights
        if isinstance(event, StageEnded):
            harm(best)
    return found


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-100])


def remove(path):
    path.unlink()


def swap(path):
    others = [other for other in path.parent.glob("*.safetensors") if other != path]
    shutil.copy(others[0], path)


@pytest.mark.parametrize("harm", [flip_a_byte, cut_off, remove, swap], ids=lambda harm: harm.__name__)
def test_a_file_that_is_not_what_was_written_fails_the_run(job, data_dir, registry, tmp_path, harm):
    with pytest.raises(NotReproduced, match="cannot be loaded anew") as caught:
        end_with(keeping(job), tmp_path, data_dir, registry, harm)
    assert caught.value.code == "not_reproduced"
    assert str(tmp_path) not in caught.value.message
    assert not (tmp_path / "report.json").exists()


@pytest.fixture
def interrupted(job, run, told, tmp_path, data_dir, registry):
    """All checkpoints of a whole run, and a function that resumes from the last of them."""
    spec = keeping(job)
    made = told.checkpoints(run(spec, tmp_path / "first", keep_all=True))
    (*_, best) = [checkpoint for checkpoint in made if checkpoint.best]
    assert best is not made[-1], "the best is not the last"

    def resume(folder="second", **fields):
        last = Resume(made[-1].weights, made[-1].state, **fields)
        return list(
            finetune.train(
                spec, tmp_path / folder, data_dir=data_dir, registry=registry, device="cpu", resume=last
            )
        )

    return best, resume


def test_a_resumed_run_finds_its_best_beside_what_it_resumed_from_or_where_it_is_told(interrupted, tmp_path):
    best, resume = interrupted
    for fields in ({}, {"best": best.weights, "best_sha256": best.sha256}):
        *_, ready, ended = resume(**fields)
        assert isinstance(ready, ReportReady)
        assert isinstance(ended, RunEnded)
        assert ready.weights == best.weights
        assert ready.reproduced["difference"] == 0.0
    moved = tmp_path / "elsewhere" / "best.safetensors"
    moved.parent.mkdir()
    best.weights.rename(moved)
    *_, ready, _ = resume(best=moved)
    assert ready.weights == moved
    with pytest.raises(NotReproduced, match=r"epoch-0000\d\.safetensors is gone"):
        resume()


def test_below_fp32_a_score_that_differs_after_a_resume_is_told_and_ends_no_job(job, run, told, tmp_path):
    """As on a processor with other kernels: the file itself is proved by its SHA-256."""
    spec = keeping(job, **{}) | {"precision": "bf16"}
    made = told.checkpoints(run(spec, tmp_path / "first", keep_all=True))
    state = torch.load(made[-1].state, weights_only=True)
    state["standing"]["best"]["value"] *= 1.05
    torch.save(state, made[-1].state)
    resume = Resume(made[-1].weights, made[-1].state)
    events = run(spec, tmp_path / "second", resume=resume)
    assert isinstance(events[-1], RunEnded)
    assert any("as another machine's rounding may do" in text for text in told.warnings(events))


def test_other_weights_that_open_as_well_are_found_out_by_their_score(interrupted):
    best, resume = interrupted
    with safetensors.safe_open(best.weights, "pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(best.weights)
    tensors["head.weight"] = -tensors["head.weight"]
    safetensors.torch.save_file(tensors, best.weights, metadata)
    with pytest.raises(NotReproduced) as caught:
        resume()
    stored = f"{best.value:.6g}"
    assert f"val_loss {stored}) was loaded anew and gives " in caught.value.message
    assert f"gives {stored}" not in caught.value.message
    with pytest.raises(NotReproduced, match="SHA-256"):
        resume(best_sha256=best.sha256)


def test_a_file_of_another_epoch_or_that_is_no_checkpoint_is_not_taken_for_the_best(interrupted, tmp_path):
    best, resume = interrupted
    other = next(p for p in best.weights.parent.glob("*.safetensors") if p != best.weights)
    with pytest.raises(NotReproduced, match="of another epoch or of other data"):
        resume(best=other)
    bare = tmp_path / "bare.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2)}, bare)
    with pytest.raises(NotReproduced, match="no checkpoint of a job"):
        resume(best=bare)
    with safetensors.safe_open(best.weights, "pt") as file:
        metadata = {**file.metadata(), "preprocessing": json.dumps({"crop": -1})}
    safetensors.torch.save_file(safetensors.torch.load_file(best.weights), bare, metadata)
    with pytest.raises(NotReproduced, match="does not say how images are prepared"):
        resume(best=bare)


def test_a_difference_within_the_tolerance_is_told(interrupted, told):
    best, resume = interrupted
    with safetensors.safe_open(best.weights, "pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(best.weights)
    tensors["head.bias"] = tensors["head.bias"] + torch.tensor([2e-4, 0.0, 0.0])
    safetensors.torch.save_file(tensors, best.weights, metadata)
    events = resume()
    (warning,) = [message for message in told.warnings(events) if "loaded anew" in message]
    assert "as another machine's rounding may do" in warning
    ready = next(event for event in events if isinstance(event, ReportReady))
    assert 1e-6 < abs(ready.reproduced["difference"]) < 1e-3
