"""Jobs on a manifest in Parquet in which most labels of a class are wrong, and known to be doubtful."""

import random

import httpx
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

DOUBTFUL = 1e-6
COLOURS = {"blue": (40, 40, 200), "red": (200, 40, 40)}


def draw(folder, name, colour, dice):
    """A file with noise around a colour, by its path from the manifest."""
    image = Image.new("RGB", (16, 16))
    image.putdata([tuple(c + dice.randrange(-40, 41) for c in colour) for _ in range(256)])
    (folder / "images").mkdir(parents=True, exist_ok=True)
    image.save(folder / "images" / name)
    return f"images/{name}"


@pytest.fixture(scope="module")
def manifests(thaw):
    """Of 24 red images to train on 16 are called blue; `with.parquet` gives those next to no weight."""
    folder, dice = thaw.data / "doubtful", random.Random(0)
    columns: dict[str, list[object]] = {name: [] for name in ("path", "label", "split", "weight")}
    for colour, pixels in COLOURS.items():
        for number in range(32):
            split = "train" if number < 24 else "val"
            wrong = split == "train" and colour == "red" and number % 3 > 0
            row = draw(folder, f"{colour}-{number:02d}.png", pixels, dice), "blue" if wrong else colour
            for name, cell in zip(columns, (*row, split, DOUBTFUL if wrong else None), strict=True):
                columns[name].append(cell)
    labels = pa.array(columns["label"]).dictionary_encode()
    table = pa.table({**columns, "label": labels, "note": ["left alone"] * 64})
    parquet.write_table(table, folder / "with.parquet")
    parquet.write_table(table.drop_columns("weight"), folder / "without.parquet")
    return "doubtful/with.parquet", "doubtful/without.parquet"


@pytest.fixture(scope="module")
def jobs(client, make_spec, manifests, ended):
    """A job on each of the two, ended."""
    submitted = [client.submit(make_spec(dataset={"path": name})) for name in manifests]
    found = [ended(client, job.id) for job in submitted]
    assert [(job.status, job.error) for job in found] == [("succeeded", None)] * 2
    return found


def test_a_parquet_file_is_listed_as_a_dataset(thaw, manifests):
    with httpx.Client(base_url=thaw.url, trust_env=False) as api:
        listed = {row["name"]: row for row in api.get("/v1/datasets").json()["data"]}
        row = api.get(f"/v1/datasets/{manifests[0]}").json()
    assert set(manifests) < set(listed)
    of_files = ("check", "fingerprint", "sizes")  # the list opens no file
    assert listed[manifests[0]] == row | dict.fromkeys(of_files)
    assert (row["classes"], row["images"], row["problems"]) == (["blue", "red"], 64, [])
    assert row["counts"] == {"train": {"blue": 40, "red": 8}, "val": {"blue": 8, "red": 8}}


def test_labels_of_little_weight_are_not_learnt_and_without_weights_they_are(client, jobs):
    """The labels of the validation images are right."""
    weighed, plain = ([record.val.accuracy for record in client.metrics(job.id)] for job in jobs)
    assert min(weighed[-3:]) == 1.0
    assert max(plain[-3:]) == 0.5  # all are called blue


def test_the_plan_says_how_images_are_weighed(client, make_spec, manifests):
    weighed, plain = (client.plan(make_spec(dataset={"path": name})).objective for name in manifests)
    assert (weighed, plain) == ("cross_entropy, images weighed by 1e-06 to 1", "cross_entropy")


def test_a_parquet_file_with_problems_is_refused_with_its_rows(thaw, make_spec, manifests):
    table = {"path": ["images/red-00.png", None], "label": [1, 2], "weight": [-1.0, float("nan")]}
    parquet.write_table(pa.table(table), thaw.data / "doubtful" / "broken.parquet")
    body = make_spec(dataset={"path": "doubtful/broken.parquet"})
    refused = httpx.post(f"{thaw.url}/v1/jobs/plan", json=body, trust_env=False)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (422, "dataset.path", "dataset_invalid")
    for problem in ("row 1: the weight is '-1.0'", "row 2: the path is empty", "row 2: the weight is 'nan'"):
        assert problem in error["message"]


def test_the_triplet_objective_is_refused(thaw, make_spec, manifests):
    body = {**make_spec(dataset={"path": manifests[0]}), "recipe": {"name": "triplet"}}
    del body["stages"]
    refused = httpx.post(f"{thaw.url}/v1/jobs", json=body, trust_env=False)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (422, "objective", "unfit_for_dataset")
    assert "have weights, each its own" in error["message"]
