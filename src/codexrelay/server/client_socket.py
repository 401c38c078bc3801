"""A view's side of a client's WebSocket.

Quart's own `websocket` sends one message per call, with a checkpoint and two signals; a turn has
many events that are there at once. Below a server that has the extension `codexrelay.frames` (ours;
see `websocket_stream`) they go out in one write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import attrs
from hypercorn.typing import ASGISendCallable
from quart import websocket
from quart.wrappers import Websocket

if TYPE_CHECKING:
    from hypercorn.typing import ASGISendEvent

#: The ASGI extension, and its message: `{"type": "codexrelay.frames", "texts": [bytes, ...]}`.
FRAMES: Final = "codexrelay.frames"
#: Where a scope keeps its `ClientSocket`.
SOCKET: Final = "codexrelay.socket"


@attrs.define(eq=False)
class ClientSocket:
    """One client's WebSocket. When the client leaves, the view is cancelled, wherever it waits."""

    _websocket: Websocket
    _send: ASGISendCallable
    #: The server takes many texts at once.
    _takes_many: bool
    #: Closed by us; what is sent from then on is dropped.
    closed: bool = attrs.field(default=False, init=False)

    async def accept(self) -> None:
        """Agree to the WebSocket, if that has not happened yet."""
        await self._websocket.accept()

    async def receive(self) -> str | bytes:
        """Return the client's next message, text or bytes. Not to be called once it is closed."""
        if self.closed:
            raise RuntimeError("nothing can be received from a WebSocket that was closed here")
        return await self._websocket.receive()

    async def send_messages(self, texts: list[bytes]) -> None:
        """Send each of `texts`, UTF-8, as one text message; waits while the client does not read.

        They go out whole or not at all, also if the caller is cancelled meanwhile.
        """
        if not texts or self.closed:
            return
        if self._takes_many:
            message: dict[str, Any] = {"type": FRAMES, "texts": texts}
            await self._send(cast("ASGISendEvent", message))
            return
        for text in texts:
            decoded = text.decode(errors="replace")
            await self._send({"type": "websocket.send", "bytes": None, "text": decoded})

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame; nothing can be sent behind it. The view should end then."""
        if not self.closed:
            self.closed = True
            await self._websocket.close(code, reason)


def client_socket() -> ClientSocket:
    """Return that of the current Quart WebSocket; to be asked for inside a view."""
    socket: ClientSocket = websocket.scope[SOCKET]  # type: ignore[typeddict-item]
    return socket
