"""A WebSocket to a backend: trio-websocket over the relay's own connections.

trio-websocket 0.12.2 shakes hands, pings and closes, and answers pings and close frames. What it
does not do, or not well, is done here and in `wire`:

- It knows no proxies: the connection comes from a `dialling.Dialler`, tunnels and TLS included.
- It waits for ever when the peer closes during the handshake, and does not hand over the body of
  a refusal that ends with its connection. So the answer is read here (`_Answer`), and
  trio-websocket gets to see the head of a 101 only, to check it.
- It waits without a limit for a peer that does not answer a close frame, does not wake a `ping`
  whose connection ends, and on a half-written message waits for itself. Every wait here ends when
  the connection does, and leaving the context closes the socket first.
- It costs a task switch, a memory channel and wsproto's generators per message, hence its way is
  not theirs: see `wire`. CPU of the receiving process, 280 bytes per message, Python 3.11 on a busy
  two-core machine; "bare" is a `Connection` whose bytes nobody looks at:

      |                              | bare | here | trio-websocket |
      | a message, 4 streams of 500/s |  75 |   90 |        195 us  |
      | 2,000 messages at once        | 0.8 |  6.5 |        120 ms  |
"""

from __future__ import annotations

import re
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final, cast

import attrs
import h11
import httpx
import trio
import trio_websocket
from wsproto.utilities import ProtocolError

from codexrelay.backends.transports.beside import Beside
from codexrelay.backends.transports.connection import Origin
from codexrelay.backends.transports.http1 import MAX_FRAMING_BYTES, ResponseReader
from codexrelay.backends.transports.server_frames import ServerFrames
from codexrelay.backends.transports.wire import Wire
from codexrelay.backends.websocket import BROKEN, NORMAL, Closed, Opened, Refused, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from codexrelay.backends.transports.dialling import Dialler
    from codexrelay.backends.websocket import Handshake, Message

#: More than any event of the backend's has; a message is in memory as a whole.
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
#: How long a peer may take to answer our close frame, and to tell why it took no more of a message.
FAREWELL_S: Final = 2.0
#: Most of a refusal's body that is read.
MAX_BODY_BYTES: Final = 64 * 1024

_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_SWITCHING: Final = 101
#: The handshake's own headers, which trio-websocket writes.
_OWN: Final = re.compile(r"host|connection|upgrade|sec-websocket-.*", re.IGNORECASE)
# h11 would refuse them too, in the middle of trio-websocket's task.
_BREAKS_THE_HEAD: Final = re.compile(r"[\r\n\0]")
#: What trio-websocket and what is below it raise about an answer, or a request, that is none.
_NO_HANDSHAKE: Final = (
    trio_websocket.HandshakeError,
    ProtocolError,
    h11.ProtocolError,
    ValueError,  # text in another encoding than it should be in
)


class WebSocketDial:
    """Opens WebSockets on connections of a dialler; a `Dial`."""

    def __init__(self, dialler: Dialler, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        """Make a dial that holds no connections itself.

        Args:
            dialler: opens the connections.
            max_message_bytes: of a message that comes; at a larger one the WebSocket is closed with
                code 1009.
        """
        self._dialler = dialler
        self._max_message_bytes = max_message_bytes

    @asynccontextmanager
    async def __call__(self, handshake: Handshake) -> AsyncIterator[Opened | Refused | Unreachable]:
        """Shake hands; for the rest see `Dial`.

        No exception is a group: those of the block come out as they are.
        """
        async with AsyncExitStack() as stack:
            try:
                result = await self._dialled(handshake, stack)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                result = Unreachable(str(error))
            yield result

    async def _dialled(
        self, handshake: Handshake, stack: AsyncExitStack
    ) -> Opened | Refused | Unreachable:
        """Connect and shake hands; `stack` will end what was begun.

        Raises:
            httpx.TransportError: there is no connection, or it broke.
        """
        headers = _raw(handshake.headers)
        if isinstance(headers, Unreachable):
            return headers
        origin = Origin.of(handshake.url)
        deadline_s = trio.current_time() + handshake.within_s
        connection = await self._dialler.open(origin, within_s=handshake.within_s)
        stack.callback(connection.close)
        wire = Wire(connection, ServerFrames(self._max_message_bytes))
        shaking = _Shaking(wire, handshake.url, headers)
        nursery = await stack.enter_async_context(Beside())
        # Before the tasks are ended, which so have nothing to wait for.
        stack.callback(wire.drop, Closed(BROKEN, "closed here"))
        nursery.start_soon(shaking.run)
        answer = _Answer(str(origin))
        with trio.move_on_at(deadline_s):
            result = await _agreed(shaking, answer)
            if isinstance(result, Refused):
                wire.drop(Closed(BROKEN, "refused"))
            return result
        if answer.is_refusal:
            return answer.refusal()
        return Unreachable(f"{origin} did not answer within {handshake.within_s} s")


def _raw(headers: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]] | Unreachable:
    """Return headers as they go out, without the handshake's own; or why they cannot."""
    raw = []
    for name, value in headers:
        if _BREAKS_THE_HEAD.search(name + value):
            return Unreachable(f"line break or NUL in the handshake's {name!r}")
        if _OWN.fullmatch(name):
            continue
        try:
            raw.append((name.encode("ascii"), value.encode("latin-1")))
        except UnicodeEncodeError:
            return Unreachable(f"the handshake's {name!r} is not in Latin-1")
    return raw


