"""A disk that is really full: a file system in memory, in a mount namespace of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
MOUNT = 'mount -t tmpfs -o size=80m none "$0" && exec "$@"'
INSIDE = Path(__file__).with_name("small_disk.py")


@pytest.mark.promise("A full disk is named with the room that is needed, and the database can still say so")
def test_on_a_small_disk_a_job_fails_by_name_and_the_next_one_runs_when_there_is_room(tmp_path):
    try:
        subprocess.run([*UNSHARE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets nobody mount a file system of their own")
    pytest_itself = [sys.executable, "-m", "pytest", "-q", "--basetemp", tmp_path / "tests", INSIDE]
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", MOUNT, tmp_path, *pytest_itself],
        env={**os.environ, "PYTEST_ADDOPTS": "-p no:cacheprovider"},
        cwd=INSIDE.parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
