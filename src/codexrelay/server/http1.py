"""HTTP/1.1 and the WebSocket upgrade, and no other protocol.

hypercorn speaks HTTP/2 on any plain connection whose client asks for it, by an upgrade (h2c) or by
simply starting with the preface. Its HTTP/2 has no working backpressure (0.18: a client that shuts
its window makes the server buffer the whole stream), so a relay must not offer it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

import h11
from hypercorn.events import Closed, RawData
from hypercorn.protocol.events import Request, Response
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection

from codexrelay.server.websocket_stream import WebSocketStream, asks_for_websocket

if TYPE_CHECKING:
    from hypercorn.events import Event
    from hypercorn.protocol.events import Event as StreamEvent
    from hypercorn.protocol.http_stream import HTTPStream

    from codexrelay.server.websocket_stream import Wire

_VERSIONS: Final = frozenset({b"1.0", b"1.1"})
_HTTP_VERSION_NOT_SUPPORTED: Final = 505
#: h11's states of a client that has nothing more to send on this connection, or not yet.
_CLIENT_IS_QUIET: Final = frozenset({h11.IDLE, h11.DONE, h11.MUST_CLOSE, h11.CLOSED})
_EMPTY_LINES: Final = re.compile(rb"\A(?:\r?\n)+")


class _Requests(h11.Connection):
    """h11's connection, which also overlooks what means nothing between and behind the requests.

    There are clients that send an empty line behind a body (RFC 9112, 2.2 and 9.6). h11 would
    answer it with 400, and behind the last request break off the answer that is under way.
    """

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return what comes next, as h11 does."""
        unread, _ = self.trailing_data
        if self.their_state is h11.IDLE:
            rest = _EMPTY_LINES.sub(b"", unread)
            self._overlook(len(unread) - len(rest))
            if rest == b"\r":  # the other half of an empty line is to come
                return h11.NEED_DATA
        elif self.their_state is h11.MUST_CLOSE and unread:
            self._overlook(len(unread))
            return h11.NEED_DATA
        return super().next_event()

    def _overlook(self, count: int) -> None:
        self._receive_buffer.maybe_extract_at_most(count)


class Http1Protocol(H11Protocol):
    """hypercorn's HTTP/1.1 without the doors to HTTP/2, and with our own WebSockets."""

    def __init__(self, *args: Any, wire: Wire) -> None:  # noqa: ANN401 - hypercorn's eight, as they are
        """Take what hypercorn's takes, and the connection below."""
        super().__init__(*args)
        self._wire = wire
        #: What this connection has become; None while it is one for HTTP requests.
        self._websocket: WebSocketStream | None = None

    @property
    def websocket_is_open(self) -> bool:
        """Whether frames can be sent."""
        return self._websocket is not None and self._websocket.is_open

    async def handle(self, event: Event) -> None:
        """Take what happens on the connection."""
        if self._websocket is not None and isinstance(event, RawData):
            await self._websocket.receive(event.data)
        else:
            await super().handle(event)

    async def initiate(self) -> None:
        """Begin: to be called before anything is handled."""
        self.connection = _Requests(
            h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size
        )

    @property
    def request_is_arriving(self) -> bool:
        """Whether a request has come in part only, and nothing has been answered to it yet."""
        connection = self.connection
        return connection.their_state is h11.SEND_BODY and connection.our_state is h11.SEND_RESPONSE

    @property
    def client_may_be_sending(self) -> bool:
        """Whether bytes of the client may still be under way to us.

        True inside a request body, after a malformed request, with a pipelined request behind this
        one, and on a WebSocket, until the client's close frame.
        """
        if self._websocket is not None and self._websocket.client_has_closed:
            return False
        connection = self.connection
        if isinstance(connection, H11WSConnection):
            connection = connection.h11_connection
        unread, _ = connection.trailing_data
        return bool(unread) or connection.their_state not in _CLIENT_IS_QUIET

    async def stream_send(self, event: StreamEvent) -> None:
        """Send an event of the response; its head announces the close that will follow."""
        if isinstance(event, Response) and (
            self.context.terminated.is_set()
            # Answered in the middle of the upload: what is still to come of it is dropped.
            or self.connection.their_state is h11.SEND_BODY
        ):
            event = _with_close(event)
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Ignore an offered upgrade to anything but WebSocket (RFC 9110, 7.8 allows it)."""
        if isinstance(self.connection, h11.Connection) and not _is_for_websocket(event):
            # h11 stops reading behind a request that offers an upgrade until the response has
            # decided it; a client that leaves in the meantime would not be noticed. Java's HTTP
            # client offers h2c with every first request.
            self.connection._cstate.pending_switch_proposals.clear()  # noqa: SLF001

    async def _create_stream(self, request: h11.Request) -> None:
        if request.http_version not in _VERSIONS:  # `PRI * HTTP/2.0`, or from the future
            await self._send_error_response(_HTTP_VERSION_NOT_SUPPORTED)
            await self.send(Closed())
        elif _is_for_websocket(request):
            await self._become_websocket(request)
        else:
            await super()._create_stream(request)

    async def _become_websocket(self, request: h11.Request) -> None:
        self._websocket = WebSocketStream(
            app=self.app,
            config=self.config,
            tasks=self.task_group,
            client=self.client,
            server=self.server,
            send=self.stream_send,
            wire=self._wire,
            stream_id=STREAM_ID,
        )
        self.stream = cast("HTTPStream", self._websocket)  # hypercorn needs no more than it has
        self.connection = H11WSConnection(cast("h11.Connection", self.connection))
        await self._websocket.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )


def _is_for_websocket(request: h11.Request) -> bool:
    return asks_for_websocket(request.method, list(request.headers))


def _with_close(response: Response) -> Response:
    if response.status_code < 200 or any(n.lower() == b"connection" for n, _ in response.headers):
        return response
    headers = [*response.headers, (b"connection", b"close")]
    return Response(response.stream_id, headers=headers, status_code=response.status_code)
