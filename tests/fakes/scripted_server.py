"""A server on a loopback socket that does on each connection what a script says, byte by byte."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import sys
from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    #: What happens on one accepted connection; when it returns, the connection is closed.
    Script = Callable[["Caller"], Awaitable[None]]

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)


@attrs.define(eq=False)
class Caller:
    """One accepted connection, as the script sees it."""

    #: 0 for the first connection the server accepted.
    number: int
    stream: trio.SSLStream[trio.SocketStream] | trio.SocketStream
    _received: bytes = b""

    async def head(self) -> bytes:
        """Return the next request's head with its blank line, `b""` when the client has left."""
        return await self._until(b"\r\n\r\n")

    async def request(self) -> bytes:
        """Return the next request with its body as it was sent, `b""` when the client has left."""
        head = await self.head()
        if _CHUNKED.search(head):
            return head + await self._until(b"0\r\n\r\n")
        length = _CONTENT_LENGTH.search(head)
        return head + await self._exactly(int(length[1]) if length else 0)

    async def send(self, data: bytes) -> None:
        """Send all of `data`."""
        await self.stream.send_all(data)

    async def left(self) -> None:
        """Wait until the client has closed its side, whatever it still sends."""
        while await self._more():
            self._received = b""

    def reset(self) -> None:
        """Break the connection off (RST) instead of closing it."""
        stream = self.stream
        plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        at_once = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        plain.socket.close()

    async def _until(self, end: bytes) -> bytes:
        while end not in self._received:
            if not await self._more():
                return b""
        return self._take(self._received.index(end) + len(end))

    async def _exactly(self, size: int) -> bytes:
        pieces = [self._take(min(size, len(self._received)))]
        missing = size - len(pieces[0])
        while missing and await self._more():
            pieces.append(self._take(min(missing, len(self._received))))
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def _take(self, size: int) -> bytes:
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    async def _more(self) -> bool:
        try:
            block = await self.stream.receive_some(256 * 1024)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        self._received += block
        return bool(block)


@attrs.define(eq=False)
class ScriptedServer:
    """What a test sees of the server."""

    url: str
    #: Connections accepted so far.
    accepted: int = 0
    #: Connections whose script still runs.
    open: int = 0
    _changed: trio.Event = attrs.field(factory=trio.Event)

    async def until_open(self, count: int) -> None:
        """Wait until `count` connections are open; fails after 20 s."""
        with trio.fail_after(20):
            while self.open != count:
                await self._changed.wait()

    def _count(self, change: int) -> None:
        self.open += change
        self._changed.set()
        self._changed = trio.Event()


@contextlib.asynccontextmanager
async def serving(
    script: Script, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedServer]:
    """Run `script` for each connection to the server, which is there until the block ends."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    server = ScriptedServer(f"{'https' if tls else 'http'}://127.0.0.1:{port}")

    async def play(plain: trio.SocketStream) -> None:
        number, server.accepted = server.accepted, server.accepted + 1
        stream = (
            trio.SSLStream(plain, tls, server_side=True, https_compatible=True) if tls else plain
        )
        server._count(+1)
        try:
            # The client may leave at any point of the script.
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await script(Caller(number, stream))
        finally:
            await trio.aclose_forcefully(plain)
            server._count(-1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, play, [listener])
        yield server
        nursery.cancel_scope.cancel()


def answering(*answers: bytes) -> Script:
    """Return a script that gives the n-th request of a connection the n-th answer, then closes."""

    async def script(caller: Caller) -> None:
        for answer in answers:
            if not await caller.request():
                return
            await caller.send(answer)

    return script


def always_answering(answer: bytes) -> Script:
    """Return a script that answers every request alike until the client leaves."""

    async def script(caller: Caller) -> None:
        while await caller.request():
            await caller.send(answer)

    return script
