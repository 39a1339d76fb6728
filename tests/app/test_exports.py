"""Exports over HTTP: a real server with its exporter, and jobs that a real worker has trained."""

import hashlib
import io
import json
import os
import signal
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from client.api import ThawClient
from client.errors import NotFound, Refused
from client.models import Format

ODD_NETS = """
import os
import time
from pathlib import Path

import torch
from tiny_net import SMALL, TinyNet, register


class Choosy(TinyNet):
    def forward(self, images):
        answers = super().forward(images)
        return answers if self.training or answers.sum() > 100 else answers * 2


class Patient(TinyNet):
    def forward(self, images):
        if torch.compiler.is_exporting():
            Path("exporting").write_text(str(os.getpid()))
            while Path("hold").exists():
                time.sleep(0.02)
        return super().forward(images)


@register(name="choosy", head="head", preprocessing=SMALL)
def choosy(classes):
    return Choosy(classes)


@register(name="patient", head="head", preprocessing=SMALL)
def patient(classes):
    return Patient(classes)
"""
STAGE = {"epochs": 2, "lr": {"schedule": {"name": "constant", "lr": 0.1}}}


@pytest.fixture(scope="module")
def house(make_house, draw_shapes):
    house = make_house(backbones="tiny_net:backbone,odd_nets:choosy,odd_nets:patient")
    (house.root / "odd_nets.py").write_text(ODD_NETS)
    draw_shapes(house.data / "shapes", train=4, val=3, size=37)
    house.server = house.serve()
    house.work()
    return house


@pytest.fixture(scope="module")
def client(house):
    with ThawClient(house.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def train(client, until):
    """Trains a network; gives the job's ID."""

    def run(backbone="tiny_net"):
        spec = {
            "dataset": {"path": "shapes"},
            "backbone": {"name": backbone, "weights": None},
            "stages": [STAGE],
            "batch_size": 8,
            "precision": "fp32",
        }
        submitted = client.submit(spec).id
        job = until(lambda: (job := client.job(submitted)).ended and job, 90, "the job has ended")
        assert job.status == "succeeded", job.error
        return job.id

    return run


@pytest.fixture(scope="module")
def job(train):
    return train()


@pytest.fixture(scope="module")
def get(house):
    """Asks for an export, and waits as long as it takes."""

    def ask(job, checkpoint="best", method="GET", headers=None, **params):
        address = f"{house.url}/v1/jobs/{job}/checkpoints/{checkpoint}/download"
        answer = httpx.request(method, address, params=params, headers=headers, timeout=120, trust_env=False)
        for secret in (str(house.root), "Traceback", str(Path(__file__).parents[2])):
            assert answer.status_code < 400 or secret not in answer.text
        return answer

    return ask


@pytest.fixture
def hold(house, train, until):
    """A job of a network whose export waits until it is released; killing it is possible meanwhile."""

    class Held:
        job = train("patient")

        @property
        def checkpoint(self):
            with ThawClient(house.url) as opened:
                return next(c.id for c in opened.checkpoints(self.job) if c.best)

        @property
        def folder(self):
            return house.artifacts / self.job / "exports"

        def pid(self):
            text = until(lambda: marker.is_file() and marker.read_text(), 90, "the export has begun")
            marker.unlink()
            return int(text)

        def release(self):
            gate.unlink(missing_ok=True)

    gate, marker = house.root / "hold", house.root / "exporting"
    marker.unlink(missing_ok=True)
    gate.touch()
    yield Held()
    gate.unlink(missing_ok=True)


def refused(answer, status, code):
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    return error["message"]


@pytest.mark.parametrize(
    ("params", "files"),
    [
        ({"format": "safetensors"}, "model.safetensors"),
        ({"format": "torch"}, "model.pt"),
        ({"format": "onnx"}, "model.onnx"),
        ({"format": "onnx", "preprocessing": "true"}, "model.onnx"),
        ({"format": "exported"}, "model.pt2"),
        ({"format": "exported", "preprocessing": "true"}, "model.pt2"),
    ],
)
def test_each_format_is_a_zip_with_model_card_and_facts_and_stands_at_its_checkpoint(
    get, client, job, params, files
):
    answer = get(job, **params)
    assert answer.status_code == 200, answer.text
    key = params["format"] + ("+preprocessing" if "preprocessing" in params else "")
    (best,) = [checkpoint for checkpoint in client.checkpoints(job) if checkpoint.best]
    export = best.exports[key]
    assert export.sha256 == hashlib.sha256(answer.content).hexdigest()
    assert (export.size, export.images) == (len(answer.content), 9)
    assert 0 <= export.largest_difference < 1e-4
    assert not hasattr(export, "path")
    assert answer.headers["ETag"] == f'"{export.sha256}"'
    assert answer.headers["Content-Type"] == "application/zip"
    name = f"{job}-epoch-{best.global_epoch}-{key.replace('+', '-')}.zip"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as bundle:
        assert bundle.namelist() == [files, "README.md", "model.json"]
        told = json.loads(bundle.read("model.json"))
        assert told["comparison"]["largest_difference"] == export.largest_difference
        assert (told["job"], told["checkpoint"]) == (job, best.id)
        card = bundle.read("README.md").decode()
        assert f"`{best.id}`, epoch {best.global_epoch} (stage stage\\-1), the best" in card
        assert '"batch_size": 8' in card


def test_download_without_a_format_is_the_bare_checkpoint_as_before(get, client, job):
    (best,) = [checkpoint for checkpoint in client.checkpoints(job) if checkpoint.best]
    answer = get(job)
    assert hashlib.sha256(answer.content).hexdigest() == best.sha256
    assert answer.headers["Content-Type"] == "application/octet-stream"


def test_export_that_is_there_is_sent_again_whole_in_parts_or_not_at_all(get, house, job):
    first = get(job, format="torch")
    (path,) = (house.artifacts / job / "exports").glob("*-torch.zip")
    made = path.stat().st_mtime_ns
    etag = first.headers["ETag"]
    assert get(job, format="torch").content == first.content
    part = get(job, format="torch", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, first.content[10:20])
    assert get(job, format="torch", headers={"If-None-Match": etag}).status_code == 304
    head = get(job, method="HEAD", format="torch")
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", etag)
    assert get(job, format="torch", headers={"Range": "bytes=99999999-"}).status_code == 416
    assert path.stat().st_mtime_ns == made


@pytest.mark.parametrize("harm", ["gone", "half"])
def test_export_whose_file_is_gone_or_cut_short_is_made_anew(get, house, job, harm):
    before = get(job, format="safetensors").content
    (path,) = (house.artifacts / job / "exports").glob("*-safetensors.zip")
    path.unlink() if harm == "gone" else path.write_bytes(before[:100])
    assert get(job, format="safetensors").content == before


@pytest.mark.parametrize("format_", ["safetensors", "torch", None])
def test_preprocessing_needs_a_graph_that_it_can_go_into(get, job, format_):
    params = {"format": format_} if format_ else {}
    message = refused(get(job, preprocessing="true", **params), 422, "preprocessing_unfit")
    assert "onnx or exported" in message


def test_unknown_formats_jobs_and_checkpoints_are_refused(get, job):
    assert get(job, format="tflite").status_code == 422
    assert get(job, format="onnx", preprocessing="perhaps").status_code == 422
    assert get(job, "ckpt_none", format="onnx").status_code == 404
    assert get("job_none", format="onnx").status_code == 404


def test_network_that_is_no_graph_is_refused_with_torch_s_reason(get, house, train):
    choosy = train("choosy")
    message = refused(get(choosy, format="onnx"), 409, "export_failed")
    assert "data-dependent" in message
    assert list((house.artifacts / choosy / "exports").iterdir()) == []
    assert get(choosy, format="torch").status_code == 200


def test_export_is_not_made_where_nothing_is_left_to_prove_it_with(get, house, train):
    lone = train()
    (house.data / "shapes").rename(house.data / "elsewhere")
    try:
        message = refused(get(lone, format="torch"), 409, "dataset_gone")
        assert "there is no dataset 'shapes'" in message
    finally:
        (house.data / "elsewhere").rename(house.data / "shapes")
    assert get(lone, format="torch").status_code == 200


def test_one_export_that_many_ask_for_is_made_once_and_others_are_served_meanwhile(get, house, hold):
    with ThreadPoolExecutor(50) as pool:
        asking = [pool.submit(get, hold.job, format="onnx") for _ in range(50)]
        hold.pid()
        # More wait than the server has threads, and yet it answers.
        assert httpx.get(f"{house.url}/v1/jobs/{hold.job}", trust_env=False, timeout=20).status_code == 200
        hold.release()
        answers = [future.result() for future in asking]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["ETag"] for answer in answers}) == 1
    made = [line for line in house.log("server").splitlines() if "exported" in line and hold.job in line]
    assert len(made) == 1


