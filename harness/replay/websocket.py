"""A recorded WebSocket on a socket, from the handshake on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import Opcode
from wsproto.utilities import RemoteProtocolError

from harness.replay.frames import MISS_CODE, FrameScript, reason_of
from harness.simulator import wire
from harness.simulator.connection import reset
from harness.simulator.steps import Close, Reset

if TYPE_CHECKING:
    from harness.cassettes.model import Frame, Headers
    from harness.cassettes.performance import Performance

#: How the connection is to be ended; None: the client has left before everything was said.
End: TypeAlias = Close | Reset | None

_RECEIVE_BYTES: Final = 64 * 1024
#: Most seconds that a client is given to answer a close frame.
CLOSING_S: Final = 5.0
#: Of one handshake. Extensions would change the frames on the wire.
_OF_THE_HANDSHAKE: Final = frozenset(
    {
        "connection",
        "content-length",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "transfer-encoding",
        "upgrade",
    }
)
#: Recorded ends that are not silence.
_ENDS: Final[Mapping[str, Close | Reset]] = {"eof": Close(), "reset": Reset()}
_OPCODES: Final = {"text": Opcode.TEXT, "bin": Opcode.BINARY, "close": Opcode.CLOSE}


async def serve_websocket(
    stream: trio.abc.Stream,
    early: bytes,
    asked: Headers,
    script: FrameScript,
    on_miss: Callable[[str], object],
) -> bool:
    """Play a recorded WebSocket to the client that asked for it, from the handshake on.

    `early` has come from it behind its request. `on_miss` is told of a message that was not
    recorded. Where the answer is no switch of protocols, that answer is played. Returns whether all
    was said before the client left.
    """
    performance = script.performance
    try:
        await _sleep_until_head(script)
        if performance.status == wire.SWITCHED:
            await stream.send_all(
                wire.head(wire.SWITCHED, handshake_headers(asked, performance.headers))
            )
            end = await WebSocketTalk(script, on_miss).run(stream, early)
        else:
            end = await _refuse(stream, performance)
    except trio.BrokenResourceError:
        return False
    if isinstance(end, Reset):
        await reset(stream)
    elif end is not None:
        await trio.aclose_forcefully(stream)
    return end is not None


async def _sleep_until_head(script: FrameScript) -> None:
    await trio.sleep_until(script.began_s + script.pace.offset_s(script.performance.head_at_s))


async def _refuse(stream: trio.abc.Stream, performance: Performance) -> End:
    """Answer a handshake with something else, all at once; as its end says."""
    if performance.status is not None:
        body = performance.body
        kept = tuple(pair for pair in performance.headers if pair[0] not in _OF_THE_HANDSHAKE)
        headers = (*kept, ("content-length", str(len(body))), ("connection", "close"))
        await stream.send_all(wire.head(performance.status, headers) + body)
    end = _ENDS.get(performance.end)
    if end is None:
        while await stream.receive_some(_RECEIVE_BYTES):
            pass
    return end


def handshake_headers(asked: Headers, recorded: Headers) -> Headers:
    """Return the headers of the 101 that answers a request, with those that were recorded."""
    kept = tuple((name, value) for name, value in recorded if name not in _OF_THE_HANDSHAKE)
    return wire.handshake_headers(asked, kept)


@attrs.define(eq=False)
class WebSocketTalk:
    """Plays one WebSocket to one client."""

    script: FrameScript
    #: Told of a message that nobody has recorded.
    on_miss: Callable[[str], object]
    _said: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    #: A close frame of ours is out.
    _closing: bool = attrs.field(default=False, init=False)
    _end: End = attrs.field(default=None, init=False)
    #: What is played; cancelled by a miss.
    _playing: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    async def run(self, stream: trio.abc.Stream, early: bytes) -> End:
        """Play it on a connection that has just switched; `early` has come from it already."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, stream, early, nursery.cancel_scope)
            try:
                with self._playing:
                    self._end = await self._play(stream)
                if self._closing:
                    with trio.move_on_after(CLOSING_S):
                        await trio.sleep_forever()  # until the client has closed as well
                    self._end = Close()
            except trio.BrokenResourceError:
                pass  # the client has left
            nursery.cancel_scope.cancel()
        return self._end

    async def _play(self, stream: trio.abc.Stream) -> End:
        while (frame := await self.script.next()) is not None:
            self._closing = frame.kind == "close"
            async with self._said:
                await stream.send_all(as_bytes(frame))
            if self._closing:
                return None
        end = _ENDS.get(self.script.performance.end)
        if end is None:
            await trio.sleep_forever()
        return end

    async def _listen(self, stream: trio.abc.Stream, early: bytes, scope: trio.CancelScope) -> None:
        """Hear what the client says, until it closes; then end everything."""
        # It has left, or speaks no WebSocket.
        with contextlib.suppress(
            trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError
        ):
            await self._hear_all(stream, early)
        scope.cancel()

    async def _hear_all(self, stream: trio.abc.Stream, early: bytes) -> None:
        frames = Connection(ConnectionType.SERVER, trailing_data=early)
        message: list[str | bytes | bytearray] = []
        while True:
            for event in frames.events():
                match event:
                    case TextMessage() | BytesMessage():
                        message.append(event.data)
                        if event.message_finished:
                            await self._hear(stream, wire.joined(message))
                            message.clear()
                    case Ping() if self.script.is_silent:
                        pass  # nobody is there any more
                    case Ping():
                        async with self._said:
                            await stream.send_all(frames.send(event.response()))
                    case CloseConnection():
                        await self._hear_close(stream, frames, event)
                        return
                    case _:
                        pass  # a pong
            data = await stream.receive_some(_RECEIVE_BYTES)
            if not data:
                if self._closing:
                    self._end = Close()
                return
            frames.receive_data(bytes(data))

    async def _hear(self, stream: trio.abc.Stream, message: str | bytes) -> None:
        if self._closing:
            return
        if miss := self.script.hear(message):
            self._closing = True
            self._playing.cancel()
            self.on_miss(miss)
            async with self._said:
                await stream.send_all(wire.close_frame(MISS_CODE, reason_of(miss).encode()))

    async def _hear_close(
        self, stream: trio.abc.Stream, frames: Connection, event: CloseConnection
    ) -> None:
        all_said = self._closing or self.script.is_played
        if not self._closing:
            self._closing = True  # and so `run` waits until this has answered
            self._playing.cancel()
            async with self._said:
                await stream.send_all(frames.send(event.response()))
        if all_said:
            self._end = Close()


def as_bytes(frame: Frame) -> bytes:
    """Return a recorded frame as it stands on the wire, whatever it holds."""
    if frame.kind == "close":
        return wire.close_frame(frame.code, frame.data)
    return wire.frame(_OPCODES[frame.kind], frame.data)
