"""Keeps an answer in chunks back until it says something; see `hold`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import faults, hold, sse
from codexrelay.protocol.chat_chunk import (
    FAILED,
    Chunk,
    Failure,
    Sentinel,
    finish_of,
    gave_up,
    look,
    says_something,
)
from codexrelay.protocol.hold import Output
from codexrelay.protocol.raw import JsonObject

if TYPE_CHECKING:
    from codexrelay.protocol.faults import Fault


@attrs.define(eq=False, kw_only=True)
class ChatHold:
    """Holds one attempt's answer. After a result it is done with."""

    now_unix_s: float
    max_bytes: int = sse.MAX_EVENT_BYTES
    #: Of the Codex backend; there is none here.
    turn_state: str | None = attrs.field(default=None, init=False)
    rate_limits: JsonObject | None = attrs.field(default=None, init=False)
    #: Whether the answer's first chunk has come, whole; a comment is none.
    has_begun: bool = attrs.field(default=False, init=False)
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
        for raw in sse.split(whole):
            if (result := self._judge(raw)) is not None:
                return result
        if self._held_bytes > self.max_bytes:
            return faults.broken(f"the backend sent {self._held_bytes} bytes without any output")
        return None

    def end(self) -> Fault:
        """Return the fault of an answer that ended before its first output."""
        return hold.told_by_end(b"".join(self._blocks), now_unix_s=self.now_unix_s)

    def _judge(self, raw: bytes) -> Output | Fault | None:
        try:
            said = look(raw)
        except ValueError:
            return faults.not_json()
        match said:
            case Failure(event):
                return faults.from_event(event, now_unix_s=self.now_unix_s)
            case Sentinel.DONE:
                return faults.ended_early()
            case None:
                return None
            case Chunk():
                pass
        self.has_begun = True
        choices = [choice for _, choice in said.choices]
        if any(finish_of(choice) in FAILED for choice in choices):
            return faults.from_event(gave_up(said), now_unix_s=self.now_unix_s)
        if any(says_something(choice) for choice in choices):
            return Output(b"".join(self._blocks))
        return None
