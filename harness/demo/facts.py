"""What a scene has shown: observations in words, each with its judgement."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


@attrs.frozen
class Fact:
    """One thing that was observed."""

    #: What it was and, where that is not the same, what it should have been.
    text: str
    holds: bool = True


def equal(what: str, found: T, wanted: T) -> Fact:
    """Return whether `found` is what was wanted."""
    if found == wanted:
        return Fact(f"{what} {_told(found)}")
    return Fact(f"{what} {_told(found)}, not {_told(wanted)}", holds=False)


def whole(words: str, wanted: str) -> Fact:
    """Return whether all the words of a text arrived."""
    if words == wanted:
        return Fact("every word arrived")
    return Fact(f"what arrived was {words!r}, not {wanted!r}", holds=False)


def says(what: str, text: str, wanted: Sequence[str]) -> Fact:
    """Return whether a text has all these words."""
    if missing := [words for words in wanted if words not in text]:
        return Fact(f"{what} does not say {' or '.join(map(repr, missing))}", holds=False)
    return Fact(f"{what} says {' and '.join(map(repr, wanted))}")


def same(arrived: bytearray, sent: bytearray) -> Fact:
    """Return whether the bytes that left are those that arrived."""
    if arrived == sent:
        return Fact(f"byte for byte what the backend sent ({len(sent)} bytes)")
    return Fact(f"{len(arrived)} bytes, not the {len(sent)} that the backend sent", holds=False)


def soon(what: str, seconds: float | None, *, limit_s: float) -> Fact:
    """Return whether something that took `seconds` (None: it did not happen) was fast enough."""
    if seconds is None:
        return Fact(f"{what}: not within {limit_s:g} s", holds=False)
    return Fact(f"{what} after {in_ms(seconds)} (at most {limit_s:g} s)", holds=seconds <= limit_s)


def in_ms(seconds: float) -> str:
    """Return a short duration as `2.1 ms`."""
    return f"{seconds * 1000:.1f} ms"


def _told(value: object) -> str:
    told = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return told or "nothing"
