"""httpx's own transport: the one that is not the relay's own, with its proxies named in errors."""

from __future__ import annotations

import contextlib
import math
import re
from typing import TYPE_CHECKING, Final, Protocol, cast

import httpx
import trio

from codexrelay.backends.transports.connection import Origin
from codexrelay.backends.transports.exchange import Timeouts
from codexrelay.backends.transports.proxy import ProxyTimeout
from codexrelay.backends.transports.trust import way_out
from codexrelay.protocol.faults import Reached
from codexrelay.protocol.progress import Progress, is_connect

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping

    from codexrelay.backends.transports.proxy import Proxy

_CLEANUP_S: Final = 2.0
# Without a limit on connections: httpcore leaks its slots when requests are cancelled
# (encode/httpcore issue 1093). Goes when that is repaired.
LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=100)
#: httpcore's words for a proxy's refusal.
_REFUSED: Final = re.compile(r"(\d{3}) ?(.*)")
#: What httpx raises if no way comes about, or if the connection breaks at any time.
_PERHAPS_ON_THE_WAY: Final = (httpx.NetworkError, httpx.RemoteProtocolError)


class _Closable(Protocol):
    """A connection of httpcore's."""

    async def aclose(self) -> None:
        """Close it. May be repeated."""


class _AtOnce(httpx.AsyncByteStream):
    """A body that is there as a whole.

    httpx gives httpcore a generator, which that leaves to the garbage collector when the request is
    cancelled, or fails, while it is written (seen: 1.0.9); there is nothing to leave here.
    """

    def __init__(self, body: bytes) -> None:
        self._pieces = [body] if body else []

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


class StockTransport(httpx.AsyncBaseTransport):
    """One `httpx.AsyncHTTPTransport` for each way: directly, and through each proxy.

    What goes wrong before anything of a request has left names the proxy, as the relay's own
    transport does. Targets without TLS are asked for in the proxy's own way, without a tunnel.
    """

    def __init__(self, *, ssl_context: ssl.SSLContext, proxies: Mapping[Origin, Proxy]) -> None:
        """Make a transport that is not connected to anything yet.

        Args:
            ssl_context: for HTTPS, targets' and proxies'.
            proxies: the proxy on the way to a target; to all others there is none.
        """
        self._proxies = proxies
        self._direct = _way(ssl_context)
        self._through = {proxy: _way(ssl_context, proxy) for proxy in proxies.values()}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` on the way that leads to its target.

        Raises:
            httpx.TransportError: see `httpx.AsyncHTTPTransport`.
        """
        target = Origin.of(request.url)
        proxy = self._proxies.get(target)
        way = self._direct if proxy is None else self._through[proxy]
        try:
            return await _without_leak(way, request)
        except httpx.ConnectTimeout as error:
            raise error if proxy is None else ProxyTimeout(f"the way was {proxy}") from error
        except (httpx.ConnectError, UnicodeError) as error:  # the second: a host that can be none
            raise _no_way(proxy, target, error) from error
        except httpx.ProxyError as error:
            assert proxy is not None
            if refused := _REFUSED.fullmatch(str(error)):
                raise proxy.refusal(int(refused[1]), refused[2], target) from error
            raise _no_way(proxy, target, error) from error
        except _PERHAPS_ON_THE_WAY as error:
            # Without a progress nobody knows, and the request may have left.
            if proxy is not None and Progress.tells(request) is Reached.NOT_SENT:
                raise _no_way(proxy, target, error) from error
            raise

    async def aclose(self) -> None:
        """Close all connections."""
        async with contextlib.AsyncExitStack() as closing:
            for transport in (self._direct, *self._through.values()):
                closing.push_async_callback(transport.aclose)


def _way(ssl_context: ssl.SSLContext, proxy: Proxy | None = None) -> httpx.AsyncHTTPTransport:
    """Return httpx's transport for one way."""
    if proxy is None:
        return httpx.AsyncHTTPTransport(verify=ssl_context, limits=LIMITS)
    to_proxy = ssl_context if proxy.origin.scheme == "https" else None
    return httpx.AsyncHTTPTransport(
        verify=ssl_context,
        limits=LIMITS,
        proxy=httpx.Proxy(
            httpx.URL(scheme=proxy.origin.scheme, host=proxy.origin.host, port=proxy.origin.port),
            ssl_context=to_proxy,
            headers={"proxy-authorization": proxy.authorization} if proxy.authorization else None,
        ),
    )


async def _without_leak(way: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """Send `request`, and close the connection that was made for it if there is no response.

    All that comes before the request leaves has the budget for connecting: httpcore has one for
    each step, and none for a proxy's answer.

    httpcore 1.0.9 forgets to when it is cancelled right behind connecting, or in the handshake
    behind a tunnel, and keeps the socket until the transport is closed (both seen). Goes when it
    closes there as elsewhere.
    """
    opened: list[_Closable] = []
    follow = request.extensions.get("trace")
    connect_s = Timeouts.of(request).connect_s
    connecting = trio.CancelScope(relative_deadline=connect_s)

    async def trace(name: str, info: Mapping[str, object]) -> None:
        if name == "connection.connect_tcp.complete":
            opened.append(cast("_Closable", info["return_value"]))
        elif name.endswith(".send_request_headers.started") and not is_connect(info):
            connecting.deadline = math.inf
        if follow is not None:
            await follow(name, info)

    request.extensions = {**request.extensions, "trace": trace}
    body = request.stream
    if isinstance(body, httpx.ByteStream):
        request.stream = _AtOnce(b"".join(body))
    try:
        with connecting:
            response = await way.handle_async_request(request)
            opened.clear()
            return response
        raise httpx.ConnectTimeout(f"no connection within {connect_s} s")
    finally:
        request.stream = body
        with trio.move_on_after(_CLEANUP_S, shield=True):
            for stream in opened:
                await stream.aclose()


def _no_way(
    proxy: Proxy | None, target: Origin, error: httpx.TransportError | UnicodeError
) -> httpx.ConnectError | httpx.ProxyError:
    cause: BaseException = error
    # Of what happened under TLS httpx tells nothing itself.
    while not str(cause) and (below := cause.__cause__ or cause.__context__) is not None:
        cause = below
    told = f"no connection to {target}: {str(cause) or type(error).__name__}{way_out(cause)}"
    if proxy is None:
        return httpx.ConnectError(told)
    return httpx.ProxyError(f"{told}; the way was {proxy}")
