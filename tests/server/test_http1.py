"""HTTP/1.1 as clients see it: what is read, what is refused, how a response is framed."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.testing
from hypercorn.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from codexrelay.server.chunks import ChunkedReader
from codexrelay.server.drain import Drain
from codexrelay.server.heads import OwnHeaders, RefusedError, read_head
from codexrelay.server.http1 import Http1
from codexrelay.server.http_exchange import HttpExchange
from tests.fakes.live_server import serving

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

HEAD = b" HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /echo" + HEAD
CHUNKS = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LARGE = 5_000_000


@attrs.define(eq=False)
class Wire:
    """Implements `http1.Wire` without a network: notes what is begun and said."""

    said: bytearray = attrs.field(factory=bytearray)
    begun: list[tuple[dict[str, Any], HttpExchange]] = attrs.field(factory=list)
    tasks: list[tuple[Callable[..., Awaitable[None]], tuple[object, ...]]] = attrs.field(
        factory=list
    )
    closed: bool = False
    is_blocked: bool = False
    is_free: bool = True
    can_write_now: bool = True

    async def write(self, data: bytes) -> None:
        self.said += data

    def write_now(self, data: bytes) -> bool:
        self.said += data
        return True

    def opened(self) -> None:
        pass

    def start(self, run: Callable[..., Awaitable[None]], *arguments: object) -> None:
        self.tasks.append((run, arguments))

    def start_app(
        self,
        scope: dict[str, Any],
        receive: object,
        send: object,
        wind_up: object,
        *,
        alone: bool,
    ) -> trio.CancelScope:
        assert (receive, send, wind_up) != (None, None, None)
        self.begun.append((scope, scope["extensions"].get("codexrelay.exchange")))
        return trio.CancelScope()

    def is_idle(self) -> None:
        pass

    def close(self, *, client_may_be_sending: bool) -> None:
        self.closed = True


def protocol(wire: Wire) -> Http1:
    config = Config()
    config.include_server_header = False
    config.include_date_header = False
    return Http1(
        config=config,
        own=OwnHeaders(config),
        state={},  # type: ignore[arg-type]
        client=None,
        server=None,
        wire=wire,
        drain=Drain(grace_s=0),
    )


async def conversation(pieces: list[bytes]) -> tuple[list[object], bytes, bool]:
    """Return what applications were told, what the client was told, and whether it is over."""
    wire, told = Wire(), list[object]()
    http = protocol(wire)

    async def answer() -> None:
        scope, exchange = wire.begun.pop(0)
        body = await exchange.body(max_bytes=1000)
        told.append((scope["method"], scope["path"], scope["headers"], body))
        await exchange.start(200, [(b"content-length", b"2")])
        await exchange.send(b"ok")
        await exchange.end()

    for piece in pieces:
        http.receive(piece)
        while wire.begun and wire.begun[0][1].body_is_whole:
            await answer()
    return told, bytes(wire.said), wire.closed


CONVERSATIONS = {
    "two requests": b"GET /a?b=%20" + HEAD + b"X:  y \r\n\r\n" + b"GET /c" + HEAD + b"\r\n",
    "a body": POST + b"Content-Length: 3\r\n\r\nabc" + b"GET /c" + HEAD + b"\r\n",
    "chunks": CHUNKS + b"3;x=y\r\nabc\r\n01\r\nd\r\n0\r\nT: x\r\n\r\n" + b"GET /c" + HEAD + b"\r\n",
    "empty lines": b"\r\n\n"
    + POST
    + b"Content-Length: 1\r\n\r\na\r\n\r\n"
    + b"GET /c"
    + HEAD
    + b"\r\n",
    "the last": b"GET /a" + HEAD + b"Connection: close\r\n\r\n" + b"GET /never" + HEAD + b"\r\n",
    "an old version": b"GET /a HTTP/1.0\r\n\r\nrest",
    "an upgrade": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\na"
    + POST
    + b"\r\n",
    "malformed": b"GET /a" + HEAD + b"\r\nno request\r\n\r\n",
    "a broken chunk": CHUNKS + b"1\r\nab\r\n0\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "expecting": POST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\na",
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_it_makes_no_difference_where_the_bytes_are_cut(name: str) -> None:
    data = CONVERSATIONS[name]
    whole = trio.run(conversation, [data])
    assert whole[0] or whole[2]
    for at in range(1, len(data)):
        assert trio.run(conversation, [data[:at], data[at:]]) == whole, at
    assert trio.run(conversation, [bytes([octet]) for octet in data]) == whole


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    cuts=st.sets(st.integers(1, 3000)),
)
@settings(max_examples=50)
def test_a_body_in_chunks_does_not_depend_on_how_it_was_cut(
    pieces: list[bytes], cuts: set[int]
) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\nnext"
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    reader, body, behind = ChunkedReader(), b"", b""
    for start, end in itertools.pairwise(edges):
        piece = data[start:end]
        if behind:
            behind += piece
            continue
        read, rest = reader.feed(piece)
        body += read
        if rest is not None:
            behind = rest or b""
    assert body == b"".join(pieces)
    assert b"next".endswith(behind)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET  /" + HEAD + b"\r\n", 400),
        (b"GET /a b" + HEAD + b"\r\n", 400),
        (b"GET /\xc3\xa9" + HEAD + b"\r\n", 400),
        (b"GET /\tHTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
        (b"GET / http/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / RTSP/1.0\r\n\r\n", 400),
        (b" GET /" + HEAD + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (POST + b"Host: y\r\n\r\n", 400),
        (POST + b"X : y\r\n\r\n", 400),
        (POST + b" folded: y\r\n\r\n", 400),
        (POST + b"X: y\r\n folded\r\n\r\n", 400),
        (POST + b"X: y\n\r\n", 400),
        (POST + b"X: y\rz\r\n\r\n", 400),
        (POST + b"X: y\0\r\n\r\n", 400),
        (POST + b"X: y\x0b\r\n\r\n", 400),
        (POST + b": y\r\n\r\n", 400),
        (POST + b"X\r\n\r\n", 400),
        (POST + b"X\xff: y\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (POST + b"Content-Length: 1, 1\r\n\r\n", 400),
        (POST + b"Content-Length: +1\r\n\r\n", 400),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: 1_0\r\n\r\n", 400),
        (POST + b"Content-Length: 0x1\r\n\r\n", 400),
        (POST + b"Content-Length:\r\n\r\n", 400),
        (POST + b"Content-Length: \xb2\r\n\r\n", 400),
        (POST + b"Content-Length: 9999999999999999999\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
        (POST + b"Transfer-Encoding:\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
    ],
)
def test_what_two_readers_may_understand_in_two_ways_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(RefusedError) as refused:
        read_head(head)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\n",
        b"\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1\na\r\n",
        b"0x1\r\na\r\n",
        b"+1\r\na\r\n",
        b"1_0\r\n",
        b"1;x\0\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n0\r\n",
        b"1\r\na0\r\n",
        b"12345678901234567\r\n",
        b"1;" + b"x" * 5000,
        b"0\r\nno field\r\n",
        b"0\r\nX : y\r\n",
        b"0\r\nContent-Length: 3\r\n",
        b"0\r\nT: x\r\ntransfer-encoding: chunked\r\n",
        b"0\r\n\n",
        b"0\r\n" + b"X: y\r\n" * 5000,
    ],
)
def test_a_malformed_chunk_is_refused(chunks: bytes) -> None:
    with pytest.raises(RefusedError):
        ChunkedReader().feed(chunks)


def test_a_head_is_read_as_it_was_sent() -> None:
    head = read_head(
        b"PATCH http://h/p?q HTTP/1.1\r\nHoSt:x\r\nX-One:\t a b \t\r\nX-ONE: \xff\r\nEmpty:\r\n\r\n"
    )
    assert (head.method, head.target, head.version) == ("PATCH", b"http://h/p?q", "1.1")
    assert head.headers == [
        (b"host", b"x"),
        (b"x-one", b"a b"),
        (b"x-one", b"\xff"),
        (b"empty", b""),
    ]
    assert head.keeps_alive


@pytest.mark.parametrize(
    ("more", "closes"),
    [
        (b"", False),
        (b"Connection: keep-alive\r\n", False),
        (b"Connection: Close\r\n", True),
        (b"Connection: keep-alive\r\nConnection: x, close\r\n", True),
    ],
)
def test_a_client_says_whether_it_stays(more: bytes, *, closes: bool) -> None:
    assert read_head(b"GET /" + HEAD + more + b"\r\n").keeps_alive is not closes


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_websocket_whose_client_has_left_already_never_begins(*, leaves: bool) -> None:
    wire = Wire()
    http = protocol(wire)
    http.receive(
        b"GET /" + HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    if leaves:
        http.client_left()
    ((run, arguments),) = wire.tasks
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, *arguments)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(wire.begun) == (not leaves)


def heard(data: bytes) -> tuple[list[object], bytes, bool]:
    return trio.run(conversation, [data])


def test_a_head_that_never_ends_is_refused() -> None:
    told, said, closed = heard(b"GET /" + HEAD + b"X: " + b"y" * 20_000)
    assert (told, closed) == ([], True)
    assert said.startswith(b"HTTP/1.1 431 ")


def test_nothing_is_done_behind_a_refusal() -> None:
    told, said, _ = heard(b"NO\r\n\r\n" + b"GET /a" + HEAD + b"\r\n")
    assert told == []
    assert said.count(b"HTTP/1.1") == 1


def test_a_bare_line_feed_that_hides_a_request_hides_none() -> None:
    told, said, closed = heard(b"GET /a" + HEAD + b"X: y\n\nGET /hidden" + HEAD + b"\r\n")
    assert (told, closed) == ([], True)
    assert said.startswith(b"HTTP/1.1 400 ")


# --- responses, by an ASGI application at a real socket -------------------------------------------


async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Answer with as many bytes as were received, framed as the path says."""
    if scope["type"] != "http":
        raise NotImplementedError  # what an application without a lifespan does
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    content, headers, status = b"%d" % len(body), [(b"x-one", b"1")], 200
    match scope["path"]:
        case "/length":
            headers.append((b"Content-Length", b"%d" % len(content)))
        case "/close":
            headers.append((b"connection", b"close"))
        case "/204":
            content, status = b"", 204
        case "/304":
            content, status = b"", 304
            headers.append((b"content-length", b"99"))
        case "/own-framing":
            headers += [(b"transfer-encoding", b"chunked"), (b"content-length", b"1")]
        case "/break":
            headers.append((b"x-two", b"1\r\nx-three: 1"))
        case "/short":
            headers.append((b"content-length", b"%d" % (len(content) + 1)))
        case "/long":
            headers.append((b"content-length", b"0"))
        case "/nothing":
            return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    ("request_", "head", "body"),
    [
        (b"GET /" + HEAD, b"200 |x-one: 1|Transfer-Encoding: chunked", b"1\r\n0\r\n0\r\n\r\n"),
        (b"GET /own-framing" + HEAD, b"200 |x-one: 1|Transfer-Encoding: chunked", None),
        (b"GET /length" + HEAD, b"200 |x-one: 1|content-length: 1", b"0"),
        (b"GET /204" + HEAD, b"204 |x-one: 1", b""),
        (b"GET /304" + HEAD, b"304 |x-one: 1|content-length: 99", b""),
        (b"HEAD /" + HEAD, b"200 |x-one: 1|Transfer-Encoding: chunked", b""),
        (b"HEAD /length" + HEAD, b"200 |x-one: 1|content-length: 1", b""),
        (b"GET /close" + HEAD, b"200 |x-one: 1|connection: close|Transfer-Encoding: chunked", None),
        (
            b"GET /" + HEAD + b"Connection: close\r\n",
            b"200 |x-one: 1|Transfer-Encoding: chunked|Connection: close",
            b"1\r\n0\r\n0\r\n\r\n",
        ),
        (b"GET / HTTP/1.0\r\n", b"200 |x-one: 1|Connection: close", b"0"),
        (b"GET /length HTTP/1.0\r\n", b"200 |x-one: 1|content-length: 1|Connection: close", b"0"),
        (b"GET /nothing" + HEAD, b"500 |content-length: 0|connection: close", b""),
        (b"GET /break" + HEAD, b"500 |content-length: 0|connection: close", b""),
        (b"GET /short" + HEAD, b"200 |x-one: 1|content-length: 2", b"0"),
        (b"GET /long" + HEAD, b"200 |x-one: 1|content-length: 0", b""),
    ],
)
async def test_a_response_is_framed_as_its_request_and_headers_want(
    request_: bytes, head: bytes, body: bytes | None
) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.send(request_ + b"\r\n")
        told = await client.receive_until(b"\r\n\r\n")
        lines = [line for line in told.split(b"\r\n") if line and not line.startswith(b"date: ")]
        assert b"|".join(lines) == b"HTTP/1.1 " + head
        assert told.count(b"\r\ndate: ") == 1
        # No request begins like this: it ends a connection that stays open.
        await client.send(b"\x01")
        rest, _, _ = (await client.receive_rest()).partition(b"HTTP/1.1 400 ")
    if body is not None:
        assert rest == body


