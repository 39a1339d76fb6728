"""A job on images with several labels each, from the manifest to the thresholds in the best checkpoint."""

import json
import random

import httpx
import pytest
from PIL import Image

COLOURS = {"blue": (20, 20, 230), "green": (20, 230, 20), "red": (230, 20, 20)}
BCE = {"name": "binary_cross_entropy", "class_weights": "balanced"}


@pytest.fixture(scope="module")
def manifest(thaw):
    """Images whose halves and corners have the colours of their labels, in a manifest without splits."""
    dice = random.Random(0)
    folder = thaw.data / "spots"
    (folder / "images").mkdir(parents=True)
    lines = ["path,labels"]
    for number in range(60):
        labels = [name for name in COLOURS if dice.random() < 0.4]
        image = Image.new("RGB", (16, 16), tuple(dice.randrange(60) for _ in range(3)))
        for name in labels:
            place = list(COLOURS).index(name) % 2 * 8, dice.randrange(2) * 8
            image.paste(COLOURS[name], (*place, place[0] + 8, place[1] + 8))
        image.save(folder / "images" / f"{number:03d}.png")
        lines.append(f"images/{number:03d}.png,{'|'.join(labels)}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return "spots/labels.csv"


@pytest.fixture(scope="module")
def spec(make_spec, manifest):
    stages = make_spec()["stages"]
    stages[1] |= {"epochs": 8}
    stages[1]["lr"] = {"schedule": {"name": "linear", "lr": 0.3, "end_lr": 0.0}}
    return make_spec(dataset={"path": manifest}, objective=BCE, stages=stages)


@pytest.fixture(scope="module")
def job(client, spec, ended):
    job = ended(client, client.submit(spec).id)
    assert job.status == "succeeded", job.error
    return job


def test_the_dataset_is_listed_with_its_images_and_labels(thaw, manifest):
    with httpx.Client(base_url=thaw.url, trust_env=False) as api:
        listed = {row["name"]: row for row in api.get("/v1/datasets").json()["data"]}
        row = api.get(f"/v1/datasets/{manifest}").json()
    of_files = ("check", "fingerprint", "sizes")  # the list opens no file
    assert listed[manifest] == row | dict.fromkeys(of_files)
    assert (row["classes"], row["images"], row["multi_label"]) == (["blue", "green", "red"], 60, True)
    assert list(row["counts"]) == ["train"]
    assert all(15 < count < 35 for count in row["counts"]["train"].values())
    assert row["problems"] == []


def test_mean_average_precision_rises_above_chance(thaw, job):
    url = f"{thaw.url}/v1/jobs/{job.id}/metrics"
    records = httpx.get(url, trust_env=False).json()["data"]
    assert len(records) == 11
    assert {*records[0]["val"]} == {"loss", "map", "f1"}
    assert {*records[0]["train"]} == {"loss", "label_accuracy"}
    assert records[-1]["val"]["map"] > 0.8  # chance gives 0.4
    assert job.best.metric == "val_map"
    assert job.best.value == max(record["val"]["map"] for record in records)


def test_the_best_checkpoint_has_the_thresholds(client, job, tmp_path, read_weights):
    told = read_weights(client.download(job.id, "best", tmp_path / "best.safetensors")).metadata
    assert (told["objective"], json.loads(told["val"])["map"]) == ("binary_cross_entropy", job.best.value)
    thresholds = json.loads(told["thresholds"])
    assert list(thresholds) == ["blue", "green", "red"]
    assert all(0 < threshold < 1 for threshold in thresholds.values())


def test_a_plan_with_an_objective_of_one_label_is_refused(thaw, spec):
    body = {key: value for key, value in spec.items() if key != "objective"}
    refused = httpx.post(f"{thaw.url}/v1/jobs/plan", json=body, trust_env=False)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (422, "objective", "unfit_for_dataset")
    assert "take binary_cross_entropy" in error["message"]


def test_a_manifest_with_problems_is_refused_with_its_lines(thaw, spec):
    (thaw.data / "spots" / "broken.csv").write_text("path,labels\nimages/000.png,red\nimages/999.png,red|\n")
    body = spec | {"dataset": {"path": "spots/broken.csv"}}
    refused = httpx.post(f"{thaw.url}/v1/jobs/plan", json=body, trust_env=False)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (422, "dataset.path", "dataset_invalid")
    assert "line 3: a label is empty; line 3: there is no file 'images/999.png'" in error["message"]
