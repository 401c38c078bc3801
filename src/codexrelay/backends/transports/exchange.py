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
from codexrelay.backends.transports.idle import IdleConnections
from codexrelay.protocol.faults import Reached

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: A request is sent in parts of this size; `write` of the timeouts counts for each.
PART_BYTES: Final = 256 * 1024
#: A body below this goes out in one piece with its head.
SMALL_BYTES: Final = 64 * 1024


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

    def as_httpx(self) -> dict[str, float | None]:
        """Return what a request's `extensions["timeout"]` says for the same."""
        steps = {"connect": self.connect_s, "read": self.read_s, "write": self.write_s}
        return {
            "pool": None,
            **{step: None if limit_s == math.inf else limit_s for step, limit_s in steps.items()},
        }


@attrs.define(eq=False)
class Message:
    """A request as it goes out."""

    head: bytes
    #: In the frame that the head announces; empty where it is made while it goes out.
    body: bytes
    to_head_request: bool = False
    #: Makes the body while it goes out, once; and the frame for it.
    pieces: httpx.AsyncByteStream | None = None
    framer: BodyFramer | None = None

    @classmethod
    def of(cls, request: httpx.Request) -> Message:
        """Return what `request` says.

        Raises:
            httpx.LocalProtocolError: head and body disagree, or the head cannot be written.
        """
        head, framer = head_of(request), BodyFramer.of(request)
        to_head_request = request.method == "HEAD"
        if isinstance(request.stream, httpx.ByteStream):
            body = framer.frame(b"".join(request.stream)) + framer.end()
            return cls(head, body, to_head_request)
        assert isinstance(request.stream, httpx.AsyncByteStream)  # httpx's client sees to it
        return cls(head, b"", to_head_request, request.stream, framer)

    @property
    def can_be_repeated(self) -> bool:
        """Whether it can be sent a second time."""
        return self.pieces is None