def test_exporter_that_is_killed_in_the_middle_is_started_anew_and_the_request_answered(get, hold):
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(get, hold.job, format="onnx")
        killed = hold.pid()
        hold.release()
        os.kill(killed, signal.SIGKILL)
        assert asking.result().status_code == 200
        assert hold.pid() != killed
    assert [path.name for path in hold.folder.iterdir()] == [f"{hold.checkpoint}-onnx.zip"]


def test_exporter_that_is_killed_each_time_leaves_no_half_file_and_the_next_request_works(get, hold):
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(get, hold.job, format="exported")
        for _ in range(2):
            os.kill(hold.pid(), signal.SIGKILL)
        answer = asking.result()
    refused(answer, 503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert list(hold.folder.iterdir()) == []
    hold.release()
    assert get(hold.job, format="exported").status_code == 200


def test_checkpoint_that_is_deleted_while_it_is_exported_leaves_no_file(get, client, house, hold):
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(get, hold.job, format="onnx")
        hold.pid()
        client.delete(hold.job)
        hold.release()
        refused(asking.result(), 404, "not_found")
    assert not list((house.artifacts / hold.job).rglob("*.*"))


def test_command_downloads_an_export_and_says_its_name(house, job, tmp_path):
    done = house.run(
        sys.executable, "-m", "client", "download", job, "--format", "onnx", "--preprocessing", "-o", tmp_path
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    assert done.stdout == f"{path}\n"
    assert zipfile.ZipFile(path).testzip() is None


def test_client_raises_the_server_s_refusals(client, job, tmp_path):
    with pytest.raises(Refused, match="onnx or exported"):
        client.download(job, "best", tmp_path, format=Format.TORCH, preprocessing=True)
    with pytest.raises(NotFound):
        client.download(job, "ckpt_none", tmp_path, format=Format.TORCH)
    assert list(tmp_path.iterdir()) == []


def test_server_that_is_stopped_does_not_wait_for_an_export(get, house, hold):
    def ask():
        try:
            get(hold.job, format="onnx")
        except httpx.HTTPError:
            return

    asking = threading.Thread(target=ask)
    asking.start()
    exporter = hold.pid()
    house.server.terminate()
    assert house.server.wait(60) is not None
    asking.join(60)
    assert not Path(f"/proc/{exporter}").exists()
