"""What stands in the place of a secret: of its length and kind, and plainly no secret.

Letters and digits become one filler, punctuation stays, and the last places tell which secret it
was, in the order in which they were first seen: `sk-proj-xxxxxxxxxxxx3`. What looks like this is
never taken for a secret again.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

#: How kinds of keys and ids begin. It says nothing of their owner, and programs look at it.
_PREFIX: Final = re.compile(
    r"sk-(?:proj-|ant-)?|sess-|rt[._]|at-|user-|org-|acct_|github_pat_|gh[pousr]_|xox[abeprs]-"
    r"|gAAAA|glpat-|npm_|hf_|AKIA|ASIA|AIza|(?i:bearer|basic) +"
)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX: Final = re.compile(r"[0-9a-fA-F]+")
_PLAIN: Final = re.compile(r"[^0-9A-Za-z]+")
#: After the prefix, without punctuation.
_STAND_IN: Final = re.compile(
    r"x*[\u00d7\u2715\U0001d431x]*[0-9]{0,7}|0{3,}[0-9]{0,7}|9+(?:0[0-9]{0,7})?"
)
_STAND_IN_UUID: Final = re.compile(r"0{8}-0000-4000-8000-[0-9]{12}")


@attrs.define(eq=False)
class StandIns:
    """Gives each secret its own stand-in, always the same."""

    _numbers: dict[bytes, int] = attrs.field(factory=dict, init=False)

    def of(self, secret: bytes) -> bytes:
        """Return the stand-in, as many bytes as `secret`. Upper and lower case are one."""
        key = secret.lower()
        number = self._numbers.setdefault(key, len(self._numbers) + 1)
        return masked(secret, number)


def masked(secret: bytes, number: int | None = None) -> bytes:
    """Return filler of the same length, character by character, with `number` in its end."""
    try:
        return masked_text(secret.decode(), number).encode()
    except UnicodeDecodeError:
        # No text: each byte by itself.
        return masked_text(secret.decode("latin-1"), number).replace("\xd7", "x").encode("latin-1")


def masked_text(text: str, number: int | None = None) -> str:
    """Return filler of as many characters, each of as many bytes in UTF-8 as it was."""
    if number is not None and _UUID.fullmatch(text):
        return f"00000000-0000-4000-8000-{number % 10**12:012}"
    prefix = _PREFIX.match(text)
    begin = prefix.end() if prefix is not None and prefix.end() < len(text) else 0
    rest = text[begin:]
    filler = _filler_for(rest)
    filled = [_masked(character, filler) for character in rest]
    if number is not None:
        places = [at for at, character in enumerate(filled) if character == filler]
        # A JSON number has no zero in front, so there one tells where the number begins.
        digits = f"0{number}" if filler == "9" else str(number)
        # One place is left, so that it can be told from a word.
        for at, digit in zip(reversed(places[1:]), reversed(digits), strict=False):
            filled[at] = digit
    return text[:begin] + "".join(filled)


def is_stand_in(text: str) -> bool:
    """Tell whether this is what a secret was replaced by, or nothing that could be one."""
    if _STAND_IN_UUID.fullmatch(text):
        return True
    prefix = _PREFIX.match(text)
    rest = text[prefix.end() :] if prefix is not None else text
    return any(_STAND_IN.fullmatch(_significant(each)) is not None for each in (rest, text))


def _significant(text: str) -> str:
    return "".join(each for each in text if each.isalnum() or not each.isascii())


def _filler_for(text: str) -> str:
    plain = _PLAIN.sub("", text)
    if plain.isdigit() and len(plain) > 2:
        return "9"
    if len(plain) >= 8 and _HEX.fullmatch(plain):
        return "0"
    return "x"


def _masked(character: str, filler: str) -> str:
    if character.isascii():
        return filler if character.isalnum() else character
    if character < "\u0800":
        return "\u00d7"
    return "\u2715" if character <= "\uffff" else "\U0001d431"
