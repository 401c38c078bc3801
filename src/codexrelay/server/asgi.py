"""Quart's side of one request: what turns need beyond returning a body.

Six things are added to quart-trio, on both of its version pairs (quart 0.22 with quart-trio 0.12,
quart 0.23 with 0.13). A view may return a `DeliveredResponse`, whose `deliver` sends the response
itself, in the request's task and within the request's context: status and headers may wait for
upstream, and an error before them goes through the application's error handlers like any other.
The end of a response is safe from the disconnect that it causes. A path with a slash too many is
served instead of redirected. A WebSocket's view is cancelled when the client leaves, never told by
an error, and has a `ClientSocket`. A `Host` that is no name reaches the checks instead of a 500.
And a request that carries a turn does not come here at all, where the server can hand it over as an
`Exchange` (`hot_routes`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import attrs
import trio
from hypercorn.typing import ASGISendCallable
from quart import request
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection, TrioASGIWebsocketConnection
from quart_trio.wrappers import TrioResponse, TrioWebsocket

from codexrelay.server.client_socket import FRAMES, SOCKET, ClientSocket
from codexrelay.server.exchange import EXCHANGE
from codexrelay.server.framing import INTERNAL, NORMAL
from codexrelay.server.tcp import WRITE_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from hypercorn.typing import (
        ASGIReceiveCallable,
        ASGIReceiveEvent,
        ASGISendEvent,
        HTTPScope,
        Scope,
        WebsocketScope,
    )
    from quart.ctx import RequestContext
    from quart.typing import ResponseReturnValue, ResponseTypes
    from quart.wrappers import Request
    from quart.wrappers.base import BaseRequestWebsocket
    from werkzeug.routing import MapAdapter

    from codexrelay.server.exchange import Exchange

_log = logging.getLogger(__name__)

#: Longer than the connection's own patience with a client that does not read.
FINAL_SEND_S: Final = WRITE_S + 5.0
_SENDER: Final = "codexrelay.sender"
_MESSAGES: Final = "codexrelay.messages"

Header: TypeAlias = tuple[bytes, bytes]


@attrs.define(eq=False)
class ClientSender:
    """Sends one response, piece by piece. A client that has left cancels the caller."""

    _send: ASGISendCallable
    #: The head is on its way: no other response can be given any more.
    started: bool = attrs.field(default=False, init=False)

    @property
    def prompt(self) -> None:
        """See `relay.line.Client`."""

    async def start(self, status: int, headers: Sequence[Header]) -> None:
        """Send the head. `headers` need no `date`; without a length the body is chunked."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, data: bytes) -> None:
        """Send a piece of the body; waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """Complete the response."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


Deliver: TypeAlias = "Callable[[ClientSender], Awaitable[None]]"
#: Serves one request below quart; see `hot_routes`.
HotRoute: TypeAlias = "Callable[[HTTPScope, Exchange], Coroutine[Any, Any, None]]"


class DeliveredResponse(TrioResponse):
    """A response that `deliver` sends itself; its own status, headers and body are never used.

    An exception that leaves `deliver` before `ClientSender.start` becomes an ordinary error answer.
    Afterwards it is logged, and the connection is closed without a clean end, as it is when
    `deliver` returns without having called `end`: the client sees a body that was cut.
    """

    def __init__(self, deliver: Deliver) -> None:
        # Seen by a client only if `deliver` sends nothing at all.
        super().__init__(b"", status=500)
        self.deliver = deliver


class RelayHTTPConnection(TrioASGIHTTPConnection):
    """One request and its response."""

    _sender: ClientSender

    async def handle_messages(  # type: ignore[override]
        self, nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable
    ) -> None:
        """Hand the client's messages to quart; a disconnect cancels the request."""

        async def receive_or_cancel() -> ASGIReceiveEvent:
            message = await receive()
            if message["type"] == "http.disconnect":
                # First of all: quart 0.23 would wake a view that reads the body with an error, and
                # log that, before it cancels.
                nursery.cancel_scope.cancel()
            return message

        await super().handle_messages(nursery, request, receive_or_cancel)

    async def handle_request(  # type: ignore[override]
        self, nursery: trio.Nursery, request: Request, send: ASGISendCallable
    ) -> None:
        """Answer the request."""

        async def send_to_the_end(message: ASGISendEvent) -> None:
            if message["type"] != "http.response.body" or message.get("more_body", False):
                await send(message)
                return
            # hypercorn queues the disconnect from inside the last send; without the shield
            # quart-trio cancels that send, and the connection is neither reused nor closed. Goes
            # when hypercorn tells the application after the send. The deadline matters: a client
            # that stops reading would otherwise pin this task for ever.
            with trio.move_on_after(FINAL_SEND_S, shield=True):
                await send(message)

        self._sender = ClientSender(send_to_the_end)
        request.scope[_SENDER] = self._sender  # type: ignore[typeddict-unknown-key]
        await super().handle_request(nursery, request, send_to_the_end)

    async def _send_response(self, send: ASGISendCallable, response: ResponseTypes) -> None:
        if not self._sender.started:
            await super()._send_response(send, response)


class RelayWebsocket(TrioWebsocket):
    """Quart's object for a WebSocket."""

    async def receive(self) -> str | bytes:
        """Return the client's next message; cancelled when the client has left."""
        await self.accept()
        messages: trio.MemoryReceiveChannel[str | bytes] = self.scope[_MESSAGES]  # type: ignore[typeddict-item]
        return await messages.receive()


