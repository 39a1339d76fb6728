"""Corrected labels as a manifest, over HTTP."""

import csv
import io
import shutil

import pytest
import torch
from PIL import Image

from finetune.data.naming import image_id
from finetune.report.one_label import OneLabel
from finetune.report.several_labels import SeveralLabels


@pytest.fixture
def photos(house):
    """Makes a dataset of ants and bees below the house's data root, which goes with the test."""
    made = []

    def make(name, files, manifest=None):
        folder = house.data / name
        made.append(folder)
        for number, file in enumerate(files):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / file)
        if manifest is not None:
            (folder / "labels.csv").write_text(manifest)
        return folder

    yield make
    for folder in made:
        shutil.rmtree(folder)


SPLIT = [
    f"{split}/{label}/{number}.png"
    for split in ("train", "val")
    for label in ("ants", "bees")
    for number in range(3)
]
WHOLE = [f"{label}/{number}.png" for label in ("ants", "bees") for number in range(4)]


def answers(files):
    labels = torch.tensor([int("bees" in file) for file in files])
    return OneLabel.of(files, ("ants", "bees"), labels, torch.zeros(len(files), 2), 0.0)


def rows_of(response):
    assert response.status_code == 200, response.text
    return list(csv.DictReader(io.StringIO(response.text)))


def counts(api, name):
    (found,) = [row for row in api.get("/v1/datasets").json()["data"] if row["name"] == name]
    assert found["problems"] == []
    return found["counts"]


def test_the_manifest_beside_the_images_is_a_dataset_with_the_corrected_labels(api, photos, report):
    folder = photos("crawling", SPLIT)
    address = report(answers([file for file in SPLIT if "val" in file]), dataset={"path": "crawling"})
    labels = {image_id("val/ants/1.png"): "bees", image_id("train/bees/0.png"): "ants"}
    response = api.post(f"{address}/corrections", json={"labels": labels})
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    job = address.split("/")[3]
    assert response.headers["Content-Disposition"] == f'attachment; filename="{job}-corrected.csv"'
    rows = {row["path"]: (row["label"], row["split"]) for row in rows_of(response)}
    assert list(rows) == SPLIT
    assert rows["val/ants/1.png"] == ("bees", "val")
    assert rows["train/bees/1.png"] == ("bees", "train")
    (folder / "corrected.csv").write_bytes(response.content)
    assert counts(api, "crawling/corrected.csv") == {
        "train": {"ants": 4, "bees": 2},
        "val": {"ants": 2, "bees": 4},
    }
    images = api.get("/v1/images", params={"dataset": "crawling/corrected.csv", "limit": 100}).json()["data"]
    by_id = {image["id"]: image["labels"] for image in images}
    assert all(by_id[image] == [label] for image, label in labels.items())
    spec = {"dataset": {"path": "crawling/corrected.csv"}, "recipe": {"name": "joint"}}
    plan = api.post("/v1/jobs/plan", json=spec | {"backbone": {"name": "tiny_net", "weights": None}})
    assert plan.status_code == 200, plan.text


def test_without_a_split_of_its_own_what_was_validated_on_is_val(api, photos, report):
    photos("whole", WHOLE)
    address = report(answers(["ants/2.png", "bees/0.png"]), dataset={"path": "whole"})
    response = api.post(f"{address}/corrections", json={"labels": {image_id("bees/3.png"): "ants"}})
    found = {row["path"]: row["split"] for row in rows_of(response)}
    assert sorted(file for file, split in found.items() if split == "val") == ["ants/2.png", "bees/0.png"]
    assert len(found) == 8


def test_several_labels_and_weights_stay_what_they_are(api, photos, report):
    manifest = (
        "path,labels,split,weight\na.png,x|y,train,2\nb.png,y,train,\nc.png,,train,0.5\nd.png,x|y,val,\n"
    )
    folder = photos("tagged", ["a.png", "b.png", "c.png", "d.png"], manifest)
    said = SeveralLabels.of(
        ["d.png"], ("x", "y"), torch.ones(1, 2), torch.ones(1, 2), {"x": 0.5, "y": 0.5}, 0.1
    )
    address = report(
        said,
        dataset={"path": "tagged/labels.csv"},
        objective={"name": "binary_cross_entropy"},
    )
    labels = {image_id("c.png"): ["x"], image_id("b.png"): [], image_id("d.png"): ["y", "x"]}
    response = api.post(f"{address}/corrections", json={"labels": labels})
    assert [tuple(row.values()) for row in rows_of(response)] == [
        ("a.png", "x|y", "train", "2.0"),
        ("b.png", "", "train", "1.0"),
        ("c.png", "x", "train", "0.5"),
        ("d.png", "y|x", "val", "1.0"),
    ]
    (folder / "corrected.csv").write_bytes(response.content)
    assert counts(api, "tagged/corrected.csv") == {"train": {"x": 2, "y": 1}, "val": {"x": 1, "y": 1}}


def test_every_wrong_label_is_named(api, photos, report):
    photos("named", SPLIT)
    address = report(answers(["val/ants/1.png"]), dataset={"path": "named"})
    mine = image_id("val/ants/1.png")
    for labels, codes in (
        ({mine: "wasps", image_id("x"): "ants"}, ["unknown_class", "unknown_image"]),
        ({mine: ["ants", "bees"]}, ["one_label"]),
        ({mine: []}, ["one_label"]),
        ({mine: 3}, None),
        ({}, ["too_short"]),
        ({f"img_{number}": "ants" for number in range(10_001)}, ["too_long"]),
        ({image_id(file): "ants" for file in SPLIT if "val/bees" in file}, ["class_without_images"]),
    ):
        response = api.post(f"{address}/corrections", json={"labels": labels})
        assert response.status_code == 422, response.text
        error = response.json()["error"]
        assert codes is None or [found["code"] for found in error["details"]] == codes
        assert error["param"].startswith("labels")
    bodies: tuple[object, ...] = ({}, [], "labels", {"labels": {mine: "ants"}, "more": 1})
    for body in bodies:
        assert api.post(f"{address}/corrections", json=body).status_code == 422


def test_a_dataset_that_is_gone_or_damaged_is_a_conflict(api, photos, report):
    files = ["a.png", "b.png", "c.png", "d.png"]
    rows = "".join(
        f"{file},{label},{split}\n"
        for file, label, split in zip(files, "xyxy", ("train", "train", "val", "val"), strict=True)
    )
    folder = photos("leaving-soon", files, f"path,label,split\n{rows}")
    said = OneLabel.of(["c.png"], ("x", "y"), torch.tensor([0]), torch.zeros(1, 2), 0.0)
    address = report(said, dataset={"path": "leaving-soon/labels.csv"})
    for change, code in (
        (lambda: (folder / "b.png").unlink(), "dataset_invalid"),
        (lambda: (folder / "labels.csv").unlink(), "dataset_gone"),
    ):
        change()
        response = api.post(f"{address}/corrections", json={"labels": {image_id("a.png"): "y"}})
        assert (response.status_code, response.json()["error"]["code"]) == (409, code), response.text


def test_a_key_that_only_reads_may_ask_for_corrections_and_a_strangers_may_not(
    finished, holder, owner, guarded
):
    job = finished(holder("submit", owner("zoo")))
    body = {"labels": {image_id("val/circle/val-000.png"): "square"}}
    address = f"/v1/jobs/{job}/report/corrections"
    assert holder("read", owner("zoo")).http.post(address, json=body).status_code == 200
    assert holder("submit", owner("farm")).http.post(address, json=body).status_code == 404
