"""A recorded client over a WebSocket: it says again what it said, when it had been told as much.

What it was told of ids it says as it is told today: a client goes on from the response that it got.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs
import trio
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import RemoteProtocolError

from codexrelay.backends.websocket import NO_CODE
from codexrelay.protocol.raw import get_text, is_object, parse
from harness.cassettes.model import End, Frame
from harness.faults.positions import incoming
from harness.replay.frames import said_in
from harness.simulator.wire import joined

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsproto.events import Event

    from harness.cassettes.model import Interaction

_RECEIVE_BYTES: Final = 256 * 1024
#: For a message that came in the recording, and for the relay to close, in seconds.
_PATIENCE_S: Final = 900.0


@attrs.frozen
class Said:
    """What passed over a WebSocket."""

    frames: tuple[Frame, ...]
    end: End


async def talk(
    stream: trio.abc.Stream, early: bytes, one: Interaction, *, began_s: float, leaves_s: float
) -> Said:
    """Be the client of a recorded WebSocket on a connection that has just switched.

    `early` has come on it already; `began_s` is when the handshake was asked for; a client that
    left in the middle leaves `leaves_s` after the last message that it got.
    """
    client = _Client(stream, said_in(one.response.stream.frames), one.response.stream.end, began_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.listen, early)
        await client.speak(leaves_s)
        nursery.cancel_scope.cancel()
    return Said(tuple(client.said), client.ended)


@attrs.define(eq=False)
class _Client:
    _stream: trio.abc.Stream
    _recorded: Sequence[Frame]
    _recorded_end: End
    _began_s: float
    #: What has passed today.
    said: list[Frame] = attrs.field(factory=list, init=False)
    #: As the client sees it; it leaves if nothing else happens.
    ended: End = attrs.field(default="closed-by-relay", init=False)
    _wire: Connection = attrs.field(init=False)
    #: How many messages have come today.
    _come: int = attrs.field(default=0, init=False)
    #: By the ids of responses that were told in the recording, those of today.
    _ids: dict[str, str] = attrs.field(factory=dict, init=False)
    #: Nothing comes any more.
    _over: bool = attrs.field(default=False, init=False)
    #: Set, and replaced, with each message that comes, and at the end.
    _change: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._wire = Connection(ConnectionType.CLIENT)

    async def speak(self, leaves_s: float) -> None:
        """Say everything, each at its time; return when the client is done."""
        for place, frame in enumerate(self._recorded):
            if frame.direction == "out":
                await self._until_told(self._recorded[:place])
                await trio.sleep_until(self._began_s + frame.at_s)
                await self._say(frame)
        await self._until_told(self._recorded)
        if self._recorded_end != "closed-by-relay":
            await self._until(lambda: self._over)
        elif not self._over:
            await trio.sleep(leaves_s)

    async def _until_told(self, before: Sequence[Frame]) -> None:
        wanted = len(incoming(before))
        await self._until(lambda: self._over or self._come >= wanted)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        with trio.move_on_after(_PATIENCE_S):
            while not is_so():
                await self._change.wait()

    async def _say(self, frame: Frame) -> None:
        if self._over:
            return
        event: Event
        if frame.kind == "close":
            event = CloseConnection(frame.code or NO_CODE, frame.data.decode() or None)
        else:
            frame = attrs.evolve(frame, data=self._as_told_today(frame.data))
            text = frame.kind == "text"
            event = TextMessage(frame.data.decode()) if text else BytesMessage(frame.data)
        self._note(frame)
        await self._send(event)

    async def _send(self, event: Event) -> None:
        # Who has left is noticed by `listen` too.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.send_all(self._wire.send(event))

    def _as_told_today(self, data: bytes) -> bytes:
        for was, now in self._ids.items():
            data = data.replace(f'"{was}"'.encode(), f'"{now}"'.encode())
        return data

    async def listen(self, early: bytes) -> None:
        """Take what comes, until nothing does."""
        try:
            await self._take_all(early)
        except (trio.BrokenResourceError, RemoteProtocolError):
            self._end("reset")

    async def _take_all(self, data: bytes) -> None:
        parts: list[str | bytes | bytearray] = []
        while not self._over:
            if data:
                self._wire.receive_data(data)
            for event in self._wire.events():
                match event:
                    case TextMessage() | BytesMessage():
                        parts.append(event.data)
                        if event.message_finished:
                            self._take(joined(parts))
                            parts.clear()
                    case Ping() if self._wire.state is ConnectionState.OPEN:
                        await self._send(event.response())
                    case CloseConnection():
                        await self._take_close(event)
                        return
                    case _:
                        pass  # a pong
            data = bytes(await self._stream.receive_some(_RECEIVE_BYTES))
            if not data:
                self._end("reset")

    def _take(self, message: str | bytes) -> None:
        is_text = isinstance(message, str)
        data = message.encode() if isinstance(message, str) else message
        self._note(Frame(at_s=0.0, direction="in", kind="text" if is_text else "bin", data=data))
        self._learn_id(data)
        self._come += 1
        self._wake()

    def _learn_id(self, data: bytes) -> None:
        """Take note of what a response is called today that was called otherwise."""
        places = incoming(self._recorded)
        if self._come >= len(places):
            return
        was, now = _response_id(self._recorded[places[self._come]].data), _response_id(data)
        if was and now and was != now:
            self._ids[was] = now

    async def _take_close(self, event: CloseConnection) -> None:
        answers = self._wire.state is ConnectionState.REMOTE_CLOSING
        if answers:
            code = None if event.code == NO_CODE else int(event.code)
            reason = (event.reason or "").encode()
            self._note(Frame(at_s=0.0, direction="in", kind="close", data=reason, code=code))
        self._end("eof")
        if answers:
            await self._send(event.response())

    def _note(self, frame: Frame) -> None:
        now_s = round(trio.current_time() - self._began_s, 6)
        self.said.append(attrs.evolve(frame, at_s=now_s))

    def _end(self, end: End) -> None:
        if not self._over:
            self._over, self.ended = True, end
            self._wake()

    def _wake(self) -> None:
        self._change.set()
        self._change = trio.Event()


def _response_id(data: bytes) -> str | None:
    """Return the id of the response that an event announces, or ends with."""
    if b'"response"' not in data:
        return None
    try:
        value = parse(data)
    except ValueError:
        return None
    if not is_object(value) or not is_object(response := value.get("response")):
        return None
    return get_text(response, "id")
