"""The seam between an upstream event stream and what the client is given.

An *answer* turns committed upstream bytes into client bytes. It never waits, never logs and never
fails for what upstream sends: what cannot be understood ends the answer as a fault.

Implementations: `responses_stream`, `chat_stream` (streamed); `responses_whole`, `chat_whole` (one
JSON body). All are fed the same bytes.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from codexrelay.protocol.events import TerminalName
from codexrelay.protocol.faults import Fault
from codexrelay.protocol.raw import JsonObject


@attrs.frozen(kw_only=True)
class Terminal:
    """How upstream ended the turn, in its own words."""

    name: TerminalName
    response_id: str | None = None
    #: Upstream's `usage` object, None if it gave none.
    usage: JsonObject | None = None
    #: What went wrong, when `name` is `failed`.
    fault: Fault | None = None


class Answer(Protocol):
    """What every answer does."""

    @property
    def terminal(self) -> Terminal | None:
        """Set once the terminal event has been fed; None before."""

    def feed(self, block: bytes) -> bytes:
        """Take upstream bytes, return client bytes: whole events, or nothing.

        A streamed answer returns what can be sent now; a whole one always returns `b""`. After the
        terminal event further bytes are taken too; a second terminal event is dropped.

        Raises:
            EventTooLargeError: see `sse.EventCutter`.
        """

    def fail(self, fault: Fault) -> bytes:
        """End the answer for a fault that upstream did not report itself.

        Returns the client bytes of the one terminal event (`b""` for a whole answer) and sets
        `terminal`. Called at most once, and only while `terminal` is None.
        """


class StreamedAnswer(Answer, Protocol):
    """An answer that is sent event by event."""

    #: Sent while there is nothing to say; valid between any two results of `feed`.
    keep_alive: bytes

    def finish(self) -> bytes:
        """Return what stands behind the last event: `data: [DONE]` for Chat, else nothing."""


class WholeAnswer(Answer, Protocol):
    """An answer that is one JSON body, built when the stream has ended."""

    def body(self) -> bytes:
        """Return the body. Only after `terminal` is set to `completed` or `incomplete`."""
