import pytest

from client.api import ThawClient
from client.errors import KeyUnusable
from client.keys import read_key

KEY = "thaw_" + "a" * 49
PAGE = {"object": "list", "data": [], "has_more": False}


@pytest.fixture
def listed(api):
    """Answers `thaw jobs`; gives the header that came with it."""
    api.on("GET", "/v1/jobs", PAGE)
    return lambda: api.requests[-1].headers.get("authorization")


@pytest.fixture
def key_file(tmp_path):
    def write(content=f"{KEY}\n", mode=0o600):
        file = tmp_path / "key"
        file.write_text(content)
        file.chmod(mode)
        return file

    return write


def test_a_client_sends_its_key(api, listed):
    with ThawClient(api.url, key=KEY) as client:
        client.jobs()
        assert listed() == f"Bearer {KEY}"


def test_a_download_and_a_stream_have_the_key_too(api, make_job, tmp_path):
    api.on("GET", "/v1/jobs/job_1/checkpoints/best/download", api.file(b"weights"))
    api.on("GET", "/v1/jobs/job_1/events", api.Reply(b"\n", headers={"Content-Type": "text/event-stream"}))
    api.on("GET", "/v1/jobs/job_1", make_job("succeeded"))
    with ThawClient(api.url, key=KEY) as client:
        client.download("job_1", "best", tmp_path)
        with pytest.raises(Exception, match="did not answer"):
            list(client.stream_events("job_1"))
    assert len(api.requests) > 2
    assert {request.headers.get("authorization") for request in api.requests} == {f"Bearer {KEY}"}


def test_without_a_key_none_is_sent(thaw, listed):
    assert thaw("jobs").exit_code == 0
    assert listed() is None


@pytest.mark.parametrize("name", ["THAW_API_KEY", "--key"])
def test_the_key_comes_from_the_environment_or_the_command_line(thaw, listed, name):
    given = {"env": {name: KEY}} if name.startswith("THAW") else {}
    arguments = [] if given else [name, KEY]
    assert thaw(*arguments, "jobs", **given).exit_code == 0
    assert listed() == f"Bearer {KEY}"


@pytest.mark.parametrize("name", ["THAW_API_KEY_FILE", "--key-file"])
def test_the_key_comes_from_a_file(thaw, listed, key_file, name):
    file = str(key_file())
    given = {"env": {name: file}} if name.startswith("THAW") else {}
    arguments = [] if given else [name, file]
    assert thaw(*arguments, "jobs", **given).exit_code == 0
    assert listed() == f"Bearer {KEY}"


def test_an_empty_variable_is_no_key(thaw, listed):
    assert thaw("jobs", env={"THAW_API_KEY": ""}).exit_code == 0
    assert listed() is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
def test_a_key_file_that_others_can_read_is_not_used(thaw, api, key_file, mode):
    ended = thaw("--key-file", str(key_file(mode=mode)), "jobs")
    assert ended.exit_code == 2
    assert "chmod 600" in ended.output
    assert KEY not in ended.output
    assert api.requests == []


@pytest.mark.parametrize("content", ["", "secret", f"{KEY}\n{KEY}", f"key={KEY}", "\x00", "thaw_ä"])
def test_a_file_without_a_key_is_told_and_not_repeated(key_file, content):
    with pytest.raises(KeyUnusable, match="holds no key") as refused:
        read_key(key_file(content))
    assert not content or content not in str(refused.value)


def test_a_key_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(KeyUnusable, match="cannot be read: No such file"):
        read_key(tmp_path / "key")


@pytest.mark.parametrize("wrong", ["sk-other", "thaw_\r\nHost: x", "thaw_ä", "thaw_ 1", f"Bearer {KEY}"])
def test_what_has_not_the_form_of_a_key_is_not_sent_and_not_repeated(thaw, api, wrong):
    ended = thaw("--key", wrong, "jobs")
    assert ended.exit_code == 2
    assert "that is no key" in ended.output
    assert wrong not in ended.output
    assert api.requests == []


def test_help_does_not_show_the_key_of_the_environment(thaw):
    shown = thaw("--help", env={"THAW_API_KEY": KEY})
    assert "THAW_API_KEY" in shown.output
    assert KEY not in shown.output


def test_a_server_that_demands_a_key_is_told_in_its_own_words(thaw, api):
    api.on("GET", "/v1/jobs", api.refusal(401, "this server demands a key: …", code="key_missing"))
    ended = thaw("jobs")
    assert ended.exit_code == 1
    assert "this server demands a key" in ended.output
