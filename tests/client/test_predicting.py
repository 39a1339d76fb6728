import json
import re

import pytest

from client import api as client_api
from client import predicting
from client.errors import NotFound, Refused, Unavailable
from client.predicting import Asker
from client.predictions import Prediction

PATH = "/v1/jobs/job_1/predict"


@pytest.fixture
def files(tmp_path):
    """Writes files with these contents, named after them."""

    def write(*contents):
        for content in contents:
            (tmp_path / f"{content}.jpg").write_text(content)
        return [tmp_path / f"{content}.jpg" for content in contents]

    return write


def sent(request):
    """The names and contents of the files in a form."""
    found = re.findall(
        rb'name="images"; filename="([^"]*)"\r\n[^\r]*\r\n\r\n(.*?)\r\n--', request.body, re.DOTALL
    )
    return [(name.decode(), content.decode()) for name, content in found]


def prediction(index, name, **fields):
    classes = [{"class": f"a {name}", "probability": 0.75}, {"class": "none", "probability": 0.25}]
    found = {"object": "prediction", "index": index, "file": name, "classes": classes, "labels": None}
    return found | {"embedding": None} | fields


def answer(request, **fields):
    """What a server says that finds in each image what its name is."""
    data = [prediction(index, name, **fields) for index, (name, _) in enumerate(sent(request))]
    seconds = {"decode": 0.1, "model": 0.2}
    about = {
        "job": "job_1",
        "checkpoint": "ckpt_7",
        "backbone": "tiny",
        "kind": "classes",
        "seconds": seconds,
    }
    return {"object": "list", "data": data, **about}


def refusing(api, *bad):
    """A server that refuses a request for the images with those contents."""

    def reply(request):
        found = [(n, name) for n, (name, content) in enumerate(sent(request)) if content in bad]
        details = [{"param": f"images.{n}", "message": f"{name} is bad", "code": "bad"} for n, name in found]
        return (
            api.refusal(422, "some are bad", details[0]["param"], "bad", details)
            if found
            else answer(request)
        )

    return reply


def test_files_are_sent_in_a_form_with_their_own_names_and_the_answer_is_read(api, client, files):
    api.on("POST", PATH, answer)
    found = client.predict("job_1", files("ant", "bee"), "last", 2)
    assert [(one.index, one.file) for one in found.data] == [(0, "ant.jpg"), (1, "bee.jpg")]
    assert [(c.name, c.probability) for c in found.data[1].classes] == [("a bee.jpg", 0.75), ("none", 0.25)]
    assert (found.job, found.checkpoint, found.kind) == ("job_1", "ckpt_7", "classes")
    (request,) = api.requests
    assert sent(request) == [("ant.jpg", "ant"), ("bee.jpg", "bee")]
    assert request.query == {"checkpoint": ["last"], "top": ["2"]}


@pytest.fixture
def pauses(monkeypatch):
    waited: list[float] = []
    monkeypatch.setattr("client.api.time.sleep", waited.append)
    return waited


def test_a_busy_server_is_asked_again_when_it_says(api, client, files, pauses):
    busy = api.refusal(503, "busy")
    replies = [api.Reply(busy.body, 503, {"Retry-After": wait}) for wait in ("2", "9999", "soon")]
    api.on("POST", PATH, *replies, answer)
    assert len(client.predict("job_1", files("ant")).data) == 1
    assert pauses == [2, client_api.LONGEST_PAUSE, 1]
    assert [sent(request) for request in api.requests] == [[("ant.jpg", "ant")]] * 4


def test_a_server_that_stays_busy_is_given_up(api, client, files, pauses):
    api.on("POST", PATH, api.Reply(api.refusal(503, "busy").body, 503, {"Retry-After": "3"}))
    with pytest.raises(Unavailable) as error:
        client.predict("job_1", files("ant"))
    assert error.value.retry_after == 3
    assert len(api.requests) == client_api.PREDICTION_TRIES == len(pauses) + 1


def contents(outcomes):
    return [(file.name, out if isinstance(out, str) else out.classes[0].name) for file, out in outcomes]


def test_many_files_are_sent_in_several_requests_of_one_checkpoint(api, client, files, monkeypatch):
    monkeypatch.setattr(predicting, "MOST_FILES", 2)
    api.on("POST", PATH, answer)
    outcomes = list(Asker(client, "job_1", "best", 5).outcomes(files(*"abcde")))
    assert contents(outcomes) == [(f"{name}.jpg", f"a {name}.jpg") for name in "abcde"]
    assert [len(sent(request)) for request in api.requests] == [2, 2, 1]
    asked = [request.query["checkpoint"] for request in api.requests]
    assert asked == [["best"], ["ckpt_7"], ["ckpt_7"]]


def test_a_request_has_no_more_bytes_than_it_may_and_a_larger_file_goes_alone(
    api, client, files, monkeypatch
):
    monkeypatch.setattr(predicting, "MOST_BYTES", 10)
    api.on("POST", PATH, answer)
    list(Asker(client, "job_1", "best", 5).outcomes(files("aaaa", "bbbbbb", "c" * 30, "d", "e")))
    names = [[content[0] for _, content in sent(request)] for request in api.requests]
    assert names == [["a", "b"], ["c"], ["d", "e"]]


