"""Files of users: where they are opened, what they may lead to, and by whom they are decoded."""

import io
import os
import shutil

import httpx
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

CONFINED = pytest.mark.promise("No path and no link leads a job or the server to a file outside its root")
NORM = dict.fromkeys(("1.weight", "1.bias", "1.running_mean", "1.running_var"), (12,))
TENSORS = {  # of a tiny network for three classes
    **{f"{block}.{name}": shape for block in ("stem", "body") for name, shape in NORM.items()},
    "stem.0.weight": (12, 3, 3, 3),
    "body.0.weight": (12, 12, 3, 3),
    "head.weight": (3, 12),
    "head.bias": (3,),
}
# Notes by which process each image is decoded. Python loads it at its start, where it finds it.
WATCH = """
import os
import sys


class Finder:
    def find_spec(self, name, path, target=None):
        if name == "finetune.data.opening":
            sys.meta_path.remove(self)
            from PIL import Image

            opened = Image.open

            def noted(*arguments, **options):
                with open(os.environ["WHO_DECODES"], "a") as file:
                    file.write(f"{os.getpid()}\\n")
                return opened(*arguments, **options)

            Image.open = noted
        return None


sys.meta_path.insert(0, Finder())
"""


@pytest.fixture(scope="module")
def house(make_house, draw_shapes, make_spec):
    """A house whose processes note when they decode an image, with jobs submitted before a worker runs.

    Of what three of them name, something was then replaced by a link to a secret outside: `links` has them.
    """
    house = make_house()
    secret = house.root / "secret"
    for folder in (secret, house.data / "shapes", house.data / "moved", house.data / "one"):
        draw_shapes(folder, train=4, val=2)
    for folder in (secret, house.weights):
        save_file(
            {name: np.ones(shape, "float32") for name, shape in TENSORS.items()}, folder / "own.safetensors"
        )
    (house.root / "sitecustomize.py").write_text(WATCH)
    house.settings["PYTHONPATH"] = os.pathsep.join([str(house.root), os.environ.get("PYTHONPATH", "")])
    house.settings["WHO_DECODES"] = house.root / "decoders"
    house.server = house.serve()
    with httpx.Client(base_url=house.url, trust_env=False, timeout=120) as house.client:

        def submit(**changes):
            spec = make_spec(**changes)
            response = house.client.post("/v1/jobs", json={**spec, "stages": spec["stages"][:1]})
            assert response.status_code == 201, response.text
            return response.json()["id"]

        weights = {"backbone": {"name": "tiny_net", "weights": {"file": "own.safetensors"}}}
        house.job = submit(priority=1)
        house.links = {
            "dataset": submit(dataset={"path": "moved"}),
            "image": submit(dataset={"path": "one"}),
            "weights": submit(**weights),
        }
        shutil.rmtree(house.data / "moved")
        (house.data / "moved").symlink_to(secret)
        image = "train/square/train-001.png"
        for file, target in (
            (house.data / "one" / image, secret / image),
            (house.weights / "own.safetensors", secret / "own.safetensors"),
        ):
            file.unlink()
            file.symlink_to(target)
        house.refused = house.client.post("/v1/jobs", json=make_spec(**weights))
        yield house


@pytest.fixture
def end(house, until):
    """Waits for a job's end and gives the job."""

    def wait(job):
        def ended():
            found = house.client.get(f"/v1/jobs/{job}").json()
            assert str(house.root) not in str(found["error"])
            return found["status"] in ("succeeded", "failed") and found

        return until(ended, 120, "the job has ended")

    return wait


@pytest.mark.promise(
    "Images are decoded by an attempt's process or one beside the server, never by the server"
)
def test_the_server_decodes_nothing(house, make_spec, end):
    def decoders():
        file = house.root / "decoders"
        found = file.read_text().split() if file.exists() else []
        file.unlink(missing_ok=True)
        return {int(pid) for pid in found}

    client = house.client
    assert client.post("/v1/jobs/plan", json=make_spec()).status_code == 200
    assert client.get("/v1/datasets").status_code == 200
    assert decoders() == set()
    worker = house.work()
    assert end(house.job)["status"] == "succeeded"
    for job in house.links.values():
        end(job)
    trained = decoders()
    assert client.get("/v1/datasets/shapes", params={"wait": 60}).json()["check"]["status"] == "done"
    content = io.BytesIO()
    Image.new("RGB", (24, 24), "red").save(content, "PNG")
    assert client.post(f"/v1/jobs/{house.job}/predict", content=content.getvalue()).status_code == 200
    predicted = decoders()
    exported = client.get(f"/v1/jobs/{house.job}/checkpoints/best/download", params={"format": "torch"})
    assert exported.status_code == 200, exported.text
    compared = decoders()
    assert client.get(f"/v1/jobs/{house.job}/report").status_code == 200
    assert decoders() == set()
    assert trained
    assert len(predicted) == len(compared) == 1
    assert not (trained | predicted | compared) & {house.server.pid, worker.pid}


@CONFINED
@pytest.mark.parametrize(
    ("what", "code"), [("dataset", "dataset_not_found"), ("weights", "weights_not_found")]
)
def test_what_became_a_link_is_not_followed_out_by_the_worker(house, end, what, code):
    """After `test_the_server_decodes_nothing`, which starts the worker."""
    found = end(house.links[what])
    assert (found["status"], found["error"]["code"]) == ("failed", code)


@CONFINED
def test_an_image_that_became_a_link_is_left_out_by_the_worker(house, end):
    assert end(house.links["image"])["status"] == "succeeded"
    counts = house.client.get("/v1/datasets/one").json()["counts"]
    assert counts["train"] == {"circle": 4, "square": 3, "triangle": 4}


@CONFINED
def test_what_is_a_link_out_is_refused_as_if_it_were_not_there(house):
    assert house.refused.status_code == 422
    (problem,) = house.refused.json()["error"]["details"]
    assert problem["param"] == "backbone.weights.file"
    assert "there is no weights file 'own.safetensors'" in problem["message"]
