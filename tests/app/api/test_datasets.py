"""Datasets and the check of their files, made by a real checker beside a real server."""

import concurrent.futures
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from PIL import Image


@pytest.fixture
def folder(house, draw_shapes) -> Iterator[Path]:
    """A dataset of the test's own."""
    made: Path = draw_shapes(house.data / f"own-{uuid4().hex}", train=3, val=2)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def checked(api, until) -> Callable[[str], dict[str, Any]]:
    """Asks until the check has ended, and what was kept of an earlier one is old."""

    def look(name: str) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            answer: dict[str, Any] = api.get(f"/v1/datasets/{name}").json()
            return None if answer["check"]["status"] == "running" else answer

        time.sleep(1.1)  # for so long an answer is given again
        found: dict[str, Any] = until(ended, 60, "the check has ended")
        return found

    return look


@pytest.fixture
def checkers(house, proc) -> Callable[[], list[int]]:
    """The processes beside the server. The other one is multiprocessing's own."""

    def find() -> list[int]:
        found = []
        for pid in proc.descendants(house.server.pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    return find


def test_a_sound_dataset_is_described_whole(api, checked, folder):
    answer = checked(folder.name)
    assert answer | {"fingerprint": None, "check": None} == {
        "object": "dataset",
        "name": folder.name,
        "classes": ["circle", "square", "triangle"],
        "multi_label": False,
        "counts": {
            "train": {"circle": 3, "square": 3, "triangle": 3},
            "val": {"circle": 2, "square": 2, "triangle": 2},
        },
        "images": 15,
        "sizes": {"smallest": [24, 24], "median": [24, 24], "largest": [24, 24]},
        "problems": answer["problems"],
        "fingerprint": None,
        "check": None,
    }
    assert [problem for problem in answer["problems"] if problem["severity"] == "error"] == []
    assert answer["fingerprint"]
    check = answer["check"]
    assert (check["status"], check["done"], check["total"], check["message"]) == ("done", 15, 15, None)
    assert abs(check["checked_at"] - time.time()) < 60


def test_a_list_is_not_checked(api, folder):
    rows = {row["name"]: row for row in api.get("/v1/datasets").json()["data"]}
    assert (rows[folder.name]["check"], rows[folder.name]["sizes"], rows[folder.name]["problems"]) == (
        None,
        None,
        [],
    )


def test_a_second_check_names_a_file_that_was_damaged_since(checked, folder):
    before = checked(folder.name)
    path = folder / "train" / "square" / "train-001.png"
    path.write_bytes(path.read_bytes()[:100])
    after = checked(folder.name)
    (problem,) = [problem for problem in after["problems"] if problem["severity"] == "error"]
    assert (problem["files"], problem["count"]) == (["train/square/train-001.png"], 1)
    assert after["fingerprint"] != before["fingerprint"]


def test_layout_problems_are_there_before_and_after_the_check(api, checked):
    first = api.get("/v1/datasets/one_class", params={"wait": 0}).json()
    last = checked("one_class")
    for answer in (first, last):
        assert any("one class only" in problem["message"] for problem in answer["problems"])
        assert {"kind", "severity", "message", "files", "count"} == set(answer["problems"][0])


def test_a_manifest_is_checked_like_a_folder(api, checked, folder):
    rows = "".join(
        f"train/{label}/train-00{n}.png,{label}\n" for label in ("circle", "square") for n in range(3)
    )
    (folder / "labels.csv").write_text(f"path,label\n{rows}")
    (folder / "train" / "circle" / "train-000.png").write_text("no image")
    answer = checked(f"{folder.name}/labels.csv")
    (problem,) = [problem for problem in answer["problems"] if problem["severity"] == "error"]
    assert problem["files"] == ["train/circle/train-000.png"]
    assert (answer["classes"], answer["images"]) == (["circle", "square"], 6)


def test_who_does_not_wait_gets_what_is_known_by_now(api, draw_shapes, house, until):
    made = draw_shapes(house.data / "many", train=200, val=100)
    answer = api.get("/v1/datasets/many", params={"wait": 0}).json()
    assert answer["images"] == 900
    assert answer["check"]["checked_at"] is None
    assert (answer["check"]["status"], answer["sizes"], answer["fingerprint"]) == ("running", None, None)
    until(lambda: api.get("/v1/datasets/many").json()["check"]["status"] == "done", 60)
    shutil.rmtree(made)


@pytest.mark.parametrize("wait", [-1, 61, "nan", "soon"])
def test_a_wait_that_is_none_is_refused(api, wait):
    response = api.get("/v1/datasets/shapes", params={"wait": wait})
    assert (response.status_code, response.json()["error"]["param"]) == (422, "wait")


def test_an_answer_that_has_not_changed_is_not_sent_again(api, checked, folder):
    checked(folder.name)
    first = api.get(f"/v1/datasets/{folder.name}")
    time.sleep(1.1)
    again = api.get(f"/v1/datasets/{folder.name}", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    Image.new("RGB", (9, 9)).save(folder / "train" / "circle" / "new.png")
    time.sleep(1.1)
    changed = api.get(f"/v1/datasets/{folder.name}", headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200
    assert changed.json()["sizes"]["smallest"] == [9, 9]


def test_many_who_ask_at_once_share_one_check(api, folder):
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: api.get(f"/v1/datasets/{folder.name}").json(), range(20)))
    assert {answer["check"]["status"] for answer in answers} == {"done"}
    assert len({answer["check"]["checked_at"] for answer in answers}) == 1


def test_needless_parts_of_a_name_change_nothing(api, checked, folder):
    name = checked(folder.name)["name"]
    assert api.get(f"/v1/datasets/{folder.name}/").json()["name"] == name
    assert api.get(f"/v1/datasets/{folder.name}//%2E").json()["name"] == name


def test_a_checker_that_dies_is_started_anew(api, checked, checkers, folder, until):
    checked(folder.name)
    killed = checkers()
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert checked(folder.name)["check"]["status"] == "done"
    assert not set(checkers()) & set(killed)


def test_a_check_that_cannot_be_made_is_said_to_have_failed_and_is_tried_again(
    api, checked, checkers, folder, until
):
    checked(folder.name)
    (pid,) = checkers()
    os.kill(pid, signal.SIGSTOP)  # so that it cannot answer before it dies
    time.sleep(1.1)
    assert api.get(f"/v1/datasets/{folder.name}?wait=0").json()["check"]["status"] == "running"
    os.kill(pid, signal.SIGKILL)
    follower = until(lambda: [other for other in checkers() if other != pid], 10)[0]
    os.kill(follower, signal.SIGKILL)
    answer = api.get(f"/v1/datasets/{folder.name}").json()
    assert answer["check"]["status"] == "failed"
    assert (
        answer["check"]["message"]
        == "the checker ended while it looked at the files. Asking again checks again"
    )
    assert answer["images"] == 15
    assert checked(folder.name)["check"]["status"] == "done"


def test_a_dataset_that_is_removed_is_not_found_again(api, house, draw_shapes):
    made = draw_shapes(house.data / "passing", train=1, val=1)
    assert api.get("/v1/datasets/passing").status_code == 200
    shutil.rmtree(made)
    time.sleep(1.1)
    assert api.get("/v1/datasets/passing").status_code == 404


def test_the_checker_loads_no_torch_and_ends_with_the_server(make_house, draw_shapes, proc, until):
    house = make_house()
    draw_shapes(house.data / "shapes", train=1, val=1)
    server = house.serve()
    assert httpx.get(f"{house.url}/v1/datasets/shapes", trust_env=False, timeout=60).is_success
    family = proc.descendants(server.pid)
    assert family
    assert not any(proc.has_torch(pid) for pid in family)
    server.kill()
    until(lambda: not any(proc.alive(pid) for pid in family), 10, "nothing is left of it")
