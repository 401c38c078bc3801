"""What both upstream transports must do alike: the relay's own and httpx's stock one."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from codexrelay.backends.transports.direct import DirectTransport
from tests.fakes.request_bodies import Pieces, posting
from tests.fakes.scripted_server import Caller, always_answering, answering, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.fakes.certificates import Certificate

#: Trusts nobody; for tests without TLS, where making a default context would only cost time.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

COUNTED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2;note=x\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"
)
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello"


@pytest.fixture(params=["direct", "httpx"])
def make(request: pytest.FixtureRequest) -> Callable[[ssl.SSLContext], httpx.AsyncBaseTransport]:
    if request.param == "direct":
        return lambda context: DirectTransport(ssl_context=context)
    return lambda context: httpx.AsyncHTTPTransport(verify=context, trust_env=False)


@pytest.fixture
async def transport(
    make: Callable[[ssl.SSLContext], httpx.AsyncBaseTransport],
) -> AsyncIterator[httpx.AsyncBaseTransport]:
    async with make(NO_TLS) as transport:
        yield transport


def client_of(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport, timeout=None, trust_env=False)


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        pytest.param(COUNTED, 200, b"hello", id="counted"),
        pytest.param(CHUNKED, 200, b"hello", id="chunked, with an extension and a trailer"),
        pytest.param(UNTIL_CLOSED, 200, b"hello", id="until the connection is closed"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nhello", 200, b"hello", id="HTTP/1.0"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", id="empty"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", id="204"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", 304, b"", id="304"),
        pytest.param(b"HTTP/1.1 429\r\nContent-Length: 1\r\n\r\n!", 429, b"!", id="no reason"),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\n"
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
            404,
            b"no",
            id="after interim responses",
        ),
    ],
)
async def test_a_response_arrives_as_the_server_framed_it(
    transport: httpx.AsyncBaseTransport, answer: bytes, status: int, body: bytes
) -> None:
    with trio.fail_after(20):
        async with serving(answering(answer)) as server, client_of(transport) as client:
            response = await client.get(server.url)
    assert (response.status_code, response.content) == (status, body)
    assert b"Link" not in dict(response.headers.raw)


async def test_headers_keep_order_spelling_and_repetition(
    transport: httpx.AsyncBaseTransport,
) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nX-Codex-Turn-State: a\r\nset-cookie: 1\r\nset-cookie: 2\r\n"
        b"Empty:\r\ncontent-length: 0\r\n\r\n"
    )
    with trio.fail_after(20):
        async with serving(answering(answer)) as server, client_of(transport) as client:
            response = await client.get(server.url)
    assert response.headers.raw == [
        (b"X-Codex-Turn-State", b"a"),
        (b"set-cookie", b"1"),
        (b"set-cookie", b"2"),
        (b"Empty", b""),
        (b"content-length", b"0"),
    ]
    assert response.http_version == "HTTP/1.1"


async def test_a_response_to_head_has_no_body_whatever_it_announces(
    transport: httpx.AsyncBaseTransport,
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    with trio.fail_after(20):
        async with serving(answering(head, COUNTED)) as server, client_of(transport) as client:
            assert (await client.head(server.url)).content == b""
            assert (await client.get(server.url)).content == b"hello"
            assert server.accepted == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="half a head"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="an interim response only"),
        pytest.param(COUNTED[:-1], id="a counted body cut short"),
        pytest.param(CHUNKED[:-1], id="a chunked body cut short"),
        pytest.param(b"<html>no HTTP</html>", id="no HTTP"),
        pytest.param(b"SSH-2.0-x\r\n", id="another protocol"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="no chunk size"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", id="no length"),
    ],
)
async def test_a_broken_response_is_a_remote_protocol_error(
    transport: httpx.AsyncBaseTransport, answer: bytes
) -> None:
    with trio.fail_after(20):
        async with serving(answering(answer)) as server, client_of(transport) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(server.url)
            await server.until_open(0)


@pytest.mark.parametrize("answer", [COUNTED, CHUNKED], ids=["counted", "chunked"])
async def test_a_response_cut_off_at_any_byte_is_never_taken_for_a_whole_one(
    transport: httpx.AsyncBaseTransport, answer: bytes
) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(answer[: caller.number])

    with trio.fail_after(60):
        async with serving(script) as server, client_of(transport) as client:
            for _ in range(len(answer)):
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get(server.url)
            assert (await client.get(server.url)).content == b"hello"
            await server.until_open(0)


@pytest.mark.parametrize("answer", [COUNTED, CHUNKED], ids=["counted", "chunked"])
async def test_a_response_is_the_same_in_whatever_pieces_it_comes(
    transport: httpx.AsyncBaseTransport, answer: bytes
) -> None:
    async def script(caller: Caller) -> None:
        for cut in range(1, len(answer)):
            await caller.request()
            await caller.send(answer[:cut])
            await wait_all_tasks_blocked()  # the first piece is read
            await caller.send(answer[cut:])

    with trio.fail_after(60):
        async with serving(script) as server, client_of(transport) as client:
            for _ in range(1, len(answer)):
                assert (await client.get(server.url)).content == b"hello"
            assert server.accepted == 1


async def test_a_reset_connection_is_a_read_error(transport: httpx.AsyncBaseTransport) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(COUNTED[:-1])
        await wait_all_tasks_blocked()
        caller.reset()

    with trio.fail_after(20):
        async with serving(script) as server, client_of(transport) as client:
            with pytest.raises(httpx.ReadError):
                await client.get(server.url)


async def test_nobody_listening_is_a_connect_error(transport: httpx.AsyncBaseTransport) -> None:
    async with serving(answering()) as server:
        pass
    with trio.fail_after(20):
        async with client_of(transport) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(server.url)


@pytest.mark.parametrize("streamed", [False, True], ids=["in memory", "streamed"])
async def test_a_big_request_arrives_byte_for_byte(
    transport: httpx.AsyncBaseTransport, *, streamed: bool
) -> None:
    piece = bytes(range(256)) * 4 * 1024
    received = []

    async def script(caller: Caller) -> None:
        received.append(await caller.request())
        await caller.send(COUNTED)

    with trio.fail_after(60):
        async with serving(script) as server, client_of(transport) as client:
            if streamed:
                request = posting(server.url, Pieces(*[piece] * 16), 16 * len(piece))
            else:
                request = client.build_request("POST", server.url, content=piece * 16)
            assert (await client.send(request)).content == b"hello"
    head, _, got = received[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST / HTTP/1.1\r\n")
    assert got == piece * 16


async def test_a_streamed_body_of_unknown_length_goes_out_in_chunks(
    transport: httpx.AsyncBaseTransport,
) -> None:
    received = []

    async def script(caller: Caller) -> None:
        received.append(await caller.request())
        await caller.send(COUNTED)

    with trio.fail_after(20):
        async with serving(script) as server, client_of(transport) as client:
            await client.send(posting(server.url, Pieces(b"one", b"", b"three"), None))
    head, _, body = received[0].partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert body == b"3\r\none\r\n5\r\nthree\r\n0\r\n\r\n"


async def test_a_header_cannot_smuggle_in_another_line(
    transport: httpx.AsyncBaseTransport,
) -> None:
    with trio.fail_after(20):
        async with serving(always_answering(COUNTED)) as server, client_of(transport) as client:
            with pytest.raises(httpx.LocalProtocolError):
                await client.get(server.url, headers={"X-Note": "a\r\nX-Evil: b"})


async def test_a_request_needs_a_host(transport: httpx.AsyncBaseTransport) -> None:
    with trio.fail_after(20):
        async with serving(always_answering(COUNTED)) as server:
            request = httpx.Request("GET", server.url, stream=httpx.ByteStream(b""))
            with pytest.raises(httpx.LocalProtocolError):
                await transport.handle_async_request(request)


async def test_an_unfinished_response_that_is_closed_closes_its_connection(
    transport: httpx.AsyncBaseTransport,
) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(CHUNKED[:-20])
        await caller.left()

    with trio.fail_after(20):
        async with serving(script) as server, client_of(transport) as client:
            async with client.stream("GET", server.url):
                pass
            await server.until_open(0)


# In these the clock jumps to the next deadline whenever everybody waits. With sockets that can be
# while bytes are under way; here it only means that the awaited timeout comes sooner.


async def test_a_silent_server_runs_into_the_read_timeout(
    transport: httpx.AsyncBaseTransport, autojump_clock: MockClock
) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.left()

    with trio.fail_after(1000):
        async with serving(script) as server, client_of(transport) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(server.url, timeout=httpx.Timeout(None, read=30))
            await server.until_open(0)


async def test_the_read_timeout_counts_from_the_last_bytes(
    transport: httpx.AsyncBaseTransport, autojump_clock: MockClock
) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        for piece in (COUNTED[:-3], COUNTED[-3:-1]):
            await caller.send(piece)
            await trio.sleep(29)
        await caller.left()

    with trio.fail_after(1000):
        async with serving(script) as server, client_of(transport) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(server.url, timeout=httpx.Timeout(None, read=30))
            assert autojump_clock.current_time() >= 29 + 30
            await server.until_open(0)


async def test_a_server_that_takes_nothing_runs_into_the_write_timeout(
    transport: httpx.AsyncBaseTransport, autojump_clock: MockClock
) -> None:
    async def script(caller: Caller) -> None:
        await trio.sleep(500)
        await caller.left()

    with trio.fail_after(1000):
        async with serving(script) as server, client_of(transport) as client:
            request = posting(server.url, Pieces(*[bytes(4 << 20)] * 16), 64 << 20)
            request.extensions["timeout"] = {"write": 30}
            with pytest.raises(httpx.WriteTimeout):
                await client.send(request)
            assert autojump_clock.current_time() < 500


async def test_a_server_that_never_shakes_hands_runs_into_the_connect_timeout(
    transport: httpx.AsyncBaseTransport, autojump_clock: MockClock
) -> None:
    with trio.fail_after(1000):
        async with serving(Caller.left) as server, client_of(transport) as client:
            with pytest.raises(httpx.ConnectTimeout):
                await client.get(
                    server.url.replace("http:", "https:"), timeout=httpx.Timeout(None, connect=30)
                )
            await server.until_open(0)


async def test_tls_carries_requests_on_a_kept_connection(
    make: Callable[[ssl.SSLContext], httpx.AsyncBaseTransport], certificate: Certificate
) -> None:
    body = bytes(3 << 20)
    script = always_answering(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    with trio.fail_after(60):
        async with (
            serving(script, tls=certificate.server) as server,
            client_of(make(certificate.client)) as client,
        ):
            for _ in range(2):
                assert (await client.post(server.url, content=body)).content == body
            assert server.accepted == 1


async def test_a_certificate_that_nobody_vouches_for_is_a_connect_error(
    make: Callable[[ssl.SSLContext], httpx.AsyncBaseTransport], certificate: Certificate
) -> None:
    trusts_others = ssl.create_default_context()
    with trio.fail_after(20):
        async with (
            serving(always_answering(COUNTED), tls=certificate.server) as server,
            client_of(make(trusts_others)) as client,
        ):
            with pytest.raises(httpx.ConnectError):
                await client.get(server.url)
            await server.until_open(0)


async def test_tls_to_a_server_without_it_is_a_connect_error(
    make: Callable[[ssl.SSLContext], httpx.AsyncBaseTransport], certificate: Certificate
) -> None:
    async def script(caller: Caller) -> None:
        await caller.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with trio.fail_after(20):
        async with serving(script) as server, client_of(make(certificate.client)) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(server.url.replace("http:", "https:"))
