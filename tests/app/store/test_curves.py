"""Curves on both databases."""

from app.store.curves import list_curves
from app.store.records import NewCheckpoint
from app.store.reports import record_epoch

LEASE = 600


def _write(db, held, number, **record):
    place = {"stage": "all", "stage_index": 0, "epoch": number, "global_epoch": number}
    new = NewCheckpoint(f"{held.job_id}/{number}", 1, "0" * 64, metric="val_accuracy", value=0.5)
    named = {"checkpoint": new.id, "metric": "val_accuracy", "value": 0.5}
    record_epoch(db, held, LEASE, place | record, new, named)


def test_curves_are_read_for_many_jobs_at_once(db, post, take):
    jobs = []
    for offset in (0.0, 0.1):
        jobs.append(post().id)
        held = take()
        for number in range(1, 4):
            _write(db, held, number, val={"accuracy": offset + number / 10, "loss": 1.0})
    found = {curve.job_id: curve.points for curve in list_curves(db, jobs, 40)}
    assert found[jobs[0]] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert [epoch for epoch, _ in found[jobs[1]]] == [1, 2, 3]
    assert list_curves(db, [], 40) == []


def test_moving_average_is_the_curve_where_checkpoints_hold_it(db, post, take):
    job = post(resolved_spec={"checkpoints": {"weights": "ema"}}).id
    held = take()
    _write(db, held, 1, val={"accuracy": 0.1})
    _write(db, held, 2, val={"accuracy": 0.1}, val_ema={"accuracy": 0.7})
    (curve,) = list_curves(db, [job], 40)
    assert curve.points == [(1, 0.1), (2, 0.7)]
