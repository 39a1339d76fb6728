import time

import httpx
import pytest


def test_backbones_are_torchvision_s_and_the_operator_s(api):
    page = api.get("/v1/backbones").json()
    rows = {row["name"]: row for row in page["data"]}
    assert next(iter(rows)) == "tiny_net"  # the operator's first
    tiny, resnet = rows["tiny_net"], rows["resnet18"]
    assert (tiny["source"], tiny["weights"], tiny["head"], tiny["image_size"]) == (
        "registered",
        [],
        ["head"],
        16,
    )
    assert tiny["parameters"] == 12 * 27 + 24 + 12 * 108 + 24 + 13 * 1000
    assert (resnet["source"], resnet["weights"], resnet["head"]) == ("torchvision", ["IMAGENET1K_V1"], ["fc"])
    assert (resnet["parameters"], resnet["image_size"]) == (11_689_512, 224)
    assert len(rows) > 70
    assert not page["has_more"]


def test_backbones_of_timm_are_listed_without_being_built(api):
    api.get("/v1/backbones")  # the first one waits until torch and timm are loaded
    begun = time.monotonic()
    rows = {row["name"]: row for row in api.get("/v1/backbones").json()["data"]}
    assert time.monotonic() - begun < 5
    assert len(rows) > 1000
    row = rows["timm/resnet50"]
    assert (row["source"], row["parameters"], row["head"], row["problem"]) == ("timm", None, ["fc"], None)
    assert "a1_in1k" in row["weights"]


def test_datasets_are_the_folders_below_the_data_root(api):
    rows = {row["name"]: row for row in api.get("/v1/datasets").json()["data"]}
    assert {"shapes", "one_class"} <= set(rows)
    assert rows["shapes"] == {
        "object": "dataset",
        "name": "shapes",
        "classes": ["circle", "square", "triangle"],
        "multi_label": False,
        "counts": {
            "train": {"circle": 3, "square": 3, "triangle": 3},
            "val": {"circle": 2, "square": 2, "triangle": 2},
        },
        "images": 15,
        "sizes": None,
        "problems": [],
        "fingerprint": None,
        "check": None,
    }
    assert any("one class only" in problem["message"] for problem in rows["one_class"]["problems"])


def test_link_out_of_the_data_root_is_no_dataset(api):
    page = api.get("/v1/datasets")
    assert page.status_code == 200
    assert "leaving" not in [row["name"] for row in page.json()["data"]]


@pytest.mark.parametrize(
    "name",
    ["absent", "leaving", "%2e%2e/outside", "shapes/%2e%2e/%2e%2e/outside", "%2Fetc", "%00", "x" * 5000],
)
def test_absent_and_outside_datasets_get_the_same_answer(api, name):
    response = api.get(f"/v1/datasets/{name}")
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("not_found", "name")
    assert error["message"].startswith("there is no dataset ")
    assert "below the data root; " in error["message"]


def test_unknown_dataset_names_the_closest(api):
    assert "did you mean 'shapes'?" in api.get("/v1/datasets/shape").json()["error"]["message"]


def test_dataset_in_a_folder_of_folders_is_found(api, house, draw_shapes):
    draw_shapes(house.data / "zoo" / "small", train=1, val=1)
    answer = api.get("/v1/datasets/zoo/small").json()
    assert (answer["name"], answer["images"]) == ("zoo/small", 6)


def test_backbone_that_cannot_be_loaded_is_left_out_and_told_to_the_operator(api, house):
    assert api.get("/v1/backbones").status_code == 200
    assert "no_such_module:backbone" in house.log("server")
    assert "No module named 'no_such_module'" in house.log("server")


def test_backbone_that_cannot_be_built_breaks_no_answer(make_house, draw_shapes):
    house = make_house()
    draw_shapes(house.data / "shapes", train=1, val=1)
    house.settings["TINY_CANNOT_BE_BUILT"] = 1
    house.serve()
    with httpx.Client(base_url=house.url, trust_env=False, timeout=60) as client:
        names = [row["name"] for row in client.get("/v1/backbones").json()["data"]]
        assert "tiny_net" in names
        assert "tiny_unbuildable" not in names
        stage = {"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.1}}}
        spec = {"dataset": {"path": "shapes"}, "stages": [stage]}
        refused = client.post(
            "/v1/jobs", json=spec | {"backbone": {"name": "tiny_unbuildable", "weights": None}}
        )
        assert refused.status_code == 422
        assert refused.json()["error"]["param"] == "backbone.name"
        assert client.post(
            "/v1/jobs", json=spec | {"backbone": {"name": "tiny_net", "weights": None}}
        ).is_success
