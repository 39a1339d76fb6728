"""Uploads to a real server: after each that fails, the data root holds exactly what it held."""

import concurrent.futures
import io
import os
import random
import shutil
import socket
import stat
import struct
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

CURL = shutil.which("curl")
LARGEST = 100 * 2**20


def zipped(content: dict[str, bytes], method: int = zipfile.ZIP_STORED, mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in content.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data, method)
    return buffer.getvalue()


def held(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, hidden or not."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def yard(make_house, draw_shapes):
    house = make_house(upload_bytes=LARGEST, upload_files=200)
    draw_shapes(house.data / "shapes", train=3, val=2)
    house.server = house.serve()
    return house


@pytest.fixture(scope="module")
def web(yard) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=yard.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def images(draw_shapes, tmp_path_factory) -> dict[str, bytes]:
    """A sound dataset's files by their names in an archive."""
    folder = draw_shapes(tmp_path_factory.mktemp("images"), train=3, val=2)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.png"))}


@pytest.fixture
def unchanged(yard) -> Iterator[None]:
    """Sees to it that a test leaves the data root as it was."""
    before = held(yard.data)
    yield
    assert held(yard.data) == before


@pytest.fixture
def put(yard, web) -> Iterator[Callable[..., httpx.Response]]:
    """Uploads; what has been made is removed after the test."""
    there = {path.name for path in yard.data.iterdir()}

    def send(name: str, content: Any, **params: Any) -> httpx.Response:
        answer: httpx.Response = web.put(f"/v1/datasets/{name}", content=content, params=params)
        return answer

    yield send
    for path in yard.data.iterdir():
        if path.name not in there:
            shutil.rmtree(path)


def refused(response: httpx.Response, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    message: str = error["message"]
    return message


def open_half(yard, name: str, content: bytes) -> socket.socket:
    """A connection over which half of an archive has been sent."""
    opened = socket.create_connection(("127.0.0.1", yard.port))
    head = f"PUT /v1/datasets/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    opened.sendall(head.encode() + content[: len(content) // 2])
    return opened


def test_an_archive_becomes_a_dataset_as_it_is(put, yard, images):
    answer = put("sent", zipped(images))
    assert answer.status_code == 201, answer.text
    assert (answer.json()["name"], answer.json()["images"]) == ("sent", 15)
    assert answer.json()["check"]["status"] in ("running", "done")
    found = held(yard.data / "sent")
    assert {name: data for name, data in found.items() if data is not None} == images
    assert not [path.name for path in yard.data.iterdir() if path.name.startswith(".")]


def test_an_uploaded_dataset_is_listed_and_trained_on(put, web, images):
    put("sent", zipped({f"my images/{name}": data for name, data in images.items()}))
    rows = {row["name"]: row for row in web.get("/v1/datasets").json()["data"]}
    assert rows["sent"]["counts"] == rows["shapes"]["counts"]
    spec = {"dataset": {"path": "sent"}, "backbone": {"name": "tiny_net", "weights": None}}
    planned = web.post("/v1/jobs/plan", json=spec | {"recipe": {"name": "joint", "epochs": 1}})
    assert planned.json()["images"] == {"train": 9, "val": 6}


def test_a_body_of_unknown_length_is_taken(put, images):
    content = zipped(images)
    chunks = (content[start : start + 1000] for start in range(0, len(content), 1000))
    assert put("sent", chunks).status_code == 201


@pytest.mark.usefixtures("unchanged")
def test_a_dataset_is_not_overwritten_by_accident(put, images):
    message = refused(put("shapes", zipped(images)), 409, "dataset_exists")
    assert message.startswith("there is a dataset 'shapes' already: take another name, or replace it")


def test_a_dataset_is_replaced_where_that_is_said(put, web, yard, images):
    assert put("sent", zipped(images), replace=True).status_code == 201
    assert web.get("/v1/datasets/sent").json()["images"] == 15
    fewer = {name: data for name, data in images.items() if "triangle" not in name}
    answer = put("sent", zipped(fewer), replace=True)
    assert answer.status_code == 200
    assert answer.json()["classes"] == ["circle", "square"]
    assert web.get("/v1/datasets/sent").json()["images"] == 10
    assert {name for name, data in held(yard.data / "sent").items() if data is not None} == set(fewer)


def test_a_replacement_that_is_no_archive_leaves_the_old_dataset(put, yard, images):
    put("sent", zipped(images))
    before = held(yard.data)
    refused(put("sent", b"no archive", replace=True), 422, "archive_invalid")
    assert held(yard.data) == before


LINK, DEVICE = stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o666


def bomb_of_overlaps() -> bytes:
    """A hundred names for the same packed bytes."""
    archive = zipped({"a/00.bmp": bytes(10 * 2**20)}, zipfile.ZIP_DEFLATED)
    start, end = archive.index(b"PK\x01\x02"), archive.index(b"PK\x05\x06")
    many = b"".join(archive[start:end].replace(b"a/00", f"a/{n:02}".encode()) for n in range(100))
    return (
        archive[:start]
        + many
        + archive[end : end + 8]
        + struct.pack("<HHI", 100, 100, len(many))
        + archive[end + 16 :]
    )


def with_crc_error() -> bytes:
    return zipped({"a/1.jpg": b"one of the images", "b/2.jpg": b"other"}).replace(
        b"one of the", b"one of tho", 1
    )


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (lambda: zipped({"a/1.bmp": bytes(90 * 2**20)}, zipfile.ZIP_DEFLATED), 413, "as only a bomb does"),
        (bomb_of_overlaps, 422, "overlap"),
        (lambda: zipped({f"a/{n}": b"" for n in range(201)}), 413, "more than 200 files and folders"),
        (lambda: zipped({f"a/{n}": b"" for n in range(3000)}), 413, "more than 1,400 entries"),
        (lambda: zipped({"a/1.jpg": b"1", "../evil.jpg": b"2"}), 422, "'../evil.jpg' leads out"),
        (lambda: zipped({"/evil.jpg": b"2"}), 422, "begins at a root"),
        (lambda: zipped({"..\\evil.jpg": b"2"}), 422, "backslash"),
        (lambda: zipped({"a/passwd": b"/etc/passwd"}, mode=LINK), 422, "'a/passwd' is a symbolic link"),
        (lambda: zipped({"a/null": b""}, mode=DEVICE), 422, "'a/null' is a device"),
        (lambda: zipped({"a/1.jpg": bytes(1000)})[:-30], 422, "no whole zip archive"),
        (with_crc_error, 422, "'a/1.jpg' is damaged: Bad CRC-32"),
        (lambda: b"no archive", 422, "no whole zip archive"),
        (lambda: b"", 422, "no whole zip archive"),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_what_cannot_be_taken_is_refused_by_name_and_leaves_nothing_behind(put, content, status, reason):
    code = "archive_invalid" if status == 422 else "archive_too_large"
    assert reason in refused(put("sent", content()), status, code)


@pytest.mark.usefixtures("unchanged")
def test_a_name_that_climbs_leaves_nothing_behind(put, images):
    for name in ("%2e%2e%2fevil", "..%2Fevil", "a%2Fb", ".hidden", "x" * 101, "a%00"):
        refused(put(name, zipped(images)), 422, "dataset_name")


@pytest.mark.usefixtures("unchanged")
def test_a_length_above_the_limit_is_refused_before_a_byte_is_sent(yard):
    with closing(socket.create_connection(("127.0.0.1", yard.port), timeout=10)) as opened:
        head = f"PUT /v1/datasets/sent HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LARGEST + 1}\r\n\r\n"
        opened.sendall(head.encode())
        assert opened.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.usefixtures("unchanged")
def test_a_refusal_reaches_a_client_that_sends_on(put, yard):
    """The answer to a taken name comes with the first byte; the client has sent no more than that by then."""
    content = os.urandom(30 * 2**20)
    refused(put("shapes", content), 409, "dataset_exists")


@pytest.mark.usefixtures("unchanged")
def test_an_upload_that_is_broken_off_at_half_leaves_nothing_behind(yard, web, until):
    opened = open_half(yard, "half", zipped({"a/1.jpg": random.Random(0).randbytes(5_000_000)}))
    until(lambda: (yard.data / ".upload-half" / "archive.zip").exists(), what="the upload has begun")
    assert "half" not in [row["name"] for row in web.get("/v1/datasets").json()["data"]]
    opened.close()
    until(lambda: not (yard.data / ".upload-half").exists(), what="nothing is left")


@pytest.mark.usefixtures("unchanged")
def test_a_name_on_its_way_is_taken_and_is_free_when_it_is_given_up(yard, put, until, images):
    opened = open_half(yard, "both", zipped({"a/1.jpg": random.Random(0).randbytes(5_000_000)}))
    until(lambda: (yard.data / ".upload-both" / "archive.zip").exists(), what="the upload has begun")
    message = refused(put("both", zipped(images)), 409, "dataset_exists")
    assert message == "a dataset 'both' is being uploaded already"
    opened.close()
    until(lambda: not (yard.data / ".upload-both").exists(), what="nothing is left")
    assert put("both", zipped(images)).status_code == 201
    shutil.rmtree(yard.data / "both")


def test_of_many_at_once_one_wins(put, yard, images):
    content = zipped(images)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: put("sent", content), range(8)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201, *[409] * 7]
    assert {name for name, data in held(yard.data / "sent").items() if data is not None} == set(images)


def test_replacements_at_once_leave_one_whole_dataset(put, yard, images):
    variants = [
        {name: data + bytes(number) for name, data in images.items() if "val" in name} for number in range(6)
    ]
    put("sent", zipped(images))
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda one: put("sent", zipped(one), replace=True), variants))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert {name: data for name, data in held(yard.data / "sent").items() if data is not None} in variants


