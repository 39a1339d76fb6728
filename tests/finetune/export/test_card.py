import json

import pytest

from finetune.export.card import card, facts
from finetune.export.comparing import Comparison
from finetune.export.orders import Format, Wanted

TORCH = Wanted(Format.TORCH)


@pytest.fixture(scope="module")
def weights(make_checkpoint):
    return make_checkpoint("mobilenet_v3_small", "binary_cross_entropy", crop=32)


@pytest.fixture
def written(weights, opened, order, tmp_path):
    def write(wanted=TORCH, source="torchvision", about=(), same_data=True, **changes):
        model = opened(weights)
        model.about.update(about)
        asked = order(weights, wanted, tmp_path / "x.zip", **changes)
        return card(facts(model, asked, "model.x", Comparison(2.5e-7, 12), same_data), asked, source)

    return write


def test_card_says_what_the_model_is_and_how_near_the_file_is_to_it(written):
    text = written()
    assert text.startswith("# ants \\& bees\n")
    assert "1. a\\_b\\*: 0.5\n2. bee: 0.25\n3. ant: 0.75\n" in text
    assert "| accuracy | not finite |\n| loss | 0.2500 |" in text
    assert "on 12 validation images" in text
    assert "**2.5e-07**" in text
    assert "Its short side is resized to" in text
    assert json.loads(text.rpartition("```json\n")[2].partition("```")[0])["dataset"] == {"path": "odd"}


def test_card_says_when_the_data_was_no_longer_that_of_the_job(written):
    assert "on 12 validation images\nof the job." in written()
    assert "of the dataset as it was then, which was not the one" in written(same_data=False)


def test_text_of_users_is_no_markdown(written):
    text = written(name="<b>a</b>\n# b | `c`", about={"stage": "a|b"})
    assert text.startswith("# \\<b\\>a\\</b\\> \\# b \\| \\`c\\`\n")
    assert "(stage a\\|b)" in text


def test_text_of_users_turns_no_letters_and_the_spec_still_says_it(written, order, tmp_path):
    spec = {**order(tmp_path / "weights", TORCH, tmp_path / "x.zip").spec, "name": "gpj.\u202eexe"}
    text = written(name="gpj.\u202eexe", spec=spec)
    assert text.startswith("# gpj.\ufffdexe\n")
    assert "\u202e" not in text
    assert json.loads(text.rpartition("```json\n")[2].partition("```")[0])["name"] == "gpj.\u202eexe"


def test_job_without_a_name_is_called_by_its_id(written):
    assert written(name=None).startswith("# job\\_1\n")


def test_fingerprint_of_the_data_stands_there_where_the_checkpoint_has_it(written):
    assert "| data fingerprint | not recorded |" in written()
    assert "| data fingerprint | `abc123` |" in written(about={"dataset": "abc123"})


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        ({"best": True, "last": True, "ended": True}, "the best and the last of its job |"),
        ({"best": True, "last": False, "ended": False}, "the best of its job when it was exported |"),
        ({"best": False, "last": False, "ended": True}, "neither the best nor the last of its job |"),
    ],
)
def test_card_says_what_the_checkpoint_is_among_those_of_its_job(written, standing, said):
    assert said in written(**standing)


def test_code_of_one_s_own_is_asked_for_where_the_file_holds_weights_alone(written):
    assert "your_network(" in written(source="registered")
    assert "need its own code" in written(source="registered")
    graph = written(Wanted(Format.ONNX, True), source="registered")
    assert "own code" not in graph
    assert "uint8 (batch, 3, height, width) of any size" in graph


def test_card_names_what_has_to_be_installed(written):
    assert "`pip install pillow torch torchvision`" in written()
    assert "`pip install numpy onnxruntime pillow`" in written(Wanted(Format.ONNX, True))
    assert "timm" in written(source="timm")
