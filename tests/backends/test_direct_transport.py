"""What the relay's own transport promises beyond any httpx transport."""

from __future__ import annotations

import random
import ssl
from typing import TYPE_CHECKING, ClassVar

import attrs
import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from codexrelay.backends.transports.direct import DirectTransport
from tests.fakes.request_bodies import Pieces, posting
from tests.fakes.scripted_server import (
    Caller,
    ScriptedServer,
    always_answering,
    answering,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fakes.certificates import Certificate
    from tests.fakes.scripted_server import Script

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
REFUSAL = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"
BIG = 20 << 20


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def get(url: str) -> httpx.Request:
    return httpx.Request("GET", url)


def post(url: str, body: bytes) -> httpx.Request:
    return httpx.Request("POST", url, content=body)


async def fetch(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> bytes:
    response = await transport.handle_async_request(request)
    return await response.aread()


def blocks_of(response: httpx.Response) -> AsyncIterator[bytes]:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return aiter(response.stream)


@pytest.fixture
async def transport() -> AsyncIterator[DirectTransport]:
    async with DirectTransport() as transport:
        yield transport
        assert transport.busy_connections == 0
    assert transport.idle_connections == 0


# Blocks.


@attrs.frozen
class Burst:
    """A script that sends 500 small events in a chunk each, without a pause."""

    EVENTS: ClassVar = tuple(b"data: %d\n\n" % number for number in range(500))
    all_sent: trio.Event = attrs.field(factory=trio.Event)

    async def __call__(self, caller: Caller) -> None:
        await caller.request()
        await caller.send(STREAM_HEAD)
        for event in self.EVENTS:
            await caller.send(chunk(event))
        await caller.send(STREAM_END)
        self.all_sent.set()
        await caller.left()


async def test_a_burst_of_events_is_handed_on_as_what_the_receives_gave(
    transport: DirectTransport,
) -> None:
    burst = Burst()
    with trio.fail_after(20):
        async with serving(burst) as server:
            response = await transport.handle_async_request(get(server.url))
            await burst.all_sent.wait()
            blocks = [block async for block in blocks_of(response)]
            assert b"".join(blocks) == b"".join(Burst.EVENTS)
            assert len(blocks) < 10  # usually two: what came with the head, and the rest
            assert transport.idle_connections == 1
            await transport.aclose()


async def test_under_tls_a_burst_is_one_block_too_though_each_event_is_a_record(
    certificate: Certificate,
) -> None:
    burst = Burst()
    with trio.fail_after(20):
        async with (
            serving(burst, tls=certificate.server) as server,
            DirectTransport(ssl_context=certificate.client) as transport,
        ):
            response = await transport.handle_async_request(get(server.url))
            await burst.all_sent.wait()
            blocks = [block async for block in blocks_of(response)]
            assert b"".join(blocks) == b"".join(Burst.EVENTS)
            assert len(blocks) < 10
            await transport.aclose()


async def test_an_event_is_handed_on_before_the_next_one_is_sent(
    transport: DirectTransport,
) -> None:
    taken = trio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(STREAM_HEAD + chunk(b"one"))
        await taken.wait()
        await caller.send(chunk(b"two") + STREAM_END)

    with trio.fail_after(20):
        async with serving(script) as server:
            response = await transport.handle_async_request(get(server.url))
            blocks = blocks_of(response)
            assert await anext(blocks) == b"one"
            taken.set()
            assert [block async for block in blocks] == [b"two"]


async def test_streams_that_run_at_once_do_not_mix_though_they_share_a_buffer(
    transport: DirectTransport,
) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(STREAM_HEAD)
        for _ in range(50):
            await caller.send(chunk(b"%d," % caller.number * 100))
        await caller.send(STREAM_END)

    bodies: list[bytes] = []

    async def reading(url: str) -> None:
        bodies.append(await fetch(transport, get(url)))

    with trio.fail_after(20):
        async with serving(script) as server, trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(reading, server.url)
    assert sorted(bodies) == sorted(b"%d," % number * 5000 for number in range(20))


async def test_a_cancelled_step_loses_no_bytes_and_the_next_one_goes_on(
    transport: DirectTransport,
) -> None:
    chance = random.Random(7)

    async def some_checkpoints() -> None:
        for _ in range(chance.randrange(8)):
            await trio.lowlevel.checkpoint()

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(STREAM_HEAD)
        for number in range(500):
            await some_checkpoints()
            await caller.send(chunk(b"%d," % number))
        await caller.send(STREAM_END)

    async def cancel_soon(scope: trio.CancelScope) -> None:
        await some_checkpoints()
        scope.cancel()

    got: list[bytes] = []
    cancelled = 0
    with trio.fail_after(20):
        async with serving(script) as server, trio.open_nursery() as nursery:
            response = await transport.handle_async_request(get(server.url))
            blocks = blocks_of(response)
            while not got or got[-1]:
                with trio.CancelScope() as scope:
                    nursery.start_soon(cancel_soon, scope)
                    got.append(await anext(blocks, b""))
                cancelled += scope.cancelled_caught
    assert b"".join(got) == b"".join(b"%d," % number for number in range(500))
    assert cancelled > 20


async def test_a_closed_response_cannot_be_read_on(transport: DirectTransport) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(STREAM_HEAD)
        await caller.left()

    with trio.fail_after(20):
        async with serving(script) as server:
            response = await transport.handle_async_request(get(server.url))
            await response.aclose()
            await server.until_open(0)
            with pytest.raises(httpx.StreamClosed):
                await anext(blocks_of(response))


async def test_headers_beyond_the_limit_are_a_remote_protocol_error(
    transport: DirectTransport,
) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + b"Header: %b\r\n" % (b"x" * 1000) * 300
    with trio.fail_after(20):
        async with serving(answering(answer)) as server:
            with pytest.raises(httpx.RemoteProtocolError, match="bytes of headers"):
                await transport.handle_async_request(get(server.url))
            await server.until_open(0)


# Keeping connections.


async def test_the_latest_used_connection_is_taken_first(transport: DirectTransport) -> None:
    async def script(caller: Caller) -> None:
        while await caller.request():
            body = b"%d" % caller.number
            await caller.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + body)

    with trio.fail_after(20):
        async with serving(script) as server:
            first = await transport.handle_async_request(get(server.url))
            # A response that came whole frees its connection at once, read or not.
            assert transport.idle_connections == 1
            slow = Pieces(b"x")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fetch, transport, posting(server.url, slow, 1))
                nursery.start_soon(fetch, transport, get(server.url))
            assert (server.accepted, transport.idle_connections) == (2, 2)
            latest = await fetch(transport, get(server.url))
            assert await fetch(transport, get(server.url)) == latest
            assert await first.aread() == b"0"
            await transport.aclose()
            await server.until_open(0)


