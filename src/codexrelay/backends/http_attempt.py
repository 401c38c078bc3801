"""What backends over HTTP have in common: one request per attempt, its answer or its error back.

Everything httpx can raise becomes a fault here; above this module nobody knows httpx.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.accounts.account import Account
from codexrelay.accounts.wire import keep_to
from codexrelay.backends.backend import Attempt, Head, Source, UpstreamRequest
from codexrelay.backends.transports.exchange import Timeouts
from codexrelay.backends.transports.proxy import ProxyTimeout
from codexrelay.backends.transports.way import CLEANUP_S as CLEANUP_S
from codexrelay.backends.transports.way import Answer, Decompressed, Target, Way, way_over
from codexrelay.protocol import faults
from codexrelay.protocol.faults import Reached
from codexrelay.protocol.progress import Progress

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from codexrelay.protocol.faults import Fault

#: Most of an error body that is read; what follows says nothing new.
MAX_ERROR_BYTES: Final = 16 * 1024 * 1024
#: For an error body whose end does not come.
ERROR_BODY_S: Final = 10.0
#: Upstream does not take the request's bytes: a dead connection, not a slow model.
WRITE_S: Final = 60.0
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
    #: `transport` itself, or what stands around it.
    way: Way = attrs.field(init=False, repr=False)
    timeouts: Timeouts = attrs.field(init=False, repr=False)
    #: By path; there are three of them, and joining one costs as much as sending it.
    _urls: dict[str, httpx.URL] = attrs.field(factory=dict, init=False)
    #: By method and path.
    _targets: dict[tuple[str, str], Target] = attrs.field(factory=dict, init=False)

    @way.default
    def _way(self) -> Way:
        return way_over(self.transport)

    @timeouts.default
    def _timeouts(self) -> Timeouts:
        return Timeouts(connect_s=self.connect_s, read_s=math.inf, write_s=WRITE_S)

    def attempt(
        self, request: UpstreamRequest, account: Account
    ) -> AbstractAsyncContextManager[Attempt]:
        """Return the attempt of `request` on `account`; leaving it closes what it opened."""
        return HttpAttempt(self, request, account)

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

    def target(self, method: str, path: str) -> Target:
        """Return what a request is sent to; it is the place that the owner has configured."""
        target = self._targets.get((method, path))
        if target is None:
            url = self.url(path)
            keep_to(self.base_url, httpx.Request(method, url))
            target = self._targets[method, path] = Target.at(method, url)
        return target

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
    #: None once it is answered: a long history is not kept meanwhile.
    _request: UpstreamRequest | None
    _account: Account
    _answer: Answer | None = None
    _progress: Progress = attrs.field(factory=Progress)

    async def __aenter__(self) -> HttpAttempt:
        """Open nothing: `send` does."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what was opened."""
        await self.close()

    @property
    def reached(self) -> Reached:
        """See `Attempt.reached`."""
        return self._progress.reached

    async def send(self) -> Head | Fault:
        """See `Attempt.send`."""
        backend, request = self._backend, self._request
        assert request is not None
        try:
            answer = await backend.way.ask(
                backend.target(request.method, request.path),
                backend.headers(request, self._account),
                request.body,
                backend.timeouts,
                self._progress,
            )
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
        self._answer, self._request = answer, None
        raw = answer.take_headers()
        told = _as_text(raw)
        if "content-encoding" in told:
            self._answer = Decompressed(answer, raw)
        if 200 <= answer.status < 300:
            return Head(status=answer.status, headers=told)
        body = await self._error_body()
        return self._noted(backend.refusal(answer.status, told, body))

    @property
    def is_whole(self) -> bool:
        """See `Attempt.is_whole`."""
        return self._answer is not None and self._answer.is_whole

    @property
    def source(self) -> Source | None:
        """See `Attempt.source`."""
        return None if self._answer is None else self._answer.source

    async def receive(self) -> bytes | Fault:
        """See `Attempt.receive`."""
        assert self._answer is not None
        try:
            return await self._answer.receive()
        except httpx.RequestError as error:  # also what cannot be decompressed
            told = f"the connection to the backend broke: {_words(error)}"
            return self._noted(faults.broken(told))

    async def close(self) -> None:
        """Close the connection, or give it back if the answer was read to its end."""
        if self._answer is not None:
            await self._answer.close()

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


def _as_text(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by their lower-case names.

    As latin-1, so that the bytes can be handed on: httpx guesses an encoding.
    """
    if not headers:
        return {}
    # Joined, because one call for all of them is a third of one for each (measured); no line break
    # gets through the parser.
    names = b"\n".join([name for name, _ in headers]).lower().decode("ascii").split("\n")
    values = b"\n".join([value for _, value in headers]).decode("latin-1").split("\n")
    return dict(zip(names, values, strict=True))


def _words(error: httpx.RequestError) -> str:
    if isinstance(error, httpx.LocalProtocolError):
        # Its own text may quote the header at fault, which may be the bearer.
        return "the request cannot be written as HTTP; is there a line break in a header?"
    return str(error) or type(error).__name__
