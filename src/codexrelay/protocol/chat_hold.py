"""Keeps an answer in chunks back until it says something; see `hold`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from codexrelay.protocol import faults
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
from codexrelay.protocol.hold import Holding

if TYPE_CHECKING:
    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.hold import Output


@attrs.define(eq=False, kw_only=True)
class ChatHold(Holding):
    """Holds an answer in chunks."""

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
            return self._output()
        return None
