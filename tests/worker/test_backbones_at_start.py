"""What a real worker says at its start about backbones that cannot be used, and that it works on."""

import os

import httpx
import pytest

JOB = {
    "dataset": {"path": "shapes"},
    "backbone": {"name": "zoo_net", "weights": None},
    "recipe": {"name": "joint", "epochs": 1},
    "batch_size": 8,
    "precision": "fp32",
}
ZOO = """
from finetune.backbones import backbone as register
from tiny_net import SMALL, TinyNet

@register(name="zoo_net", head="head", preprocessing=SMALL)
def backbone(classes):
    return TinyNet(classes)
"""
ENTRY_POINTS = """[thaw.backbones]
net = zoo:backbone
gone = zoo:gone
"""


@pytest.fixture
def house(make_house, draw_shapes):
    """A house where an installed package has two entry points, one of which leads nowhere."""
    house = make_house()
    draw_shapes(house.data / "shapes", train=4, val=2)
    packages = house.root / "packages"
    about = packages / "zoo-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    (packages / "zoo.py").write_text(ZOO)
    house.settings["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(packages), os.environ.get("PYTHONPATH")])
    )
    return house


def test_worker_and_server_name_at_start_what_fails_and_train_what_an_entry_point_registers(
    house, proc, until
):
    house.serve()
    worker = house.work()
    for name in ("server", "worker"):
        until(lambda name=name: "gone = zoo:gone" in house.log(name), 90, f"the {name} names the entry point")
        assert "no_such_module:backbone" in house.log(name)
        assert "No module named 'no_such_module'" in house.log(name)
        assert "net = zoo:backbone" not in house.log(name)
    assert not proc.has_torch(worker.pid)
    job = httpx.post(f"{house.url}/v1/jobs", json=JOB, trust_env=False, timeout=60).json()["id"]
    address = f"{house.url}/v1/jobs/{job}"
    ended = until(
        lambda: (
            (found := httpx.get(address, trust_env=False).json())["status"] in ("succeeded", "failed")
            and found
        ),
        90,
        "the job has ended",
    )
    assert ended["status"] == "succeeded", ended["error"]


def test_backbone_that_ends_the_process_does_not_take_the_worker_down(make_house, until):
    house = make_house(backbones="deadly:backbone")
    (house.root / "deadly.py").write_text("import os; os._exit(3)")
    worker = house.work()
    until(lambda: "a backbone cannot be used" in house.log("worker"), 90, "the worker says it")
    until(lambda: "worker started" in house.log("worker"), 30, "the worker works")
    assert worker.poll() is None
    worker.terminate()
    assert worker.wait(30) == 0
