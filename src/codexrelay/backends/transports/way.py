"""How an attempt's request goes out, and how its answer comes back.

`DirectTransport` is a `Way` itself: nothing of httpx is made for a request on it. Around every
other transport (httpx's own, a recorder's, a replayer's) stands `ThroughHttpx`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, runtime_checkable

import attrs
import httpx
import trio

from codexrelay.backends.transports.connection import Origin
from codexrelay.backends.transports.http1 import written_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.backends.backend import Source
    from codexrelay.backends.transports.exchange import Timeouts
    from codexrelay.protocol.progress import Progress

#: For closing a response that awaits.
CLEANUP_S: Final = 2.0
#: Of a request without a body the length is said for these alone.
_SAY_THAT_NOTHING_COMES: Final = frozenset({"POST", "PUT", "PATCH"})

#: As they go out, in their order; neither Host nor what tells the body's length.
Fields: TypeAlias = "Sequence[tuple[str, str]]"


@attrs.frozen
class Target:
    """What a backend's requests are sent to: a method and a URL, prepared once for all of them."""

    method: str
    url: httpx.URL
    origin: Origin
    _request_line: str
    _host: tuple[str, str]

    @classmethod
    def at(cls, method: str, url: httpx.URL) -> Target:
        """Return the target of `method` and `url`.

        Raises:
            httpx.UnsupportedProtocol: neither HTTP nor HTTPS.
        """
        line = f"{method} {url.raw_path.decode('ascii')} HTTP/1.1"
        return cls(method, url, Origin.of(url), line, ("Host", url.netloc.decode("ascii")))

    def head(self, headers: Fields, body_bytes: int) -> bytes:
        """Return the head of a request with a body of so many bytes: what httpx would make of it.

        Raises:
            httpx.LocalProtocolError: a line break in a header.
        """
        # Where httpx puts the length, so that both ways look alike.
        if body_bytes:
            fields = [self._host, *headers, ("Content-Length", str(body_bytes))]
        elif self.method in _SAY_THAT_NOTHING_COMES:
            fields = [self._host, ("Content-Length", "0"), *headers]
        else:
            fields = [self._host, *headers]
        return written_head(self._request_line, fields)


class Answer(Protocol):
    """A response whose head has come."""

    @property
    def status(self) -> int:
        """The status code."""

    def take_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers as they came; they are not kept, so it can be asked once."""

    @property
    def is_whole(self) -> bool:
        """Whether `receive` gives the rest of the body and its end without waiting."""

    @property
    def source(self) -> Source | None:
        """What reads the body without waiting; None where that is not possible (any more)."""

    async def receive(self) -> bytes:
        """Return the body that came next, `b""` at its end.

        Raises:
            httpx.RequestError: there will be no more; the subclass says why.
        """

    async def close(self) -> None:
        """Give up what has not come; may be repeated."""


@runtime_checkable
class Way(Protocol):
    """Carries requests to a backend."""

    async def ask(
        self, target: Target, headers: Fields, body: bytes, timeouts: Timeouts, progress: Progress
    ) -> Answer:
        """Send a request and return its answer as soon as the head is there.

        Raises:
            httpx.TransportError: the subclass says which step failed; the text says who and why.
        """


def way_over(transport: httpx.AsyncBaseTransport) -> Way:
    """Return the transport itself where it is a way."""
    return transport if isinstance(transport, Way) else ThroughHttpx(transport)


@attrs.frozen
class ThroughHttpx:
    """The way through any transport of httpx's kind."""

    _transport: httpx.AsyncBaseTransport

    async def ask(
        self, target: Target, headers: Fields, body: bytes, timeouts: Timeouts, progress: Progress
    ) -> Answer:
        """See `Way.ask`."""
        request = httpx.Request(
            target.method,
            target.url,
            # httpx by itself takes ASCII only; a client's value may hold the name of a folder.
            headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in headers],
            content=body,
            extensions={"timeout": timeouts.as_httpx()} | progress.extensions,
        )
        return _HttpxAnswer(await self._transport.handle_async_request(request))


@attrs.define(eq=False)
class _HttpxAnswer:
    """A response of httpx's, as it came: nothing of it is decompressed here."""

    _response: httpx.Response
    _blocks: AsyncIterator[bytes] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        stream = self._response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        self._blocks = aiter(stream)

    @property
    def status(self) -> int:
        return self._response.status_code

    def take_headers(self) -> list[tuple[bytes, bytes]]:
        return self._response.headers.raw

    @property
    def is_whole(self) -> bool:
        """False: not known."""
        return False

    @property
    def source(self) -> None:
        """None: what lies below is not ours to look into."""

    async def receive(self) -> bytes:
        return await anext(self._blocks, b"")

    async def close(self) -> None:
        with trio.move_on_after(CLEANUP_S, shield=True):
            await self._response.aclose()


class Decompressed:
    """An `Answer` whose body came compressed, which httpx undoes.

    Every request asks for identity, so this is an exception.
    """

    def __init__(self, answer: Answer, headers: list[tuple[bytes, bytes]]) -> None:
        """`headers` are those of `answer`, which say how it is compressed."""
        self._answer = answer
        self.status = answer.status
        response = _Compressed(answer.status, headers=headers, stream=BodyOf(answer))
        self._blocks = response.aiter_bytes()

    def take_headers(self) -> list[tuple[bytes, bytes]]:
        """See `Answer.take_headers`: they have been taken."""
        return []

    @property
    def is_whole(self) -> bool:
        """See `Answer.is_whole`."""
        return self._answer.is_whole

    @property
    def source(self) -> None:
        """None: what comes is not what is received."""

    async def receive(self) -> bytes:
        """See `Answer.receive`; what cannot be decompressed is an `httpx.DecodingError`."""
        return await anext(self._blocks, b"")

    async def close(self) -> None:
        """See `Answer.close`."""
        if isinstance(self._blocks, AsyncGenerator):
            await self._blocks.aclose()
        await self._answer.close()


class _Compressed(httpx.Response):
    """A response whose raw body is no generator, which httpx would leave to the collector."""

    def aiter_raw(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:  # noqa: ARG002
        """Return the blocks as they come, whatever their size."""
        assert isinstance(self.stream, BodyOf)
        return self.stream


@attrs.define(eq=False)
class BodyOf(httpx.AsyncByteStream):
    """An answer's body for httpx, and its iterator: blocks as they come, never empty."""

    _answer: Answer

    def __aiter__(self) -> BodyOf:
        """Go on where the last one stopped."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next block."""
        if block := await self._answer.receive():
            return block
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Give the rest up."""
        await self._answer.close()
