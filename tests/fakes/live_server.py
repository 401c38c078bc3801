"""A real server on a free port of the loopback, and a client that sees every byte."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from codexrelay.server import listen
from codexrelay.server.drain import Drain
from codexrelay.server.tcp import Patience

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hypercorn.typing import ASGIFramework

#: To fail, never to synchronise.
PATIENCE_S = 20.0
#: A server that never loses patience, so that whatever a test sees has another cause.
PATIENT = Patience(keep_alive_s=1000.0, write_s=1000.0, linger_s=1000.0)


class RawClient:
    """One TCP connection that sends what it is told and cuts what it receives at known borders."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._received = bytearray()

    async def send(self, data: bytes) -> None:
        with trio.fail_after(PATIENCE_S):
            await self.stream.send_all(data)

    async def get(self, path: str) -> None:
        await self.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    async def receive_until(self, end: bytes) -> bytes:
        """Return everything up to and with `end`."""
        with trio.fail_after(PATIENCE_S):
            while end not in self._received:
                if not (data := await self.stream.receive_some(65536)):
                    raise EOFError(f"{end!r} never came, only {bytes(self._received)!r}")
                self._received += data
        cut = self._received.index(end) + len(end)
        taken = bytes(self._received[:cut])
        del self._received[:cut]
        return taken

    async def receive_response(self) -> tuple[int, bytes]:
        """Return status and body of a response with a length."""
        head = (await self.receive_until(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        with trio.fail_after(PATIENCE_S):
            while len(self._received) < length:
                self._received += await self.stream.receive_some(65536)
        body = bytes(self._received[:length])
        del self._received[:length]
        return int(head.split()[1]), body

    async def receive_rest(self) -> bytes:
        """Return what comes until the server closes."""
        with trio.fail_after(PATIENCE_S):
            while data := await self.stream.receive_some(65536):
                self._received += data
        return bytes(self._received)


@attrs.define(eq=False)
class LiveServer:
    """A server under test."""

    url: str
    drain: Drain
    #: Set when `serve` has returned.
    returned: trio.Event
    scope: trio.CancelScope

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[RawClient]:
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            yield RawClient(stream)

    async def wait_returned(self) -> None:
        with trio.fail_after(PATIENCE_S):
            await self.returned.wait()


@asynccontextmanager
async def serving(
    app: ASGIFramework,
    *,
    host: str = "127.0.0.1",
    grace_s: float = 0.0,
    patience: Patience = PATIENT,
) -> AsyncIterator[LiveServer]:
    """Serve `app`; at the end of the block the server is drained, and must be gone soon."""
    drain = Drain(grace_s=grace_s)
    returned, scope = trio.Event(), trio.CancelScope()

    async def run(*, task_status: trio.TaskStatus[str]) -> None:
        with scope:
            await listen.serve(
                app,
                host=host,
                port=0,
                drain=drain,
                patience=patience,
                task_status=task_status,
            )
        returned.set()

    async with trio.open_nursery() as nursery:
        server = LiveServer(await nursery.start(run), drain, returned, scope)
        yield server
        drain.begin()
        await server.wait_returned()
