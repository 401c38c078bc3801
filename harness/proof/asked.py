"""One request that has come to the backend of the proof, and the playing of its answer."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final, Literal

import attrs
import trio

from harness.simulator.arrival import HttpRequest

if TYPE_CHECKING:
    from harness.proof.plays import Pieces, Play

_RECEIVE_BYTES: Final = 65536
_BLANK: Final = b"\r\n\r\n"
_UPGRADE: Final = re.compile(rb"\r\nupgrade: ?websocket\r\n", re.IGNORECASE)


@attrs.define(eq=False, kw_only=True)
class Asked:
    """One request that has come."""

    path: str
    #: On which way: over HTTP, as a message on a WebSocket; or for such a WebSocket.
    way: Literal["http", "message", "handshake"] = "http"
    #: What it says; of handshakes nothing.
    body: bytes = b""
    #: Number of the connection, in the order in which they were made.
    connection: int = 0
    #: Name of the simulated account whose bearer it carried, None for no good one.
    account: str | None
    at_s: float
    #: What is played in answer, as the play itself calls it.
    label: str = ""
    #: What was sent in answer by now.
    sent: bytearray = attrs.field(factory=bytearray)
    #: When the relay left before the end; None if it did not.
    left_at_s: float | None = None
    #: The relay's leaving shows at once. If not, it shows when more is sent to it.
    watched: bool = True
    #: When nothing more was to be done for it.
    over_at_s: float | None = None

    @property
    def is_turn(self) -> bool:
        """Whether it is a model request."""
        return self.path.endswith("/responses") and self.way != "handshake"


def is_upgrade(request: HttpRequest) -> bool:
    """Tell whether a request asks for a WebSocket."""
    return (request.header("upgrade") or "").lower() == "websocket"


async def next_request(stream: trio.SocketStream) -> HttpRequest | None:
    """Return the next request; None when there is none.

    The last byte of its body is only looked at and left in the socket, so that closing it can reset
    the connection.
    """
    head = await _receive_head(stream)
    request_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    if not request_line:
        return None
    method, target, _ = request_line.split(" ")
    headers = tuple(
        (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)
    )
    length = int(next((value for name, value in headers if name == "content-length"), "0"))
    body = bytearray()
    while len(body) < length:
        missing = length - 1 - len(body)
        data = await (stream.receive_some(missing) if missing else peek(stream, 1))
        if not data:
            return None
        body += data
    return HttpRequest(method, target, headers, bytes(body))


async def _receive_head(stream: trio.SocketStream) -> bytes:
    """Return a request's head and take nothing that stands behind it; empty if none comes."""
    head = bytearray()
    while not head.endswith(_BLANK):
        if not (waiting := await peek(stream, _RECEIVE_BYTES)):
            return b""
        seen = head + waiting
        end = seen.find(_BLANK)
        if end == len(seen) - len(_BLANK) and _UPGRADE.search(seen):
            # Its last byte stays where it is, as that of a body does.
            head += await stream.receive_some(len(waiting) - 1)
            return bytes(seen)
        most = (len(seen) if end < 0 else end + len(_BLANK)) - len(head)
        head += await stream.receive_some(most)
    return bytes(head)


async def peek(stream: trio.SocketStream, most_bytes: int) -> bytes:
    """Return what waits to be received, and leave it there; empty when the relay has closed."""
    try:
        return await stream.socket.recv(most_bytes, trio.socket.MSG_PEEK)
    except OSError as error:
        raise trio.BrokenResourceError from error


async def perform(stream: trio.SocketStream, play: Play, asked: Asked, *, unread: bool) -> bool:
    """Play, and tell whether the connection can take another request.

    `unread` says that a byte of the request is still in the socket.
    """
    if play.end == "rst":
        # The last byte of the request stays where it is: it makes the close a reset, and hides
        # whether the relay has left.
        asked.watched = False
        await send(stream, play.pieces, asked)
        return False
    if unread:
        await stream.receive_some(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, stream, asked, nursery.cancel_scope)
        await send(stream, play.pieces, asked)
        if play.end == "idle":
            await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    return play.end == "keep" and asked.left_at_s is None


async def send(stream: trio.abc.SendStream, pieces: Pieces, asked: Asked) -> None:
    """Send as long as the relay takes it."""
    began_at_s = trio.current_time()
    for at_s, data in pieces:
        if began_at_s + at_s > trio.current_time():
            await trio.sleep_until(began_at_s + at_s)
        try:
            await stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            left(asked)
            return
        asked.sent += data


async def _watch(stream: trio.SocketStream, asked: Asked, scope: trio.CancelScope) -> None:
    """Notice that the relay leaves while its answer is under way."""
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.receive_some(1)
    left(asked)
    scope.cancel()


def left(asked: Asked) -> None:
    """Note that the relay has left, if it is the first sign of it."""
    if asked.left_at_s is None:
        asked.left_at_s = trio.current_time()
