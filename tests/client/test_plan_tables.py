import io

import pytest
from rich.console import Console

from client.plan_tables import head_lines, print_plan, rates_table
from client.plans import Plan, PlannedRates
from client.tables import PIPE_WIDTH


@pytest.fixture
def text(plan_answer):
    output = io.StringIO()
    console = Console(
        file=output, force_terminal=False, width=PIPE_WIDTH, markup=False, emoji=False, highlight=False
    )
    print_plan(console, Plan.model_validate(plan_answer))
    return output.getvalue()


def rows(table):
    return list(zip(*(column.cells for column in table.columns), strict=True))


def epochs(*rates):
    return [
        PlannedRates(epoch=n, first={"a": rate}, last={"a": rate}) for n, rate in enumerate(rates, start=1)
    ]


def test_a_plan_begins_with_the_network_its_classes_and_its_head(text):
    network, head = text.splitlines()[:2]
    assert network == (
        "resnet18, 11,177,538 parameters; 2 classes (ants, bees), 244 training and 153 validation images"
    )
    assert head == "head fc replaced: 1000 classes become 2"


def test_each_stage_says_what_it_freezes_and_trains(text):
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert (
        "stage 1 head: 3 epochs of 8 steps; sgd; augmentation none; batch norm eval; features computed once"
        in lines
    )
    assert "trains 1,026 parameters, freezes 11,176,512" in lines
    assert (
        "computes once what comes before fc: 244 training images in 2 views each, 153 validation images; "
        "at most 1.3 MB in memory; saves 66% of the computing"
    ) in lines
    assert "conv1 9,408" in lines
    assert "rest 0.9 11,176,512 60 layer0, layer1, layer2, layer3, layer4, layer5 and 2 more" in lines
    assert lines[-1] == "warning: layer2 is frozen between trained layers"


def test_a_stage_that_freezes_nothing_has_no_table_of_frozen_modules(text):
    assert sum(line.startswith("frozen ") for line in text.splitlines()) == 1


def test_neighbouring_epochs_with_equal_rates_are_one_row():
    assert rows(rates_table(epochs(0.01, 0.01, 0.005, 0.01))) == [
        ("1-2", "0.01"),
        ("3", "0.005"),
        ("4", "0.01"),
    ]


def test_rates_that_move_within_an_epoch_show_both_ends(plan_answer):
    plan = Plan.model_validate(plan_answer)
    assert rows(rates_table(plan.stages[1].lr)) == [
        ("1", "0.1 to 0.06", "0.009 to 0.0054"),
        ("2", "0.05 to 0", "0.0045 to 0"),
    ]


def test_a_plan_says_at_which_size_decoded_images_are_kept(plan_answer):
    stored = [
        {"split": "train", "short_side": 379, "bytes": 143_000_000},
        {"split": "val", "short_side": None, "bytes": None},
    ]
    lines = head_lines(Plan.model_validate({**plan_answer, "stored": stored}))
    assert lines[-1] == "keeps decoded images: train at 379 pixels, about 143 MB; val as they are"
