import pytest

from finetune.events import EpochEnded, Warned
from finetune.learning import alarm, nothing_learnt

CLASSES = ("ants", "bees", "wasps")


def test_one_answer_for_every_image_is_nothing_learnt_even_where_it_is_often_right():
    sign = nothing_learnt(0.8, [0, 10, 0], [1, 8, 1], CLASSES)
    assert sign == "every validation image was taken for 'bees'"


def test_an_accuracy_below_the_largest_classes_share_is_nothing_learnt():
    sign = nothing_learnt(0.5, [5, 4, 1], [2, 2, 6], CLASSES)
    assert sign == "the accuracy is 0.500, and always saying 'wasps' would give 0.600"


def test_an_accuracy_at_the_largest_classes_share_with_several_answers_raises_no_alarm():
    assert nothing_learnt(0.6, [5, 4, 1], [2, 2, 6], CLASSES) is None


def test_the_warning_names_the_stage_and_every_rate():
    text = alarm("all", "every validation image was taken for 'bees'", {"default": 0.5, "fc": 5.0})
    assert text.startswith("stage 'all' has learnt nothing for 2 epochs: every validation image")
    assert "default 0.5, fc 5" in text


@pytest.mark.parametrize(("lr", "warned"), [(1e-12, 1), (0.05, 0)])
def test_a_run_that_learns_nothing_says_so_once_after_its_second_epoch(tmp_path, run, job, lr, warned):
    stage = {"name": "all", "epochs": 5, "lr": {"schedule": {"name": "constant", "lr": lr}}}
    events = run(job(stage), tmp_path / "out")
    places = [i for i, e in enumerate(events) if isinstance(e, Warned) and "learnt nothing" in e.message]
    assert len(places) == warned
    for place in places:
        assert sum(isinstance(event, EpochEnded) for event in events[:place]) == 2
