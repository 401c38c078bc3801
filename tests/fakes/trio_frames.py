"""A trio-websocket connection as a `FrameStream`, for connections in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio
import trio_websocket

from codexrelay.backends.websocket import BROKEN, NORMAL, Closed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.backends.websocket import Message

#: trio-websocket would wait for ever for the other side's close frame.
_CLOSING_S = 5.0


@attrs.frozen(eq=False)
class TrioFrames:
    """Its tasks belong to whoever opened the connection."""

    _connection: trio_websocket.WebSocketConnection

    async def send(self, data: Message) -> None:
        try:
            await self._connection.send_message(data)
        except trio_websocket.ConnectionClosed as error:
            raise _closed(error.reason) from None

    async def receive(self) -> Message:
        try:
            return await self._connection.get_message()
        except trio_websocket.ConnectionClosed as error:
            raise _closed(error.reason) from None

    def ready(self) -> Sequence[Message]:
        return ()

    async def ping(self) -> None:
        try:
            await self._connection.ping()
        except trio_websocket.ConnectionClosed as error:
            raise _closed(error.reason) from None

    @property
    def closed(self) -> Closed | None:
        reason = self._connection.closed
        return None if reason is None else _closed(reason)

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        with trio.move_on_after(_CLOSING_S):
            await self._connection.aclose(code, reason or None)

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._connection)


def _closed(reason: trio_websocket.CloseReason | None) -> Closed:
    return Closed(BROKEN) if reason is None else Closed(reason.code, reason.reason or "")
