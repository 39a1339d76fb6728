import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial

import pytest

from app.store import controls
from app.store.attempts import heartbeat, release
from app.store.database import Database, tell_followers, tell_workers
from app.store.doorbells import Doorbell, ring
from app.store.errors import TransitionRefused
from app.store.jobs import create_job
from app.store.leases import lose, sweep

LISTEN = """
import sys, time
from pathlib import Path
from app.store.doorbells import Doorbell
bell = Doorbell(Path(sys.argv[1]), "gone")
print("listens", flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "doorbells"


@pytest.fixture
def hang(folder):
    hung = []

    def hang(name="worker"):
        hung.append(Doorbell(folder, name))
        return hung[-1]

    yield hang
    for bell in hung:
        bell.take_down()


@pytest.fixture
def bell(hang):
    return hang()


@pytest.fixture
def db(url, folder):
    """A server's database, which rings after what is of interest to workers."""
    db = Database(url, on_news=partial(ring, folder))
    yield db
    db.dispose()


def test_ring_reaches_every_worker_and_counts_once(hang, folder):
    bells = [hang("one"), hang("two")]
    assert [bell.has_rung() for bell in bells] == [False, False]
    ring(folder)
    ring(folder)
    assert [bell.has_rung() for bell in bells] == [True, True]
    assert [bell.has_rung() for bell in bells] == [False, False]


def test_waiting_ends_with_a_ring(bell, folder):
    threading.Timer(0.1, ring, [folder]).start()
    bell.wait(60)
    assert bell.has_rung()


def test_ring_that_came_before_is_not_waited_for(bell, folder):
    ring(folder)
    bell.wait(60)
    assert bell.has_rung()


def test_waiting_ends_without_a_ring(bell):
    bell.wait(0.01)
    assert not bell.has_rung()


def test_worker_rings_its_own_bell(bell):
    bell.ring()
    assert bell.has_rung()


def test_worker_that_does_not_look_holds_nobody_up(bell, folder):
    for _ in range(70_000):  # more than a pipe holds
        bell.ring()
    ring(folder)
    assert bell.has_rung()


def test_folder_that_is_not_there_is_no_error(tmp_path):
    ring(tmp_path / "nowhere")


def test_bell_that_is_taken_down_leaves_no_file_and_may_be_rung(folder):
    bell = Doorbell(folder, "worker")
    bell.take_down()
    assert list(folder.iterdir()) == []
    bell.ring()
    ring(folder)


def test_file_of_a_worker_that_was_killed_is_removed_and_the_others_are_reached(bell, folder):
    process = subprocess.Popen([sys.executable, "-c", LISTEN, folder], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"listens\n"
    assert sorted(path.name for path in folder.iterdir()) == ["gone", "worker"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    ring(folder)
    assert [path.name for path in folder.iterdir()] == ["worker"]
    assert bell.has_rung()


def test_what_is_no_pipe_keeps_nobody_from_being_reached(bell, folder):
    (folder / "a folder").mkdir()
    ring(folder)
    assert bell.has_rung()


def test_bell_whose_file_was_removed_is_hung_again(bell, folder):
    (folder / "worker").unlink()
    bell.hang()
    ring(folder)
    assert bell.has_rung()
    assert [path.name for path in folder.iterdir()] == ["worker"]


def test_folder_may_have_a_longer_path_than_a_socket(tmp_path):
    deep = tmp_path.joinpath(*["a long name of a folder"] * 20)
    bell = Doorbell(deep, "worker")
    ring(deep)
    assert bell.has_rung()
    bell.take_down()


def test_worker_that_cannot_have_a_file_still_hears_itself(tmp_path):
    (tmp_path / "file").touch()
    bell = Doorbell(tmp_path / "file" / "doorbells", "worker")
    bell.wait(0.01)
    assert not bell.has_rung()
    bell.ring()
    assert bell.has_rung()
    bell.take_down()


def test_everything_that_lets_a_job_wait_rings(db, bell, post, take, experiment):
    job = post()
    assert bell.has_rung(), "it is submitted"
    claim = take()
    assert not bell.has_rung()
    release(db, claim, "given back")
    assert bell.has_rung(), "it is given back"
    claim = take()
    lose(db, claim, "its process died")
    assert bell.has_rung(), "its attempt died"
    take(lease_seconds=-1)
    assert sweep(db) == [job.id]
    assert bell.has_rung(), "its worker was lost"
    controls.pause_job(db, job.id)
    assert not bell.has_rung()
    controls.resume_job(db, job.id)
    assert bell.has_rung(), "it is resumed"
    controls.cancel_job(db, job.id)
    assert not bell.has_rung()
    create_job(db, spec={}, resolved_spec={}, parent=job)
    assert bell.has_rung(), "it is tried again"
    experiment()
    assert bell.has_rung(), "an experiment is submitted"


@pytest.mark.parametrize("ask", [controls.pause_job, controls.cancel_job])
def test_worker_of_a_job_is_told_what_a_client_wants_of_it(db, bell, post, take, ask):
    job = post()
    take()
    bell.has_rung()
    ask(db, job.id)
    assert bell.has_rung()


def test_what_a_worker_writes_while_it_trains_rings_nowhere(db, bell, post, take):
    post()
    bell.has_rung()
    heartbeat(db, take(), 60, {"step": 1})
    assert not bell.has_rung()


def test_an_event_rings_at_servers_and_progress_does_not(url, tmp_path, folder, post, take):
    db, bell = Database(url, on_events=partial(ring, folder)), Doorbell(folder, "server")
    job = post()
    controls.pause_job(db, job.id)
    assert bell.has_rung(), "it is paused"
    controls.resume_job(db, job.id)
    bell.has_rung()
    heartbeat(db, take(), 60, {"step": 1})
    assert not bell.has_rung()
    with suppress(RuntimeError), db.write() as connection:
        tell_followers(connection)
        raise RuntimeError
    with db.write():
        pass
    assert not bell.has_rung(), "nothing was stored"
    bell.take_down()
    db.dispose()


def test_what_is_rolled_back_rings_nowhere(db, bell, post):
    job = post()
    controls.cancel_job(db, job.id)
    bell.has_rung()
    with pytest.raises(TransitionRefused):
        controls.resume_job(db, job.id)
    with suppress(RuntimeError), db.write() as connection:
        tell_workers(connection)
        raise RuntimeError
    with db.write():
        pass
    assert not bell.has_rung()
