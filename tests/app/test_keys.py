import hashlib
import string

import pytest

from app.keys import is_whole, new_key, sha256_of

LETTERS = string.ascii_letters + string.digits


def test_a_key_is_a_prefix_and_letters_and_digits_alone():
    key = new_key()
    assert key.startswith("thaw_")
    assert len(key) == 54
    assert set(key[5:]) <= set(LETTERS)
    assert is_whole(key)


def test_keys_have_all_of_their_bits():
    values = [_number(new_key()[5:48]) for _ in range(400)]
    assert len(set(values)) == 400
    assert all(value < 2**256 for value in values)
    for bit in range(256):  # that one stands still in 400 keys happens once in 2**391 runs
        assert {value >> bit & 1 for value in values} == {0, 1}, bit


def _number(text):
    order = string.digits + string.ascii_uppercase + string.ascii_lowercase
    value = 0
    for letter in text:
        value = value * 62 + order.index(letter)
    return value


def test_a_key_with_one_wrong_letter_is_not_whole():
    key = new_key()
    for place in range(5, len(key)):
        other = "a" if key[place] != "a" else "b"
        assert not is_whole(key[:place] + other + key[place + 1 :]), place


@pytest.mark.parametrize("text", ["", "thaw_", "thaw_" + "a" * 49, "sk-abc", "thaw_ä", "thaw_" + "1" * 5000])
def test_a_text_that_was_never_made_is_no_key(text):
    assert not is_whole(text)


def test_a_key_with_something_around_it_is_not_whole():
    key = new_key()
    for text in (key + "\n", " " + key, key + "a", key[:-1], key.upper(), key.replace("thaw_", "thaw-")):
        assert not is_whole(text), text


def test_what_is_stored_is_the_sha256_of_the_whole_key():
    key = new_key()
    assert sha256_of(key) == hashlib.sha256(key.encode()).hexdigest()
