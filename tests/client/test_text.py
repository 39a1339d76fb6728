import pytest

from client.text import one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines\t here ", "two lines here"),
        ("\x1b[2Jgone\x07", "\ufffd[2Jgone\ufffd"),
        ("für 蟻", "für 蟻"),
    ],
)
def test_text_is_one_line_that_steers_no_terminal(text, line):
    assert one_line(text) == line
