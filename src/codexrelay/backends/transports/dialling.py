"""How connections come about: directly or by a tunnel, plain or under TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import trio

from codexrelay.backends.transports.connection import connect, open_tcp, receive_room
from codexrelay.backends.transports.proxy import ProxyTimeout
from codexrelay.backends.transports.trust import trusting
from codexrelay.backends.transports.tunnel import open_tunnel

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from codexrelay.backends.transports.connection import Connection, Opening, Origin
    from codexrelay.backends.transports.proxy import Proxy


class Dialler:
    """Opens connections to targets, each on the one way that leads there. It keeps none of them."""

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        proxies: Mapping[Origin, Proxy] | None = None,
        opening: Opening = open_tcp,
    ) -> None:
        """Make a dialler for one event loop.

        Args:
            ssl_context: for HTTPS, targets' and proxies'; None means httpx's default, made when it
                is first needed.
            proxies: the proxy on the way to a target; to all others there is none. They stay as
                they are, so that all connections to a target have come the same way.
            opening: opens the connections that do not go through a proxy.
        """
        self._ssl_context = ssl_context
        self._proxies = proxies or {}
        self._opening = opening
        self._room = receive_room()

    async def open(self, origin: Origin, *, within_s: float) -> Connection:
        """Open a connection to `origin`, TLS included. Cancelled, it leaves nothing open.

        Raises:
            httpx.ConnectTimeout: it took longer than `within_s`.
            httpx.ConnectError: no such host, nobody listens there, or no agreement on TLS.
            httpx.ProxyError: there is no way through the proxy.
        """
        proxy = self._proxies.get(origin)
        with trio.move_on_after(within_s):
            return await self._open(origin, proxy)
        if proxy is None:
            raise httpx.ConnectTimeout(f"no connection to {origin} within {within_s} s")
        raise ProxyTimeout(f"the way was {proxy}")

    async def _open(self, origin: Origin, proxy: Proxy | None) -> Connection:
        if proxy is None:
            context = self._tls_context() if origin.scheme == "https" else None
            return await connect(origin, room=self._room, context=context, opening=self._opening)
        under_tls = "https" in (origin.scheme, proxy.origin.scheme)
        context = self._tls_context() if under_tls else None
        return await open_tunnel(proxy, origin, room=self._room, context=context)

    def _tls_context(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = trusting(None)
        return self._ssl_context
