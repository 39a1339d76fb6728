import json
import signal
import zipfile

import pytest

from client.dataset_tables import MOST_FILES
from client.errors import Refused, Unreachable, UploadBroken

ZOO = "/v1/datasets/zoo"


@pytest.fixture
def make_dataset():
    def make(status="done", **fields):
        check = {"status": status, "done": 3, "total": 10, "checked_at": 1_700_000_000, "message": None}
        return {
            "object": "dataset",
            "name": "zoo",
            "classes": ["ants", "bees"],
            "multi_label": False,
            "counts": {"train": {"ants": 124, "bees": 121}, "val": {"ants": 70, "bees": 83}},
            "images": 398,
            "sizes": {"smallest": [120, 98], "median": [500, 375], "largest": [2048, 1536]},
            "problems": [],
            "fingerprint": "5f6a",
            "check": check,
        } | fields

    return make


def problem(kind="unreadable", severity="error", files=("train/ants/1.jpg",), count=1):
    message = f"{count} files are {kind}: mend them"
    return {"kind": kind, "severity": severity, "message": message, "files": list(files), "count": count}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "zoo" / "ants").mkdir(parents=True)
    (tmp_path / "zoo" / "ants" / "1.jpg").write_text("an ant")
    return tmp_path / "zoo"


def test_datasets_are_a_table(api, thaw, make_dataset):
    broken = make_dataset(name="broken", classes=[], counts={"train": {}}, problems=[problem("layout")])
    api.on("GET", "/v1/datasets", api.page(make_dataset(check=None), broken))
    lines = thaw("datasets").stdout.splitlines()
    assert lines[0].split() == ["dataset", "images", "splits", "classes", "problems"]
    assert lines[1].split("  ")[0] == "zoo"
    assert "train 245, val 153" in lines[1]
    assert "2: ants, bees" in lines[1]
    assert "1 files are layout: mend them" in lines[2]


def test_datasets_as_json_are_what_was_sent(api, thaw, make_dataset):
    api.on("GET", "/v1/datasets", api.page(make_dataset(check=None)))
    assert json.loads(thaw("datasets", "--json").stdout) == [make_dataset(check=None)]


def test_a_sound_dataset_is_shown_with_its_classes(api, thaw, make_dataset):
    api.on("GET", ZOO, make_dataset())
    result = thaw("dataset", "zoo")
    assert result.exit_code == 0
    assert "zoo: 398 images, 2 classes, one label an image" in result.stdout
    assert "sizes: 120×98 to 2048×1536, the median 500×375 pixels" in result.stdout
    assert "fingerprint: 5f6a" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["class", "train", "val"] in rows
    assert ["bees", "121", "83"] in rows
    assert result.stdout.splitlines()[-1] == "no problems found"


def test_a_check_is_waited_for(api, thaw, make_dataset):
    running = make_dataset("running", sizes=None, fingerprint=None)
    api.on("GET", ZOO, running, running, make_dataset())
    assert thaw("dataset", "zoo").exit_code == 0
    assert [request.query for request in api.requests] == [{"wait": ["1.0"]}] * 3


def test_errors_are_listed_with_their_files_and_end_with_1(api, thaw, make_dataset):
    many = [f"val/bees/{n}.jpg" for n in range(100)]
    found = make_dataset(problems=[problem("leak", "warning", many, 250), problem()])
    api.on("GET", ZOO, found)
    result = thaw("dataset", "zoo")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    at = lines.index("1 error, 1 warning")
    assert lines[at + 1 : at + 5] == [
        "error: 1 files are unreadable: mend them (unreadable)",
        "  train/ants/1.jpg",
        "warning: 250 files are leak: mend them (leak)",
        "  val/bees/0.jpg",
    ]
    assert lines[-1] == f"  and {250 - MOST_FILES} more"


def test_warnings_end_with_0(api, thaw, make_dataset):
    api.on("GET", ZOO, make_dataset(problems=[problem("tiny_class", "warning", (), 2)]))
    assert thaw("dataset", "zoo").exit_code == 0


def test_a_dataset_as_json_is_what_was_sent(api, thaw, make_dataset):
    api.on("GET", ZOO, make_dataset(problems=[problem()]))
    result = thaw("dataset", "zoo", "--json")
    assert json.loads(result.stdout) == make_dataset(problems=[problem()])
    assert result.exit_code == 1