async def test_an_idle_connection_expires(autojump_clock: MockClock) -> None:
    with trio.fail_after(1000):
        async with (
            serving(always_answering(HELLO)) as server,
            DirectTransport(idle_s=60) as transport,
        ):
            await fetch(transport, get(server.url))
            await trio.sleep(59)
            await fetch(transport, get(server.url))
            assert server.accepted == 1
            await trio.sleep(61)
            await fetch(transport, get(server.url))
            assert server.accepted == 2
            await server.until_open(1)


async def test_of_too_many_idle_connections_the_oldest_are_closed() -> None:
    everybody = trio.Event()

    async def script(caller: Caller) -> None:
        while await caller.request():
            if caller.number == 9:
                everybody.set()
            await everybody.wait()
            await caller.send(HELLO)

    with trio.fail_after(20):
        async with serving(script) as server, DirectTransport(max_idle=4) as transport:
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(fetch, transport, get(server.url))
            assert transport.idle_connections == 4
            await server.until_open(4)


async def test_a_connection_that_the_server_closed_is_not_used_again(
    transport: DirectTransport,
) -> None:
    with trio.fail_after(20):
        async with serving(answering(HELLO)) as server:
            await fetch(transport, get(server.url))
            await server.until_open(0)
            # This body could not be sent a second time.
            request = posting(server.url, Pieces(b"x"), 1)
            assert await fetch(transport, request) == b"hello"
            assert server.accepted == 2


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_kept_connection_that_breaks_before_a_response_is_replaced_once(
    transport: DirectTransport, *, reset: bool
) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        if caller.number == 0:
            await caller.send(HELLO)
            await caller.request()  # it came just before we closed
            if reset:
                caller.reset()
        else:
            await caller.send(HELLO)

    with trio.fail_after(20):
        async with serving(script) as server:
            await fetch(transport, get(server.url))
            assert await fetch(transport, post(server.url, b"again")) == b"hello"
            assert server.accepted == 2


async def test_a_connection_that_the_response_ends_is_closed(transport: DirectTransport) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await caller.left()

    with trio.fail_after(20):
        async with serving(script) as server:
            await fetch(transport, get(server.url))
            await server.until_open(0)


async def test_a_fresh_connection_that_breaks_is_not_replaced(transport: DirectTransport) -> None:
    with trio.fail_after(20):
        async with serving(answering(b"")) as server:
            with pytest.raises(httpx.RemoteProtocolError, match=r"127\.0\.0\.1:\d+ closed"):
                await fetch(transport, get(server.url))
            assert server.accepted == 1


