"""Keeps an upstream answer back until it says something.

Up to the first event that is no handshake, a turn that fails can be tried again unseen; what was
kept back until then is handed on in one piece.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import faults, sse
from codexrelay.protocol.events import Phase, phase_of
from codexrelay.protocol.responses_scan import Notes, look

if TYPE_CHECKING:
    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.raw import JsonObject

_SSE_BEGIN: Final = re.compile(rb"\s*(?:\xef\xbb\xbf)?(?:event|data|id|retry)?:")


@attrs.frozen
class Output:
    """The model has begun to answer."""

    #: All bytes so far, from the first one on; the last event in them may be unfinished.
    held: bytes


@attrs.define(eq=False, kw_only=True)
class Hold:
    """Holds one attempt's answer. After a result it is done with."""

    #: Against which upstream's reset times are read, Unix seconds.
    now_unix_s: float
    #: The most that is kept back; more than this is no handshake.
    max_bytes: int = sse.MAX_EVENT_BYTES
    _blocks: list[bytes] = attrs.field(factory=list, init=False)
    _held_bytes: int = attrs.field(default=0, init=False)
    _cutter: sse.EventCutter = attrs.field(init=False)
    _notes: Notes = attrs.field(factory=Notes, init=False)
    _has_begun: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._cutter = sse.EventCutter(max_event_bytes=self.max_bytes)

    @property
    def has_begun(self) -> bool:
        """Whether the answer's first event has come, whole; a comment is none."""
        return self._has_begun

    @property
    def turn_state(self) -> str | None:
        """The turn state that came as an event, None if none did."""
        return self._notes.turn_state

    @property
    def rate_limits(self) -> JsonObject | None:
        """The latest `codex.rate_limits` event, None if none came."""
        return self._notes.rate_limits

    def feed(self, block: bytes) -> Output | Fault | None:
        """Take upstream bytes. Returns None while there is nothing but handshake."""
        self._blocks.append(block)
        self._held_bytes += len(block)
        try:
            whole = self._cutter.feed(block)
        except EventTooLargeError as error:
            return faults.broken(str(error))
        for raw in sse.split(whole):
            if (result := self._judge(raw)) is not None:
                return result
        if self._held_bytes > self.max_bytes:
            return faults.broken(f"the backend sent {self._held_bytes} bytes without any output")
        return None

    def end(self) -> Fault:
        """Return the fault of an answer that ended before its first output."""
        return told_by_end(b"".join(self._blocks), now_unix_s=self.now_unix_s)

    def _judge(self, raw: bytes) -> Output | Fault | None:
        try:
            event = look(raw)
        except ValueError:
            return faults.not_json()
        if event is None:
            return None
        self._has_begun = True
        match phase_of(event.name):
            case Phase.FAILURE:
                return faults.from_event(event.payload or {}, now_unix_s=self.now_unix_s)
            case Phase.OUTPUT:
                return Output(b"".join(self._blocks))
            case Phase.HANDSHAKE:
                self._notes.note(event)
                return None


def told_by_end(body: bytes, *, now_unix_s: float) -> Fault:
    """Return the fault of an answer that has ended and said nothing but `body`."""
    if _SSE_BEGIN.match(body):
        return faults.ended_early()
    return faults.no_stream(body, now_unix_s=now_unix_s)
