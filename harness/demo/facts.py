"""What a scene has shown: observations in words, each with its judgement."""

from __future__ import annotations

from typing import TypeVar

import attrs

T = TypeVar("T")


@attrs.frozen
class Fact:
    """One thing that was observed; `text` says what it was, and what it should have been."""

    text: str
    holds: bool = True


def equal(what: str, found: T, wanted: T) -> Fact:
    """Return whether `found` is what was wanted."""
    if found == wanted:
        return Fact(f"{what}: {_told(found)}")
    return Fact(f"{what}: {_told(found)}, not {_told(wanted)}", holds=False)


def whole(words: str, wanted: str) -> Fact:
    """Return whether all the words arrived."""
    if words == wanted:
        return Fact(f"every word arrived ({len(words)} characters)")
    return Fact(f"{len(words)} characters arrived, not {len(wanted)}: {words!r}", holds=False)


def soon(what: str, seconds: float | None, *, limit_s: float) -> Fact:
    """Return whether something that took `seconds` (None: it did not happen) was fast enough."""
    if seconds is None:
        return Fact(f"{what}: not within {limit_s:g} s", holds=False)
    return Fact(f"{what} after {ms(seconds)} (at most {limit_s:g} s)", holds=seconds <= limit_s)


def ms(seconds: float) -> str:
    """Return a duration as `2.1 ms`."""
    return f"{seconds * 1000:.1f} ms"


def _told(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)
