"""Jobs that cannot be: each fails with its code and a sentence, and the worker takes the next one."""

import shutil

import pytest

from client.api import ThawClient

pytestmark = pytest.mark.promise("A job that cannot succeed fails by name, and the next one runs")


@pytest.fixture(scope="module")
def datasets(thaw, draw_shapes):
    """Datasets that cannot be trained on, by name."""
    root = thaw.data
    draw_shapes(root / "one-class", classes=("circle",), train=2, val=1)
    draw_shapes(root / "empty-class", train=2, val=1)
    for file in (root / "empty-class" / "train" / "square").iterdir():
        file.unlink()
    draw_shapes(root / "one-split", train=2, val=1)
    shutil.rmtree(root / "one-split" / "val" / "triangle")
    draw_shapes(root / "truncated", train=2, val=1)
    victim = root / "truncated" / "train" / "circle" / "train-001.png"
    victim.write_bytes(victim.read_bytes()[:200])
    (root / "truncated" / "val" / "square" / "notes.txt").write_text("no image")
    for name in ("circle", "square"):
        (root / "no-images" / "train" / name).mkdir(parents=True)
    (root / "no-classes").mkdir()


@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        ("one-class", ["there is one class only ('circle'): a classifier needs two or more"]),
        ("empty-class", ["no images in train for 'square': add some or remove the folder"]),
        ("one-split", ["'triangle' stands in train and not in val: every class needs both"]),
        ("no-images", ["has class folders and no images in them"]),
        ("no-classes", ["has no classes: make a folder of images for each, train/CLASS/* or CLASS/*"]),
        (
            "truncated",
            [
                "2 files of 'truncated' with problems: ",
                "unreadable: train/circle/train-001.png (",
                "not_an_image: val/square/notes.txt (",
                'Mend or remove them, or train without them with "on_problem": "skip"',
            ],
        ),
    ],
)
def test_dataset_that_cannot_be_trained_on_fails_the_job_with_what_to_mend(
    client, make_spec, ended, datasets, thaw, name, sentences
):
    job = ended(client, client.submit(make_spec(dataset={"path": name})).id)
    assert job.status == "failed"
    assert (job.error.code, job.error.param) == ("dataset_invalid", "dataset.path")
    for sentence in sentences:
        assert sentence in job.error.message
    assert str(thaw.root) not in job.error.message
    assert job.attempt == 1
    assert client.metrics(job.id) == []


def test_dataset_that_is_removed_before_the_job_runs_is_not_found(
    client, make_spec, ended, thaw, draw_shapes, until
):
    draw_shapes(thaw.data / "short-lived", train=2, val=1)
    blocker = client.submit(make_spec(backbone={"name": "tiny_slow", "weights": None}))
    until(lambda: client.job(blocker.id).status == "running", 30, "the worker is busy")
    job = client.submit(make_spec(dataset={"path": "short-lived"}))
    shutil.rmtree(thaw.data / "short-lived")
    client.cancel(blocker.id)
    assert ended(client, job.id).error.code == "dataset_not_found"


def test_model_that_raises_while_it_trains_fails_the_job_without_a_path(client, make_spec, ended, thaw):
    job = ended(client, client.submit(make_spec(backbone={"name": "tiny_faulty", "weights": None})).id)
    assert (job.status, job.error.code) == ("failed", "internal")
    assert "RuntimeError: cannot go on with tiny_net.py at step 4" in job.error.message
    everything = job.model_dump_json() + "".join(e.model_dump_json() for e in client.events(job.id))
    assert str(thaw.root) not in everything
    assert "Traceback" not in everything
    assert "in step" in thaw.log("worker")  # the traceback is for the operator


def test_loss_that_explodes_names_stage_epoch_and_step(client, make_spec, ended):
    stage = make_spec()["stages"][1] | {"lr": {"schedule": {"name": "constant", "lr": 1e6}}}
    spec = make_spec(stages=[{**stage, "optimizer": {"name": "sgd", "weight_decay": 1e6}}])
    job = ended(client, client.submit(spec).id)
    assert (job.status, job.error.code) == ("failed", "nonfinite_loss")
    assert "stage 'all', epoch " in job.error.message


def test_backbone_that_only_the_worker_cannot_build_fails_its_job_alone(
    make_house, draw_shapes, make_spec, ended
):
    house = make_house()
    draw_shapes(house.data / "shapes", train=2, val=1)
    house.serve()
    worker = house.work(TINY_CANNOT_BE_BUILT=1)
    with ThawClient(house.url) as client:
        jobs = [
            client.submit(make_spec(backbone={"name": name, "weights": None}))
            for name in ("tiny_unbuildable", "tiny_net")
        ]
        failed, succeeded = [ended(client, job.id) for job in jobs]
    assert failed.status == "failed"
    assert "tiny_unbuildable" in failed.error.message
    assert succeeded.status == "succeeded"
    assert worker.poll() is None


def test_next_job_after_all_of_these_succeeds(client, make_spec, ended):
    assert ended(client, client.submit(make_spec()).id).status == "succeeded"
