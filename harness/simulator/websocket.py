"""One WebSocket: reads messages, performs the steps of their answers, decides nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final, TypeAlias, assert_never

import attrs
import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.frame_protocol import Opcode
from wsproto.utilities import RemoteProtocolError

from codexrelay.protocol import frames
from codexrelay.protocol.events import TERMINAL
from harness.simulator import wire
from harness.simulator.connection import reset
from harness.simulator.messages import SocketRules, error_message
from harness.simulator.seen import Seen
from harness.simulator.steps import (
    Answer,
    Binary,
    Chunk,
    Close,
    CloseFrame,
    Cut,
    Deafen,
    End,
    Hang,
    Head,
    Headers,
    Pause,
    Reset,
    Step,
    Until,
    Wait,
)

#: Largest message that is taken (wire notes 7: about that).
MAX_MESSAGE_BYTES: Final = 16 * 2**20
NORMAL: Final = 1000
_UNSUPPORTED: Final = 1003
_NO_CODE: Final = 1005
_TOO_BIG: Final = 1009
_LOST: Final = 1011
#: A client is given so long to answer a ping, however often it is pinged.
_PONG_WITHIN_S: Final = 20.0
#: Bytes of an answer that are gathered before they are sent, when no step asks for it earlier.
_FLUSH_BYTES: Final = 64 * 1024
_RECEIVE_BYTES: Final = 64 * 1024
#: How long the client's close frame is waited for, in seconds.
_CLOSING_S: Final = 5.0
#: A good status over HTTP, which has no message of its own here.
_OK: Final = 200
_PING: Final = b"simulated"

_Next: TypeAlias = tuple[Seen, Answer] | CloseFrame | Reset


@attrs.define(eq=False)
class SocketTalk:
    """Serves one WebSocket, from the answer to the handshake on."""

    _rules: SocketRules
    #: Called whenever a record has changed.
    _changed: Callable[[Seen], None]
    _stream: trio.abc.Stream = attrs.field(init=False)
    _frames: Connection = attrs.field(init=False)
    #: Messages to be answered, and how to end when it was asked for from outside.
    _in: trio.MemorySendChannel[_Next] = attrs.field(init=False)
    _waiting: trio.MemoryReceiveChannel[_Next] = attrs.field(init=False)
    #: Bytes to send, gathered so that a burst of events is one write.
    _out: bytearray = attrs.field(factory=bytearray, init=False)
    _sending: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    #: The message that is being answered.
    _current: Seen | None = attrs.field(default=None, init=False)
    #: A message was taken whose terminal event is not yet on its way.
    _busy: bool = attrs.field(default=False, init=False)
    #: The terminal event of the answer under way is on its way.
    _ended: bool = attrs.field(default=False, init=False)
    #: Status and headers of the refusal that is being told, and its body as far as it came.
    _refusal: tuple[int, Headers] | None = attrs.field(default=None, init=False)
    _refusal_body: bytearray = attrs.field(factory=bytearray, init=False)
    #: When the message that is answered had arrived, on trio's clock.
    _began_at_s: float = attrs.field(default=0.0, init=False)
    #: The client is heard no more.
    _deaf: bool = attrs.field(default=False, init=False)
    #: Our close frame is out.
    _closing: bool = attrs.field(default=False, init=False)
    #: It has ended from our side: nothing more is said.
    _over: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._in, self._waiting = trio.open_memory_channel(float("inf"))

    async def run(self, stream: trio.abc.Stream, early: bytes) -> None:
        """Serve until either side closes. The stream is the caller's to close.

        `early` has come from the client behind its handshake.

        Raises:
            trio.BrokenResourceError: the client has left before it was answered.
        """
        self._stream = stream
        self._frames = Connection(ConnectionType.SERVER, trailing_data=early)
        record, closers = self._rules.socket, self._rules.backend.closers
        closers[record.number] = self._close_from_outside
        try:
            await stream.send_all(wire.head(wire.SWITCHED, self._rules.head))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, nursery.cancel_scope)
                nursery.start_soon(self._ping)
                try:
                    await self._answer_all()
                except trio.BrokenResourceError:
                    self._leave()
                except trio.ClosedResourceError:
                    pass  # we have closed it
                nursery.cancel_scope.cancel()
        finally:
            del closers[record.number]
            record.closed_at_s = trio.current_time()

    def _close_from_outside(self, code: int | None) -> None:
        self._in.send_nowait(Reset() if code is None else CloseFrame(code))

    async def _ping(self) -> None:
        """Ping the client from time to time; one that has not answered for long is closed."""
        every_s = self._rules.backend.ping_every_s
        if every_s is None:
            return
        record = self._rules.socket
        answered_s, patience_s = trio.current_time(), max(every_s, _PONG_WITHIN_S)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                before = record.pongs
                await self._send(wire.frame(Opcode.PING, _PING))
                await trio.sleep(every_s)
                now_s = trio.current_time()
                if record.pongs != before:
                    answered_s = now_s
                elif now_s - answered_s >= patience_s:
                    await self._close(_LOST, "keepalive ping timeout")
                    return

    # What the client says.

    async def _listen(self, scope: trio.CancelScope) -> None:
        """Hear what the client says, until it leaves; then end everything."""
        # It has left, or speaks no WebSocket; or we have ended it.
        with contextlib.suppress(
            trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError
        ):
            await self._hear_all()
        self._leave()
        scope.cancel()

    def _leave(self) -> None:
        """Note that the client has left the answer under way, if there is one."""
        seen = self._current
        if seen is not None and not self._ended and not seen.ended:
            seen.left_at_s = trio.current_time()
            self._changed(seen)

    async def _hear_all(self) -> None:
        message: list[str | bytes | bytearray] = []
        size_bytes = 0
        while True:
            for event in self._frames.events():
                match event:
                    case TextMessage() | BytesMessage():
                        if not message and (seen := self._rules.cut_off()) is not None:
                            await self._cut_off(seen)
                            return
                        size_bytes += len(wire.encoded(event.data))
                        if not self._closing:
                            message.append(event.data)
                        if size_bytes > MAX_MESSAGE_BYTES:
                            await self._close(_TOO_BIG, "message too big")
                        elif event.message_finished:
                            await self._hear(wire.joined(message))
                        if event.message_finished:
                            message.clear()
                            size_bytes = 0
                    case Ping():
                        self._rules.socket.pings += 1
                        await self._send(wire.frame(Opcode.PONG, bytes(event.payload)))
                    case Pong():
                        self._rules.socket.pongs += 1
                    case CloseConnection():
                        await self._hear_close(event)
                        return
                    case _:
                        pass
            while True:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
                if not data:
                    return
                if not self._deaf:
                    break
            self._frames.receive_data(bytes(data))

    async def _hear(self, message: str | bytes) -> None:
        if self._closing:
            return
        if isinstance(message, bytes):
            await self._close(_UNSUPPORTED, "text messages only")
            return
        if (answered := self._rules.answer(message, busy=self._busy)) is None:
            return
        seen, answer = answered
        self._changed(seen)
        if self._busy:
            await self._refuse_at_once(seen, answer)
            return
        self._busy = True
        self._in.send_nowait(answered)

    async def _refuse_at_once(self, seen: Seen, answer: Answer) -> None:
        """Answer a message beside the answer under way."""
        headers: Headers = ()
        body = b""
        for step in answer:
            match step:
                case Head():
                    seen.status, headers = step.status, step.headers
                case Chunk():
                    body += step.data
                case _:
                    pass
        text = error_message(seen.status or 0, headers, body)
        await self._send(wire.frame(Opcode.TEXT, text))
        self._finish(seen)

    async def _hear_close(self, event: CloseConnection) -> None:
        record = self._rules.socket
        record.client_code = event.code
        self._leave()
        if not self._closing:
            self._closing = True
            record.own_code = event.code
            code = None if event.code == _NO_CODE else event.code
            await self._send(wire.close_frame(code))

    async def _cut_off(self, seen: Seen) -> None:
        self._over = True
        self._finish(seen)
        await reset(self._stream)

    def _finish(self, seen: Seen) -> None:
        """Note that all was done to answer, which may be known already."""
        if not seen.ended:
            seen.finished = True
            self._changed(seen)

    # What the client is told.

    async def _answer_all(self) -> None:
        async for following in self._waiting:
            if isinstance(following, CloseFrame | Reset):
                await self._end_with(following)
                return
            seen, answer = following
            self._current, self._began_at_s, self._ended = seen, trio.current_time(), False
            for step in answer:
                await self._perform(step, seen)
                if self._over:
                    return
            await self._flush()
            self._current = None
            self._finish(seen)

    async def _perform(self, step: Step, seen: Seen) -> None:
        match step:
            case Head(status, headers):
                seen.status = status
                self._changed(seen)
                if status != _OK:
                    self._refusal = (status, headers)
            case Chunk(data):
                await self._say(data)
            case Binary(data):
                self._out += wire.frame(Opcode.BINARY, data)
            case Pause(seconds):
                await self._flush()
                await trio.sleep(seconds)
            case Until(at_s):
                await self._flush()
                await trio.sleep_until(self._began_at_s + at_s)
            case Wait(until):
                await self._flush()
                await until()
            case End():
                await self._end()
            case Hang():
                await self._flush()
                await trio.sleep_forever()
            case Deafen():
                await self._flush()
                self._deaf = True
                await trio.sleep_forever()
            case CloseFrame() | Close() | Reset() | Cut():
                await self._end_with(step)
            case _:
                assert_never(step)

    async def _end_with(self, step: CloseFrame | Close | Reset | Cut) -> None:
        """End the connection, and with it the answer under way."""
        if isinstance(step, Cut):
            for text in _texts(step.data):
                whole = wire.frame(Opcode.TEXT, text)
                self._out += whole[: len(whole) // 2]
        await self._flush()
        self._over = True
        # Now: the end of the connection ends this task as well.
        if self._current is not None:
            self._finish(self._current)
        if isinstance(step, CloseFrame):
            await self._close(step.code, step.reason)
        elif isinstance(step, Reset):
            await reset(self._stream)
        else:
            await trio.aclose_forcefully(self._stream)
        if isinstance(step, CloseFrame):
            with trio.move_on_after(_CLOSING_S):
                await trio.sleep_forever()  # until the client has closed as well

    async def _say(self, data: bytes) -> None:
        """Queue what is one chunk of a stream over HTTP, each event as one message."""
        if self._refusal is not None:
            self._refusal_body += data
            return
        for text in _texts(data):
            self._out += wire.frame_head(Opcode.TEXT, len(text))
            self._out += text
            if frames.type_of(text) in TERMINAL:
                self._ended, self._busy = True, False
        if len(self._out) >= _FLUSH_BYTES:
            await self._flush()

    async def _end(self) -> None:
        """End an answer. A stream that has had no terminal event ends its connection."""
        if self._refusal is not None:
            status, headers = self._refusal
            text = error_message(status, headers, bytes(self._refusal_body))
            self._out += wire.frame(Opcode.TEXT, text)
            self._refusal, self._ended, self._busy = None, True, False
            self._refusal_body.clear()
        elif not self._ended:
            await self._end_with(CloseFrame(NORMAL))

    async def _flush(self) -> None:
        out, self._out = self._out, bytearray()
        if out:
            await self._send(out)

    async def _send(self, data: bytes | bytearray) -> None:
        async with self._sending:
            if not self._deaf:
                await self._stream.send_all(data)

    async def _close(self, code: int, reason: str = "") -> None:
        """Send a close frame, if none is out. The client's own one ends the connection."""
        if self._closing:
            return
        self._closing = True
        self._rules.socket.own_code = code
        await self._send(wire.close_frame(code, reason.encode()))


def _texts(data: bytes) -> list[bytes]:
    """Return the texts of what is one chunk of a stream over HTTP, also of one that is no event."""
    return frames.messages(data) or [data]
