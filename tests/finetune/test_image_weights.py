"""Whole runs on images with weights of their own."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from finetune.checkpoint import Resume
from finetune.data.dataset import open_dataset
from finetune.errors import SpecInvalid
from finetune.network import draw, resolve_with
from finetune.plan import make_plan
from finetune.preflight import check
from finetune.spec import DatasetSpec, JobSpec
from finetune.tables import tables_of

HUES = ("blue", "green", "red")
WEIGHTS = (1, 3, 2, 1, 4, 1, 2, 1, 1, 3, 1, 2)  # of the twelve training images in order


@pytest.fixture(scope="module")
def root(tmp_path_factory, pictures):
    """A data root with four training and two validation images of each hue, and manifests of them.

    `weights.csv` has WEIGHTS; `repeated.csv` names as many copies of each image; `ones.csv` and `twos.csv`
    give every image the same weight, and `plain.csv` none.
    """
    folder = tmp_path_factory.mktemp("data") / "hues"
    lines: dict[str, list[str]] = {name: [] for name in ("weights", "repeated", "ones", "twos")}
    for hue in HUES:
        pictures(folder / hue, hue, 6)
        for number in range(6):
            row, weight = f"{hue}/{number:02d}.png,{hue}", 1
            split = "train" if number < 4 else "val"
            if split == "train":
                weight = WEIGHTS[HUES.index(hue) * 4 + number]
            lines["weights"].append(f"{row},{split},{weight}")
            lines["ones"].append(f"{row},{split},1")
            lines["twos"].append(f"{row},{split},2")
            for copy in range(weight):
                name = f"{hue}/{number:02d}-{copy}.png"
                shutil.copy(folder / f"{hue}/{number:02d}.png", folder / name)
                lines["repeated"].append(f"{name},{hue},{split},")
    for name, rows in lines.items():
        (folder / f"{name}.csv").write_text("\n".join(["path,label,split,weight", *rows]))
    without = [",".join(line.split(",")[:3]) for line in (folder / "ones.csv").read_text().splitlines()]
    (folder / "plain.csv").write_text("\n".join(without))
    return folder.parent


@pytest.fixture
def trained(run, root, tmp_path):
    """Runs a job on one of the manifests; gives its events."""
    runs = iter(range(99))

    def train(name, spec, **options):
        spec = {**spec, "dataset": {"path": f"hues/{name}.csv"}}
        return run(spec, tmp_path / f"run-{next(runs)}", data_dir=root, **options)

    return train


@pytest.fixture
def head(told):
    """The last checkpoint's head of a run, in float64."""

    def of(events):
        weights = load_file(told.checkpoints(events)[-1].weights)
        return torch.cat([weights["head.weight"].flatten(), weights["head.bias"]]).double()

    return of


def stage(**fields):
    return {
        "name": "head",
        "epochs": 3,
        "freeze": {"policy": "backbone"},
        "lr": {"schedule": {"name": "constant", "lr": 0.3}},
        **fields,
    }


OBJECTIVES = [
    {"name": "cross_entropy", "label_smoothing": 0.2},
    {"name": "focal", "gamma": 1.5},
    {"name": "binary_cross_entropy"},
]
each_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda fields: fields["name"])


@each_objective
def test_a_weight_trains_as_so_many_copies_of_the_image_do(job, trained, told, head, objective):
    spec = job(stage(), batch_size=64, objective=objective)
    weighed, repeated, plain = (trained(name, spec) for name in ("weights", "repeated", "plain"))
    torch.testing.assert_close(head(weighed), head(repeated), rtol=0, atol=2e-6)
    assert (head(weighed) - head(plain)).abs().max() > 1e-3
    for one, other in zip(told.records(weighed), told.records(repeated), strict=True):
        assert one.train["loss"] == pytest.approx(other.train["loss"], rel=1e-5)
        assert one.val == pytest.approx(other.val, rel=1e-5)


@each_objective
@pytest.mark.parametrize(("small", "accumulate", "whole"), [(5, 3, 12), (4, 2, 8)])
def test_several_batches_make_the_step_of_one_batch(job, trained, head, objective, small, accumulate, whole):
    objective = objective | {"class_weights": "balanced"}
    together = head(trained("weights", job(stage(), batch_size=whole, objective=objective)))
    apart = head(trained("weights", job(stage(accumulate=accumulate), batch_size=small, objective=objective)))
    torch.testing.assert_close(apart, together, rtol=0, atol=2e-6)


def test_features_once_and_images_anew_are_weighed_alike(job, trained, told, head):
    once = trained("weights", job(stage(), batch_size=5))
    anew = trained("weights", job(stage(features_once=False), batch_size=5))
    flags = [[e.features_once for e in events if hasattr(e, "features_once")] for events in (once, anew)]
    assert flags == [[True], [False]]
    torch.testing.assert_close(head(once), head(anew), rtol=1e-4, atol=1e-5)


