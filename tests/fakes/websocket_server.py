"""The other end of a WebSocket, frame by frame: scripts for `serving`."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Final

import attrs
import trio

from tests.fakes.scripted_server import Caller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.fakes.scripted_server import Script

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = re.compile(rb"\r\nsec-websocket-key: (\S+)\r\n", re.IGNORECASE)


def frame(payload: bytes, kind: int = TEXT, *, ends: bool = True) -> bytes:
    """Return a server's frame; `ends`: it is the last of its message."""
    size = len(payload)
    if size <= 125:
        told = bytes([size])
    elif size <= 0xFFFF:
        told = b"\x7e" + size.to_bytes(2)
    else:
        told = b"\x7f" + size.to_bytes(8)
    return bytes([kind | (0x80 if ends else 0)]) + told + payload


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(code.to_bytes(2) + reason.encode(), CLOSE)


def agreement(head: bytes, *more: bytes) -> bytes:
    """Return the 101 to a request's head, with further header lines."""
    key = _KEY.search(head)
    assert key is not None
    accept = base64.b64encode(hashlib.sha1(key[1] + _MAGIC).digest())
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + accept,
        *more,
    ]
    return b"\r\n".join((*lines, b"", b""))


@attrs.define(eq=False)
class Peer:
    """An accepted WebSocket, as the script sees it."""

    caller: Caller
    #: The head of the request.
    head: bytes

    async def send(self, data: bytes) -> None:
        """Send bytes: frames, or anything else."""
        await self.caller.send(data)

    async def next(self) -> tuple[int, bytes]:
        """Return the kind and the payload of the client's next frame, `(0, b"")` at the end."""
        begin = await self.caller._exactly(2)
        if len(begin) < 2:
            return 0, b""
        assert begin[1] & 0x80, "a client's frame must be masked"
        size = begin[1] & 0x7F
        if size > 125:
            size = int.from_bytes(await self.caller._exactly(2 if size == 126 else 8))
        mask = await self.caller._exactly(4)
        masked = await self.caller._exactly(size)
        key = int.from_bytes((mask * (size // 4 + 1))[:size])
        return begin[0] & 0x0F, (int.from_bytes(masked) ^ key).to_bytes(size)

    async def left(self) -> None:
        """Wait until the client has closed its side."""
        await self.caller.left()


def accepting(script: Callable[[Peer], Awaitable[None]], *more: bytes) -> Script:
    """Return a script that agrees to a WebSocket, with further header lines, and goes on."""

    async def shake_hands(caller: Caller) -> None:
        if head := await caller.head():
            await caller.send(agreement(head, *more))
            await script(Peer(caller, head))

    return shake_hands


async def echo(peer: Peer) -> None:
    """Send messages back, answer pings and the close frame."""
    while True:
        kind, payload = await peer.next()
        match kind:
            case 0x1 | 0x2:
                await peer.send(frame(payload, kind))
            case 0x9:
                await peer.send(frame(payload, PONG))
            case 0x8:
                await peer.send(frame(payload, CLOSE))
                return
            case 0:
                return


async def silent(peer: Peer) -> None:
    """Send nothing, and read nothing: not even that the client has gone."""
    await trio.sleep_forever()
