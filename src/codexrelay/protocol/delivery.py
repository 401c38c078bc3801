"""The seam between what a target sends and what an attempt delivers.

A target that speaks Responses sends what the turn wants, byte for byte, unless it sends one object
in place of a stream (`responses_body`). One that speaks Chat is read all the way: for a Responses
client it becomes Responses events (`chat_source`), for a Chat client it stays what it is and only
gets the end that it lacks (`chat_native.ChatDelivery`).
"""

from __future__ import annotations

from typing import Final, Literal, Protocol, TypeAlias

from codexrelay.protocol import sse

#: What is spoken: Responses or Chat Completions.
Wire: TypeAlias = Literal["responses", "chat"]

#: Delivered for bytes that say nothing yet: a target that is heard is not silent.
STILL_THERE: Final = sse.comment("keep-alive")


class Delivery(Protocol):
    """Reads one answer. What it makes always ends at the end of an event."""

    def feed(self, block: bytes) -> bytes:
        """Take the target's bytes, return what is delivered: whole events, or nothing.

        Raises:
            EventTooLargeError: see `sse.EventCutter`.
        """

    def end(self) -> bytes:
        """Return what is delivered at the clean end of the target's body.

        An answer that is not complete gets no end here: whoever waits for it sees it end early.
        """
