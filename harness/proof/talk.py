"""One WebSocket at the backend of the proof: a play for each message, one after the other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, Protocol

import attrs
import trio

from harness.proof import frames
from harness.proof.asked import Asked, left, peek, perform
from harness.proof.truth import TERMINAL, event_of
from harness.simulator.arrival import HttpRequest

if TYPE_CHECKING:
    from harness.proof.plays import Play, SocketPlay

#: For the answer to a close frame.
_CLOSING_S: Final = 5.0
_LENGTHS: Final = {126: 2, 127: 8}


class Backend(Protocol):
    """What decides about the answers, and keeps what happened."""

    asked: list[Asked]
    breaches: list[str]
    sockets: set[SocketTalk]

    def admit(self, request: HttpRequest, asked: Asked) -> Play | None:
        """Note whose bearer a request carries; return how it is turned away if that is no good."""

    def refusal_of_handshake(self, answer: bytes) -> Play | None:
        """Take what is to be played in answer to a handshake, None for `answer`."""

    def next_play(self) -> Play:
        """Take what is to be played next."""


@attrs.define(eq=False)
class SocketTalk:
    """A WebSocket, from its handshake on."""

    _backend: Backend
    _stream: trio.SocketStream
    _request: HttpRequest
    _number: int
    #: All of it; cancelling it closes the connection.
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    #: The message that is being answered.
    _asked: Asked | None = attrs.field(default=None, init=False)
    #: Its answer is out, or on the last piece of its way.
    _is_said: bool = attrs.field(default=False, init=False)
    _reader: frames.FrameReader = attrs.field(
        factory=lambda: frames.FrameReader(masked=True), init=False
    )
    _texts: frames.Texts = attrs.field(factory=frames.Texts, init=False)
    #: What has been sent, as far as it is within a frame.
    _sent: frames.FrameReader = attrs.field(
        factory=lambda: frames.FrameReader(masked=False), init=False
    )
    _sending: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    #: A close frame is out, and its answer is waited for.
    _is_closing: bool = attrs.field(default=False, init=False)
    #: It answers no pings any more.
    _is_half_open: bool = attrs.field(default=False, init=False)

    async def run(self) -> None:
        """Shake hands, then answer messages until either side is gone."""
        hello = self._arrived("handshake")
        accept = frames.accept_of(self._request.header("sec-websocket-key") or "")
        answer = _SWITCHING % accept.encode()
        refused = self._backend.admit(self._request, hello)
        if refused is None:
            refused = self._backend.refusal_of_handshake(answer)
        try:
            if refused is not None:
                hello.label = refused.label
                await perform(self._stream, refused, hello, unread=True)
                return
            await self._stream.receive_some(1)
            await self._stream.send_all(answer)
            hello.sent += answer
        finally:
            hello.over_at_s = trio.current_time()
        self._backend.sockets.add(self)
        try:
            with self.scope:
                await self._talk(hello.account)
        finally:
            self._backend.sockets.discard(self)
            self._over(was_left=False)

    def _arrived(self, way: Literal["handshake", "message"], body: bytes = b"") -> Asked:
        asked = Asked(
            path=self._request.path,
            way=way,
            body=body,
            connection=self._number,
            account=None,
            at_s=trio.current_time(),
        )
        self._backend.asked.append(asked)
        return asked

    async def _talk(self, account: str | None) -> None:
        to_play, plays = trio.open_memory_channel[tuple[Asked, "SocketPlay"]](math.inf)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, account, to_play, nursery.cancel_scope)
            async for asked, play in plays:
                await self._send(play, asked)
                if play.end == "half" or (play.end == "idle" and not self._is_said):
                    self._is_half_open = play.end == "half"
                    await trio.sleep_forever()
                if self._asked is asked:
                    self._over(was_left=False)
                if play.end == "closing":
                    self._is_closing = True
                    await trio.sleep(_CLOSING_S)
                if play.end not in ("keep", "idle"):
                    break
            nursery.cancel_scope.cancel()

    async def _listen(
        self,
        account: str | None,
        to_play: trio.MemorySendChannel[tuple[Asked, SocketPlay]],
        scope: trio.CancelScope,
    ) -> None:
        """Take frames until the relay leaves, or a play is to end in a reset."""
        try:
            while True:
                one, unread = await self._next_frame()
                text = None if one.opcode >= frames.CLOSE else self._texts.add(one)
                if text is not None:
                    asked, play = self._taken(account, text)
                    to_play.send_nowait((asked, play))
                    if play.end == "rst":
                        # The frame's last byte stays where it is: it makes the close a reset, and
                        # hides whether the relay has left.
                        asked.watched = False
                        return
                if unread:
                    await self._stream.receive_some(1)
                if one.opcode == frames.CLOSE:
                    if not self._is_closing:
                        await self._answer(frames.frame(frames.CLOSE, one.payload))
                    break
                if one.opcode == frames.PING:
                    await self._answer(frames.frame(frames.PONG, one.payload))
        except trio.BrokenResourceError:
            pass
        except ValueError as error:
            self._backend.breaches.append(str(error))
        self._over(was_left=True)
        scope.cancel()

    def _taken(self, account: str | None, text: bytes) -> tuple[Asked, SocketPlay]:
        if self._asked is not None and not self._is_said:
            raise ValueError("a message while another one is answered")
        self._over(was_left=False)
        asked = self._asked = self._arrived("message", text)
        asked.account = account
        self._is_said = False
        play = self._backend.next_play()
        asked.label = play.label
        if play.over_socket is None:
            raise AssertionError("a play that has no form for a WebSocket")
        return asked, play.over_socket

    async def _next_frame(self) -> tuple[frames.Frame, bool]:
        """Return the next frame, and whether its last byte is still in the socket.

        Raises:
            ValueError: it is none.
        """
        data = await self._exactly(2)
        size = data[1] & 0x7F
        length = _LENGTHS.get(size, 0)
        data += await self._exactly(length + (4 if data[1] & 0x80 else 0))
        if length:
            size = int.from_bytes(data[2 : 2 + length], "big")
        if size:
            data += await self._exactly(size - 1)
            data += await peek(self._stream, 1)
        found = self._reader.feed(data)
        if self._reader.broken is not None:
            raise ValueError(self._reader.broken)
        if not found:
            raise trio.BrokenResourceError  # its last byte does not come
        return found[0], size > 0

    async def _exactly(self, size_bytes: int) -> bytes:
        data = b""
        while len(data) < size_bytes:
            more = await self._stream.receive_some(size_bytes - len(data))
            if not more:
                raise trio.BrokenResourceError
            data += more
        return data

    async def _send(self, play: SocketPlay, asked: Asked) -> None:
        """Send as long as the relay takes it."""
        began_at_s = trio.current_time()
        for number, (at_s, data) in enumerate(play.pieces, start=1):
            if began_at_s + at_s > trio.current_time():
                await trio.sleep_until(began_at_s + at_s)
            async with self._sending:
                # The relay may go on as soon as it has this.
                if number == len(play.pieces):
                    self._is_said = play.end == "keep" or _is_whole(asked.sent + data)
                try:
                    await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    left(asked)
                    return
                self._sent.feed(data)
                asked.sent += data

    async def _answer(self, data: bytes) -> None:
        """Send a control frame, if nothing stands against it."""
        async with self._sending:
            if not self._sent.rest and not self._is_half_open:
                await self._stream.send_all(data)

    def _over(self, *, was_left: bool) -> None:
        """Note that nothing more is to be done for the message at hand."""
        if self._asked is None:
            return
        if was_left:
            left(self._asked)
        self._asked.over_at_s = trio.current_time()
        self._asked = None


_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"upgrade: websocket\r\n"
    b"connection: Upgrade\r\n"
    b"sec-websocket-accept: %b\r\n"
    b"\r\n"
)
#: Of the answer to a handshake that is one.
HANDSHAKE_BYTES: Final = len(_SWITCHING % frames.accept_of("").encode())


def _is_whole(wire: bytearray) -> bool:
    return any(event_of(text).name in TERMINAL for text in frames.texts_of(bytes(wire)))
