import pytest
from sqlalchemy import event

from app.store.attempts import claim, heartbeat
from app.store.checkpoints import get_checkpoint, list_checkpoints
from app.store.epochs import list_epochs
from app.store.events import list_events
from app.store.experiments import list_experiments, list_trials
from app.store.jobs import list_jobs
from app.store.leases import sweep
from app.store.reports import drop_checkpoints
from app.store.states import Status
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
