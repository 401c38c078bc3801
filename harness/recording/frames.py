"""WebSockets as the relay sees them, and a recorder that stands in front of one.

trio-websocket answers pings by itself and does not tell of them, so they are not recorded. Nor
does it tell a peer's close frame 1009 from its own, sent because a message was larger than it
takes: both are kept as the peer's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio
import trio_websocket

from harness.recording.tape import Tape

if TYPE_CHECKING:
    from harness.cassettes.model import Direction

#: Most seconds that a peer is given to answer a close frame; trio-websocket would wait for ever.
CLOSING_S: Final = 5.0
NORMAL: Final = 1000
#: The peer's close frame had no code.
NO_CODE: Final = 1005
#: The connection ended without a close frame.
BROKEN: Final = 1006


class Closed(Exception):  # noqa: N818  (it is an answer, not an error)
    """The WebSocket is closed."""

    def __init__(self, code: int, reason: str = "") -> None:
        """Tell the code of the close frame, or `BROKEN`; and its reason."""
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class FrameStream(Protocol):
    """An open WebSocket. One task may send while another receives."""

    async def send(self, data: str | bytes) -> None:
        """Send a message.

        Raises:
            Closed: it is closed.
        """

    async def receive(self) -> str | bytes:
        """Return the next message; cancelling it loses none.

        Raises:
            Closed: it is closed, and every message before that has been returned.
        """

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close it with a close frame; does nothing to a closed one."""

    async def aclose(self) -> None:
        """Drop the connection without a word, if it is not closed yet."""


@attrs.frozen(eq=False)
class TrioFrames:
    """A trio-websocket connection as a `FrameStream`. Its tasks belong to whoever opened it."""

    _connection: trio_websocket.WebSocketConnection

    async def send(self, data: str | bytes) -> None:
        """Send a message."""
        try:
            await self._connection.send_message(data)
        except trio_websocket.ConnectionClosed as error:
            raise _closed(error) from None

    async def receive(self) -> str | bytes:
        """Return the next message."""
        try:
            return await self._connection.get_message()
        except trio_websocket.ConnectionClosed as error:
            raise _closed(error) from None

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close it, waiting `CLOSING_S` at most for the peer to do the same."""
        with trio.move_on_after(CLOSING_S):
            await self._connection.aclose(code, reason or None)

    async def aclose(self) -> None:
        """Drop the connection."""
        await trio.aclose_forcefully(self._connection)


def _closed(error: trio_websocket.ConnectionClosed) -> Closed:
    if error.reason is None:
        return Closed(BROKEN)
    return Closed(error.reason.code, error.reason.reason or "")


@attrs.define(eq=False)
class RecordedFrames:
    """A `FrameStream` that notes what passes, when it passes, and changes nothing of it."""

    _inner: FrameStream
    _tape: Tape

    async def send(self, data: str | bytes) -> None:
        """Send a message."""
        # Noted first: the answer to it may be here before the sending task runs again.
        self._note("out", data)
        try:
            await self._inner.send(data)
        except Closed as closed:
            self._note_closed(closed)
            raise

    async def receive(self) -> str | bytes:
        """Return the next message."""
        try:
            data = await self._inner.receive()
        except Closed as closed:
            self._note_closed(closed)
            raise
        self._note("in", data)
        return data

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close it with a close frame."""
        if self._tape.ended is None:
            self._tape.frame("out", "close", reason.encode(), code=code)
            self._tape.end("eof")
        await self._inner.close(code, reason)

    async def aclose(self) -> None:
        """Drop the connection."""
        self._tape.end("closed-by-relay")
        await self._inner.aclose()

    def _note(self, direction: Direction, data: str | bytes) -> None:
        if isinstance(data, str):
            self._tape.frame(direction, "text", data.encode("utf-8", "surrogatepass"))
        else:
            self._tape.frame(direction, "bin", data)

    def _note_closed(self, closed: Closed) -> None:
        if self._tape.ended is not None:
            return
        if closed.code == BROKEN:
            self._tape.end("reset")
            return
        code = None if closed.code == NO_CODE else closed.code
        self._tape.frame("in", "close", closed.reason.encode(), code=code)
        self._tape.end("eof")
