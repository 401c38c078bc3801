"""The relay's own way to a backend: HTTP/1.1 on raw sockets, for long streams of small events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx
import trio

from codexrelay.backends.transports.connection import Origin, open_tcp
from codexrelay.backends.transports.dialling import Dialler
from codexrelay.backends.transports.exchange import Exchange, Message, Timeouts
from codexrelay.backends.transports.idle import IdleConnections
from codexrelay.backends.transports.way import BodyOf
from codexrelay.protocol.progress import Progress

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from codexrelay.backends.transports.connection import Opening
    from codexrelay.backends.transports.proxy import Proxy
    from codexrelay.backends.transports.way import Fields, Target

MAX_IDLE: Final = 100
IDLE_S: Final = 60.0


class DirectTransport(httpx.AsyncBaseTransport):
    """A `Way`, and an httpx transport too; all body that one receive gave comes as one block.

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

    @property
    def idle_connections(self) -> int:
        """How many connections wait for a request."""
        return len(self._idle)

    @property
    def busy_connections(self) -> int:
        """How many connections have a request or an unfinished response on them."""
        return self._idle.out

    async def ask(
        self, target: Target, headers: Fields, body: bytes, timeouts: Timeouts, progress: Progress
    ) -> Exchange:
        """See `Way.ask`; stale connections are replaced, as below."""
        message = Message(target.head(headers, len(body)), body, target.method == "HEAD")
        return await self._exchange(target.origin, message, timeouts, progress)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return its response as soon as the head is there.

        A kept connection that turns out to be closed, before any byte of a response, is replaced
        by a fresh one, once, and only if the body is in memory and can be sent again.

        Raises:
            httpx.TransportError: the subclass says which step failed; the text says who and why.
        """
        origin, timeouts, progress = (
            Origin.of(request.url),
            Timeouts.of(request),
            Progress.of(request),
        )
        exchange = await self._exchange(origin, Message.of(request), timeouts, progress)
        return httpx.Response(
            exchange.status,
            headers=exchange.take_headers(),
            stream=BodyOf(exchange),
            extensions={"http_version": f"HTTP/{exchange.response.http_version}".encode("ascii")},
        )

    async def aclose(self) -> None:
        """Close the idle connections; the others are closed at the end of their responses."""
        self._idle.close()

    async def _exchange(
        self, origin: Origin, message: Message, timeouts: Timeouts, progress: Progress
    ) -> Exchange:
        kept = self._idle.take(origin, now_s=trio.current_time())
        progress.begin()
        if kept is not None:
            exchange = Exchange.on(
                kept, self._idle, timeouts, to_head_request=message.to_head_request
            )
            progress.follow(exchange.reached)
            try:
                await exchange.run_to_head(message)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if exchange.response.heard or not message.can_be_repeated:
                    raise
            else:
                return exchange
        fresh = await self._dialler.open(origin, within_s=timeouts.connect_s)
        self._idle.put_out()
        exchange = Exchange.on(fresh, self._idle, timeouts, to_head_request=message.to_head_request)
        progress.follow(exchange.reached)
        await exchange.run_to_head(message)
        return exchange
