"""Clients that note every byte of their answers, and when it came: over HTTP, over WebSockets."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay.protocol.raw import dump
from harness.proof import frames
from harness.proof.truth import (
    TERMINAL,
    Message,
    event_of,
    is_whole,
    read_message,
    read_texts,
)

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

_RECEIVE_BYTES: Final = 262144
_BLANK: Final = b"\r\n\r\n"
#: Of the handshake. Always the same: chance has no place in the proof.
_KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="


@attrs.define(eq=False, kw_only=True)
class Heard:
    """What one client has got for one request."""

    data: bytearray = attrs.field(factory=bytearray)
    #: When its bytes came: the time, and how many there were by then.
    at_s: list[tuple[float, int]] = attrs.field(factory=list)
    #: The relay has closed the connection.
    closed: bool = False
    #: It has reset it.
    reset: bool = False
    #: When the client was through with it.
    over_at_s: float | None = None

    @property
    def message(self) -> Message:
        """Return the answer, read."""
        return read_message(self.data)


@attrs.define(eq=False, kw_only=True)
class SocketHeard(Heard):
    """What one client has got for one message over a WebSocket.

    `data` is the answer to the handshake if that was none, and empty otherwise.
    """

    texts: list[bytes] = attrs.field(factory=list)
    #: What the relay's close frame said; `frames.BROKEN` where the connection ended without one.
    close_code: int | None = None
    #: What is wrong with the frames.
    broken: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the turn's last event has come, or none can follow."""
        return self.closed or (bool(self.texts) and event_of(self.texts[-1]).name in TERMINAL)

    @property
    def message(self) -> Message:
        """Return the answer as HTTP would have given it: an error's status and body, or events."""
        if self.data:
            return read_message(self.data)
        message = read_texts(self.texts)
        return message if self.broken is None else attrs.evolve(message, broken=self.broken)


