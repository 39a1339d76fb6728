import hashlib
import random

import pytest

from client.api import ThawClient
from client.errors import AnswerUnreadable, DownloadBroken, DownloadCorrupt, NotFound, Unreachable

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(200_000)
PATH = "/v1/jobs/job_1/checkpoints/best/download"


def ranges(api):
    return [request.headers.get("range") for request in api.requests]


def test_a_file_arrives_whole_under_the_servers_name(api, client, tmp_path):
    api.on("GET", PATH, api.file(CONTENT, name="job_1-best.safetensors"))
    seen = []
    path = client.download("job_1", "best", tmp_path, lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "job_1-best.safetensors"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_file_arrives_under_the_name_that_is_asked_for(api, client, tmp_path):
    api.on("GET", PATH, api.file(CONTENT))
    path = client.download("job_1", "best", tmp_path / "mine.safetensors")
    assert path == tmp_path / "mine.safetensors"
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "..\\..\\evil", ".evil"])
def test_the_servers_name_cannot_leave_the_folder(api, client, tmp_path, name):
    api.on("GET", PATH, api.file(CONTENT, name=name))
    assert client.download("job_1", "best", tmp_path) == tmp_path / "evil"


@pytest.mark.parametrize("name", ["..", ""])
def test_a_server_that_gives_no_name_gets_a_plain_one(api, client, tmp_path, name):
    api.on("GET", PATH, api.file(CONTENT, name=name))
    assert client.download("job_1", "best", tmp_path) == tmp_path / "checkpoint.safetensors"


def test_a_connection_that_breaks_is_continued_where_it_broke(api, client, tmp_path):
    serve = api.file(CONTENT)
    half = len(CONTENT) // 2
    api.on("GET", PATH, serve, api.broken(serve, half), serve)
    path = client.download("job_1", "best", tmp_path)
    assert path.read_bytes() == CONTENT
    assert ranges(api) == ["bytes=0-0", None, f"bytes={half}-"]
    assert api.requests[2].headers["if-range"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'


def test_a_connection_may_break_any_number_of_times_while_it_brings_something(api, client, tmp_path):
    api.on("GET", PATH, api.broken(api.file(CONTENT), 40_000))
    assert client.download("job_1", "best", tmp_path).read_bytes() == CONTENT
    assert len(api.requests) == 1 + 8


def test_a_connection_that_brings_nothing_is_given_up_and_its_part_kept(api, client, tmp_path):
    serve = api.file(CONTENT)
    api.on("GET", PATH, serve, api.broken(serve, 1000), api.broken(serve, 0))
    with pytest.raises(DownloadBroken, match="1000 bytes") as caught:
        client.download("job_1", "best", tmp_path)
    assert caught.value.part.read_bytes() == CONTENT[:1000]
    api.on("GET", PATH, serve)
    assert client.download("job_1", "best", tmp_path).read_bytes() == CONTENT
    assert ranges(api)[-1] == "bytes=1000-"


def test_a_file_that_changes_on_the_way_is_begun_again(api, client, tmp_path):
    before, after = api.file(CONTENT), api.file(OTHER)
    api.on("GET", PATH, before, api.broken(before, 250_000), after)
    assert client.download("job_1", "best", tmp_path).read_bytes() == OTHER


def test_the_part_of_another_file_is_noticed(api, client, tmp_path):
    (tmp_path / "model.safetensors.part").write_bytes(OTHER[:1000])
    api.on("GET", PATH, api.file(CONTENT))
    assert client.download("job_1", "best", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more"])
def test_a_part_that_is_as_long_as_the_file_or_longer_is_no_trap(api, client, tmp_path, left):
    (tmp_path / "model.safetensors.part").write_bytes(left)
    api.on("GET", PATH, api.file(CONTENT))
    assert client.download("job_1", "best", tmp_path).read_bytes() == CONTENT


def test_a_server_without_ranges_is_read_from_the_start(api, client, tmp_path):
    serve = api.file(CONTENT, ranges=False)
    api.on("GET", PATH, serve, api.broken(serve, 100_000), serve)
    assert client.download("job_1", "best", tmp_path).read_bytes() == CONTENT


def test_wrong_bytes_are_removed_and_the_old_file_stays(api, client, tmp_path):
    target = tmp_path / "model.safetensors"
    target.write_bytes(b"old")
    api.on("GET", PATH, api.file(OTHER, etag=f'"{hashlib.sha256(CONTENT).hexdigest()}"'))
    with pytest.raises(DownloadCorrupt, match="SHA-256"):
        client.download("job_1", "best", target)
    assert [found.name for found in tmp_path.iterdir()] == ["model.safetensors"]
    assert target.read_bytes() == b"old"


def test_an_answer_that_starts_elsewhere_is_not_written(api, client, tmp_path):
    serve = api.file(CONTENT)

    def elsewhere(request):
        reply = serve(request)
        return api.Reply(reply.body, 206, reply.headers | {"Content-Range": f"bytes 7-8/{len(CONTENT)}"})

    api.on("GET", PATH, serve, api.broken(serve, 1000), elsewhere)
    with pytest.raises(AnswerUnreadable, match="from 1000 on"):
        client.download("job_1", "best", tmp_path)


def test_a_file_without_a_checksum_is_not_taken(api, client, tmp_path):
    api.on("GET", PATH, api.file(CONTENT, etag='"v1"'))
    with pytest.raises(AnswerUnreadable, match="ETag"):
        client.download("job_1", "best", tmp_path)


def test_a_checkpoint_that_is_not_there_leaves_nothing_behind(api, client, tmp_path):
    with pytest.raises(NotFound):
        client.download("job_1", "best", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_unreachable(nobody, tmp_path):
    with ThawClient(nobody) as client, pytest.raises(Unreachable):
        client.download("job_1", "best", tmp_path)
