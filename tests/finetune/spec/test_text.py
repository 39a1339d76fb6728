import pytest
from jinja2 import Environment
from markupsafe import Markup

from finetune.spec.text import seen


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ants and bees", "ants and bees"),
        ("two\n\tlines", "two\n\tlines"),
        ("nul\x00 escape\x1b[2J del\x7f", "nul� escape�[2J del�"),
        ("gpj.\u202eexe", "gpj.�exe"),
        ("\u2066\u200f\u061c", "���"),
        ("für 蟻 سلام", "für 蟻 سلام"),
    ],
)
def test_every_character_is_seen(text, shown):
    assert seen(text) == shown


@pytest.mark.parametrize("value", [None, 3, 2.5, ["\x00"]])
def test_what_is_no_text_stays_as_it_is(value):
    assert seen(value) is value


def test_text_is_escaped_once_and_what_was_escaped_stays_so():
    template = Environment(autoescape=True, finalize=seen).from_string("{{ raw }} {{ made }}")
    assert template.render(raw="<b>\x1b", made=Markup("<i>\u202e</i>")) == "&lt;b&gt;� <i>�</i>"
