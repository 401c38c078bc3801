"""The operators: each changes an answer and leaves everything else of it as it was.

How they are written, and what each does in a word, stands in `forms`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

import attrs

from codexrelay.protocol import raw
from codexrelay.protocol.openai_errors import error_object
from harness.cassettes.model import End, Frame
from harness.cassettes.performance import Chunk, Performance
from harness.faults import pieces
from harness.faults.positions import Event, Message, Offset, Piece, Place, Span
from harness.faults.terms import duration_text, escaped, size_text

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json

#: Never part of UTF-8.
BAD_BYTE: Final = 0xFF
_SWITCHED: Final = 101
_FIRST_ERROR: Final = 400
_TOO_MANY: Final = 429
_RETRY_AFTER_S: Final = 2
#: Status -> type, code and words of the error object that the backend sends with it.
_ERRORS: Final[Mapping[int, tuple[str, str | None, str]]] = {
    400: ("invalid_request_error", None, "The request is not valid."),
    401: ("invalid_request_error", "token_expired", "Provided authentication token is expired."),
    403: ("permission_error", None, "This account may not use the model."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    429: ("rate_limit_error", "rate_limit_exceeded", "Rate limit reached. Try again in 2s."),
    503: ("service_unavailable_error", "server_is_overloaded", "Our servers are overloaded."),
}
_OTHER_ERROR: Final = ("server_error", "server_error", "An error occurred. Retry your request.")


class Operator(Protocol):
    """One change of an answer, which is a pure function of it."""

    def apply(self, performance: Performance) -> Performance:
        """Return the changed answer."""

    def __str__(self) -> str:
        """Return the term, as `read` reads it."""


@attrs.frozen
class Cut:
    """Let the answer stop at a place."""

    at: Place

    def __str__(self) -> str:
        return f"cut@{self.at}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer up to that place, closed there."""
        if isinstance(self.at, Message):
            if performance.status != _SWITCHED:
                return performance
            kept = performance.frames[: self.at.behind(performance.frames)]
            return _ended(attrs.evolve(performance, frames=kept), "fin")
        if performance.status == _SWITCHED:
            return performance
        before, _ = pieces.parted(performance.chunks, self.at.within(performance.body))
        return _ended(attrs.evolve(performance, chunks=before), "fin")


@attrs.frozen
class Ended:
    """Let the connection end in a certain way."""

    WAYS: ClassVar[Mapping[str, tuple[End, bool]]] = {
        "fin": ("eof", False),
        "rst": ("reset", True),
        "idle": ("idle", True),
        "eof": ("eof", True),
    }
    way: str

    def __str__(self) -> str:
        return self.way

    def apply(self, performance: Performance) -> Performance:
        """Return the answer with that end."""
        return _ended(performance, self.way)


@attrs.frozen
class NoHead:
    """Answer nothing at all."""

    def __str__(self) -> str:
        return "nohead"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer that is only an end."""
        bare = Performance(status=None, head_at_s=performance.head_at_s)
        return _ended(bare, "fin")


@attrs.frozen
class Delay:
    """Let everything from a place on come later."""

    at: Place
    by_s: float

    def __str__(self) -> str:
        return f"delay@{self.at}={duration_text(self.by_s)}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer, later from that place on."""
        if isinstance(self.at, Message):
            at = _said_behind(self.at, performance.frames)
            moved = (_at(frame, frame.at_s + self.by_s) for frame in performance.frames[at:])
            return attrs.evolve(performance, frames=(*performance.frames[:at], *moved))
        at = self.at.within(performance.body)
        before, after = pieces.parted(performance.chunks, at)
        changed = attrs.evolve(performance, chunks=before + pieces.later(after, self.by_s))
        if _is_beginning(self.at):
            changed = attrs.evolve(changed, head_at_s=performance.head_at_s + self.by_s)
        return changed


