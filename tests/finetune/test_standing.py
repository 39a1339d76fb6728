import pytest

from finetune.events import EpochRecord
from finetune.spec import StageSpec
from finetune.standing import Standing, better


def record(epoch, loss, accuracy=0.5, global_epoch=None):
    val = {"loss": loss, "accuracy": accuracy}
    return EpochRecord("s", 0, epoch, global_epoch or epoch, {}, val, val, 1.0, {}, 0)


def after(standing, record, *rest):
    """The standing after an epoch whose checkpoint holds the weights."""
    return standing.after_epoch(record, record.val, *rest)


def stage(epochs=9, **early_stopping):
    fields = {"epochs": epochs, "lr": {"schedule": {"name": "constant", "lr": 1}}}
    if early_stopping:
        fields["early_stopping"] = early_stopping
    return StageSpec.model_validate(fields)


def epochs_until_the_end(planned, losses, accuracies=None):
    standing = Standing()
    for epoch, loss in enumerate(losses, start=1):
        accuracy = accuracies[epoch - 1] if accuracies else 0.5
        standing = after(standing, record(epoch, loss, accuracy), planned, "val_accuracy")
        assert Standing.from_state(standing.to_state()) == standing
        if standing.stage_over:
            return epoch
    return None


@pytest.mark.parametrize(
    ("metric", "value", "than", "expected"),
    [
        ("val_loss", 1.0, 2.0, True),
        ("val_loss", 2.0, 2.0, False),
        ("val_accuracy", 0.9, 0.8, True),
        ("val_accuracy", 0.8, 0.8, False),
        ("val_loss", None, 2.0, False),
        ("val_loss", 2.0, None, True),
        ("val_loss", None, None, False),
    ],
)
def test_better_is_lower_for_losses_and_higher_for_accuracies(metric, value, than, expected):
    assert better(metric, value, than) is expected


def test_a_stage_ends_with_its_epochs():
    assert epochs_until_the_end(stage(3), [3, 2, 1, 0]) == 3


def test_early_stopping_waits_patience_epochs_for_a_better_value():
    stopping = stage(metric="val_loss", patience=2)
    assert epochs_until_the_end(stopping, [3, 2, 2, 2, 0]) == 4
    assert epochs_until_the_end(stopping, [3, 2, 2, 1, 1, 1]) == 6
    assert epochs_until_the_end(stopping, [3, None, None]) == 3
    assert epochs_until_the_end(stopping, [None, None, 1, 1]) == 2


def test_early_stopping_follows_its_own_metric():
    stopping = stage(metric="val_accuracy", patience=1)
    assert epochs_until_the_end(stopping, [5, 6, 7], [0.1, 0.2, 0.2]) == 3


def test_a_new_stage_starts_anew_and_the_best_epoch_is_of_the_whole_run():
    standing = Standing()
    for epoch, accuracy in enumerate([0.9, 0.5], start=1):
        standing = after(standing, record(epoch, 1.0, accuracy), stage(2), "val_accuracy")
    assert standing.has_done(0)
    assert not standing.has_done(1)
    standing = standing.enter(1)
    assert (standing.epoch, standing.waited, standing.stage_best, standing.stage_over) == (0, 0, None, False)
    standing = after(standing, record(1, 1.0, 0.7, global_epoch=3), stage(2), "val_accuracy")
    assert standing.best is not None
    assert (standing.best["global_epoch"], standing.best["value"], standing.global_epoch) == (1, 0.9, 3)


def test_of_equal_values_the_first_epoch_is_the_best():
    standing = Standing()
    for epoch in (1, 2):
        standing = after(standing, record(epoch, 1.0), stage(2), "val_accuracy")
    assert standing.best is not None
    assert standing.best["global_epoch"] == 1


def test_entering_the_stage_in_which_a_run_stands_changes_nothing():
    standing = after(Standing(), record(1, 1.0), stage(), "val_accuracy")
    assert standing.enter(0) is standing