def request_bytes(path: str, body: JsonObject, **headers: str) -> bytes:
    """Return a POST as bytes; `_` in a header's name stands for `-`."""
    content = dump(body)
    named = {"host": "localhost", "content-length": str(len(content)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + content


async def ask(
    stream: trio.SocketStream, request: bytes, heard: Heard, *, reads_after_s: float = 0.0
) -> None:
    """Send a request and read until its answer is whole, or nothing can follow; then close.

    It takes nothing for the first `reads_after_s` seconds.
    """
    try:
        await stream.send_all(request)
        if reads_after_s:
            await trio.sleep(reads_after_s)
        while not is_whole(heard.data):
            data = await stream.receive_some(_RECEIVE_BYTES)
            if not data:
                heard.closed = True
                break
            heard.data += data
            heard.at_s.append((trio.current_time(), len(heard.data)))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        heard.closed = heard.reset = True
    finally:
        heard.over_at_s = trio.current_time()
        with contextlib.suppress(trio.BrokenResourceError):
            await trio.aclose_forcefully(stream)


def handshake_bytes(path: str, **headers: str) -> bytes:
    """Return the request for a WebSocket; `_` in a header's name stands for `-`."""
    named = {
        "host": "localhost",
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": _KEY,
        **headers,
    }
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()


@attrs.define(eq=False)
class ClientSocket:
    """A client's WebSocket, for one turn after the other.

    What comes for one turn behind its end is the next one's beginning, or the lingerer's.
    """

    stream: trio.SocketStream
    _reader: frames.FrameReader = attrs.field(factory=lambda: frames.FrameReader(masked=False))
    _texts: frames.Texts = attrs.field(factory=frames.Texts)
    #: Come, and of no turn yet.
    _waiting: deque[frames.Frame] = attrs.field(factory=deque)
    _received_bytes: int = 0
    is_open: bool = False
    #: A close frame is out.
    _closing: bool = False
    #: The relay has closed it.
    _is_over: bool = False

    @property
    def is_usable(self) -> bool:
        """Whether another turn can be asked for on it."""
        return self.is_open and not self._closing and not self._is_over

    async def open(self, heard: SocketHeard, path: str = "/v1/responses", **headers: str) -> None:
        """Ask for the WebSocket; what is told instead of it is in `heard`."""
        try:
            await self._open(heard, path, headers)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            heard.closed = heard.reset = True

    async def _open(self, heard: SocketHeard, path: str, headers: dict[str, str]) -> None:
        await self.stream.send_all(handshake_bytes(path, **headers))
        data = bytearray()
        while not self.is_open:
            came = await self.stream.receive_some(_RECEIVE_BYTES)
            data += came
            head, blank, rest = bytes(data).partition(_BLANK)
            if blank and head.startswith(b"HTTP/1.1 101 "):
                if frames.accept_of(_KEY).encode() not in head:
                    heard.broken = "a handshake that is not answered with its accept"
                self.is_open = True
                self._waiting += self._reader.feed(rest)
            elif not came or is_whole(data):
                heard.data, heard.closed = data, True
                return

    async def say(self, message: JsonObject) -> None:
        """Send a message."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.stream.send_all(frames.frame(frames.TEXT, dump(message), masked=True))

    async def listen(self, heard: SocketHeard, *, beyond_its_end: bool = False) -> None:
        """Take what comes until the turn is over, or, if wanted, until nothing can come."""
        try:
            while not heard.closed and (beyond_its_end or not heard.is_over):
                if self._waiting:
                    await self._take(self._waiting.popleft(), heard)
                    continue
                data = await self.stream.receive_some(_RECEIVE_BYTES)
                if not data:
                    heard.closed = True
                    heard.close_code = heard.close_code or frames.BROKEN
                self._received_bytes += len(data)
                heard.at_s.append((trio.current_time(), self._received_bytes))
                self._waiting += self._reader.feed(data)
                heard.broken = heard.broken or self._reader.broken
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            heard.closed = heard.reset = True
            heard.close_code = heard.close_code or frames.BROKEN
        self._is_over = heard.closed

    async def _take(self, one: frames.Frame, heard: SocketHeard) -> None:
        if heard.close_code is not None:
            heard.broken = "a frame behind the close frame"
        match one.opcode:
            case frames.PING:
                await self._answer(frames.frame(frames.PONG, one.payload, masked=True))
            case frames.PONG:
                pass
            case frames.CLOSE:
                heard.close_code = one.close_code
                if not self._closing:
                    await self._answer(frames.close(one.close_code, masked=True))
            case _:
                try:
                    text = self._texts.add(one)
                except ValueError as error:
                    heard.broken = str(error)
                    return
                if text is not None:
                    heard.texts.append(text)

    async def _answer(self, data: bytes) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await self.stream.send_all(data)

    def close_frame(self) -> None:
        """Send a close frame, at once; to be called from anywhere."""
        self._closing = True
        with contextlib.suppress(OSError):
            os.write(self.stream.socket.fileno(), frames.close(1000, masked=True))

    async def drop(self) -> None:
        """Close the connection without a word."""
        with contextlib.suppress(trio.BrokenResourceError):
            await trio.aclose_forcefully(self.stream)


async def ask_over_socket(
    socket: ClientSocket,
    message: JsonObject,
    heard: SocketHeard,
    *,
    reads_after_s: float = 0.0,
    lingers_s: float = 0.0,
) -> None:
    """Send a message on a WebSocket, which is opened for it if need be, and read its answer.

    It takes nothing for the first `reads_after_s` seconds; behind the answer's end it waits
    `lingers_s` for what should not come.
    """
    if not socket.is_open:
        await socket.open(heard)
    if socket.is_open:
        await socket.say(message)
        if reads_after_s:
            await trio.sleep(reads_after_s)
        await socket.listen(heard)
    heard.over_at_s = trio.current_time()
    if lingers_s:
        with trio.move_on_after(lingers_s):
            await socket.listen(heard, beyond_its_end=True)
