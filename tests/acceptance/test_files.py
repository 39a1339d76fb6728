"""Files of users: where they are opened, what they may lead to, and by whom they are decoded."""

import io
import shutil

import httpx
import pytest
from PIL import Image

CONFINED = pytest.mark.promise("No path and no link leads a job or the server to a file outside its root")
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
def watched(make_house, draw_shapes):
    """A house whose processes note when they decode an image."""
    house = make_house()
    draw_shapes(house.data / "shapes", train=4, val=2)
    (house.root / "sitecustomize.py").write_text(WATCH)
    house.settings["PYTHONPATH"] = house.root
    house.settings["WHO_DECODES"] = house.root / "decoders"
    house.server = house.serve()
    house.worker = house.work()
    return house


@pytest.mark.promise(
    "Images are decoded in an attempt's process or in one beside the server, never in the server"
)
def test_the_server_decodes_nothing(watched, make_spec, until):
    with httpx.Client(base_url=watched.url, trust_env=False, timeout=120) as client:

        def decoders():
            file = watched.root / "decoders"
            found = file.read_text().split() if file.exists() else []
            file.unlink(missing_ok=True)
            return {int(pid) for pid in found}

        spec = make_spec()
        spec["stages"] = spec["stages"][:1]
        assert client.post("/v1/jobs/plan", json=spec).status_code == 200
        assert decoders() == set()
        job = client.post("/v1/jobs", json=spec).json()["id"]
        until(
            lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "succeeded",
            120,
            "the job has succeeded",
        )
        (trained,) = decoders()
        assert client.get("/v1/datasets/shapes", params={"wait": 60}).json()["check"]["status"] == "done"
        content = io.BytesIO()
        Image.new("RGB", (24, 24), "red").save(content, "PNG")
        assert client.post(f"/v1/jobs/{job}/predict", content=content.getvalue()).status_code == 200
        (predicted,) = decoders()
        exported = client.get(f"/v1/jobs/{job}/checkpoints/best/download", params={"format": "torch"})
        assert exported.status_code == 200, exported.text
        (compared,) = decoders()
        assert client.get(f"/v1/jobs/{job}/report").status_code == 200
        assert decoders() == set()
    processes = {trained, predicted, compared}
    assert len(processes) == 3
    assert not processes & {watched.server.pid, watched.worker.pid}


@pytest.fixture
def late(make_house, draw_shapes, make_spec, ended):
    """A house without a worker yet: `submit` a job, change what it names, then let it `run`."""
    from client.api import ThawClient

    house = make_house()
    house.secret = house.root / "secret"
    draw_shapes(house.secret, train=4, val=2)
    draw_shapes(house.data / "shapes", train=4, val=2)
    house.serve()
    with ThawClient(house.url) as client:
        house.submit = lambda **changes: client.submit(make_spec(**changes)).id

        def run(job):
            house.work()
            found = ended(client, job)
            assert str(house.root) not in (found.error.message if found.error else "")
            return found

        house.end = run
        yield house


@CONFINED
def test_a_dataset_that_became_a_link_is_not_followed_out_by_the_worker(late):
    job = late.submit()
    shutil.rmtree(late.data / "shapes")
    (late.data / "shapes").symlink_to(late.secret)
    found = late.end(job)
    assert (found.status, found.error.code) == ("failed", "dataset_not_found")


@CONFINED
def test_an_image_that_became_a_link_is_not_followed_out_by_the_worker(late):
    job = late.submit()
    name = "train/square/train-001.png"
    (late.data / "shapes" / name).unlink()
    (late.data / "shapes" / name).symlink_to(late.secret / name)
    found = late.end(job)
    assert found.status == "succeeded"  # links that lead out of the data root are left out, as by the plan
    report = httpx.get(f"{late.url}/v1/datasets/shapes", trust_env=False, timeout=60).json()
    assert report["counts"]["train"]["square"] == 3


@CONFINED
def test_a_weights_file_that_became_a_link_is_not_followed_out_by_the_worker(late, tmp_path):
    first = late.submit()
    assert late.end(first).status == "succeeded"
    content = httpx.get(f"{late.url}/v1/jobs/{first}/checkpoints/best/download", trust_env=False).content
    (late.secret / "own.safetensors").write_bytes(content)
    (late.weights / "own.safetensors").write_bytes(content)
    (late.weights / "alias.safetensors").symlink_to("own.safetensors")
    assert late.end(late.submit(backbone=weights("alias"))).status == "succeeded"
    (late.weights / "leaving.safetensors").symlink_to(late.secret / "own.safetensors")
    refused = httpx.post(
        f"{late.url}/v1/jobs/plan", json={"backbone": weights("leaving")}, trust_env=False
    ).json()
    (problem,) = [one for one in refused["error"]["details"] if one["param"] == "backbone.weights.file"]
    assert "there is no weights file 'leaving.safetensors'" in problem["message"]


def weights(name):
    return {"name": "tiny_net", "weights": {"file": f"{name}.safetensors"}}