async def test_the_replacement_is_not_replaced_in_turn(transport: DirectTransport) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        if caller.number == 0:
            await caller.send(HELLO)
            await caller.request()

    with trio.fail_after(20):
        async with serving(script) as server:
            await fetch(transport, get(server.url))
            with pytest.raises(httpx.RemoteProtocolError):
                await fetch(transport, get(server.url))
            assert server.accepted == 2


@pytest.mark.parametrize(
    ("body", "second_answer"),
    [
        pytest.param(Pieces(b"again"), b"", id="the body cannot be sent twice"),
        pytest.param(None, b"HTTP/1.1 2", id="the response had begun"),
    ],
)
async def test_what_may_have_been_heard_or_cannot_be_repeated_is_not_sent_again(
    transport: DirectTransport, body: Pieces | None, second_answer: bytes
) -> None:
    with trio.fail_after(20):
        async with serving(answering(HELLO, second_answer)) as server:
            await fetch(transport, get(server.url))
            request = posting(server.url, body, 5) if body else get(server.url)
            with pytest.raises(httpx.RemoteProtocolError):
                await fetch(transport, request)
            assert server.accepted == 1


async def test_connections_that_end_after_the_transport_was_closed_are_closed() -> None:
    closed = trio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(STREAM_HEAD + chunk(b"one"))
        await closed.wait()
        await caller.send(chunk(b"two") + STREAM_END)
        await caller.left()

    with trio.fail_after(20):
        async with serving(script) as server:
            async with DirectTransport() as transport:
                response = await transport.handle_async_request(get(server.url))
            closed.set()
            assert await response.aread() == b"onetwo"
            await server.until_open(0)


# Responses that come before the request was sent.


async def refuse_unread(caller: Caller) -> None:
    await caller.head()
    await caller.send(REFUSAL)
    await trio.sleep_forever()


async def refuse_and_close(caller: Caller) -> None:
    await caller.head()
    await caller.send(REFUSAL)


async def refuse_and_drain(caller: Caller) -> None:
    await caller.head()
    await caller.send(REFUSAL)
    await caller.left()


