"""What a key looks like: `thaw_`, 43 characters that say 256 random bits, and 6 that are their checksum.

The prefix lets programs that look for secrets in code find one, and the checksum tells a key that was copied
badly from one that is unknown. Letters and digits alone, so that a double click takes all of it.
"""

import hashlib
import re
import secrets
import string
import zlib

PREFIX = "thaw_"
BITS = 256

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET, _CHECKSUM = 43, 6  # characters: 62**43 is above 2**256, 62**6 above 2**32
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_SECRET + _CHECKSUM}}}", re.ASCII)


def new_key() -> str:
    """A new key. It is nowhere but in what this returns."""
    secret = PREFIX + _in_letters(secrets.randbits(BITS), _SECRET)
    return secret + _checksum(secret)


def is_whole(text: str) -> bool:
    """Whether a text is a key as it was made, with all of its characters."""
    if not _FORM.fullmatch(text):
        return False
    secret, checksum = text[:-_CHECKSUM], text[-_CHECKSUM:]
    return checksum == _checksum(secret)


def sha256_of(key: str) -> str:
    """What is stored of a key. It needs no salt and no slow function: nobody guesses 256 bits."""
    return hashlib.sha256(key.encode()).hexdigest()


def _checksum(secret: str) -> str:
    return _in_letters(zlib.crc32(secret.encode()), _CHECKSUM)


def _in_letters(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