async def _agreed(shaking: _Shaking, answer: _Answer) -> Opened | Refused | Unreachable:
    """Read the answer and let trio-websocket check it.

    Raises:
        httpx.TransportError: the connection broke, or what came is no answer.
    """
    wire = shaking.wire
    while not answer.complete:
        try:
            block = await wire.read_raw()
        except httpx.ReadError:
            if answer.is_refusal:
                break
            if shaking.problem is not None:
                return Unreachable(shaking.problem)
            raise
        answer.feed(block)
    if not answer.opens:
        return answer.refusal()
    await wire.open(answer.head, answer.rest)
    await shaking.settled.wait()
    if shaking.socket is None:
        return Unreachable(shaking.problem or "the handshake broke off")
    return Opened(
        frames=TrioFrames(wire, shaking.socket),
        headers=dict(httpx.Headers([*shaking.socket.handshake_headers])),
    )


@attrs.define(eq=False)
class _Shaking:
    """trio-websocket's part: one task that shakes hands and then answers pings and close frames."""

    wire: Wire
    _url: httpx.URL
    _headers: list[tuple[bytes, bytes]]
    #: It is open, or will never be.
    settled: trio.Event = attrs.field(factory=trio.Event)
    socket: trio_websocket.WebSocketConnection | None = None
    problem: str | None = None

    async def run(self) -> None:
        """Shake hands and stay for as long as the WebSocket is open."""
        try:
            async with trio.open_nursery() as nursery:
                self.socket = await trio_websocket.wrap_client_stream(
                    nursery,
                    # It takes any stream, whatever its annotation says.
                    cast("trio.SocketStream", self.wire),
                    self._url.netloc.decode("ascii"),
                    self._url.raw_path.decode("ascii"),
                    extra_headers=self._headers,
                )
                self.settled.set()
        except* _NO_HANDSHAKE as group:
            self.problem = f"no WebSocket was agreed on: {_words(_leaf(group))}"
        finally:
            self.settled.set()
            self.wire.drop(Closed(BROKEN, self.problem or "the connection was closed"))


