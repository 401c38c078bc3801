"""How far a request got: what an attempt says of it, over both transports."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio

from codexrelay.backends.backend import Head, UpstreamRequest
from codexrelay.backends.codex.backend import CodexAttempt, CodexBackend
from codexrelay.backends.transports.connection import Connection, Origin, receive_room
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.backends.transports.exchange import Exchange, Timeouts
from codexrelay.backends.transports.idle import IdleConnections
from codexrelay.protocol.faults import Fault, FaultKind, Reached
from codexrelay.protocol.progress import Progress
from tests.fakes.no_tls import NO_TLS
from tests.fakes.scripted_server import Caller, answering, serving
from tests.fakes.tokens import an_account
from tests.fakes.virtual_time import in_virtual_time
from tests.fakes.wall_clock import NOW_UNIX_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.fakes.certificates import Certificate

# httpcore leaves the iterator of a body behind when it cannot send on; it holds nothing.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator 'httpx._content.ByteStream.__aiter__':ResourceWarning"
)

#: Trusts nobody; making a default context would only cost time.
_SMALL: Final = b"{}"
#: More than the buffers of both sides take, so that sending it waits for the server to read.
_LARGE: Final = b"x" * 32_000_000


@pytest.fixture(params=["direct", "httpx"])
def transport(request: pytest.FixtureRequest) -> httpx.AsyncBaseTransport:
    if request.param == "direct":
        return DirectTransport(ssl_context=NO_TLS)
    return httpx.AsyncHTTPTransport(verify=NO_TLS, trust_env=False)


@asynccontextmanager
async def attempting(
    url: str,
    transport: httpx.AsyncBaseTransport,
    *,
    body: bytes = _SMALL,
    token: str = "access-1",
) -> AsyncIterator[CodexAttempt]:
    """Give one attempt, within 20 s."""
    with trio.fail_after(20):
        async with transport:
            backend = CodexBackend(
                transport=transport,
                base_url=httpx.URL(url),
                connect_s=10.0,
                wall_clock=lambda: NOW_UNIX_S,
            )
            request = UpstreamRequest(path="/responses", body=body)
            async with backend.attempt(request, an_account("work", token=token)) as attempt:
                assert attempt.reached is Reached.NOT_SENT
                yield attempt


async def fault_of(attempt: CodexAttempt) -> Fault:
    """Send what must not succeed; the fault says what the attempt says."""
    fault = await attempt.send()
    assert isinstance(fault, Fault)
    assert fault.reached is attempt.reached
    return fault


async def test_nothing_is_sent_where_nobody_listens(transport: httpx.AsyncBaseTransport) -> None:
    async with serving(answering()) as server:
        pass
    async with attempting(server.url, transport) as attempt:
        fault = await fault_of(attempt)
    assert (fault.kind, fault.reached) == (FaultKind.BROKEN, Reached.NOT_SENT)


async def test_nothing_is_sent_of_what_no_header_can_carry(
    transport: httpx.AsyncBaseTransport,
) -> None:
    async with (
        serving(answering()) as server,
        attempting(server.url, transport, token="s3cret\n") as attempt,
    ):
        assert (await fault_of(attempt)).reached is Reached.NOT_SENT


async def test_nothing_is_sent_to_a_server_that_is_not_trusted(
    transport: httpx.AsyncBaseTransport, certificate: Certificate
) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()

    async with (
        serving(script, tls=certificate.server) as server,
        attempting(server.url, transport) as attempt,
    ):
        assert (await fault_of(attempt)).reached is Reached.NOT_SENT


async def test_nothing_is_sent_through_a_proxy_that_makes_no_tunnel() -> None:
    asked = []

    async def script(caller: Caller) -> None:
        asked.append(await caller.request())
        await caller.send(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

    async with serving(script) as proxy:
        transport = httpx.AsyncHTTPTransport(proxy=proxy.url, verify=NO_TLS, trust_env=False)
        async with attempting("https://backend.invalid", transport) as attempt:
            assert (await fault_of(attempt)).reached is Reached.NOT_SENT
    assert asked[0].startswith(b"CONNECT ")


async def test_a_connection_reset_in_the_middle_of_the_body_leaves_it_unknown(
    transport: httpx.AsyncBaseTransport,
) -> None:
    async def script(caller: Caller) -> None:
        await caller.head()
        caller.reset()

    async with serving(script) as server, attempting(server.url, transport, body=_LARGE) as attempt:
        assert (await fault_of(attempt)).reached is Reached.UNKNOWN


async def test_what_nobody_read_may_still_have_been_sent(
    transport: httpx.AsyncBaseTransport,
) -> None:
    async def script(_: Caller) -> None:
        """Close at once."""

    async with serving(script) as server, attempting(server.url, transport) as attempt:
        reached = (await fault_of(attempt)).reached
    # httpx writes head and body apart: the second one may meet the reset that the first evoked.
    direct = isinstance(transport, DirectTransport)
    assert reached in ((Reached.SENT,) if direct else (Reached.SENT, Reached.UNKNOWN))


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_request_was_sent_when_the_connection_breaks_behind_it(
    transport: httpx.AsyncBaseTransport, *, reset: bool
) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        if reset:
            caller.reset()

    async with serving(script) as server, attempting(server.url, transport) as attempt:
        assert (await fault_of(attempt)).reached is Reached.SENT


@pytest.mark.parametrize("body", [_SMALL, _LARGE], ids=["small", "large"])
async def test_a_request_that_is_refused_was_sent(
    transport: httpx.AsyncBaseTransport, body: bytes
) -> None:
    refusal = b"HTTP/1.1 401 X\r\ncontent-length: 0\r\n\r\n"
    async with (
        serving(answering(refusal)) as server,
        attempting(server.url, transport, body=body) as attempt,
    ):
        fault = await fault_of(attempt)
    assert (fault.kind, fault.reached) == (FaultKind.UNAUTHORIZED, Reached.SENT)


async def test_a_request_was_sent_when_its_answer_breaks_off(
    transport: httpx.AsyncBaseTransport,
) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi"
    async with serving(answering(answer)) as server, attempting(server.url, transport) as attempt:
        assert isinstance(await attempt.send(), Head)
        assert attempt.reached is Reached.SENT
        assert await attempt.receive() == b"hi"
        fault = await attempt.receive()
    assert isinstance(fault, Fault)
    assert fault.reached is Reached.SENT


async def test_an_answer_that_comes_before_the_whole_body_leaves_it_unknown() -> None:
    async def script(caller: Caller) -> None:
        await caller.head()
        await caller.send(b"HTTP/1.1 413 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await trio.sleep_forever()

    async with (
        serving(script) as server,
        attempting(server.url, DirectTransport(), body=_LARGE) as attempt,
    ):
        fault = await fault_of(attempt)
    assert (fault.status, fault.reached) == (413, Reached.UNKNOWN)


@pytest.mark.parametrize(
    ("body", "reached"),
    [(_SMALL, Reached.SENT), (_LARGE, Reached.UNKNOWN)],
    ids=["waiting for the head", "sending"],
)
async def test_an_attempt_that_is_cancelled_still_tells(
    transport: httpx.AsyncBaseTransport, body: bytes, reached: Reached
) -> None:
    here = trio.Event()

    async def script(caller: Caller) -> None:
        await (caller.request() if body is _SMALL else caller.head())
        here.set()
        await trio.sleep_forever()

    async def send() -> None:
        await attempt.send()

    async with serving(script) as server, attempting(server.url, transport, body=body) as attempt:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await here.wait()
            nursery.cancel_scope.cancel()
        assert attempt.reached is reached


class _Tells(httpx.AsyncBaseTransport):
    """A transport that knows nothing of progress: it does what it is told."""

    def __init__(self, act: Callable[[], httpx.Response]) -> None:
        self._act = act

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.sleep(1.0)
        return self._act()


def _raise(error: httpx.TransportError) -> httpx.Response:
    raise error


OUTCOMES: Final[dict[str, tuple[Callable[[], httpx.Response], Reached]]] = {
    "no connection": (lambda: _raise(httpx.ConnectError("no")), Reached.NOT_SENT),
    "no connection in time": (lambda: _raise(httpx.ConnectTimeout("no")), Reached.NOT_SENT),
    "no free connection": (lambda: _raise(httpx.PoolTimeout("no")), Reached.NOT_SENT),
    "no proxy": (lambda: _raise(httpx.ProxyError("no")), Reached.NOT_SENT),
    "not written": (lambda: _raise(httpx.WriteError("no")), Reached.UNKNOWN),
    "not written in time": (lambda: _raise(httpx.WriteTimeout("no")), Reached.UNKNOWN),
    "not read": (lambda: _raise(httpx.ReadError("no")), Reached.UNKNOWN),
    "closed": (lambda: _raise(httpx.RemoteProtocolError("no")), Reached.UNKNOWN),
    "answered": (lambda: httpx.Response(500, content=b"no"), Reached.SENT),
}


@pytest.mark.parametrize(("act", "reached"), OUTCOMES.values(), ids=OUTCOMES)
@in_virtual_time
async def test_of_a_transport_that_tells_nothing_the_outcome_is_judged(
    act: Callable[[], httpx.Response], reached: Reached
) -> None:
    async with attempting("http://x", _Tells(act)) as attempt:
        assert (await fault_of(attempt)).reached is reached


async def test_a_stale_connection_that_is_replaced_starts_anew() -> None:
    async def script(caller: Caller) -> None:
        if caller.number == 0:
            await caller.request()
            await caller.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            await caller.request()  # and close instead of answering
        else:
            await caller.request()
            await caller.send(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n")

    transport = DirectTransport()
    async with serving(script) as server, attempting(server.url, transport) as attempt:
        first = httpx.Request("GET", server.url)
        await (await transport.handle_async_request(first)).aclose()
        fault = await fault_of(attempt)
    assert server.accepted == 2
    assert (fault.status, fault.reached) == (503, Reached.SENT)


def test_progress_is_what_is_told_and_never_again_not_sent() -> None:
    progress = Progress()
    told = [Reached.NOT_SENT]
    progress.follow(lambda: told[-1])
    assert progress.reached is Reached.NOT_SENT
    told.append(Reached.SENT)
    assert progress.reached is Reached.SENT
    fresh = [Reached.NOT_SENT]
    progress.follow(lambda: fresh[-1])
    assert progress.reached is Reached.UNKNOWN
    fresh.append(Reached.SENT)
    assert progress.reached is Reached.SENT


def test_progress_starts_anew_on_a_fresh_connection_if_nothing_had_left() -> None:
    progress = Progress()
    progress.follow(lambda: Reached.NOT_SENT)
    progress.follow(lambda: Reached.NOT_SENT)
    assert progress.reached is Reached.NOT_SENT


def test_what_a_kept_connection_sent_before_does_not_count() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(Origin("http", "x", 80), ours, receive_room(), sent_bytes=99)
        timeouts = Timeouts.of(httpx.Request("POST", "http://x"))
        exchange = Exchange.on(connection, IdleConnections(max_idle=0, idle_s=0.0), timeouts)
        assert exchange.reached() is Reached.NOT_SENT
        connection.sent_bytes += 1
        assert exchange.reached() is Reached.UNKNOWN
