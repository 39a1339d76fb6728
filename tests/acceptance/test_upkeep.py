"""What an operator relies on: backups that go on elsewhere, warnings at the start."""

import shutil

import pytest

from app.backup import back_up
from app.settings import Settings
from app.store.sqlite_faults import warning_of
from client.api import ThawClient


@pytest.fixture
def make_rough_house(make_house, draw_shapes):
    def make():
        house = make_house(lease_seconds=3)
        draw_shapes(house.data / "shapes", train=8, val=4)
        return house

    return make


@pytest.mark.promise("A backup made while Thaw works is consistent, and can be restored")
def test_a_job_that_runs_during_a_backup_goes_on_elsewhere_to_the_same_end(
    make_rough_house, make_spec, ended, until, read_weights, tmp_path
):
    here, there = make_rough_house(), make_rough_house()
    here.serve()
    here.work()
    with ThawClient(here.url) as client:
        job = client.submit(make_spec(backbone={"name": "tiny_slow", "weights": None}, batch_size=6))
        until(lambda: len(client.metrics(job.id)) >= 2, 60, "two epochs are done")
        settings = Settings(home_dir=here.home, database_url=here.database_url)
        assert back_up(settings, here.root / "copy.db", here.root / "kept").lost == ()
        assert client.job(job.id).status == "running", "the job was too quick for this test"
        uninterrupted = ended(client, job.id)
        assert uninterrupted.status == "succeeded"
        expected = read_weights(client.download(job.id, "last", tmp_path / "here.safetensors")).bytes
    for file in there.home.iterdir():  # as docs/operating.md says
        file.unlink()
    shutil.copyfile(here.root / "copy.db", there.home / "thaw.db")
    shutil.copytree(here.root / "kept", there.artifacts)
    there.serve()
    there.work()
    with ThawClient(there.url) as client:
        restored = ended(client, job.id)
        assert (restored.status, restored.attempt) == ("succeeded", 2), restored.error
        found = read_weights(client.download(job.id, "last", tmp_path / "there.safetensors")).bytes
    assert found == expected


def test_server_and_worker_warn_of_an_sqlite_that_may_damage_the_database(thaw, client, until):
    expected = warning_of(thaw.database_url) is not None
    until(lambda: "worker started" in thaw.log("worker"), 60, "the worker has started")
    for name in ("server", "worker"):
        assert ("WAL-reset fault" in thaw.log(name)) == expected, name
