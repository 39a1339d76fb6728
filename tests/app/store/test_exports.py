from types import SimpleNamespace

import pytest

from app.store.checkpoints import get_checkpoint
from app.store.exports import record_export
from app.store.records import NewCheckpoint
from app.store.reports import drop_checkpoints, record_epoch

PLACE = {"stage": "head", "stage_index": 0, "epoch": 1, "global_epoch": 1}
FILE = {"path": "a.zip", "size": 3, "sha256": "0" * 64, "largest_difference": 1e-7, "images": 5}


@pytest.fixture
def stored(db, post, take):
    """A claimed job with a checkpoint."""
    job, claim = post(), take()
    checkpoint = record_epoch(db, claim, 60, PLACE, NewCheckpoint("w", 1, "1" * 64))
    assert checkpoint is not None
    return SimpleNamespace(job=job, claim=claim, checkpoint=checkpoint)


def test_exports_stand_at_their_checkpoint_by_format_each_with_its_time(db, stored):
    assert stored.checkpoint.exports is None
    first = record_export(db, stored.checkpoint.id, "onnx", FILE)
    assert first is not None
    record_export(db, stored.checkpoint.id, "torch", FILE | {"path": "b.zip"})
    record_export(db, stored.checkpoint.id, "onnx", FILE | {"size": 4})
    found = get_checkpoint(db, stored.job.id, stored.checkpoint.id)
    assert found is not None
    assert {key: (export["path"], export["size"]) for key, export in (found.exports or {}).items()} == {
        "onnx": ("a.zip", 4),
        "torch": ("b.zip", 3),
    }
    created, again = ((c.exports or {})["onnx"]["created_at"] for c in (first, found))
    assert stored.job.created_at <= created <= again


def test_export_of_a_checkpoint_that_was_dropped_is_not_recorded(db, stored):
    drop_checkpoints(db, stored.claim, 60, [stored.checkpoint.id])
    assert record_export(db, stored.checkpoint.id, "onnx", FILE) is None