class RelayWebsocketConnection(TrioASGIWebsocketConnection):
    """One WebSocket and its view.

    quart-trio's own keeps messages for the view in a queue (10 in 0.12, without limit in 0.13),
    cannot see a client leave while that queue is full, drops an empty binary message, and says 1000
    to the client of a view that has failed.
    """

    def __init__(self, app: QuartTrio, scope: WebsocketScope) -> None:
        """Begin."""
        self.app = app
        self.scope = scope
        self._accepted = False
        self._closed = False
        self._disconnected = False  # quart 0.23 asks; its views are cancelled before that matters
        # The message that waits here is one more than the server's own queue holds. The names are
        # quart-trio's (0.12).
        self.send_channel, self.receive_channel = trio.open_memory_channel[str | bytes](0)

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Run the view until it ends or the client leaves."""
        websocket = self._create_websocket_from_scope(send)
        extensions = self.scope.get("extensions") or {}
        self.scope[_MESSAGES] = self.receive_channel  # type: ignore[typeddict-unknown-key]
        self.scope[SOCKET] = ClientSocket(websocket, send, FRAMES in extensions)  # type: ignore[typeddict-unknown-key]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_hand_on, receive, self.send_channel, nursery.cancel_scope)
            response = await self.app.handle_websocket(websocket)
            if not self._accepted:
                await self._answer(response, send)
            elif not self._closed:
                # Whatever a view returns behind its accept, it is the answer to its exception.
                code = NORMAL if response is None else INTERNAL
                await send({"type": "websocket.close", "code": code, "reason": ""})
            nursery.cancel_scope.cancel()

    async def _answer(self, response: ResponseTypes | None, send: ASGISendCallable) -> None:
        """Refuse the handshake, with the view's HTTP response if there is one."""
        if response is None or "websocket.http.response" not in (
            self.scope.get("extensions") or {}
        ):
            await send({"type": "websocket.close", "code": NORMAL, "reason": ""})
            return
        # Of a plain werkzeug response it is there already.
        data = response.get_data(as_text=False)
        body = data if isinstance(data, bytes) else await data
        headers = [(name.lower().encode(), value.encode()) for name, value in response.headers]
        await send(
            {
                "type": "websocket.http.response.start",
                "status": response.status_code,
                "headers": headers,
            }
        )
        await send({"type": "websocket.http.response.body", "body": body, "more_body": False})


async def _hand_on(
    receive: ASGIReceiveCallable,
    view: trio.MemorySendChannel[str | bytes],
    life: trio.CancelScope,
) -> None:
    """Hand the client's messages to the view; the client's leaving cancels it."""
    while True:
        message = await receive()
        if message["type"] == "websocket.receive":
            text = message.get("text")
            await view.send(text if text is not None else message.get("bytes") or b"")
        elif message["type"] == "websocket.disconnect":
            life.cancel()
            return


class RelayApp(QuartTrio):
    """A quart-trio application whose views may return a `DeliveredResponse`."""

    asgi_http_class = RelayHTTPConnection  # type: ignore[mutable-override]
    asgi_websocket_class = RelayWebsocketConnection  # type: ignore[mutable-override]
    websocket_class = RelayWebsocket  # type: ignore[mutable-override]
    #: By path: what serves a POST there, where the server hands an `Exchange` over.
    hot_routes: Mapping[str, HotRoute]

    def __init__(self, import_name: str, **settings: Any) -> None:  # noqa: ANN401 - quart's own, as they are
        """Make an application without hot routes."""
        super().__init__(import_name, **settings)
        self.hot_routes = {}

    def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> Coroutine[Any, Any, None]:
        """Serve a request, WebSockets included, at the path that was meant.

        Not `async`, so that there is no coroutine around that of a hot route.
        """
        if scope["type"] != "lifespan":
            scope["path"] = path = meant_by(scope["path"])
            if path in self.hot_routes and scope["type"] == "http" and scope["method"] == "POST":
                exchange = (scope.get("extensions") or {}).get(EXCHANGE)
                if exchange is not None:
                    return self.hot_routes[path](scope, cast("Exchange", exchange))
        return super().__call__(scope, receive, send)

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """Return what finds the view. It does not look at `Host`, which is judged later.

        quart's own encodes that name for IDNA while it makes the request's context, that is before
        any check and outside of every error handler: a name that cannot be encoded ends in a 500.
        """
        if request is None:
            return super().create_url_adapter(None)
        return self.url_map.bind(
            "localhost",
            request.root_path,
            url_scheme=request.scheme,
            default_method=request.method,
            path_info=request.path,
            query_args=request.query_string.decode("latin-1"),
        )

    async def dispatch_request(self, *context: RequestContext) -> ResponseReturnValue:  # type: ignore[override]
        """Run the view, and deliver what it returns if that delivers itself."""
        result = await super().dispatch_request(*context)
        if isinstance(result, DeliveredResponse):
            sender: ClientSender = request.scope[_SENDER]  # type: ignore[typeddict-item]
            try:
                await result.deliver(sender)
            except Exception:  # the request border: the head is out, only the log can be told
                if not sender.started:
                    raise
                _log.exception("a response was cut by an unforeseen error")
        return result


def meant_by(path: str) -> str:
    """Return the path without the slashes that mean nothing, and without a host before it.

    A base URL that ends with a slash makes clients ask for `/v1//responses`. The router would
    answer with a redirect and a web page, and clients do not follow that with a POST.
    """
    if path.startswith("/") and not path.endswith("/") and "//" not in path:
        return path
    if not path.startswith("/"):  # as to a proxy: `http://host/path`; or the `*` of OPTIONS
        path = path.partition("://")[2].partition("/")[2]
    return "/" + "/".join(part for part in path.split("/") if part)
