"""Text of others on a page: what nobody sees, and what turns the words around it, is shown as a mark."""

import re

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
# Controls but tab and line feed; marks that turn the direction of what follows.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def seen(value: object) -> object:
    """A text in which every character is seen; any other value as it is. For templates to show all with.

    A subclass stays one: text that was escaped for a page counts as escaped.
    """
    if not isinstance(value, str) or not UNSEEN.search(value):
        return value
    return type(value)(UNSEEN.sub(UNKNOWN, value))