def test_a_check_that_failed_is_no_success(api, thaw, make_dataset):
    check = {"status": "failed", "done": 0, "total": None, "checked_at": None, "message": "it broke"}
    api.on("GET", ZOO, make_dataset(check=check))
    result = thaw("dataset", "zoo")
    assert result.exit_code == 1
    assert "the files could not be checked: it broke" in result.stdout


def test_names_from_the_server_cannot_steer_the_terminal(api, thaw, make_dataset):
    api.on("GET", ZOO, make_dataset(problems=[problem(files=["\x1b[2J.jpg"])], classes=["\x1b[1m"]))
    assert "\x1b" not in thaw("dataset", "zoo").stdout


def test_a_dataset_in_a_folder_is_asked_for_by_its_whole_name(api, thaw, make_dataset):
    api.on("GET", "/v1/datasets/zoo%2Fsmall", make_dataset(name="zoo/small"))
    assert "zoo/small: 398 images" in thaw("dataset", "zoo/small").stdout


def test_ctrl_c_leaves_the_check_running(api, start, make_dataset, until):
    api.on("GET", ZOO, make_dataset("running"))
    process = start("dataset", "zoo")
    until(lambda: len(api.requests) > 1, what="it waits")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr == "the check goes on; `thaw dataset zoo` shows what it finds\n"


# ---- upload


def test_an_upload_prints_the_name_alone_and_says_what_is_wrong_beside_it(api, thaw, folder, make_dataset):
    api.on("PUT", ZOO, api.Reply(make_dataset("running"), 201))
    api.on("GET", ZOO, make_dataset("running"), make_dataset(problems=[problem()]))
    result = thaw("upload", "zoo", str(folder))
    assert (result.exit_code, result.stdout) == (0, "zoo\n")
    assert result.stderr.splitlines() == [
        "1 error",
        "error: 1 files are unreadable: mend them (unreadable)",
        "  train/ants/1.jpg",
    ]
    sent = api.requests[0]
    assert (sent.headers["content-type"], sent.query) == ("application/zip", {})


def test_an_archive_is_sent_with_its_length(api, client, tmp_path, make_dataset):
    with zipfile.ZipFile(tmp_path / "zoo.zip", "w") as archive:
        archive.writestr("a/1.jpg", b"x")
    api.on("PUT", ZOO, api.Reply(make_dataset(), 201))
    assert client.upload("zoo", tmp_path / "zoo.zip").name == "zoo"
    assert api.requests[0].body == (tmp_path / "zoo.zip").read_bytes()
    assert api.requests[0].headers["content-length"] == str(len(api.requests[0].body))


def test_replacing_has_to_be_said(api, thaw, folder, make_dataset):
    api.on("PUT", ZOO, api.refusal(409, "there is a dataset 'zoo' already: --replace", "name"))
    result = thaw("upload", "zoo", str(folder))
    assert result.exit_code == 1
    assert "there is a dataset 'zoo' already" in result.stderr
    assert "--replace" in result.stderr
    api.on("PUT", ZOO, make_dataset())
    api.on("GET", ZOO, make_dataset())
    assert thaw("upload", "zoo", str(folder), "--replace").exit_code == 0
    assert api.requests[1].query == {"replace": ["true"]}


def test_a_refusal_is_the_servers(api, client, folder):
    api.on("PUT", ZOO, api.refusal(422, "'../x' leads out", None, "archive_invalid"))
    with pytest.raises(Refused, match="leads out") as caught:
        client.upload("zoo", folder)
    assert caught.value.exit_code == 2


def test_a_connection_that_breaks_says_that_nothing_is_left(api, client, folder):
    api.on("PUT", ZOO, api.Reply(b'{"name": "zoo"}', 201, cut_after=5))
    with pytest.raises(UploadBroken, match="nothing of 'zoo' is left there") as caught:
        client.upload("zoo", folder)
    assert caught.value.exit_code == 4


def test_a_server_that_is_not_there_gets_nothing(nobody, thaw, folder):
    result = thaw("upload", "zoo", str(folder), url=nobody)
    assert result.exit_code == 4
    assert "start one with `thaw up`" in result.stderr
    assert Unreachable(nobody).exit_code == 4


def test_a_folder_that_is_not_there_is_said_before_anybody_is_asked(api, thaw, tmp_path):
    result = thaw("upload", "zoo", str(tmp_path / "absent"))
    assert (result.exit_code, api.requests) == (2, [])
    assert "is not there" in result.stderr
