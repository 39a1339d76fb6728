import pytest
import torch

from finetune.errors import NonfiniteLoss
from finetune.loss_watch import EVERY, LossWatch


def watched(losses):
    """Adds the losses one after another; at the end the watch finishes."""
    watch = LossWatch("all", 3)
    for added, loss in enumerate(losses, 1):
        try:
            watch.add(torch.tensor(loss))
        except NonfiniteLoss as error:
            return added, error.message
    try:
        watch.finish()
    except NonfiniteLoss as error:
        return None, error.message
    return None, None


@pytest.mark.parametrize("bad", [0, 1, EVERY - 1, EVERY, 2 * EVERY + 7])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_named_by_its_own_step(bad, value):
    losses = [1.0] * (2 * EVERY + 8)
    losses[bad] = value
    losses[bad + 1 :] = [value] * (len(losses) - bad - 1)
    assert f"in stage 'all', epoch 3, step {bad + 1}:" in watched(losses)[1]


def test_the_run_ends_two_windows_later_at_most():
    added, _ = watched([float("nan")] * 100)
    assert added == 2 * EVERY


@pytest.mark.parametrize("count", [0, 1, EVERY, EVERY + 1, 3 * EVERY])
def test_finite_losses_are_let_through(count):
    assert watched([1.0] * count) == (None, None)