@attrs.define(eq=False)
class Exchange:
    """Sends a request and receives its response: an `Answer`, and the `Source` of its body.

    It owns the connection until it ends, and gives it back then, exactly once: as soon as the last
    byte of the response is here, even before it is handed on; by any error; or by `close`.
    """

    connection: Connection
    response: ResponseReader
    timeouts: Timeouts
    #: Where the connection is given back.
    _connections: IdleConnections
    #: What the connection had sent before.
    _sent_before_bytes: int
    #: The request went out to its last byte. Else the connection is of no use afterwards.
    _sent: bool = False
    _ended: bool = False
    #: What went wrong while sending, told if no response explains it.
    _send_error: httpx.TransportError | None = None
    #: What `receive_now` has met, told by `receive`.
    _read_error: httpx.ReadError | None = None

    @classmethod
    def on(
        cls,
        connection: Connection,
        connections: IdleConnections,
        timeouts: Timeouts,
        *,
        to_head_request: bool = False,
    ) -> Exchange:
        """Return the exchange that will take place on `connection`, which is out."""
        reader = ResponseReader(connection.origin, to_head_request)
        return cls(connection, reader, timeouts, connections, connection.sent_bytes)

    def reached(self) -> Reached:
        """Tell how far the request got."""
        if self._sent:
            return Reached.SENT
        if self.connection.sent_bytes > self._sent_before_bytes:
            return Reached.UNKNOWN
        return Reached.NOT_SENT

    @property
    def status(self) -> int:
        """See `Answer.status`."""
        return self.response.status

    def take_headers(self) -> list[tuple[bytes, bytes]]:
        """See `Answer.take_headers`."""
        headers, self.response.headers = self.response.headers, []
        return headers

    async def run_to_head(self, message: Message) -> None:
        """Send `message` until its end, or until the response's head has come; wait for that head.

        A server may answer before it has read everything (413, 401), and close then: so a request
        that cannot be sent is no error yet if there is a response.

        Raises:
            httpx.TransportError: no response; timeouts, a broken connection, or a broken response.
        """
        response, has_head = self.response, False
        try:
            self._sent = await self._send(message)
            if isinstance(self._send_error, httpx.WriteTimeout):
                raise self._send_error
            while not response.settled:
                await self._hear_in_time()
            if not response.head_complete:
                response.take()  # raises what is wrong with it
            has_head = True
        except (httpx.ReadError, httpx.RemoteProtocolError) as error:
            if self._send_error is None:
                raise
            raise self._send_error from error
        finally:
            if response.complete or not has_head:
                self._end()

    async def receive(self) -> bytes:
        """See `Answer.receive`. When cancelled, nothing is lost, and the next one goes on.

        Raises:
            httpx.ReadTimeout: nothing came in time.
            httpx.ReadError: the connection is broken.
            httpx.RemoteProtocolError: the response is.
            httpx.StreamClosed: it was given up.
        """
        response = self.response
        try:
            while not (block := response.take()) and not response.complete:
                if self._ended:
                    raise httpx.StreamClosed
                await self._hear_in_time()
        except httpx.TransportError:
            self._end()
            raise
        if response.complete:
            self._end()
        return block

    @property
    def is_whole(self) -> bool:
        """See `Answer.is_whole`."""
        return self.response.complete

    @property
    def source(self) -> Exchange | None:
        """See `Answer.source`: None once the response has come whole."""
        return None if self._ended else self

    def fileno(self) -> int:
        """See `Source.fileno`; negative once the connection is not ours any more."""
        return -1 if self._ended else self.connection.fileno()

    def receive_now(self) -> bytes | None:
        """See `Source.receive_now`. Under TLS it leaves nothing undecrypted that came whole.

        Whatever it meets, the connection stays ours: its descriptor may be registered somewhere.
        """
        response = self.response
        if not self.is_over:
            try:
                if not self.connection.receive_now(response.feed):
                    response.feed_eof()
            except httpx.ReadError as error:
                self._read_error = error
            else:
                if not (response.complete or response.fault):
                    return response.take()
        return response.take_whats_left() or None

    @property
    def is_over(self) -> bool:
        """See `Source.is_over`."""
        response = self.response
        broken = response.fault is not None or self._read_error is not None
        return broken or response.complete or self._ended

    async def close(self) -> None:
        """Give the rest up; a connection that still has body on it is closed at once."""
        self._end()

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._sent and self.response.complete and self.response.keeps_alive:
            self._connections.keep(self.connection, now_s=trio.current_time())
        else:
            self._connections.drop(self.connection)

    async def _hear_in_time(self) -> None:
        """Wait for the next bytes of the response and read them. When cancelled, nothing is lost.

        Raises:
            httpx.ReadTimeout: nothing came in time.
            httpx.ReadError: the connection is broken.
        """
        if self._read_error is not None:
            raise self._read_error
        # A scope costs as much as receiving itself, and this runs once per event.
        if self.timeouts.read_s == math.inf:
            if not await self.connection.receive(self.response.feed):
                self.response.feed_eof()
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

    async def _send(self, message: Message) -> bool:
        if message.pieces is not None:
            return await self._send_pieces(message)
        if len(message.body) < SMALL_BYTES:
            return await self._send_all(message.head + message.body)
        return await self._send_all(message.head) and await self._send_all(message.body)

    async def _send_pieces(self, message: Message) -> bool:
        assert message.pieces is not None
        assert message.framer is not None
        if not await self._send_all(message.head):
            return False
        async with _closing(aiter(message.pieces)) as pieces:
            async for piece in pieces:
                if not await self._send_all(message.framer.frame(piece)):
                    return False
        return await self._send_all(message.framer.end())

    async def _send_all(self, data: bytes) -> bool:
        """Send part by part as long as the socket takes them; no task and no scope until then."""
        further = memoryview(data)
        while further:
            if self._send_error is not None or self.response.settled:
                return False  # nobody wants the rest
            part, further = further[:PART_BYTES], further[PART_BYTES:]
            try:
                rest = self.connection.send_now(part)
            except httpx.WriteError as error:
                self._send_error = error
                return False
            if rest:
                return await self._send_and_listen(rest, further)
        return True

    async def _send_and_listen(self, rest: memoryview, further: memoryview) -> bool:
        """Wait for the socket, and meanwhile for an early response: who sends it may not read on.

        `rest` is what the socket has left of a part, `further` comes behind it.
        """
        is_out = False
        # Both children keep what goes wrong as a value, so that no group leaves this nursery.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, nursery.cancel_scope)
            is_out = await self._send_waiting(rest, further)
            nursery.cancel_scope.cancel()
        return is_out

    async def _send_waiting(self, rest: memoryview, further: memoryview) -> bool:
        with trio.move_on_after(self.timeouts.write_s) as limit:
            try:
                await self.connection.send_rest(rest)
                for begin in range(0, len(further), PART_BYTES):
                    limit.deadline = trio.current_time() + self.timeouts.write_s
                    await self.connection.send(further[begin : begin + PART_BYTES])
            except httpx.WriteError as error:
                self._send_error = error
                return False
            return True
        self._send_error = httpx.WriteTimeout(
            f"{self.connection.origin} took nothing more for {self.timeouts.write_s} s"
        )
        return False

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
