import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client import processes
from client.errors import ProcessFailed

OBEDIENT = """
import signal, sys, time
from pathlib import Path
def end(number, frame):
    Path(sys.argv[1] + ".ended").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, lambda *_: Path(sys.argv[1] + ".interrupted").touch())
Path(sys.argv[1] + ".up").touch()
time.sleep(60)
"""
DYING = """
import sys, time
from pathlib import Path
while not Path(sys.argv[1]).exists():
    time.sleep(0.01)
sys.exit(3)
"""
STUBBORN = """
import signal, subprocess, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
Path(sys.argv[1] + ".up").write_text(str(child.pid))
time.sleep(60)
"""
PARENT = """
import json, sys
from client.errors import ThawError
from client.processes import run_up
preparation, services, grace = json.loads(sys.argv[1])
try:
    run_up(preparation, services, grace)
except ThawError as error:
    sys.exit(str(error))
"""
NOTHING = [sys.executable, "-c", ""]


def python(code, *arguments):
    return [sys.executable, "-c", code, *(str(argument) for argument in arguments)]


def wait_for(path, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (path.exists() and (path.stat().st_size or not path.name.startswith("stubborn"))):
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.01)


def alive(pid):
    """Whether a process runs; one that has ended and waits for its parent to look does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def parent():
    """Starts `run_up` in a process of its own, as `thaw up` does."""
    started = []

    def start(preparation, services, grace=20.0):
        environment = os.environ | {"PYTHONPATH": str(processes.ROOT)}
        command = python(PARENT, json.dumps([preparation, services, grace]))
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_services_and_is_no_failure(parent, tmp_path, number):
    services = {name: python(OBEDIENT, tmp_path / name) for name in ("server", "worker")}
    process = parent(NOTHING, services)
    for name in services:
        wait_for(tmp_path / f"{name}.up")
    os.killpg(process.pid, number)  # as a terminal does: to the whole foreground group
    assert process.wait(timeout=20) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"server.up", "server.ended", "worker.up", "worker.ended"}


def test_a_service_that_dies_ends_the_other(tmp_path):
    services = {
        "server": python(OBEDIENT, tmp_path / "server"),
        "worker": python(DYING, tmp_path / "server.up"),
    }
    with pytest.raises(ProcessFailed, match="the worker ended with exit code 3; everything is stopped"):
        processes.run_up(NOTHING, services)
    assert (tmp_path / "server.ended").exists()


def test_a_service_that_is_killed_says_by_what(tmp_path):
    suicide = python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(ProcessFailed, match="the server was ended by signal 9"):
        processes.run_up(NOTHING, {"server": suicide})


def test_a_service_that_ends_well_has_ended_all_the_same():
    with pytest.raises(ProcessFailed, match="the server ended with exit code 0"):
        processes.run_up(NOTHING, {"server": NOTHING})


def test_a_service_that_does_not_obey_is_killed_with_its_children(parent, tmp_path):
    process = parent(NOTHING, {"worker": python(STUBBORN, tmp_path / "stubborn")}, grace=0.3)
    wait_for(tmp_path / "stubborn.up")
    grandchild = int((tmp_path / "stubborn.up").read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    deadline = time.monotonic() + 5
    while alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(grandchild)


def test_a_second_ctrl_c_does_not_wait_for_the_grace_time(parent, tmp_path):
    process = parent(NOTHING, {"worker": python(STUBBORN, tmp_path / "stubborn")}, grace=60)
    wait_for(tmp_path / "stubborn.up")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0


def test_services_do_not_start_after_a_failed_preparation(tmp_path):
    services = {"server": python(OBEDIENT, tmp_path / "server")}
    with pytest.raises(ProcessFailed, match="the preparation ended with exit code 5"):
        processes.run_up(python("raise SystemExit(5)"), services)
    assert list(tmp_path.iterdir()) == []


def test_a_signal_during_the_preparation_ends_it(parent, tmp_path):
    process = parent(
        python(OBEDIENT, tmp_path / "migration"), {"server": python(OBEDIENT, tmp_path / "server")}
    )
    wait_for(tmp_path / "migration.up")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    assert not (tmp_path / "server.up").exists()


def test_a_command_that_is_not_there_ends_what_runs_already(tmp_path):
    services = {"server": python(OBEDIENT, tmp_path / "server"), "worker": [str(tmp_path / "missing")]}
    with pytest.raises(ProcessFailed, match="the worker cannot be started: No such file"):
        processes.run_up(NOTHING, services)


def test_signals_mean_what_they_did_before_once_it_is_over():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ProcessFailed):
        processes.run_up(NOTHING, {"server": NOTHING})
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_folder_called_app_is_not_taken_for_the_server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert processes.module_command("app", "serve") == [sys.executable, "-P", "-m", "app", "serve"]
    monkeypatch.chdir(processes.ROOT)
    assert processes.module_command("worker") == [sys.executable, "-m", "worker"]


def test_a_migration_that_fails_is_told():
    processes.migrate(NOTHING)
    with pytest.raises(ProcessFailed, match="exit code 2"):
        processes.migrate(python("raise SystemExit(2)"))