@attrs.frozen
class Stall:
    """Let nothing come for a time; what was due by then comes at once."""

    at: Place
    for_s: float

    def __str__(self) -> str:
        return f"stall@{self.at}={duration_text(self.for_s)}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer with that silence in it."""
        if isinstance(self.at, Message):
            behind = self.at.behind(performance.frames)
            again_s = (performance.frames[behind - 1].at_s if behind else 0.0) + self.for_s
            at = _said_behind(self.at, performance.frames)
            moved = (_at(frame, max(frame.at_s, again_s)) for frame in performance.frames[at:])
            return attrs.evolve(performance, frames=(*performance.frames[:at], *moved))
        at = self.at.within(performance.body)
        before, after = pieces.parted(performance.chunks, at)
        if _is_beginning(self.at):
            head_at_s = max(performance.head_at_s, self.for_s)
            chunks = pieces.not_before(after, head_at_s)
            return attrs.evolve(performance, head_at_s=head_at_s, chunks=chunks)
        again_s = (before[-1].at_s if before else performance.head_at_s) + self.for_s
        return attrs.evolve(performance, chunks=before + pieces.not_before(after, again_s))


@attrs.frozen
class Dup:
    """Let a piece come twice."""

    what: Piece

    def __str__(self) -> str:
        return f"dup@{self.what}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer with the piece twice, the second time at the moment of its end."""
        if isinstance(self.what, Message):
            at = self.what.index(performance.frames)
            if at is None:
                return performance
            frames = performance.frames
            return attrs.evolve(performance, frames=(*frames[: at + 1], *frames[at:]))
        span = self.what.piece(performance.body)
        if span is None:
            return performance
        before, within, after = pieces.taken_out(performance.chunks, *span)
        again = pieces.at_moment(within, within[-1].at_s)
        return pieces.with_body(performance, before + within + again + after)


@attrs.frozen
class Swap:
    """Let an event or message come behind the one that follows it."""

    what: Event | Message

    def __str__(self) -> str:
        return f"swap@{self.what}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer with the two exchanged; the earlier one waits for the later one."""
        next_number = self.what.number + 1
        if next_number == 0:  # the last one has no follower
            return performance
        if isinstance(self.what, Message):
            return self._swap_messages(performance, self.what, Message(next_number))
        first = self.what.piece(performance.body)
        second = Event(next_number).piece(performance.body)
        if first is None or second is None:
            return performance
        before, one, rest = pieces.taken_out(performance.chunks, *first)
        other, after = pieces.parted(rest, second[1] - second[0])
        waited = pieces.at_moment(one, other[-1].at_s)
        return pieces.with_body(performance, before + other + waited + after)

    @staticmethod
    def _swap_messages(performance: Performance, one: Message, other: Message) -> Performance:
        frames = list(performance.frames)
        first, second = one.index(frames), other.index(frames)
        if first is None or second is None:
            return performance
        # Each takes the other's moment, so that what goes out between them stays where it is.
        frames[first], frames[second] = (
            _at(frames[second], frames[first].at_s),
            _at(frames[first], frames[second].at_s),
        )
        return attrs.evolve(performance, frames=tuple(frames))


@attrs.frozen
class Drop:
    """Let a piece never come."""

    what: Piece

    def __str__(self) -> str:
        return f"drop@{self.what}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer without the piece."""
        if isinstance(self.what, Message):
            at = self.what.index(performance.frames)
            if at is None:
                return performance
            frames = performance.frames
            return attrs.evolve(performance, frames=(*frames[:at], *frames[at + 1 :]))
        span = self.what.piece(performance.body)
        if span is None:
            return performance
        before, _, after = pieces.taken_out(performance.chunks, *span)
        return pieces.with_body(performance, before + after)


