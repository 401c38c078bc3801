"""One term of a fault's text, taken apart and put together. What it means stands in `forms`."""

from __future__ import annotations

import math
import re
import string
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

import attrs

_TERM: Final = re.compile(
    r"(?P<name>[a-z][a-z-]*)(?::(?P<key>[^=@:]+))?(?:@(?P<at>[^=]*))?(?:=(?P<value>.*))?", re.DOTALL
)
#: Written as they are in a value. `+` divides terms and `%` begins an escape.
_PLAIN: Final = "".join(
    sorted(set(string.ascii_letters + string.digits + string.punctuation + " ") - set("%+"))
)
_DURATION: Final = re.compile(r"(?P<number>\d+(?:\.\d{1,6})?)(?P<unit>ms|s|m)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}
#: About thirty years.
_MOST_S: Final = 1e9
_SIZE: Final = re.compile(r"(?P<number>\d+)(?P<unit>KiB|MiB|)")
_BYTES: Final = {"MiB": 2**20, "KiB": 2**10, "": 1}


class FaultTextError(ValueError):
    """A fault's text cannot be understood; the message names the term and what is allowed."""


@attrs.frozen
class Term:
    """`name:key@at=value`, of which all but the name may be missing."""

    text: str
    name: str
    key: str | None = None
    at: str | None = None
    #: With its escapes undone.
    value: bytes | None = None

    @classmethod
    def read(cls, text: str) -> Term:
        """Take a term apart.

        Raises:
            FaultTextError: it has not that form.
        """
        match = _TERM.fullmatch(text)
        if match is None:
            raise FaultTextError(f"{text!r} is no term: a term begins with a word, as in cut@1234")
        value = match["value"]
        return cls(
            text,
            match["name"],
            match["key"],
            match["at"],
            None if value is None else unquote_to_bytes(value),
        )

    @property
    def value_text(self) -> str:
        """The value as text; empty if there is none."""
        return (self.value or b"").decode("utf-8", "replace")


def escaped(value: bytes) -> str:
    """Return a value as it stands in a term: `%XX` for `+`, `%` and what is no text."""
    return quote_from_bytes(value, safe=_PLAIN)


def seconds(text: str) -> float:
    """Return a duration (`2.5s`, `300ms`, `2m`) in seconds.

    Raises:
        ValueError: it is none.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no duration, such as 2.5s, 300ms or 2m")
    duration_s = float(match["number"]) * _SECONDS[match["unit"]]
    if duration_s > _MOST_S:
        raise ValueError(f"no duration is longer than {_MOST_S:.0f}s")
    return round(duration_s, 6)


def duration_text(duration_s: float) -> str:
    """Return a duration as `seconds` reads it."""
    return f"{duration_s:.6f}".rstrip("0").rstrip(".") + "s"


def size_bytes(text: str) -> int:
    """Return a size (`1000`, `64KiB`, `17MiB`) in bytes.

    Raises:
        ValueError: it is none.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no size, such as 1000, 64KiB or 17MiB")
    return int(match["number"]) * _BYTES[match["unit"]]


def size_text(size: int) -> str:
    """Return a size in bytes as `size_bytes` reads it."""
    unit = next(unit for unit, factor in _BYTES.items() if math.gcd(size, factor) == factor)
    return f"{size // _BYTES[unit]}{unit}"
