"""One client's connection: reads requests, performs the steps of their answers, decides nothing."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, assert_never

import attrs
import h11
import trio

from harness.simulator.arrival import HttpRequest
from harness.simulator.seen import Seen
from harness.simulator.steps import (
    Answer,
    Binary,
    Chunk,
    Close,
    CloseFrame,
    Cut,
    Deafen,
    End,
    Hang,
    Head,
    Pause,
    Reset,
    Step,
    Until,
    Wait,
    has_body,
)

#: Bytes of an answer that are gathered before they are sent, when no step asks for it earlier.
_FLUSH_BYTES: Final = 64 * 1024
_RECEIVE_BYTES: Final = 64 * 1024
#: Agents send header values (turn metadata) of several kB.
_MAX_HEAD_BYTES: Final = 256 * 1024
_LINGER_NONE: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)

#: Serves what a connection has become; takes its stream, and what has come of it already.
Takeover: TypeAlias = Callable[[trio.abc.Stream, bytes], Awaitable[None]]


def _stays(_request: HttpRequest) -> None:
    """Leave every connection what it is."""


@attrs.define(eq=False)
class Connection:
    """Serves the requests of one connection, one after the other."""

    _stream: trio.abc.Stream
    #: Decides when only the head is here: the record of a request to be reset while its body
    #: arrives, None for one to be read whole.
    _cut_off: Callable[[HttpRequest], Seen | None]
    #: Decides: the record of the request, and the steps of its answer.
    _answer: Callable[[HttpRequest], tuple[Seen, Answer]]
    #: Called whenever a record has changed.
    _changed: Callable[[Seen], None]
    #: Decides: who takes the connection over, None for a request that is answered as any other.
    _upgrade: Callable[[HttpRequest], Takeover | None] = _stays
    _http: h11.Connection = attrs.field(
        factory=lambda: h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES),
        init=False,
    )
    #: Bytes to send, gathered so that a burst of events is one write.
    _out: bytearray = attrs.field(factory=bytearray, init=False)
    #: The end of the answer is being sent: a client that leaves now leaves because it has all.
    _ending: bool = attrs.field(default=False, init=False)
    #: When the request that is answered had arrived, on trio's clock.
    _began_at_s: float = attrs.field(default=0.0, init=False)

    async def run(self) -> None:
        """Serve until either side closes. The stream is the caller's to close."""
        try:
            while (request := await self._next_request()) is not None:
                if (takeover := self._upgrade(request)) is not None:
                    await takeover(self._stream, self._http.trailing_data[0])
                    return
                await self._serve(request)
                if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    return
                self._http.start_next_cycle()
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            return  # the client has left, or speaks no HTTP

    async def _next_request(self) -> HttpRequest | None:
        """Return the next request, or None when the client has closed."""
        request: HttpRequest | None = None
        cut_off: Seen | None = None
        body = bytearray()
        while True:
            match event := self._http.next_event():
                case h11.NEED_DATA:
                    await self._invite_body()
                    self._http.receive_data(bytes(await self._stream.receive_some(_RECEIVE_BYTES)))
                case h11.Request():
                    request = _begun(event)
                    cut_off = self._cut_off(request)
                case _ if cut_off is not None:
                    await self._reset()
                    cut_off.finished = True
                    self._changed(cut_off)
                    return None
                case h11.Data():
                    body += event.data
                case h11.EndOfMessage() if request is not None:
                    return attrs.evolve(request, body=bytes(body))
                case _:
                    return None

    async def _invite_body(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            head = h11.InformationalResponse(status_code=100, headers=[])
            await self._stream.send_all(self._http.send(head) or b"")

    async def _serve(self, request: HttpRequest) -> None:
        self._began_at_s = trio.current_time()
        seen, answer = self._answer(request)
        self._ending = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, seen, nursery.cancel_scope)
            try:
                for step in answer:
                    if isinstance(step, Chunk) and not has_body(request.method, seen.status):
                        continue
                    await self._perform(step, seen)
            except trio.BrokenResourceError:
                self._left(seen)
            else:
                seen.finished = True
                self._changed(seen)
            nursery.cancel_scope.cancel()

    async def _watch(self, seen: Seen, scope: trio.CancelScope) -> None:
        """Notice that the client closes while its answer is under way, and stop the answer."""
        try:
            while data := await self._stream.receive_some(_RECEIVE_BYTES):
                self._http.receive_data(bytes(data))  # the next request, early
        except trio.BrokenResourceError:
            pass
        except trio.ClosedResourceError:
            return  # we closed it ourselves
        if not self._ending:
            self._left(seen)
            scope.cancel()

    def _left(self, seen: Seen) -> None:
        if not seen.ended:
            seen.left_at_s = trio.current_time()
            self._changed(seen)

    async def _perform(self, step: Step, seen: Seen) -> None:
        match step:
            case Head(status, headers):
                seen.status = status
                self._changed(seen)
                told = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
                self._queue(h11.Response(status_code=status, headers=told))
            case Chunk(data) | Binary(data):
                self._queue(h11.Data(data=data))
                if len(self._out) >= _FLUSH_BYTES:
                    await self._flush()
            case Pause(seconds):
                await self._flush()
                await trio.sleep(seconds)
            case Until(at_s):
                await self._flush()
                await trio.sleep_until(self._began_at_s + at_s)
            case Wait(until):
                await self._flush()
                await until()
            case End():
                self._queue(h11.EndOfMessage())
                self._ending = True
                await self._flush()
            case Hang() | Deafen():
                await self._flush()
                await trio.sleep_forever()
            case Close() | CloseFrame():
                await self._flush()
                await trio.aclose_forcefully(self._stream)
            case Reset():
                await self._flush()
                await self._reset()
            case Cut(data):
                self._out += b"%x\r\n" % len(data) + data[: len(data) // 2]
                await self._flush()
                await trio.aclose_forcefully(self._stream)
            case _:
                assert_never(step)

    def _queue(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        self._out += self._http.send(event) or b""

    async def _flush(self) -> None:
        out, self._out = self._out, bytearray()
        if out:
            await self._stream.send_all(out)

    async def _reset(self) -> None:
        await reset(self._stream)


async def reset(stream: trio.abc.Stream) -> None:
    """Abort a connection (RST); one in memory is just closed."""
    if isinstance(stream, trio.SocketStream):
        # A close that does not linger sends RST instead of FIN.
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    await trio.aclose_forcefully(stream)


def _begun(head: h11.Request) -> HttpRequest:
    """Return a request of which only the head has come."""
    headers = tuple((n.decode("ascii"), v.decode("latin-1")) for n, v in head.headers)
    return HttpRequest(head.method.decode("ascii"), head.target.decode("ascii"), headers, b"")
