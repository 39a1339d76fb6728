from pathlib import Path

import pytest

from finetune.reasons import LONGEST, reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no\nmore"), "ValueError: no"),
        (ValueError("\n  \nsecond"), "ValueError: second"),
        (KeyError(), "KeyError: no message"),
        (OSError("cannot open '/srv/thaw/artifacts/job_1/x.zip'"), "OSError: cannot open 'x.zip'"),
        (ValueError("see https://example.org/a/b"), "ValueError: see https://example.org/a/b"),
        (ValueError("x" * 1000), f"ValueError: {'x' * LONGEST}"),
    ],
)
def test_a_reason_is_one_line_without_the_servers_folders(error, reason):
    assert reason_of(error) == reason


def test_paths_below_a_root_are_shown_from_there_on():
    error = ValueError("/srv/data/pets/train/a.jpg is odd")
    assert reason_of(error, [Path("/srv/data")]) == "ValueError: pets/train/a.jpg is odd"
