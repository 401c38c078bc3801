"""One request and its response on one connection."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.backends.transports.connection import Connection
from codexrelay.backends.transports.http1 import BodyFramer, ResponseReader, head_of
from codexrelay.protocol.faults import Reached

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: A request is sent in parts of this size; `write` of the timeouts counts for each.
PART_BYTES: Final = 256 * 1024
#: What a request may send before anybody looks for an early response. So much fits into the buffers
#: of both kernels, hence sending it ends even if the server reads nothing; and most requests are
#: smaller, and spared a nursery.
UNWATCHED_BYTES: Final = 64 * 1024


@attrs.frozen(kw_only=True)
class Timeouts:
    """Seconds allowed to each single step; `math.inf` where there is no limit.

    httpx also knows `pool`, which means nothing here: nobody waits for a connection to be free.
    """

    connect_s: float
    #: Between two receives.
    read_s: float
    #: For each part of the request.
    write_s: float

    @classmethod
    def of(cls, request: httpx.Request) -> Timeouts:
        """Return what `request.extensions["timeout"]` says; absent and None mean no limit."""
        given = request.extensions.get("timeout", {})
        connect, read, write = (given.get(step) for step in ("connect", "read", "write"))
        return cls(
            connect_s=math.inf if connect is None else connect,
            read_s=math.inf if read is None else read,
            write_s=math.inf if write is None else write,
        )


@attrs.define(eq=False)
class Exchange:
    """Sends a request and receives its response. Closing the connection is the owner's part."""

    connection: Connection
    response: ResponseReader
    timeouts: Timeouts
    #: What the connection had sent before.
    _sent_before_bytes: int
    #: The request went out to its last byte. Else the connection is of no use afterwards.
    _sent: bool = False
    _sent_bytes: int = 0
    #: What went wrong while sending, told if no response explains it.
    _send_error: httpx.TransportError | None = None

    @classmethod
    def of(cls, request: httpx.Request, connection: Connection, timeouts: Timeouts) -> Exchange:
        """Return the exchange that will send `request` on `connection`."""
        reader = ResponseReader(str(connection.origin), to_head_request=request.method == "HEAD")
        return cls(connection, reader, timeouts, connection.sent_bytes)

    def reached(self) -> Reached:
        """Tell how far the request got."""
        if self._sent:
            return Reached.SENT
        if self.connection.sent_bytes > self._sent_before_bytes:
            return Reached.UNKNOWN
        return Reached.NOT_SENT

    @property
    def leaves_reusable(self) -> bool:
        """The connection can take the next request."""
        return self._sent and self.response.complete and self.response.keeps_alive

    async def run_to_head(self, request: httpx.Request) -> None:
        """Send `request` until its end, or until the response's head has come; wait for that head.

        A server may answer before it has read everything (413, 401), and close then: so a request
        that cannot be sent is no error yet if there is a response.

        Raises:
            httpx.TransportError: no response; timeouts, a broken connection, or a broken response.
        """
        self._sent = await self._send(request)
        if isinstance(self._send_error, httpx.WriteTimeout):
            raise self._send_error
        try:
            while not self.response.settled:
                await self.receive()
            if not self.response.head_complete:
                self.response.take()  # raises what is wrong with it
        except (httpx.ReadError, httpx.RemoteProtocolError) as error:
            if self._send_error is None:
                raise
            raise self._send_error from error

    async def receive(self) -> None:
        """Wait for the next bytes of the response and read them. When cancelled, nothing is lost.

        Raises:
            httpx.ReadTimeout: nothing came in time.
            httpx.ReadError: the connection is broken.
        """
        if self.timeouts.read_s == math.inf:  # a scope costs as much as receiving itself
            await self._hear()
            return
        with trio.move_on_after(self.timeouts.read_s) as limit:
            await self._hear()
        if limit.cancelled_caught:
            raise httpx.ReadTimeout(
                f"{self.connection.origin} sent nothing for {self.timeouts.read_s} s"
            )

    async def _hear(self) -> None:
        if not await self.connection.receive(self.response.feed):
            self.response.feed_eof()

    # Sending. Each of these returns whether all it was given is out; if not, nothing may follow.

    async def _send(self, request: httpx.Request) -> bool:
        head, framer = head_of(request), BodyFramer.of(request)
        if isinstance(request.stream, httpx.ByteStream):
            body = framer.frame(b"".join(request.stream)) + framer.end()
            if len(body) < UNWATCHED_BYTES:
                return await self._send_parts(head + body)
            return await self._send_parts(head) and await self._send_parts(body)
        if not await self._send_parts(head):
            return False
        assert isinstance(request.stream, httpx.AsyncByteStream)  # httpx's client sees to it
        async with _closing(aiter(request.stream)) as pieces:
            async for piece in pieces:
                if not await self._send_parts(framer.frame(piece)):
                    return False
        return await self._send_parts(framer.end())

    async def _send_parts(self, data: bytes) -> bool:
        view = memoryview(data)
        for begin in range(0, len(view), PART_BYTES):
            if self._send_error is not None or self.response.settled:
                return False  # nobody wants the rest
            part = view[begin : begin + PART_BYTES]
            self._sent_bytes += len(part)
            watched = self._sent_bytes > UNWATCHED_BYTES
            if not await (self._send_part_and_listen if watched else self._send_part)(part):
                return False
        return True

    async def _send_part(self, part: memoryview) -> bool:
        with trio.move_on_after(self.timeouts.write_s):
            try:
                await self.connection.send(part)
            except httpx.WriteError as error:
                self._send_error = error
                return False
            return True
        self._send_error = httpx.WriteTimeout(
            f"{self.connection.origin} took nothing more for {self.timeouts.write_s} s"
        )
        return False

    async def _send_part_and_listen(self, part: memoryview) -> bool:
        is_out = False
        # Both children keep what goes wrong as a value, so that no group leaves this nursery.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, nursery.cancel_scope)
            is_out = await self._send_part(part)
            nursery.cancel_scope.cancel()
        return is_out

    async def _listen(self, sending: trio.CancelScope) -> None:
        try:
            while not self.response.settled:
                await self._hear()
        except httpx.ReadError as error:
            self._send_error = error
        sending.cancel()


@contextlib.asynccontextmanager
async def _closing(pieces: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Close `pieces` at the end if it is a generator, instead of leaving that to the collector."""
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
