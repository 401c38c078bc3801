"""Where in an answer a fault strikes.

| text | place | as a piece |
| --- | --- | --- |
| `1234` | in front of that byte of the body, counted from 0 | - |
| `e3` | behind the 3rd event (`e0`: the beginning; `e-1`: the last event) | that event |
| `f3` | behind the 3rd WebSocket message that comes in (`f0`, `f-1` likewise) | that message |
| `100-200`, `e1-e3` | - | from the first place up to the second |

A place behind the end is the end; a piece that is not there is left alone, because the same fault
may meet a short answer as well as a long one.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from codexrelay.protocol import sse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cassettes.model import Frame

_OFFSET: Final = re.compile(r"\d+")
_NUMBERED: Final = re.compile(r"(?P<kind>[ef])(?P<number>-?\d+)")
_SPAN: Final = re.compile(r"(?P<begin>\d+|e-?\d+)-(?P<end>\d+|e-?\d+)")
_MESSAGES: Final = frozenset({"text", "bin"})


@attrs.frozen
class Offset:
    """In front of a byte of the body."""

    byte: int

    def __str__(self) -> str:
        return str(self.byte)

    def within(self, body: bytes) -> int:
        """Return the place as an index into `body`."""
        return min(self.byte, len(body))


@attrs.frozen
class Event:
    """Behind an event, or the event itself."""

    #: From 1; from -1 backwards counted from the last one.
    number: int

    def __str__(self) -> str:
        return f"e{self.number}"

    def within(self, body: bytes) -> int:
        """Return the index just behind the event."""
        ends = _event_ends(body)
        return ends[_clamped(self.number, len(ends) - 1)]

    def piece(self, body: bytes) -> tuple[int, int] | None:
        """Return where the event begins and ends; None if there is none of that number."""
        ends = _event_ends(body)
        at = _numbered(self.number, len(ends) - 1)
        return None if at is None else (ends[at - 1], ends[at])


@attrs.frozen
class Message:
    """Behind a WebSocket message that comes in, or the message itself."""

    #: As with `Event`.
    number: int

    def __str__(self) -> str:
        return f"f{self.number}"

    def behind(self, frames: Sequence[Frame]) -> int:
        """Return the index into `frames` just behind the message."""
        places = incoming(frames)
        at = _clamped(self.number, len(places))
        if at == len(places) and self.number > at:
            return len(frames)
        return places[at - 1] + 1 if at else 0

    def index(self, frames: Sequence[Frame]) -> int | None:
        """Return the index of the message in `frames`; None if there is none of that number."""
        places = incoming(frames)
        at = _numbered(self.number, len(places))
        return None if at is None else places[at - 1]


@attrs.frozen
class Span:
    """From one place of the body up to another."""

    begin: Offset | Event
    end: Offset | Event

    def __str__(self) -> str:
        return f"{self.begin}-{self.end}"

    def piece(self, body: bytes) -> tuple[int, int] | None:
        """Return where it begins and ends; None if it is empty here."""
        begin, end = self.begin.within(body), self.end.within(body)
        return (begin, end) if begin < end else None


Place: TypeAlias = Offset | Event | Message
Piece: TypeAlias = Event | Span | Message


def place(text: str) -> Place:
    """Read a place.

    Raises:
        ValueError: it is none.
    """
    if _OFFSET.fullmatch(text):
        return Offset(int(text))
    if match := _NUMBERED.fullmatch(text):
        number = int(match["number"])
        return Event(number) if match["kind"] == "e" else Message(number)
    raise ValueError(f"{text!r} is no place: a byte (1234), an event (e3) or a message (f3)")


def piece(text: str) -> Piece:
    """Read a piece.

    Raises:
        ValueError: it is none.
    """
    if match := _SPAN.fullmatch(text):
        begin, end = place(match["begin"]), place(match["end"])
        if isinstance(begin, Message) or isinstance(end, Message):  # cannot be, by the pattern
            raise ValueError(f"{text!r} is no piece")
        return Span(begin, end)
    if match := _NUMBERED.fullmatch(text):
        number = int(match["number"])
        if number:
            return Event(number) if match["kind"] == "e" else Message(number)
    raise ValueError(
        f"{text!r} is no piece: an event (e3), bytes (100-200) or a message (f3), counted from 1"
    )


def incoming(frames: Sequence[Frame]) -> list[int]:
    """Return the indices of the messages that come in."""
    return [
        index
        for index, frame in enumerate(frames)
        if frame.direction == "in" and frame.kind in _MESSAGES
    ]


def _event_ends(body: bytes) -> list[int]:
    """Return 0 and where each event ends. Bytes behind the last end are one more event."""
    return [0, *itertools.accumulate(map(len, sse.split(body)))]


def _clamped(number: int, count: int) -> int:
    return max(0, min(number if number >= 0 else count + 1 + number, count))


def _numbered(number: int, count: int) -> int | None:
    at = number if number >= 0 else count + 1 + number
    return at if 1 <= at <= count else None