@attrs.frozen
class Corrupt:
    """Let one byte be another one. Of a message it is the first byte."""

    at: Place
    byte: int = BAD_BYTE

    def __str__(self) -> str:
        return f"corrupt@{self.at}" + (f"={self.byte:02x}" if self.byte != BAD_BYTE else "")

    def apply(self, performance: Performance) -> Performance:
        """Return the answer with that byte in it."""
        if isinstance(self.at, Message):
            at = self.at.index(performance.frames)
            if at is None:
                return performance
            frame = performance.frames[at]
            return _with_frame(performance, at, bytes((self.byte,)) + frame.data[1:])
        body = performance.body
        at = self.at.within(body)
        if at == len(body):
            return performance
        changed = body[:at] + bytes((self.byte,)) + body[at + 1 :]
        chunks = pieces.with_borders_of(performance.chunks, changed)
        return attrs.evolve(performance, chunks=chunks)


@attrs.frozen
class Insert:
    """Let bytes come in between that the backend never wrote."""

    at: Offset | Event
    data: bytes

    def __str__(self) -> str:
        return f"insert@{self.at}={escaped(self.data)}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer with the bytes in it, at the moment of what is in front of them."""
        if performance.status in (None, _SWITCHED):
            return performance
        before, after = pieces.parted(performance.chunks, self.at.within(performance.body))
        at_s = before[-1].at_s if before else performance.head_at_s
        more = (Chunk(at_s, self.data),)
        return pieces.with_body(performance, before + more + pieces.not_before(after, at_s))


@attrs.frozen
class Split:
    """Let every byte come by itself."""

    what: Event | Span | None = None

    def __str__(self) -> str:
        return "split" if self.what is None else f"split@{self.what}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer in many chunks."""
        if self.what is None:
            return attrs.evolve(performance, chunks=pieces.each_byte(performance.chunks))
        span = self.what.piece(performance.body)
        if span is None:
            return performance
        before, within, after = pieces.taken_out(performance.chunks, *span)
        return attrs.evolve(performance, chunks=before + pieces.each_byte(within) + after)


@attrs.frozen
class Coalesce:
    """Let the whole body come at once, as behind something that buffers."""

    def __str__(self) -> str:
        return "coalesce"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer in one chunk, at the moment of its last one."""
        if not performance.body:
            return performance
        whole = Chunk(performance.chunks[-1].at_s, performance.body)
        return attrs.evolve(performance, chunks=(whole,))


@attrs.frozen
class Status:
    """Let the answer have another status."""

    status: int

    def __str__(self) -> str:
        return f"status={self.status}"

    def apply(self, performance: Performance) -> Performance:
        """Return the refusal of that status or, below 400, the answer under that status."""
        if self.status < _FIRST_ERROR:
            return attrs.evolve(performance, status=self.status)
        type_, code, words = _ERRORS.get(self.status, _OTHER_ERROR)
        refusal = _refusal(
            performance, self.status, {"error": error_object(words, type=type_, code=code)}
        )
        if self.status == _TOO_MANY:
            headers = pieces.with_header(refusal.headers, "retry-after", str(_RETRY_AFTER_S))
            return attrs.evolve(refusal, headers=headers)
        return refusal


@attrs.frozen
class Limit:
    """Let the account have used up its allowance."""

    resets_in_s: float

    def __str__(self) -> str:
        return f"limit={duration_text(self.resets_in_s)}"

    def apply(self, performance: Performance) -> Performance:
        """Return the 429 of a reached usage limit. It tells no date: a fault has no clock."""
        resets_in_s = math.ceil(self.resets_in_s)
        error: Json = {
            "type": "usage_limit_reached",
            "message": "The usage limit has been reached",
            "plan_type": "plus",
            "resets_in_seconds": resets_in_s,
        }
        refusal = _refusal(performance, _TOO_MANY, {"error": error})
        told = (
            ("x-codex-primary-used-percent", "100"),
            ("x-codex-primary-reset-after-seconds", str(resets_in_s)),
        )
        return attrs.evolve(refusal, headers=refusal.headers + told)


@attrs.frozen
class Header:
    """Let a header have a value."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"header:{self.name}={escaped(self.value.encode())}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer with that header, once."""
        headers = pieces.with_header(performance.headers, self.name, self.value)
        return attrs.evolve(performance, headers=headers)


@attrs.frozen
class NoHeader:
    """Let a header be missing."""

    name: str

    def __str__(self) -> str:
        return f"noheader:{self.name}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer without that header."""
        headers = pieces.without_header(performance.headers, self.name)
        return attrs.evolve(performance, headers=headers)


