"""HTTP/1.1 towards a client, and no other protocol but WebSocket, to which a request may lead.

hypercorn's parser and streams are not used: they cost several times what a small turn may. Nor is
HTTP/2 spoken: hypercorn's has no working backpressure (0.18: a client that shuts its window makes
the server buffer the whole stream). An offered upgrade to it is ignored, as RFC 9110 (7.8) allows.

Requests are answered one after the other. What comes behind the request under way is kept unread,
up to a bound; then the client has to wait.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
import trio
from hypercorn.config import Config
from hypercorn.typing import ConnectionState

from codexrelay.server import http_exchange, websocket_stream
from codexrelay.server.drain import Drain
from codexrelay.server.heads import OwnHeaders, RefusedError, read_head
from codexrelay.server.http_exchange import HttpExchange, continue_head, refusal
from codexrelay.server.inbox import Inbox
from codexrelay.server.websocket_stream import WebSocketStream, asks_for_websocket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from codexrelay.server.heads import RequestHead

#: Behind the request under way, and of a WebSocket's frames.
_UNREAD_BYTES: Final = 65536
#: Of one receive; most requests fit.
_RECEIVE_BYTES: Final = 65536
#: In pieces a quarter of this size, a 5 MB body costs a sixth more CPU (measured).
_LARGE_RECEIVE_BYTES: Final = 262144
_BAD_REQUEST: Final = 400
_HEADERS_TOO_LARGE: Final = 431
_END_OF_HEAD: Final = b"\r\n\r\n"
_EMPTY_LINES: Final = re.compile(rb"(?:\r?\n)+")
#: An octet below is no part of a request line: this is TLS, or something else.
_FIRST_OF_A_REQUEST: Final = 0x21


class Wire(http_exchange.Wire, websocket_stream.Wire, Protocol):
    """What HTTP needs of a TCP connection."""

    def start(self, run: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Start a task that ends with the connection."""

    def is_idle(self) -> None:
        """Take note that the next request is awaited from now on."""

    def close(self, *, client_may_be_sending: bool) -> None:
        """Tell the client that nothing more comes, and end."""


