"""Keeps an upstream answer back until it says something.

Up to the first event that is no handshake, a turn that fails can be tried again unseen; what was
kept back until then is handed on in one piece.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import faults, sse
from codexrelay.protocol.events import ANNOUNCEMENTS, Phase, phase_of
from codexrelay.protocol.raw import JsonObject, parse_object
from codexrelay.protocol.responses_scan import Notes, look, opens_with_output

if TYPE_CHECKING:
    from codexrelay.protocol.faults import Fault

_SSE_BEGIN: Final = re.compile(rb"\s*(?:\xef\xbb\xbf)?(?:event|data|id|retry)?:")


@attrs.frozen
class Output:
    """The model has begun to answer."""

    #: All bytes so far, from the first one on; the last event in them may be unfinished.
    held: bytes


@attrs.define(eq=False, kw_only=True)
class Holding(ABC):
    """Holds one attempt's answer, whatever it speaks. After a result it is done with."""

    #: Against which upstream's reset times are read, Unix seconds.
    now_unix_s: float
    #: The most that is kept back; more than this is no handshake.
    max_bytes: int = sse.MAX_EVENT_BYTES
    #: Whether the answer's first event has come, whole; a comment is none.
    has_begun: bool = attrs.field(default=False, init=False)
    #: The turn state and the latest `codex.rate_limits` that came as events, None if none did.
    turn_state: str | None = attrs.field(default=None, init=False)
    rate_limits: JsonObject | None = attrs.field(default=None, init=False)
    _blocks: list[bytes] = attrs.field(factory=list, init=False)
    _held_bytes: int = attrs.field(default=0, init=False)
    _cutter: sse.EventCutter = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._cutter = sse.EventCutter(max_event_bytes=self.max_bytes)

    def feed(self, block: bytes) -> Output | Fault | None:
        """Take what an attempt delivers. Returns None while there is nothing but handshake."""
        self._blocks.append(block)
        self._held_bytes += len(block)
        try:
            whole = self._cutter.feed(block)
        except EventTooLargeError as error:
            return faults.broken(str(error))
        if (result := self._judge_all(whole)) is not None:
            return result
        if self._held_bytes > self.max_bytes:
            return faults.broken(f"the backend sent {self._held_bytes} bytes without any output")
        return None

    def end(self) -> Fault:
        """Return the fault of an answer that ended before its first output."""
        body = b"".join(self._blocks)
        if _SSE_BEGIN.match(body):
            return faults.ended_early()
        return faults.no_stream(body, now_unix_s=self.now_unix_s)

    def _judge_all(self, whole: bytes) -> Output | Fault | None:
        """Return what the first of these events that says something means; None: none does."""
        for raw in sse.split(whole):
            if (result := self._judge(raw)) is not None:
                return result
        return None

    @abstractmethod
    def _judge(self, raw: bytes) -> Output | Fault | None:
        """Return what one whole event means; None: it says nothing yet."""

    def _output(self) -> Output:
        return Output(b"".join(self._blocks))


@attrs.define(eq=False, kw_only=True)
class Hold(Holding):
    """Holds an answer in events of Responses."""

    _notes: Notes = attrs.field(factory=Notes, init=False)

    def _judge_all(self, whole: bytes) -> Output | Fault | None:
        if opens_with_output(whole):
            self.has_begun = True
            return self._output()
        return super()._judge_all(whole)

    def _judge(self, raw: bytes) -> Output | Fault | None:
        try:
            event = look(raw)
            if event is not None and event.payload is None and event.name in ANNOUNCEMENTS:
                # They say nothing that is asked for here; but a broken one can be tried again now.
                parse_object(event.data)
        except ValueError:
            return faults.not_json()
        if event is None:
            return None
        self.has_begun = True
        match phase_of(event.name):
            case Phase.FAILURE:
                return faults.from_event(event.payload or {}, now_unix_s=self.now_unix_s)
            case Phase.OUTPUT:
                return self._output()
            case Phase.HANDSHAKE:
                if event.name not in ANNOUNCEMENTS:
                    self._notes.note(event)
                    self.turn_state = self._notes.turn_state
                    self.rate_limits = self._notes.rate_limits
                return None