@attrs.frozen
class Body:
    """Let the body be another one, which comes at once."""

    data: bytes
    is_json: bool = False

    def __str__(self) -> str:
        return f"{'json' if self.is_json else 'body'}={escaped(self.data)}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer with that body."""
        if performance.status in (None, _SWITCHED):
            return performance
        at_s = performance.chunks[0].at_s if performance.chunks else performance.head_at_s
        changed = pieces.with_body(performance, (Chunk(at_s, self.data),))
        if self.is_json:
            headers = pieces.with_header(changed.headers, "content-type", "application/json")
            changed = attrs.evolve(changed, headers=headers)
        return changed


@attrs.frozen
class Close:
    """Let a WebSocket be closed by the backend."""

    code: int
    #: None: behind everything.
    at: Message | None = None

    def __str__(self) -> str:
        return f"close={self.code}" if self.at is None else f"close@{self.at}={self.code}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer with that close frame as its end."""
        if performance.status != _SWITCHED:
            return performance
        frames = performance.frames
        kept = _without_close(frames if self.at is None else frames[: self.at.behind(frames)])
        at_s = kept[-1].at_s if kept else performance.head_at_s
        last = Frame(at_s=at_s, direction="in", kind="close", code=self.code)
        return attrs.evolve(performance, frames=(*kept, last), end="eof", framed=True)


@attrs.frozen
class HalfOpen:
    """Let a WebSocket fall silent."""

    at: Message

    def __str__(self) -> str:
        return f"half-open@{self.at}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer up to that message, and silence."""
        if performance.status != _SWITCHED:
            return performance
        return _ended(Cut(self.at).apply(performance), "idle")


@attrs.frozen
class Oversize:
    """Let a WebSocket message be very large. JSON allows spaces behind it."""

    what: Message
    size_bytes: int

    def __str__(self) -> str:
        return f"oversize@{self.what}={size_text(self.size_bytes)}"

    def apply(self, performance: Performance) -> Performance:
        """Return the answer with that message filled up."""
        at = self.what.index(performance.frames)
        if at is None:
            return performance
        return _with_frame(performance, at, performance.frames[at].data.ljust(self.size_bytes))


def _ended(performance: Performance, way: str) -> Performance:
    end, framed = Ended.WAYS[way]
    changed = attrs.evolve(performance, end=end, framed=framed)
    if way == "eof":
        return pieces.with_its_length(changed)
    return attrs.evolve(changed, frames=_without_close(changed.frames))


def _without_close(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    return tuple(frame for frame in frames if frame.kind != "close")


def _refusal(performance: Performance, status: int, body: Json) -> Performance:
    data = raw.dump(body)
    return Performance(
        status=status,
        headers=(("content-type", "application/json"), ("content-length", str(len(data)))),
        head_at_s=performance.head_at_s,
        chunks=(Chunk(performance.head_at_s, data),),
    )


def _is_beginning(at: Offset | Event) -> bool:
    return str(at) in ("0", "e0")


def _at(frame: Frame, at_s: float) -> Frame:
    return attrs.evolve(frame, at_s=at_s)


def _said_behind(at: Message, frames: tuple[Frame, ...]) -> int:
    """Return the index of the next frame that comes in behind a message.

    What goes out in between is the client's affair, and a replayed answer comes so long after what
    it answers: if both were late, nothing would be.
    """
    places = range(at.behind(frames), len(frames))
    return next((place for place in places if frames[place].direction == "in"), len(frames))


def _with_frame(performance: Performance, at: int, data: bytes) -> Performance:
    frames = list(performance.frames)
    frames[at] = attrs.evolve(frames[at], data=data)
    return attrs.evolve(performance, frames=tuple(frames))