def test_images_that_all_count_the_same_train_to_the_bytes_of_none_with_a_weight(job, trained, told):
    runs = [told.checkpoints(trained(name, job())) for name in ("plain", "ones", "twos", "weights")]
    plain, ones, twos, weights = runs
    assert [checkpoint.sha256 for checkpoint in plain] == [checkpoint.sha256 for checkpoint in ones]
    # Other weights are other data, which the checkpoint says beside its tensors.
    first, same, other = (load_file(run[-1].weights) for run in (plain, twos, weights))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_bytes_depend_neither_on_data_workers_nor_on_an_interruption(job, trained, told):
    spec = job(stage(epochs=2, augmentation="standard", mix="mixup", freeze={"policy": "none"}), batch_size=5)
    first, second = told.checkpoints(trained("weights", spec, keep_all=True))
    with_workers = told.checkpoints(trained("weights", spec, data_workers=2))
    assert [checkpoint.sha256 for checkpoint in with_workers] == [first.sha256, second.sha256]
    (rest,) = told.checkpoints(trained("weights", spec, resume=Resume(first.weights, first.state)))
    assert rest.sha256 == second.sha256


def test_validation_is_not_weighed(job, trained, told, root):
    """The same network, whose images are weighed in training and in no figure of validation."""
    still = stage(epochs=1, lr={"schedule": {"name": "constant", "lr": 0}})
    weights = (root / "hues" / "weights.csv").read_text().replace("val,1", "val,1000", 1)
    (root / "hues" / "weighed-val.csv").write_text(weights)
    names = ("plain", "weights", "weighed-val")
    plain, weighed, both = (told.records(trained(name, job(still, batch_size=64)))[0] for name in names)
    assert plain.val == weighed.val == both.val
    assert plain.train["loss"] != pytest.approx(weighed.train["loss"], rel=1e-4)
    assert plain.train["accuracy"] == weighed.train["accuracy"]
    assert both.train == weighed.train


def test_the_training_loss_is_the_weighted_mean_over_the_epoch_whatever_its_batches(job, trained, told):
    """Of a network that stands still, so that all batches are of the same one."""
    still = stage(epochs=1, lr={"schedule": {"name": "constant", "lr": 0}})
    losses = [
        told.records(trained(name, job(still, batch_size=size)))[0].train["loss"]
        for name, size in (("weights", 5), ("weights", 12), ("repeated", 64), ("plain", 12))
    ]
    assert losses[:2] == pytest.approx(losses[2:3] * 2, rel=1e-5)
    assert losses[0] != pytest.approx(losses[3], rel=1e-4)


def test_auxiliary_outputs_are_weighed_too(job, trained, told):
    spec = job(
        stage(freeze={"policy": "none"}), backbone={"name": "with_auxiliary", "weights": None}, batch_size=64
    )
    weighed, repeated = (told.records(trained(name, spec)) for name in ("weights", "repeated"))
    for one, other in zip(weighed, repeated, strict=True):
        assert one.train["loss"] == pytest.approx(other.train["loss"], rel=1e-5)


def test_a_range_test_sees_the_weighted_loss(job, trained, told):
    spec = job(stage(), batch_size=64, range_test={"start_lr": 1e-4, "end_lr": 1e-3, "steps": 20})
    curves = [
        [point["loss"] for point in told.result(trained(name, spec))["range_test"]["curve"]]
        for name in ("weights", "repeated", "plain")
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)
    assert curves[0] != pytest.approx(curves[2], rel=1e-3)


def test_the_triplet_objective_is_refused_before_and_in_the_run(job, root, registry, run, tmp_path):
    objective = {"name": "triplet", "classes_per_batch": 3, "images_per_class": 2, "embedding_size": 4}
    spec = job(stage(freeze={"policy": "none"}), objective=objective, dataset={"path": "hues/weights.csv"})
    (problem,) = check(spec, registry, root, root)
    assert (problem.param, problem.code) == ("objective", "unfit_for_dataset")
    with pytest.raises(SpecInvalid, match="remove the column 'weight'"):
        run(spec, tmp_path, data_dir=root)
    assert check({**spec, "dataset": {"path": "hues/twos.csv"}}, registry, root, root) == []


def planned(job, root, registry, name, *stages, **fields):
    spec = resolve_with(registry, JobSpec.model_validate(job(*stages, **fields)))
    dataset = open_dataset(root, DatasetSpec(path=f"hues/{name}.csv"), 0)
    blueprint = draw(spec, registry, dataset.classes, root, None)
    return make_plan(spec, blueprint, dataset, tables_of(spec, blueprint, dataset))


def test_the_plan_says_that_images_are_weighed(job, root, registry):
    assert planned(job, root, registry, "weights").objective == "cross_entropy, images weighed by 1 to 4"
    assert planned(job, root, registry, "twos").objective == "cross_entropy"


def test_the_plan_warns_where_a_step_takes_one_image(job, root, registry):
    stages = [stage(name="alone"), stage(name="together", accumulate=2)]
    warning = (
        "stage 'alone': the images' weights have no effect: they weigh the images of a step against one "
        "another, and a step takes one"
    )
    found = planned(job, root, registry, "weights", *stages, batch_size=1).warnings
    assert [text for text in found if "weights have" in text] == [warning]
    assert warning not in planned(job, root, registry, "plain", *stages, batch_size=1).warnings