@pytest.mark.usefixtures("unchanged")
def test_a_server_that_is_killed_at_half_leaves_nothing_once_it_is_back(yard, web, until):
    content = zipped({"a/1.jpg": random.Random(0).randbytes(5_000_000)})
    opened = open_half(yard, "killed", content)
    left = yard.data / ".upload-killed"
    until(lambda: (left / "archive.zip").exists() and (left / "archive.zip").stat().st_size > 2_000_000)
    yard.server.kill()
    yard.server.wait()
    opened.close()
    assert left.exists()
    yard.server = yard.serve()
    until(lambda: not left.exists(), what="the leftovers are removed")
    assert "killed" not in [row["name"] for row in web.get("/v1/datasets").json()["data"]]


@pytest.mark.usefixtures("unchanged")
def test_a_server_that_ends_at_half_leaves_nothing(yard, until):
    opened = open_half(yard, "ended", zipped({"a/1.jpg": random.Random(0).randbytes(5_000_000)}))
    until(lambda: (yard.data / ".upload-ended" / "archive.zip").exists(), what="the upload has begun")
    yard.server.terminate()
    yard.server.wait(30)
    opened.close()
    assert not (yard.data / ".upload-ended").exists()
    yard.server = yard.serve()


def test_the_server_answers_while_it_unpacks(put, web):
    files = {f"a/{n}.jpg": os.urandom(400_000) for n in range(100)}
    content = zipped(files, zipfile.ZIP_DEFLATED)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        sent = pool.submit(put, "sent", content)
        answered = 0
        while not sent.done():
            answered += web.get("/healthz").is_success
            time.sleep(0.01)
    assert sent.result().status_code == 201
    assert answered > 3


