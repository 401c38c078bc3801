"""A connection to a backend through a proxy: `CONNECT`, by hand, over our own connection."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs
import httpx

from codexrelay.backends.transports.connection import closed_on_error, connect
from codexrelay.backends.transports.http1 import ResponseReader

if TYPE_CHECKING:
    import ssl

    from codexrelay.backends.transports.connection import Connection, Origin
    from codexrelay.backends.transports.proxy import Proxy

_END_OF_HEAD: Final = b"\r\n\r\n"
_INTERIM: Final = re.compile(rb"HTTP/\d\.\d 1\d\d\b")


async def open_tunnel(
    proxy: Proxy, target: Origin, *, room: memoryview, context: ssl.SSLContext | None
) -> Connection:
    """Return a connection to `target` through `proxy`. Cancelled, it leaves nothing open.

    Targets without TLS get a tunnel too: one kind of way, on which nobody reads the headers. Some
    proxies make none to port 80; `httpx.AsyncHTTPTransport` asks them in the other way.

    Args:
        proxy: where to ask for it.
        target: where it leads to.
        room: to receive into.
        context: for TLS with the target and with an https proxy; None if both go without.

    Raises:
        httpx.ProxyError: the proxy cannot be reached or makes no tunnel, or there is no agreement
            on TLS with the target. Not a byte of a request has left.
    """
    try:
        to_proxy = context if proxy.origin.scheme == "https" else None
        connection = await connect(proxy.origin, room=room, context=to_proxy)
    except httpx.ConnectError as error:
        raise httpx.ProxyError(f"{proxy} cannot be reached: {error}") from error
    with closed_on_error(connection):
        await _ask(connection, proxy, target)
        connection.origin = target
        if target.scheme == "https":
            assert context is not None
            try:
                await connection.shake_hands(target.host, context)
            except httpx.ConnectError as error:
                raise httpx.ProxyError(f"{error}; the way was {proxy}") from error
    return connection


async def _ask(connection: Connection, proxy: Proxy, target: Origin) -> None:
    """Have the proxy lead the connection to `target`; raises as above."""
    answer = _Answer(ResponseReader(str(proxy), to_head_request=True))
    try:
        await connection.send(_request(proxy, target))
        while not answer.reader.settled:
            if not await connection.receive(answer.feed):
                answer.reader.feed_eof()
        answer.reader.take()  # raises what is wrong with it
    except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
        raise httpx.ProxyError(f"{proxy} made no tunnel to {target}: {error}") from error
    status = answer.reader.status
    if not 200 <= status < 300:
        raise proxy.refusal(status, httpx.codes.get_reason_phrase(status), target)
    if not answer.ends_with_its_head:
        # In front of anything that was sent to the target: nobody there can have said it.
        raise httpx.ProxyError(f"{proxy} sent more than the head of an answer to CONNECT")


def _request(proxy: Proxy, target: Origin) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    lines = [f"CONNECT {host}:{target.port} HTTP/1.1", f"Host: {host}:{target.port}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return "\r\n".join((*lines, "", "")).encode("ascii")


@attrs.define(eq=False)
class _Answer:
    """The answer to CONNECT, and all that came: behind its head the tunnel begins."""

    reader: ResponseReader
    #: No longer than what the reader takes of a head, and one receive.
    _received: bytearray = attrs.field(factory=bytearray)

    def feed(self, block: memoryview) -> None:
        self._received += block
        self.reader.feed(block)

    @property
    def ends_with_its_head(self) -> bool:
        """Whether nothing came behind its head; heads of interim answers (1xx) stand before it."""
        head, _, behind = self._received.partition(_END_OF_HEAD)
        while _INTERIM.match(head):
            head, _, behind = behind.partition(_END_OF_HEAD)
        return not behind and self._received.endswith(_END_OF_HEAD)
