"""The upstream track: what the relay asks of a backend and its sign-in service."""

from __future__ import annotations

from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

import attrs
import httpx

from codexrelay.backends.websocket import Opened, Refused, Unreachable
from harness.recording.client_side import phrase
from harness.recording.frames import RecordedFrames
from harness.recording.place import at, uri_upstream
from harness.recording.tape import headers_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codexrelay.backends.websocket import Dial, Handshake
    from harness.cassettes.model import End, Headers
    from harness.recording.tape import Tape

#: What every handshake says (RFC 6455, 4.1); its key is new each time.
_UPGRADE: Final = (
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
)


class Upstreams(Protocol):
    """What is asked of a recorder."""

    def relay_asks(self, method: str, uri: str, headers: Headers) -> Tape:
        """Begin a tape for a request of the relay, made by the current task."""


@attrs.frozen
class RecordedTransport(httpx.AsyncBaseTransport):
    """The way to a backend, and a recorder on it that sees every block and changes none."""

    _backend: str
    _inner: httpx.AsyncBaseTransport
    _upstreams: Upstreams

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; for the rest see what is behind this."""
        uri, headers = uri_upstream(self._backend, request.url), headers_of(request.headers.raw)
        if request.url.host != httpx.URL(uri).host:
            headers = at(self._backend, headers)
        tape = self._upstreams.relay_asks(request.method, uri, headers)
        ended: End | None = "closed-by-relay"
        try:
            response = await self._inner.handle_async_request(_read_along(request, tape))
            ended = None
        except httpx.TransportError as error:
            ended = _end_of(error)
            raise
        finally:
            if ended is not None:
                tape.end(ended)
        tape.head(response.status_code, response.reason_phrase, headers_of(response.headers.raw))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Body(response.stream, tape),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close what is behind this."""
        await self._inner.aclose()


class _Body(httpx.AsyncByteStream):
    """An answer's body and its iterator: blocks as they come.

    Cancelling a step loses nothing if it does not behind this.
    """

    def __init__(self, inner: httpx.AsyncByteStream, tape: Tape) -> None:
        self._inner = inner
        self._tape = tape
        self._blocks: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        if self._blocks is None:
            self._blocks = aiter(self._inner)
        try:
            block = await anext(self._blocks)
        except StopAsyncIteration:
            self._tape.end("eof")
            raise
        except httpx.TransportError as error:
            self._tape.end(_end_of(error))
            raise
        self._tape.receive(block)
        return block

    async def aclose(self) -> None:
        """Give the rest up."""
        self._tape.end("closed-by-relay")
        await self._inner.aclose()


class _ReadAlong(httpx.AsyncByteStream):
    """A request's body that can be read once, noted while it leaves."""

    def __init__(self, inner: httpx.AsyncByteStream, tape: Tape) -> None:
        self._inner = inner
        self._tape = tape

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for block in self._inner:
            self._tape.send(block)
            yield block

    async def aclose(self) -> None:
        await self._inner.aclose()


def _read_along(request: httpx.Request, tape: Tape) -> httpx.Request:
    """Note the request's body; return what is to be sent in its place."""
    if isinstance(request.stream, httpx.ByteStream):
        # In memory, and it stays what it is: the transport may have to send it twice.
        for block in request.stream:
            tape.send(block)
        return request
    assert isinstance(request.stream, httpx.AsyncByteStream)
    return httpx.Request(
        request.method,
        request.url,
        headers=request.headers,
        stream=_ReadAlong(request.stream, tape),
        extensions=request.extensions,
    )


def recorded_dial(backend: str, inner: Dial, upstreams: Upstreams) -> Dial:
    """Return a dial with a recorder before it that sees handshakes and messages.

    A connection is part of no client's request: it serves one after the other.
    """

    @asynccontextmanager
    async def dial(handshake: Handshake) -> AsyncIterator[Opened | Refused | Unreachable]:
        uri = uri_upstream(backend, handshake.url)
        headers = (("host", urlsplit(uri).netloc), *_UPGRADE, *handshake.headers)
        tape = upstreams.relay_asks("GET", uri, headers)
        frames: RecordedFrames | None = None
        try:
            async with inner(handshake) as answer:
                match answer:
                    case Opened():
                        status = HTTPStatus.SWITCHING_PROTOCOLS
                        tape.head(status, status.phrase, tuple(answer.headers.items()))
                        frames = RecordedFrames(answer.frames, tape)
                        answer = attrs.evolve(answer, frames=frames)
                    case Refused():
                        told = tuple(answer.headers.items())
                        tape.head(answer.status, phrase(answer.status), told)
                        tape.receive(answer.body)
                        tape.end("eof")
                    case Unreachable():
                        tape.end("reset")
                try:
                    yield answer
                finally:
                    if frames is not None:
                        frames.left()
        finally:
            tape.end("closed-by-relay")

    return dial


def _end_of(error: httpx.TransportError) -> End:
    return "idle" if isinstance(error, httpx.TimeoutException) else "reset"