async def test_a_large_body_arrives_whole() -> None:
    async with serving(app) as server, server.connect() as client:
        await client.send(b"POST /length" + HEAD + b"Content-Length: %d\r\n\r\n" % LARGE)
        await client.send(bytes(LARGE))
        assert await client.receive_response() == (200, b"%d" % LARGE)
        await client.send(b"POST /length" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        await client.send((b"%x\r\n" % 50_000 + bytes(50_000) + b"\r\n") * 100 + b"0\r\n\r\n")
        assert await client.receive_response() == (200, b"%d" % LARGE)


@pytest.mark.parametrize("offer", [b"h2c", b"websocket", b"TLS/1.0"])
@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"],
)
async def test_an_offered_upgrade_is_ignored_also_with_a_body(offer: bytes, framing: bytes) -> None:
    async with serving(app) as server, server.connect() as client:
        for _ in range(2):
            await client.send(
                b"POST /length"
                + HEAD
                + b"Connection: Upgrade\r\nUpgrade: "
                + offer
                + b"\r\n"
                + framing
            )
            assert await client.receive_response() == (200, b"3")


async def test_a_client_that_waits_is_told_to_go_on() -> None:
    async with serving(app) as server, server.connect() as client:
        head = b"POST /length" + HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        await client.send(head)
        told = await client.receive_until(b"\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 100 \r\ndate: ")
        await client.send(b"abc")
        assert await client.receive_response() == (200, b"3")


async def test_the_thousandth_response_says_that_it_is_the_last() -> None:
    async with serving(app) as server, server.connect() as client:
        for _ in range(999):
            await client.get("/length")
            assert await client.receive_response() == (200, b"0")
        await client.get("/length")
        assert b"\r\nconnection: close\r\n" in await client.receive_rest()


async def test_a_malformed_chunk_is_told_to_the_client_whose_request_is_cancelled() -> None:
    told = list[str]()

    async def reads(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        while (message := await receive())["type"] != "http.disconnect":
            pass
        told.append(message["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async with serving(reads) as server, server.connect() as client:
        await client.send(CHUNKS + b"1\r\na\r\n")
        await trio.testing.wait_all_tasks_blocked()
        await client.send(b"nothing\r\n")
        assert (await client.receive_rest()).startswith(b"HTTP/1.1 400 ")
    assert told == ["http.disconnect"]
