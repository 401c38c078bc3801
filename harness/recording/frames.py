"""A recorder that stands in front of a WebSocket.

Pings and pongs are not recorded: when somebody asks whether the other side is still there says
nothing about what they tell each other. A close frame 1009 is kept as the peer's, also where it is
the relay's own, sent because a message was larger than it takes: the seam does not tell them apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from codexrelay.backends.websocket import (
    BROKEN,
    NO_CODE,
    NORMAL,
    Closed,
    FrameStream,
    Message,
)
from harness.recording.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cassettes.model import Direction


@attrs.define(eq=False)
class RecordedFrames:
    """A `FrameStream` that notes what passes, when it passes, and changes nothing of it."""

    _inner: FrameStream
    _tape: Tape

    async def send(self, data: Message) -> None:
        """Send a message."""
        # Noted first: the answer to it may be here before the sending task runs again.
        note_message(self._tape, "out", data)
        try:
            await self._inner.send(data)
        except Closed as closed:
            self._note_closed(closed)
            raise

    async def receive(self) -> Message:
        """Return the next message."""
        try:
            data = await self._inner.receive()
        except Closed as closed:
            self._note_closed(closed)
            raise
        note_message(self._tape, "in", data)
        return data

    def ready(self) -> Sequence[Message]:
        """Return the messages that have come."""
        found = self._inner.ready()
        for data in found:
            note_message(self._tape, "in", data)
        return found

    async def ping(self) -> None:
        """Send a ping and wait for its pong."""
        await self._inner.ping()

    @property
    def closed(self) -> Closed | None:
        """How it was closed."""
        return self._inner.closed

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close it with a close frame."""
        if (closed := self._inner.closed) is not None:
            self._note_closed(closed)
        else:
            self._tape.frame("out", "close", reason.encode(), code=code)
            self._tape.end("eof")
        await self._inner.close(code, reason)

    async def aclose(self) -> None:
        """Drop the connection."""
        self.left()
        await self._inner.aclose()

    def left(self) -> None:
        """Take note that nobody receives from it any more."""
        if (closed := self._inner.closed) is not None:
            self._note_closed(closed)
        self._tape.end("closed-by-relay")

    def _note_closed(self, closed: Closed) -> None:
        if closed.code == BROKEN:
            self._tape.end("reset")
            return
        code = None if closed.code == NO_CODE else closed.code
        self._tape.frame("in", "close", closed.reason.encode(), code=code)
        self._tape.end("eof")


def note_message(tape: Tape, direction: Direction, data: Message) -> None:
    """Note a message that passes now."""
    if isinstance(data, str):
        tape.frame(direction, "text", data.encode("utf-8", "surrogatepass"))
    else:
        tape.frame(direction, "bin", data)
