"""What backends over HTTP have in common: one request per attempt, its answer or its error back.

Everything httpx can raise becomes a fault here; above this module nobody knows httpx.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.accounts.account import Account
from codexrelay.accounts.wire import keep_to
from codexrelay.backends.backend import Attempt, Head, UpstreamRequest
from codexrelay.backends.transports.proxy import ProxyTimeout
from codexrelay.protocol import faults
from codexrelay.protocol.faults import Reached
from codexrelay.protocol.progress import Progress

if TYPE_CHECKING:
    from codexrelay.protocol.faults import Fault

#: Most of an error body that is read; what follows says nothing new.
MAX_ERROR_BYTES: Final = 16 * 1024 * 1024
#: For an error body whose end does not come.
ERROR_BODY_S: Final = 10.0
#: Upstream does not take the request's bytes: a dead connection, not a slow model.
WRITE_S: Final = 60.0
#: For closing a response that awaits.
CLEANUP_S: Final = 2.0
#: What httpx raises when nothing can have been sent, whatever the transport.
_BEFORE_SENDING: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)


@attrs.frozen(kw_only=True)
class HttpBackend:
    """A backend at one base URL. What each kind of them has of its own is in its subclass."""

    transport: httpx.AsyncBaseTransport
    base_url: httpx.URL
    connect_s: float
    wall_clock: Callable[[], float]
    #: The block of the configuration that it has been made of.
    block: str
    #: By path; there are three of them, and joining one costs as much as sending it.
    _urls: dict[str, httpx.URL] = attrs.field(factory=dict, init=False)

    @asynccontextmanager
    async def attempt(self, request: UpstreamRequest, account: Account) -> AsyncIterator[Attempt]:
        """Return the attempt of `request` on `account`; leaving it closes what it opened."""
        attempt = HttpAttempt(self, request, account)
        try:
            yield attempt
        finally:
            await attempt.close()

    def takes_sockets(self, *, from_socket: bool) -> bool:  # noqa: ARG002  (for those who do)
        """See `Backend.takes_sockets`."""
        return False

    def warm_account(self, session: str, *, from_socket: bool) -> str | None:  # noqa: ARG002
        """See `Backend.warm_account`."""
        return None

    def url(self, path: str) -> httpx.URL:
        """Return the URL of `path` (with its query) below the base URL."""
        url = self._urls.get(path)
        if url is None:
            raw_path = self.base_url.raw_path.rstrip(b"/") + path.encode()
            url = self._urls[path] = self.base_url.copy_with(raw_path=raw_path)
        return url

    def headers(self, request: UpstreamRequest, account: Account) -> Sequence[tuple[str, str]]:
        """Return all headers of the request on `account`."""
        raise NotImplementedError

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        """Return the fault of an answer that is not 2xx. `headers` has lower-case names."""
        return faults.from_response(status, headers, body, now_unix_s=self.wall_clock())

    def unreachable(self, why: str) -> str:
        """Return what is told when nothing could be sent."""
        return f"the backend cannot be reached: {why}"


@attrs.define(eq=False)
class HttpAttempt:
    """One request on one account."""

    _backend: HttpBackend
    _request: UpstreamRequest
    _account: Account
    _response: httpx.Response | None = None
    _blocks: AsyncIterator[bytes] | None = None
    _progress: Progress = attrs.field(factory=Progress)

    @property
    def reached(self) -> Reached:
        """See `Attempt.reached`."""
        return self._progress.reached

    async def send(self) -> Head | Fault:
        """See `Attempt.send`."""
        backend = self._backend
        timeout = {"connect": backend.connect_s, "read": None, "write": WRITE_S, "pool": None}
        headers = backend.headers(self._request, self._account)
        request = httpx.Request(
            self._request.method,
            backend.url(self._request.path),
            # httpx by itself takes ASCII only; a client's value may hold the name of a folder.
            headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in headers],
            content=self._request.body,
            extensions={"timeout": timeout} | self._progress.extensions,
        )
        keep_to(backend.base_url, request)
        try:
            response = self._response = await backend.transport.handle_async_request(request)
        except httpx.ConnectTimeout as error:
            fault = faults.slow("connect_s", backend.connect_s, block=backend.block)
            if isinstance(error, ProxyTimeout):
                error_object = fault.error | {"message": f"{fault.message}; {error}"}
                fault = attrs.evolve(fault, error=error_object)
            return self._noted(fault)
        except httpx.TransportError as error:
            if not isinstance(error, _BEFORE_SENDING):
                self._progress.otherwise(Reached.UNKNOWN)
            return self._noted(faults.broken(self._what_broke(_words(error))))
        self._progress.otherwise(Reached.SENT)
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        # Asked for identity, so this is an exception, and httpx undoes it.
        compressed = "content-encoding" in response.headers
        self._blocks = response.aiter_bytes() if compressed else aiter(stream)
        # As latin-1, so that the bytes can be handed on: httpx guesses an encoding.
        told = {n.lower().decode("ascii"): v.decode("latin-1") for n, v in response.headers.raw}
        if response.is_success:
            return Head(status=response.status_code, headers=told)
        body = await self._error_body()
        return self._noted(backend.refusal(response.status_code, told, body))

    @property
    def source(self) -> None:
        """See `Attempt.source`."""

    async def receive(self) -> bytes | Fault:
        """See `Attempt.receive`."""
        assert self._blocks is not None
        try:
            return await anext(self._blocks)
        except StopAsyncIteration:
            return b""
        except httpx.RequestError as error:  # also what cannot be decompressed
            told = f"the connection to the backend broke: {_words(error)}"
            return self._noted(faults.broken(told))

    async def close(self) -> None:
        """Close the connection, or give it back if the answer was read to its end."""
        if self._response is not None:
            with trio.move_on_after(CLEANUP_S, shield=True):
                await self._response.aclose()

    def _what_broke(self, why: str) -> str:
        if self.reached is Reached.NOT_SENT:
            return self._backend.unreachable(why)
        return f"the connection to the backend broke before it answered: {why}"

    def _noted(self, fault: Fault) -> Fault:
        return attrs.evolve(fault, reached=self.reached)

    async def _error_body(self) -> bytes:
        """Read an error body as far as it comes: half of it still says more than nothing."""
        pieces, size_bytes = [], 0
        with trio.move_on_after(ERROR_BODY_S):
            while isinstance(block := await self.receive(), bytes) and block:
                pieces.append(block)
                size_bytes += len(block)
                if size_bytes >= MAX_ERROR_BYTES:
                    break
        return b"".join(pieces)


def _words(error: httpx.RequestError) -> str:
    if isinstance(error, httpx.LocalProtocolError):
        # Its own text may quote the header at fault, which may be the bearer.
        return "the request cannot be written as HTTP; is there a line break in a header?"
    return str(error) or type(error).__name__
