import io
import logging
import sys

import pytest
import structlog

from app import logs

KEY = "thaw_" + "Zk9" * 15


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/v1/jobs/job_1", "/v1/jobs/job_1"),
        ("ants\nforged line", "ants\\nforged line"),
        ("\x1b[2Jgone\r", "\\x1b[2Jgone\\r"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("\ud800", "\\ud800"),
        (f"/v1/jobs/{KEY}?x", "/v1/jobs/thaw_…?x"),
        (f"Authorization: Bearer {KEY}", "Authorization: Bearer …"),
        ("authorization: basic dTpw", "authorization: basic …"),
        ("thaw_http_requests", "thaw_http_requests"),
    ],
)
def test_text_makes_no_line_and_steers_nothing_and_keys_are_left_out(text, shown):
    assert logs.plain(text) == shown


@pytest.fixture
def written(monkeypatch):
    """What is logged from now on."""
    before = structlog.get_config()
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    logs.configure()
    yield out
    structlog.configure(**before)


def test_every_event_is_one_line(written):
    log = structlog.get_logger()
    log.info(
        "request",
        path="/v1/\n2026 [info] forged",
        status=404,
        seconds=0.5,
        nothing=None,
        error=OSError("a\nb"),
    )
    log.info(f"asked for {KEY}\n2026 [info] forged", path=f"/v1/{KEY}")
    line, other = written.getvalue().splitlines()
    assert "\\n2026 [info] forged" in line
    assert "asked for thaw_…\\n2026" in other
    assert KEY not in other
    assert "404" in line


def test_a_traceback_has_its_lines_and_no_key(written):
    def fail():
        raise ValueError(f"cannot read {KEY}\x1b[2J")

    try:
        fail()
    except ValueError:
        structlog.get_logger().exception("request broke")
    text = written.getvalue()
    assert "ValueError: cannot read thaw_…\\x1b[2J" in text
    assert "test_logs.py" in text
    assert KEY not in text


def test_what_is_below_info_is_not_logged(written):
    structlog.get_logger().debug("noise")
    assert written.getvalue() == ""
    assert logging.INFO > logging.DEBUG