@attrs.define(eq=False, kw_only=True)
class Http1:
    """What a client's bytes mean, on one connection."""

    config: Config
    own: OwnHeaders
    state: ConnectionState
    client: tuple[str, int] | None
    server: tuple[str, int] | None
    wire: Wire
    drain: Drain
    #: The request under way: not answered completely.
    _exchange: HttpExchange | None = attrs.field(default=None, init=False)
    #: What came behind that, or the beginning of a head.
    _unread: bytes = attrs.field(default=b"", init=False)
    #: Set when the client need not wait any longer; None while it does not.
    _room: trio.Event | None = attrs.field(default=None, init=False)
    #: How many requests there were.
    _requests: int = attrs.field(default=0, init=False)
    #: Nothing more is read: the last response is out.
    _closed: bool = attrs.field(default=False, init=False)
    #: What this connection has become; None while it is one for HTTP requests.
    _websocket: WebSocketStream | None = attrs.field(default=None, init=False)
    #: From the receiving to the task that reads a WebSocket's frames.
    _inbox: Inbox | None = attrs.field(default=None, init=False)
    _reading_frames: trio.CancelScope | None = attrs.field(default=None, init=False)

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self._exchange is None

    @property
    def request_is_arriving(self) -> bool:
        """Whether a request has come in part only, and nothing has been answered to it yet."""
        exchange = self._exchange
        return exchange is not None and not exchange.body_is_whole and not exchange.started

    @property
    def websocket_is_open(self) -> bool:
        """Whether frames can be sent."""
        return self._websocket is not None and self._websocket.is_open

    @property
    def is_full(self) -> bool:
        """Whether the client has to wait."""
        if self._closed:
            return False
        if self._inbox is not None:
            return self._inbox.is_full
        exchange = self._exchange
        return exchange is not None and (
            len(self._unread) >= _UNREAD_BYTES or (not exchange.body_is_whole and exchange.is_full)
        )

    @property
    def receive_bytes(self) -> int:
        """How much to receive at once."""
        exchange = self._exchange
        if self._closed or self._inbox is not None:
            return _LARGE_RECEIVE_BYTES
        if exchange is not None and exchange.wanted_bytes > _RECEIVE_BYTES:
            return _LARGE_RECEIVE_BYTES
        return _RECEIVE_BYTES

    def receive(self, data: bytes) -> None:
        """Take what the client has sent."""
        if self._closed:
            return
        if self._inbox is not None:
            self._inbox.add(data)
            return
        exchange = self._exchange
        if exchange is None:
            self._read_request(self._unread + data if self._unread else data)
            return
        if not exchange.body_is_whole:
            try:
                data = exchange.take_body(data)
            except RefusedError as error:
                self._refuse(error.status)
                return
        # What follows a request that was said to be the last one means nothing (RFC 9112, 9.6).
        if data and exchange.request.keeps_alive:
            self._unread += data

    def client_left(self) -> None:
        """Take note that nobody is there any more."""
        self._closed = True
        self._unread = b""
        if self._inbox is not None:
            self._inbox.close()
        self.has_room()
        if self._reading_frames is not None:
            self._reading_frames.cancel()
        if self._websocket is not None:
            self._websocket.client_left()
        elif self._exchange is not None:
            self._exchange.client_left()

    def is_answered(self) -> None:
        """Go on with the next request, or close: see `http_exchange.Connection`."""
        exchange, self._exchange = self._exchange, None
        if self._closed or exchange is None:
            return
        if not exchange.keeps_alive or not exchange.body_is_whole or self.drain.draining:
            self._close(client_may_be_sending=not exchange.body_is_whole or bool(self._unread))
            return
        if data := self._unread:
            self._unread = b""
            self._read_request(data)
        if self._exchange is None:
            self.wire.is_idle()
        self.has_room()

    async def until_room(self) -> None:
        """Wait while the client has to, or a little less."""
        if self._inbox is not None:
            await self._inbox.until_room()
        elif self.is_full:
            self._room = trio.Event()
            await self._room.wait()

    def has_room(self) -> None:
        """See `http_exchange.Connection`."""
        if self._room is not None:
            self._room.set()
            self._room = None

    @property
    def announces_close(self) -> bool:
        """See `http_exchange.Connection`."""
        return self.drain.draining or self._requests >= self.config.keep_alive_max_requests

    def _close(self, *, client_may_be_sending: bool) -> None:
        if self._closed:
            return
        self._closed = True
        self._unread = b""
        if self._inbox is not None:
            self._inbox.close()
        self.wire.close(client_may_be_sending=client_may_be_sending)
        self.has_room()

    def _refuse(self, status: int) -> None:
        """Answer what is no request; if an answer is under way already, that is cut."""
        exchange = self._exchange
        if exchange is None or not exchange.started:
            self.wire.write_now(refusal(status, self.own))
        self._close(client_may_be_sending=True)
        if exchange is not None:
            self._exchange = None
            exchange.client_left()

    def _read_request(self, data: bytes) -> None:
        """Begin with the request in `data`, if its head is all there."""
        if data[0] in b"\r\n" and (match := _EMPTY_LINES.match(data)) is not None:
            # There are clients that send an empty line behind a body (RFC 9112, 2.2).
            data = data[match.end() :]
        end = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        if end < len(_END_OF_HEAD):
            self._unread = data
            if len(data) > self.config.h11_max_incomplete_size:
                self._refuse(_HEADERS_TOO_LARGE)
            elif _is_no_beginning(data):
                self._refuse(_BAD_REQUEST)
            return
        self._unread = b""
        if end > self.config.h11_max_incomplete_size:
            self._refuse(_HEADERS_TOO_LARGE)
            return
        try:
            head = read_head(data[:end])
            exchange = HttpExchange(head, self.wire, self, self.own)
            rest = exchange.take_body(data[end:]) if head.length else data[end:]
        except RefusedError as error:
            self._refuse(error.status)
            return
        self._exchange = exchange
        self._requests += 1
        scope = exchange.scope(
            client=self.client,
            server=self.server,
            root_path=self.config.root_path,
            state=self.state,
        )
        if head.offers_upgrade and _is_for_websocket(head):
            self._become_websocket(exchange, scope, rest)
            return
        if head.keeps_alive:
            self._unread = rest
        if head.expects_continue and not self.wire.write_now(continue_head(self.own)):
            self.wire.start(self._flush)
        exchange.life = self.wire.start_app(
            scope,
            exchange.receive,
            exchange.take_message,
            exchange.wind_up,
            # Its body may turn out to be malformed; that is then told to the client.
            alone=not exchange.body_is_whole,
        )

    async def _flush(self) -> None:
        await self.wire.write(b"")

    def _become_websocket(
        self, exchange: HttpExchange, scope: dict[str, Any], frames: bytes
    ) -> None:
        self._websocket = WebSocketStream(
            scope=scope, exchange=exchange, own=self.own, wire=self.wire, end=self._end_websocket
        )
        self._inbox, self._reading_frames = Inbox(_UNREAD_BYTES), trio.CancelScope()
        self._inbox.add(frames)
        self.wire.start(self._read_frames, self._websocket, self._inbox, self._reading_frames)

    async def _read_frames(
        self, websocket: WebSocketStream, inbox: Inbox, scope: trio.CancelScope
    ) -> None:
        with scope:
            await websocket.begin()
            while data := await inbox.take():
                await websocket.receive(data)

    def _end_websocket(self) -> None:
        """Close: nothing more is sent."""
        has_closed = self._websocket is not None and self._websocket.client_has_closed
        self._close(client_may_be_sending=not has_closed)


def _is_no_beginning(data: bytes) -> bool:
    """Whether no request begins like this, so that its end need not be awaited."""
    return bool(data) and data != b"\r" and (data[0] < _FIRST_OF_A_REQUEST or b"\n\n" in data)


def _is_for_websocket(head: RequestHead) -> bool:
    return head.length == 0 and asks_for_websocket(head.method, head.headers)
