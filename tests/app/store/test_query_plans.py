import pytest
from sqlalchemy import event

from app.store.attempts import claim, heartbeat
from app.store.checkpoints import get_checkpoint, list_checkpoints
from app.store.curves import list_curves
from app.store.epochs import list_epochs
from app.store.events import list_events
from app.store.experiments import list_experiments, list_trials
from app.store.jobs import list_jobs
from app.store.keys import create_key, find_key
from app.store.leases import sweep
from app.store.owners import owner_of_job, stored_bytes
from app.store.paces import list_paces
from app.store.records import NewCheckpoint
from app.store.reports import drop_checkpoints, record_epoch
from app.store.scopes import Scope
from app.store.states import Status
from app.store.uploads import get_upload
from tests.databases import only_sqlite

pytestmark = only_sqlite


@pytest.fixture
def plan(db, post, take):
    """Runs a function and returns SQLite's plans of all the statements that it executed, as one text."""
    for number in range(20):
        post(metadata={"number": str(number)})

    def plan(function):
        statements = []
        note = lambda c, cursor, sql, parameters, *rest: statements.append((sql, parameters))  # noqa: E731
        event.listen(db.engine, "before_cursor_execute", note)
        function()
        event.remove(db.engine, "before_cursor_execute", note)
        lines = []
        with db.read() as connection:
            for sql, parameters in statements:
                if sql.startswith(("SELECT", "UPDATE", "DELETE")):
                    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)
                    lines += [row.detail for row in rows]
        assert lines
        assert not [line for line in lines if "TEMP B-TREE" in line], lines
        return lines

    return plan


def _scans(lines):
    return [line for line in lines if line.startswith("SCAN") and "INDEX" not in line]


def test_claim_walks_its_index_in_order(db, plan):
    lines = plan(lambda: claim(db, "w1", 60))
    assert _scans(lines) == []
    assert any("INDEX ix_jobs_claim (status=?)" in line for line in lines), lines


def test_sweep_reads_only_what_ran_out(db, plan, take):
    take(lease_seconds=-1.0)
    lines = plan(lambda: sweep(db))
    assert _scans(lines) == []
    assert any("ix_jobs_sweep (status=? AND lease_until<?)" in line for line in lines), lines


def test_list_walks_the_jobs_in_order(db, plan, post):
    after = post().id
    assert _scans(plan(lambda: list_jobs(db, after=after))) == []


def test_list_by_status_walks_its_index(db, plan, post):
    after = post().id
    lines = plan(lambda: list_jobs(db, after=after, status=Status.RUNNING))
    assert any("INDEX ix_jobs_list (status=? AND seq<?)" in line for line in lines), lines


def test_list_by_metadata_looks_pairs_up(db, plan):
    lines = plan(lambda: list_jobs(db, metadata={"number": "3"}))
    assert any("job_metadata" in line and line.startswith("SEARCH") for line in lines), lines


def test_list_by_experiment_walks_its_index(db, plan, post, experiment):
    made, after = experiment(), post().id
    lines = plan(lambda: list_jobs(db, after=after, experiment=made.id))
    assert any("INDEX ix_jobs_experiment (experiment=? AND seq<?)" in line for line in lines), lines


def test_list_of_an_owner_walks_its_index(db, plan, post):
    after = post(owner="zoo").id
    lines = plan(lambda: list_jobs(db, after=after, owner="zoo"))
    assert any("INDEX ix_jobs_owner (owner=? AND seq<?)" in line for line in lines), lines
    lines = plan(lambda: list_jobs(db, after=after, owner="zoo", status=Status.QUEUED))
    assert any("INDEX ix_jobs_owner_status (owner=? AND status=? AND seq<?)" in line for line in lines), lines


def test_an_owners_waiting_jobs_are_counted_in_an_index_alone(db, plan, post):
    lines = plan(lambda: post(owner="zoo", most_waiting=5))
    assert any("COVERING INDEX ix_jobs_owner_status (owner=? AND status=?)" in line for line in lines), lines
    assert _scans(lines) == []


def test_what_an_owner_has_stored_is_looked_up_by_its_jobs(db, plan, post, take):
    post(owner="zoo")
    lines = plan(lambda: stored_bytes(db, "zoo"))
    assert any("ix_jobs_owner" in line for line in lines), lines
    assert _scans(lines) == []


def test_every_request_looks_its_key_and_its_owner_up(db, plan, post):
    job = post(owner="zoo")
    create_key(db, sha256="ab" * 32, scope=Scope.READ, owner="zoo")
    for look in (
        lambda: find_key(db, "ab" * 32),
        lambda: owner_of_job(db, job.id),
        lambda: get_upload(db, "birds"),
    ):
        assert _scans(plan(look)) == []


def test_an_experiment_looks_its_jobs_and_their_checkpoints_up(db, plan, experiment):
    made = experiment()
    lines = plan(lambda: list_trials(db, made.id))
    assert _scans(lines) == []
    assert any("INDEX ix_jobs_experiment (experiment=?)" in line for line in lines), lines
    assert _scans(plan(lambda: list_experiments(db, after=made.id))) == []


def test_letting_go_of_checkpoints_looks_branches_up(db, plan, post, take):
    post(priority=1)
    held = take()
    lines = plan(lambda: drop_checkpoints(db, held, 60, ["ckpt_1"]))
    assert _scans(lines) == []
    assert any("INDEX ix_jobs_branched_from (branched_from=?" in line for line in lines), lines


def test_polls_look_their_rows_up(db, plan, post, take):
    job, held = post(priority=1), take()
    for poll in (
        lambda: list_events(db, job.id, after=3),
        lambda: list_epochs(db, job.id, after_epoch=2),
        lambda: list_checkpoints(db, job.id),
        lambda: get_checkpoint(db, job.id, "last"),
        lambda: heartbeat(db, held, 60),
    ):
        assert _scans(plan(poll)) == []


def test_curves_are_looked_up_by_the_jobs_ids_and_the_epochs_index(db, plan, post, take):
    job = post(priority=1)
    place = {"stage": "all", "stage_index": 0, "epoch": 1, "global_epoch": 1}
    new = NewCheckpoint("x/1", 1, "0" * 64, metric="val_accuracy", value=0.5)
    best = {"checkpoint": new.id, "metric": "val_accuracy", "value": 0.5}
    record_epoch(db, take(), 60, place | {"val": {"accuracy": 0.5}}, new, best)
    lines = plan(lambda: list_curves(db, [job.id, "job_x"], 40, "nobody"))
    lines += plan(lambda: list_curves(db, [job.id], 40))
    assert _scans(lines) == []
    assert any("jobs USING INDEX" in line and "(id=?" in line for line in lines), lines
    assert any("ix_epochs_poll" in line for line in lines), lines


def test_paces_are_looked_for_among_the_newest_that_have_succeeded(db, plan, post):
    post()
    for owner, index in (
        (None, "ix_jobs_list (status=?)"),
        ("zoo", "ix_jobs_owner_status (owner=? AND status=?)"),
    ):
        lines = plan(lambda owner=owner: list_paces(db, "resnet18", owner))
        assert any(index in line for line in lines), lines
