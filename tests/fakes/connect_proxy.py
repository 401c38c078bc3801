"""Scripts for `serving` that carry connections on: a proxy that makes tunnels, and a plain front.

Under TLS (`serving(..., tls=...)`) the first is an https proxy, the second the TLS of a server that
has none.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.scripted_server import Caller, Script

_BLOCK_BYTES = 65536


@attrs.define(eq=False)
class ConnectProxy:
    """A proxy that knows CONNECT alone; to be given to `serving` as the script."""

    #: Without this user and password, as `user:password`, it makes no tunnel.
    wants: str | None = None
    #: The heads of the requests that came.
    asked: list[bytes] = attrs.field(factory=list, init=False)

    async def __call__(self, caller: Caller) -> None:
        head = await caller.head()
        if not head:
            return
        self.asked.append(head)
        method, target, _ = head.split(b" ", 2)
        if method != b"CONNECT":
            await caller.send(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n")
            return
        if self.wants is not None and not self._is_shown(self.wants, head):
            await caller.send(
                b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                b'proxy-authenticate: Basic realm="x"\r\ncontent-length: 0\r\n\r\n'
            )
            return
        host, _, port = target.decode().rpartition(":")
        async with await trio.open_tcp_stream(host.strip("[]"), int(port)) as onward:
            await caller.send(b"HTTP/1.0 200 Connection established\r\n\r\n")
            await carry(caller.stream, onward)

    @staticmethod
    def _is_shown(wanted: str, head: bytes) -> bool:
        lines = [line.partition(b": ") for line in head.split(b"\r\n")]
        shown = [value for name, _, value in lines if name.lower() == b"proxy-authorization"]
        return shown == [b"Basic " + base64.b64encode(wanted.encode())]


def leading_to(port: Callable[[], int]) -> Script:
    """Return a script that carries connections on to a port of this machine."""

    async def script(caller: Caller) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port()) as onward:
            await carry(caller.stream, onward)

    return script


async def carry(one: trio.abc.Stream, other: trio.abc.Stream) -> None:
    """Carry bytes both ways until one side ends."""

    async def one_way(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
        try:
            while block := await source.receive_some(_BLOCK_BYTES):
                await sink.send_all(block)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # a side that breaks off has ended
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one_way, one, other)
        nursery.start_soon(one_way, other, one)
