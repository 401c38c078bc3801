"""The relay's own way to a backend: HTTP/1.1 on raw sockets, for long streams of small events."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final

import httpx
import trio

from codexrelay.backends.transports.connection import Origin, closed_on_error, open_tcp
from codexrelay.backends.transports.dialling import Dialler
from codexrelay.backends.transports.exchange import Exchange, Timeouts
from codexrelay.backends.transports.idle import IdleConnections
from codexrelay.protocol.progress import Progress

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from codexrelay.backends.transports.connection import Connection, Opening
    from codexrelay.backends.transports.proxy import Proxy

MAX_IDLE: Final = 100
IDLE_S: Final = 60.0


class DirectTransport(httpx.AsyncBaseTransport):
    """An httpx transport that hands on all body that one receive gave as one block.

    It never waits for more and never splits, so it adds no delay, and a burst of events costs what
    a few blocks cost. There is no limit of connections, hence no place to wait for and none to lose
    under cancellation: whoever needs a bound sets it where the work comes in.

    No HTTP/2: `httpx.AsyncHTTPTransport` has that. One event loop only.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        proxies: Mapping[Origin, Proxy] | None = None,
        max_idle: int = MAX_IDLE,
        idle_s: float = IDLE_S,
        opening: Opening = open_tcp,
    ) -> None:
        """Make a transport that is not connected to anything yet.

        Args:
            ssl_context: see `Dialler`.
            proxies: see `Dialler`; they stay as they are, so that idle connections to a target can
                take each other's place.
            max_idle: most idle connections kept per origin; 0 keeps none.
            idle_s: how long an idle connection may be used again, in seconds.
            opening: see `Dialler`.
        """
        self._dialler = Dialler(ssl_context=ssl_context, proxies=proxies, opening=opening)
        self._idle = IdleConnections(max_idle, idle_s)
        # For `busy_connections` alone. Weak, so that nothing needs to be taken out again.
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()

    @property
    def idle_connections(self) -> int:
        """How many connections wait for a request."""
        return len(self._idle)

    @property
    def busy_connections(self) -> int:
        """How many connections have a request or an unfinished response on them."""
        return sum(connection.is_open for connection in self._connections) - len(self._idle)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return its response as soon as the head is there.

        A kept connection that turns out to be closed, before any byte of a response, is replaced
        by a fresh one, once, and only if the body is in memory and can be sent again.

        Raises:
            httpx.TransportError: the subclass says which step failed; the text says who and why.
        """
        timeouts = Timeouts.of(request)
        origin = Origin.of(request.url)
        kept = self._idle.take(origin, now_s=trio.current_time())
        progress = Progress.of(request)
        progress.begin()
        if kept is not None:
            exchange = Exchange.of(request, kept, timeouts)
            progress.follow(exchange.reached)
            try:
                return await self._perform(exchange, request)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if exchange.response.heard or not isinstance(request.stream, httpx.ByteStream):
                    raise
        fresh = await self._dialler.open(origin, within_s=timeouts.connect_s)
        self._connections.add(fresh)
        exchange = Exchange.of(request, fresh, timeouts)
        progress.follow(exchange.reached)
        return await self._perform(exchange, request)

    async def aclose(self) -> None:
        """Close the idle connections; the others are closed at the end of their responses."""
        self._idle.close()

    async def _perform(self, exchange: Exchange, request: httpx.Request) -> httpx.Response:
        with closed_on_error(exchange.connection):
            await exchange.run_to_head(request)
        return httpx.Response(
            exchange.response.status,
            headers=exchange.response.headers,
            stream=_Body(exchange, self._settle),
            extensions={"http_version": exchange.response.http_version},
        )

    def _settle(self, exchange: Exchange) -> None:
        """Keep or close the connection of an exchange that is over, one way or the other."""
        if exchange.leaves_reusable:
            self._idle.keep(exchange.connection, now_s=trio.current_time())
        else:
            exchange.connection.close()


class _Body(httpx.AsyncByteStream):
    """A response's body and its iterator: blocks as they come, never empty.

    The connection is settled as soon as the last byte is here, even before it is handed on; and by
    any error. Cancelling a step loses nothing: the next one goes on.
    """

    def __init__(self, exchange: Exchange, settle: Callable[[Exchange], None]) -> None:
        self._exchange = exchange
        self._settle = settle
        self._settled = False
        if exchange.response.complete:
            self._end()

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        response = self._exchange.response
        try:
            while not (block := response.take()) and not response.complete:
                if self._settled:
                    raise httpx.StreamClosed
                await self._exchange.receive()
        except httpx.TransportError:
            self._end()
            raise
        if response.complete:
            self._end()
        if not block:
            raise StopAsyncIteration
        return block

    async def aclose(self) -> None:
        """Give the rest up; a connection that still has body on it is closed at once."""
        self._end()

    def _end(self) -> None:
        if not self._settled:
            self._settled = True
            self._settle(self._exchange)