def test_files_that_are_refused_or_cannot_be_opened_do_not_stop_the_others(api, client, files, tmp_path):
    api.on("POST", PATH, refusing(api, "x", "y"))
    absent, folder = tmp_path / "absent.jpg", tmp_path
    good = files("a", "x", "b", "y")
    outcomes = list(Asker(client, "job_1", "best", 5).outcomes([good[0], absent, *good[1:], folder]))
    assert contents(outcomes) == [
        ("a.jpg", "a a.jpg"),
        ("absent.jpg", "No such file or directory"),
        ("x.jpg", "x.jpg is bad"),
        ("b.jpg", "a b.jpg"),
        ("y.jpg", "y.jpg is bad"),
        (folder.name, "Is a directory"),
    ]
    assert [len(sent(request)) for request in api.requests] == [4, 2]


def test_where_every_file_is_refused_nothing_more_is_asked(api, client, files):
    api.on("POST", PATH, refusing(api, "x"))
    assert contents(Asker(client, "job_1", "best", 5).outcomes(files("x"))) == [("x.jpg", "x.jpg is bad")]
    assert len(api.requests) == 1


def test_a_request_that_is_too_long_is_halved_and_a_file_that_is_too_long_alone_is_named(api, client, files):
    def reply(request):
        size = sum(len(content) for _, content in sent(request))
        return api.refusal(413, "more than 4 bytes", "images") if size > 4 else answer(request)

    api.on("POST", PATH, reply)
    outcomes = Asker(client, "job_1", "best", 5).outcomes(files("aa", "bb", "ccccc", "d"))
    assert contents(outcomes) == [
        ("aa.jpg", "a aa.jpg"),
        ("bb.jpg", "a bb.jpg"),
        ("ccccc.jpg", "more than 4 bytes"),
        ("d.jpg", "a d.jpg"),
    ]


@pytest.mark.parametrize(
    ("status", "param", "error"), [(404, None, NotFound), (422, "top", Refused), (422, "images.9", Refused)]
)
def test_a_refusal_that_is_about_no_file_is_raised(api, client, files, status, param, error):
    api.on("POST", PATH, api.refusal(status, "no", param))
    with pytest.raises(error, match="no"):
        list(Asker(client, "job_1", "best", 5).outcomes(files("a")))


def test_the_table_has_a_row_for_each_file_and_class(api, thaw, files):
    api.on("POST", PATH, answer)
    result = thaw("predict", "job_1", *map(str, files("ant", "bee")), "--top", "2", "--checkpoint", "last")
    assert result.exit_code == 0
    head, *rows = [line.rsplit(maxsplit=1) for line in result.stdout.splitlines()]
    assert head[-1] == "probability"
    assert [row[-1] for row in rows] == ["0.7500", "0.2500", "0.7500", "0.2500"]
    assert [("ant.jpg" in row[0], "a ant.jpg" in row[0]) for row in rows][:2] == [(True, True), (True, False)]
    assert api.requests[0].query == {"checkpoint": ["last"], "top": ["2"]}


def test_labels_and_embeddings_have_tables_of_their_own(api, thaw, files):
    api.on("POST", PATH, lambda request: answer(request, labels=["wing", "leg"]))
    lines = thaw("predict", "job_1", *map(str, files("ant"))).stdout.splitlines()
    assert lines[0].split() == ["file", "labels", "class", "probability"]
    assert "wing, leg" in lines[1]
    api.on("POST", PATH, lambda request: answer(request, classes=None, embedding=[0.5, -1.0]))
    lines = thaw("predict", "job_1", *map(str, files("ant"))).stdout.splitlines()
    assert lines[0].split() == ["file", "embedding"]
    assert lines[1].endswith("2 numbers; --json prints them")


def test_json_is_a_list_with_each_file_as_it_was_given_and_its_place(api, thaw, files):
    api.on("POST", PATH, refusing(api, "x"))
    given = [str(file) for file in files("a", "x", "b")]
    result = thaw("predict", "job_1", *given, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == [
        prediction(0, "a.jpg") | {"file": given[0]},
        prediction(0, "b.jpg") | {"file": given[2], "index": 2},
    ]
    assert result.stderr == f"thaw: {given[1]}: x.jpg is bad\n"


def test_a_file_without_an_answer_is_one_line_and_exit_code_1(api, thaw, tmp_path):
    result = thaw("predict", "job_1", str(tmp_path / "absent.jpg"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"thaw: {tmp_path}/absent.jpg: No such file or directory\n"
    assert api.requests == []


def test_an_unknown_job_is_one_line(api, thaw, files):
    api.on("POST", PATH, api.refusal(404, "there is no job job_1"))
    result = thaw("predict", "job_1", *map(str, files("a")))
    assert (result.exit_code, result.stderr) == (1, "thaw: there is no job job_1\n")


def test_what_was_answered_before_the_server_went_away_is_printed(api, thaw, files, monkeypatch):
    monkeypatch.setattr(predicting, "MOST_FILES", 1)
    api.on("POST", PATH, answer, api.refusal(404, "there is no job job_1"))
    result = thaw("predict", "job_1", *map(str, files("a", "b")))
    assert (result.exit_code, result.stderr) == (1, "thaw: there is no job job_1\n")
    assert "a a.jpg" in result.stdout


def test_what_a_newer_server_adds_is_kept():
    found = Prediction.model_validate({"index": 0, "classes": [{"class": "a", "probability": 1, "why": "x"}]})
    assert json.loads(found.model_dump_json(exclude_unset=True))["classes"] == [
        {"class": "a", "probability": 1.0, "why": "x"}
    ]