@pytest.mark.skipif(CURL is None, reason="there is no curl")
def test_curl_uploads_a_file(put, yard, images, tmp_path):
    (tmp_path / "sent.zip").write_bytes(zipped(images) + b"")
    large = zipped(
        images | {"train/circle/large.png": os.urandom(3_000_000)}
    )  # curl waits for a 100 above 1 MB
    (tmp_path / "large.zip").write_bytes(large)
    for name in ("sent", "large"):
        status = curl("-T", tmp_path / f"{name}.zip", f"{yard.url}/v1/datasets/{name}")
        assert status == "201", name
        assert (yard.data / name / "train" / "circle").is_dir()


@pytest.mark.skipif(CURL is None, reason="there is no curl")
@pytest.mark.usefixtures("unchanged")
def test_curl_that_waits_for_a_yes_sends_nothing_after_a_no(yard, tmp_path):
    (tmp_path / "large.zip").write_bytes(os.urandom(5_000_000))
    patient = ("-H", "Expect: 100-continue", "--expect100-timeout", "30", "-w", "%{http_code} %{size_upload}")
    said = curl(*patient, "-T", tmp_path / "large.zip", f"{yard.url}/v1/datasets/shapes")
    assert said == "409 0"


def curl(*arguments: object) -> str:
    command = ["curl", "-s", "--noproxy", "*", "-o", os.devnull, "-w", "%{http_code}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_nothing_of_all_this_broke_the_server(yard):
    assert "request broke" not in yard.log("server")
    assert "status=500" not in yard.log("server")