@pytest.mark.parametrize("under_tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("streamed", [False, True], ids=["in memory", "streamed"])
@pytest.mark.parametrize("script", [refuse_unread, refuse_and_close, refuse_and_drain])
async def test_an_early_response_is_delivered_and_its_connection_closed(
    certificate: Certificate,
    script: Script,
    *,
    streamed: bool,
    under_tls: bool,
) -> None:
    with trio.fail_after(20):
        async with (
            serving(script, tls=certificate.server if under_tls else None) as server,
            DirectTransport(ssl_context=certificate.client) as transport,
        ):
            if streamed:
                request = posting(server.url, Pieces(*[bytes(1 << 20)] * 20), BIG)
            else:
                request = post(server.url, bytes(BIG))
            response = await transport.handle_async_request(request)
            assert (response.status_code, await response.aread()) == (413, b"big")
            assert transport.busy_connections == 0
            if script is not refuse_and_drain:  # to a fast reader the request may well be complete
                assert transport.idle_connections == 0


async def test_an_early_response_may_go_on_streaming_after_the_request_was_given_up(
    certificate: Certificate,
) -> None:
    given_up = trio.Event()

    async def script(caller: Caller) -> None:
        await caller.head()
        await caller.send(STREAM_HEAD)
        await given_up.wait()
        for number in range(10):
            await caller.send(chunk(b"%d," % number))
        await caller.send(STREAM_END)
        await trio.sleep_forever()

    with trio.fail_after(20):
        async with (
            serving(script, tls=certificate.server) as server,
            DirectTransport(ssl_context=certificate.client) as transport,
        ):
            response = await transport.handle_async_request(post(server.url, bytes(BIG)))
            given_up.set()
            assert await response.aread() == b"0,1,2,3,4,5,6,7,8,9,"


async def test_a_connection_closed_during_the_upload_without_a_response_is_an_error(
    transport: DirectTransport,
) -> None:
    async def script(caller: Caller) -> None:
        await caller.head()

    with trio.fail_after(20):
        async with serving(script) as server:
            # Which one depends on who notices first, and whether the server closed or reset.
            with pytest.raises((httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError)):
                await fetch(transport, post(server.url, bytes(BIG)))
            await server.until_open(0)


async def test_a_body_that_is_given_up_is_closed(transport: DirectTransport) -> None:
    closed = []

    class Generated(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(1 << 20)
            finally:
                closed.append(True)

    with trio.fail_after(20):
        async with serving(refuse_unread) as server:
            request = httpx.Request(
                "POST",
                server.url,
                stream=Generated(),
                headers=[("Host", "relay"), ("Transfer-Encoding", "chunked")],
            )
            assert await fetch(transport, request) == b"big"
            assert closed


async def test_an_error_of_the_body_itself_comes_out_as_it_is(transport: DirectTransport) -> None:
    class Broken(Pieces):
        async def __anext__(self) -> bytes:
            raise LookupError("no more tea")

    with trio.fail_after(20):
        async with serving(always_answering(HELLO)) as server:
            with pytest.raises(LookupError, match="no more tea"):
                await fetch(transport, posting(server.url, Broken(), None))
            await server.until_open(0)


@pytest.mark.parametrize("announced", [2, 4], ids=["longer", "shorter"])
async def test_a_body_that_is_not_as_long_as_announced_spoils_its_connection_only(
    transport: DirectTransport, announced: int
) -> None:
    with trio.fail_after(20):
        async with serving(always_answering(HELLO)) as server:
            with pytest.raises(httpx.LocalProtocolError):
                await fetch(transport, posting(server.url, Pieces(b"abc"), announced))
            await server.until_open(0)
            assert await fetch(transport, get(server.url)) == b"hello"


async def test_other_schemes_than_http_and_https_are_refused(transport: DirectTransport) -> None:
    with pytest.raises(httpx.UnsupportedProtocol, match="ftp"):
        await fetch(transport, get("ftp://127.0.0.1/"))


# Cancellation.


@attrs.define(eq=False)
class CancelInPhase:
    """A script that cancels the client's request in one phase, then waits for it to leave."""

    phase: str
    scope: trio.CancelScope

    async def __call__(self, caller: Caller) -> None:
        if self.phase != "sending":
            await caller.request()
        if self.phase == "in the head":
            await caller.send(STREAM_HEAD[:20])
        if self.phase == "in the body":
            await caller.send(STREAM_HEAD + chunk(b"one") + b"5\r\nt")
        await wait_all_tasks_blocked()
        self.scope.cancel()
        await caller.left()


@pytest.mark.parametrize("under_tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("phase", ["sending", "before the head", "in the head", "in the body"])
async def test_a_cancel_closes_the_connection_in_every_phase(
    certificate: Certificate, phase: str, *, under_tls: bool
) -> None:
    scope = trio.CancelScope()
    with trio.fail_after(20):
        async with (
            serving(
                CancelInPhase(phase, scope), tls=certificate.server if under_tls else None
            ) as server,
            DirectTransport(ssl_context=certificate.client) as transport,
        ):
            with scope:
                body = bytes(BIG) if phase == "sending" else b""
                response = await transport.handle_async_request(post(server.url, body))
                try:
                    await response.aread()
                finally:
                    await response.aclose()
            assert scope.cancelled_caught
            assert (transport.busy_connections, transport.idle_connections) == (0, 0)
            await server.until_open(0)


async def test_a_cancel_while_shaking_hands_closes_the_connection() -> None:
    scope = trio.CancelScope()

    async def script(caller: Caller) -> None:
        await wait_all_tasks_blocked()
        scope.cancel()
        await caller.left()

    with trio.fail_after(20):
        async with (
            serving(script) as server,
            DirectTransport(ssl_context=ssl.create_default_context()) as transport,
        ):
            with scope:
                await fetch(transport, get(server.url.replace("http:", "https:")))
            assert scope.cancelled_caught
            await server.until_open(0)


async def some_traffic(transport: DirectTransport, server: ScriptedServer, size: int) -> None:
    response = await transport.handle_async_request(post(server.url, bytes(size)))
    try:
        await response.aread()
    finally:
        await response.aclose()


async def test_three_hundred_random_cancels_leave_the_transport_at_its_baseline() -> None:
    chance = random.Random(11)

    async def script(caller: Caller) -> None:
        while await caller.request():
            await caller.send(STREAM_HEAD)
            for _ in range(5):
                await caller.send(chunk(b"event"))
            await caller.send(STREAM_END)

    async def cancelled_somewhere(transport: DirectTransport, server: ScriptedServer) -> None:
        for _ in range(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    some_traffic, transport, server, chance.choice([0, 1000, 300_000])
                )
                for _ in range(chance.randrange(40)):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()

    with trio.fail_after(60):
        async with serving(script) as server, DirectTransport() as transport:
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(cancelled_somewhere, transport, server)
            assert transport.busy_connections == 0
            await server.until_open(transport.idle_connections)
            assert await fetch(transport, get(server.url)) == b"event" * 5
            await transport.aclose()
            await server.until_open(0)
