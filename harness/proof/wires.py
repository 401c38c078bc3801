"""Sockets without a network: pairs in this process, made where somebody would have connected.

Bytes that one end sends can be received at the other end at once, and closing shows as it does with
TCP: an end that is closed with bytes in it that it has not read resets the other one (on Linux).
"""

from __future__ import annotations

import contextlib
import math
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

#: Why nothing of this works here; None where it does.
UNSUPPORTED: Final = (
    None
    if sys.platform == "linux"
    else "socket pairs that behave as connections, resets included, exist on Linux alone"
)


def pair(*, buffer_bytes: int | None = None) -> tuple[trio.SocketStream, trio.SocketStream]:
    """Return the two ends of a connection.

    `buffer_bytes` is how much the second end can have sent that the first one has not read.
    """
    ours, theirs = socket.socketpair()
    if buffer_bytes is not None:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
    return _stream(ours), _stream(theirs)


def _stream(end: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(end))


@attrs.define(eq=False)
class Door(trio.abc.Listener[trio.SocketStream]):
    """A listener to which a client connects by a call."""

    _in: trio.MemorySendChannel[trio.SocketStream] = attrs.field(init=False)
    _out: trio.MemoryReceiveChannel[trio.SocketStream] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._in, self._out = trio.open_memory_channel[trio.SocketStream](math.inf)

    def connect(self, *, buffer_bytes: int | None = None) -> trio.SocketStream:
        """Return the client's end of a new connection; see `pair` for `buffer_bytes`."""
        ours, theirs = pair(buffer_bytes=buffer_bytes)
        self._in.send_nowait(theirs)
        return ours

    async def accept(self) -> trio.SocketStream:
        """Wait for the next connection."""
        return await self._out.receive()

    async def aclose(self) -> None:
        """Take no more connections."""
        self._in.close()
        self._out.close()


def cut_off(stream: trio.SocketStream) -> None:
    """Let the other end see that nothing comes any more and nothing is taken, from this moment.

    Needs no task: whoever waits on `stream` itself is woken too.
    """
    with contextlib.suppress(OSError):
        stream.socket.shutdown(socket.SHUT_RDWR)


@attrs.define(eq=False)
class Wiring:
    """The network of one relay: connections to anywhere are served by a function here."""

    _nursery: trio.Nursery
    _serve: Callable[[trio.SocketStream], Awaitable[None]]
    #: Set while connecting shall take for ever.
    hangs: bool = False

    async def open(self, host: str, port: int) -> trio.SocketStream:  # noqa: ARG002  (as the seam has it)
        """Connect. An `Opening` for `DirectTransport`."""
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        ours, theirs = pair()
        self._nursery.start_soon(self._serve, theirs)
        return ours