def _leaf(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def _words(error: BaseException) -> str:
    if isinstance(error, h11.LocalProtocolError):
        # Its own text quotes the header at fault, which may be the bearer.
        return "the request cannot be written as HTTP; is there a space at the end of a header?"
    return str(error)


@attrs.define(eq=False)
class _Answer:
    """The peer's answer to the request for a WebSocket, as far as it came."""

    #: Who answers, for messages.
    _peer: str
    #: The head of a 101 with its blank line.
    head: bytes = b""
    #: What came behind that head: frames.
    rest: bytes = b""
    #: It is a 101.
    opens: bool = False
    _received: bytes = b""
    #: Any other answer.
    _reader: ResponseReader | None = None
    _body: bytearray = attrs.field(factory=bytearray)

    @property
    def is_refusal(self) -> bool:
        """The head of an answer came, and it is not a 101."""
        return self._reader is not None and self._reader.head_complete

    @property
    def complete(self) -> bool:
        """No more of it is of use."""
        reader = self._reader
        return self.opens or (
            reader is not None
            and (reader.complete or reader.fault is not None or len(self._body) >= MAX_BODY_BYTES)
        )

    def feed(self, block: bytes) -> None:
        """Read what came next, `b""` at the end.

        Raises:
            httpx.RemoteProtocolError: this is no answer.
        """
        if self._reader is not None:
            self._read(self._reader, block)
            return
        if not block:
            raise httpx.RemoteProtocolError(f"{self._peer} closed the connection without an answer")
        self._received += block
        while end := _END_OF_HEAD.search(self._received):
            if not self._take_interim(end.end()):
                return
        if len(self._received) > MAX_FRAMING_BYTES:
            raise httpx.RemoteProtocolError(
                f"{self._peer} sent more than {MAX_FRAMING_BYTES} bytes of headers"
            )

    def refusal(self) -> Refused:
        """Return what was answered instead of 101.

        Raises:
            httpx.RemoteProtocolError: it is no answer.
        """
        assert self._reader is not None
        if not self._reader.head_complete:
            self._reader.take()  # raises what is wrong with it
        return Refused(
            status=self._reader.status,
            headers=dict(httpx.Headers(self._reader.headers)),
            body=bytes(self._body[:MAX_BODY_BYTES]),
        )

    def _take_interim(self, end: int) -> bool:
        """Take a head; return whether it is that of an interim answer, and another will come."""
        status = _STATUS.match(self._received)
        head, rest = self._received[:end], self._received[end:]
        if status is not None and int(status[1]) == _SWITCHING:
            self.opens = True
            self.head, self.rest = head, rest
            return False
        if status is not None and int(status[1]) < 200:
            self._received = rest
            return True
        self._reader = ResponseReader(self._peer)
        self._read(self._reader, self._received)
        return False

    def _read(self, reader: ResponseReader, block: bytes) -> None:
        if block:
            reader.feed(block)
        else:
            reader.feed_eof()
        if not reader.head_complete or reader.fault is None:
            self._body += reader.take()


class TrioFrames:
    """An open WebSocket; a `FrameStream`."""

    def __init__(self, wire: Wire, socket: trio_websocket.WebSocketConnection) -> None:
        """Take over a WebSocket that was just opened; whoever dialled owns its task."""
        self._wire = wire
        self._socket = socket
        self._messages = wire.frames.messages

    @property
    def closed(self) -> Closed | None:
        """See `FrameStream.closed`. Where nobody receives, it looks at what has come."""
        self._wire.look()
        return self._wire.closed

    async def send(self, data: Message) -> None:
        """Send a message. When cancelled halfway, the connection is dropped.

        Raises:
            Closed: it is closed.
        """
        try:
            await self._wire.send_message(data)
        except trio.BrokenResourceError as error:
            # A peer that wants no more of it says why before it goes.
            with trio.move_on_after(FAREWELL_S), self._wire.until_closed():
                await trio.sleep_forever()
            self._wire.drop(Closed(BROKEN, "sending broke off"))
            raise self._as_closed() from error

    async def receive(self) -> Message:
        """See `FrameStream.receive`. One task at a time.

        Raises:
            Closed: it is closed, and every message before that has been returned.
            trio.BusyResourceError: another task is receiving.
        """
        messages = self._messages
        if messages:
            await trio.lowlevel.checkpoint_if_cancelled()
        while not messages:
            await self._wire.read()
        return messages.popleft()

    def ready(self) -> Sequence[Message]:
        """See `FrameStream.ready`: what was read from the socket already."""
        if not self._messages:
            return ()
        taken = [*self._messages]
        self._messages.clear()
        return taken

    async def ping(self) -> None:
        """See `FrameStream.ping`. There is no limit of time.

        Raises:
            Closed: it is closed.
        """
        self._raise_if_closed()
        # trio-websocket would not wake it when the connection ends.
        with self._wire.until_closed():
            try:
                await self._socket.ping()
            except trio_websocket.ConnectionClosed:
                self._wire.drop(Closed(BROKEN, "sending a ping broke off"))
            else:
                return
        raise self._as_closed()

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """See `FrameStream.close`. The peer has `FAREWELL_S` to answer."""
        if self.closed is None:
            farewell = self._wire.farewell = Closed(code, reason)
            with trio.move_on_after(FAREWELL_S), self._wire.until_closed():
                await self._socket.aclose(code, reason)
            self._wire.drop(farewell)

    async def aclose(self) -> None:
        """See `FrameStream.aclose`."""
        self._wire.drop(Closed(BROKEN, "closed here"))
        await trio.lowlevel.checkpoint()

    def _raise_if_closed(self) -> None:
        if self._wire.closed is not None:
            raise self._as_closed()

    def _as_closed(self) -> Closed:
        closed = self._wire.closed
        assert closed is not None
        return Closed(closed.code, closed.reason)
