"""The connection around hypercorn's parser, at a real socket."""

from __future__ import annotations

import select
import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from quart import Response, request, websocket
from trio_websocket import open_websocket_url

from codexrelay.server.asgi import ClientSender, DeliveredResponse, RelayApp
from codexrelay.server.tcp import Patience
from tests.fakes.live_server import PATIENCE_S, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

    from tests.fakes.live_server import RawClient

HANDSHAKE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture
def app() -> RelayApp:
    """A small application: `left` is set when a request is cancelled, `waiting` counts `/wait`."""
    app = RelayApp(__name__)
    app.left = trio.Event()
    app.waiting = 0

    @app.get("/small")
    async def small() -> Response:
        return Response(b"ok", headers={"Content-Length": "2"})

    @app.route("/wait", methods=["GET", "POST"])
    async def wait() -> Response:
        app.waiting += 1
        try:
            await trio.sleep_forever()
        finally:
            app.left.set()

    @app.post("/echo")
    async def echo() -> Response:
        return Response(await request.get_data())

    @app.get("/flood")
    async def flood() -> DeliveredResponse:
        async def deliver(client: ClientSender) -> None:
            try:
                await client.start(200, [])
                while True:
                    await client.send(b"y" * 65536)
            finally:
                app.left.set()

        return DeliveredResponse(deliver)

    @app.get("/count")
    async def count() -> AsyncIterator[bytes]:
        async def body() -> AsyncIterator[bytes]:
            for number in range(1000):
                yield b"%d," % number

        return body()

    @app.websocket("/socket")
    async def echo_messages() -> None:
        while True:
            await websocket.send(await websocket.receive())

    @app.websocket("/undecided")
    async def decide_never() -> None:
        await trio.sleep_forever()

    @app.websocket("/no-socket")
    async def refuse_messages() -> Response:
        return Response("no", status=426)

    return app


async def test_two_hundred_requests_use_one_connection(app: RelayApp) -> None:
    async with serving(app) as server, server.connect() as client:
        for _ in range(200):
            await client.get("/small")
            assert await client.receive_response() == (200, b"ok")


async def test_pipelined_requests_are_answered_in_order(app: RelayApp) -> None:
    async with serving(app) as server, server.connect() as client:
        post = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
        await client.send(post + b"1" + post + b"2" + post + b"3")
        bodies = [(await client.receive_response())[1] for _ in range(3)]
        assert bodies == [b"1", b"2", b"3"]


async def test_more_pipelined_requests_than_are_kept_are_answered_in_order(app: RelayApp) -> None:
    count, body = 50, b"%08d" + b"x" * 9992
    post = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n" + body
    async with serving(app) as server, server.connect() as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.send, b"".join(post % number for number in range(count)))
        for number in range(count):
            assert await client.receive_response() == (200, body % number)


@pytest.mark.parametrize(
    "parts",
    [(b"\r\n",), (b"\n",), (b"\r\n\r\n\n\r\n",), (b"\r", b"\n"), (b"\r\n\r", b"\n\r\n")],
)
async def test_empty_lines_between_requests_are_overlooked(
    app: RelayApp, parts: tuple[bytes, ...]
) -> None:
    post = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
    async with serving(app) as server, server.connect() as client:
        for behind in (b"", post + b"1", post + b"2"):
            for part in (behind + parts[0], *parts[1:]):
                await client.send(part)
                await trio.sleep(0.005)  # so that it arrives alone
        await client.send(post + b"3")
        bodies = [(await client.receive_response())[1] for _ in range(3)]
    assert bodies == [b"1", b"2", b"3"]


async def test_many_small_pieces_arrive_whole_and_in_order(app: RelayApp) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.get("/count")
        await client.receive_until(b"\r\n\r\n")
        chunks = await client.receive_until(b"0\r\n\r\n")
        assert chunks.split(b"\r\n")[1:-3:2] == [b"%d," % number for number in range(1000)]


async def test_the_kernel_is_asked_directly_so_that_a_write_is_cheap(app: RelayApp) -> None:
    # The cheap way needs the socket inside trio's. If trio hides it, everything still works and
    # costs ten times as much; then this test says so.
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        assert isinstance(listener.socket._sock, socket.socket)


async def test_an_idle_connection_is_closed_after_the_keep_alive_time(app: RelayApp) -> None:
    async with (
        serving(app, patience=Patience(keep_alive_s=0.05)) as server,
        server.connect() as client,
    ):
        await client.get("/small")
        await client.receive_response()
        assert await client.receive_rest() == b""


async def test_a_connection_that_never_asks_is_closed_after_the_keep_alive_time(
    app: RelayApp,
) -> None:
    async with (
        serving(app, patience=Patience(keep_alive_s=0.05)) as server,
        server.connect() as client,
    ):
        await client.send(b"GET /small HT")
        assert await client.receive_rest() == b""


@asynccontextmanager
async def nothing_left_behind() -> AsyncIterator[None]:
    """At the end of the block no task may be there, or stay, that was not there before."""
    await trio.testing.wait_all_tasks_blocked()  # the accepting task has begun
    tasks = trio.lowlevel.current_statistics().tasks_living
    yield
    with trio.fail_after(PATIENCE_S):
        # A statistic has no event to wait for.
        while trio.lowlevel.current_statistics().tasks_living > tasks:  # noqa: ASYNC110
            await trio.sleep(0.001)


def reset(client: RawClient) -> None:
    """Break the connection off (RST) instead of closing it."""
    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.stream.socket.close()


async def test_a_client_that_leaves_between_requests_leaves_nothing_behind(app: RelayApp) -> None:
    async with serving(app) as server, nothing_left_behind(), server.connect() as client:
        await client.get("/small")
        await client.receive_response()


@pytest.mark.parametrize("resets", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize(
    "behind",
    [
        b"",
        b"\r\n",
        b"GET /wa",
        b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" * 1000,
    ],
    ids=["nothing", "a CRLF too many", "half a request", "another request", "a thousand"],
)
async def test_a_client_that_leaves_cancels_its_request_whatever_it_sent_behind_it(
    app: RelayApp, *, behind: bytes, resets: bool
) -> None:
    async with serving(app) as server, nothing_left_behind():
        async with server.connect() as client:
            await client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" + behind)
            await trio.sleep(0.01)
            if resets:
                reset(client)
        with trio.fail_after(PATIENCE_S):
            await app.left.wait()
        assert app.waiting == 1  # what came behind never began


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux tells of a close behind")
async def test_a_client_that_leaves_behind_more_than_we_keep_cancels_its_request(
    app: RelayApp,
) -> None:
    async with serving(app) as server, nothing_left_behind():
        async with server.connect() as client:
            await client.get("/wait")
            for _ in range(6):  # less than the kernel keeps for us, so that the FIN arrives too
                await client.send(bytes(16384))
                await trio.sleep(0.005)
        with trio.fail_after(PATIENCE_S):
            await app.left.wait()


@pytest.mark.parametrize("begins", ["a request", "a WebSocket"])
async def test_a_client_that_has_to_wait_sends_no_more_however_often_the_clock_is_looked_at(
    app: RelayApp, mock_clock: trio.testing.MockClock, begins: str
) -> None:
    more = b"" if begins == "a request" else HANDSHAKE
    # A WebSocket whose frames cannot be read yet: the application has not decided.
    head = b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n"
    path = b"/wait" if begins == "a request" else b"/undecided"
    sent = 0
    async with (
        serving(app, patience=Patience(write_s=1e9)) as server,
        server.connect() as client,
        trio.open_nursery() as nursery,
    ):
        await client.send(head % (path, more))

        async def flood() -> None:
            nonlocal sent
            while True:
                await client.stream.send_all(bytes(16384))
                sent += 16384

        nursery.start_soon(flood)
        await trio.testing.wait_all_tasks_blocked(0.05)  # the kernel takes no more
        before = sent
        for _ in range(8):
            mock_clock.jump(75.0)
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert sent - before < 131072
        nursery.cancel_scope.cancel()
        server.scope.cancel()  # a drain would wait for this clock


async def test_a_client_that_leaves_during_its_upload_cancels_its_request(app: RelayApp) -> None:
    async with serving(app) as server, nothing_left_behind():
        async with server.connect() as client:
            await client.send(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\nabc")
            await trio.sleep(0.01)
        with trio.fail_after(PATIENCE_S):
            await app.left.wait()


async def test_a_client_that_leaves_while_it_is_written_to_cancels_its_request(
    app: RelayApp,
) -> None:
    async with serving(app) as server:
        async with server.connect() as client:
            await client.get("/flood")
            await client.receive_until(b"yyyy")
        with trio.fail_after(PATIENCE_S):
            await app.left.wait()


@pytest.mark.parametrize("resets", [False, True], ids=["closes its side", "resets"])
async def test_a_client_that_leaves_while_a_write_waits_for_it_ends_the_write(
    app: RelayApp, *, resets: bool
) -> None:
    # The write is shielded, and this server would wait a thousand seconds.
    async with serving(app) as server, nothing_left_behind(), server.connect() as client:
        await client.get("/flood")
        await client.receive_until(b"yyyy")
        await trio.sleep(0.05)  # until the kernel takes no more
        if resets:
            reset(client)
        else:
            await client.stream.send_eof()
        with trio.fail_after(PATIENCE_S):
            await app.left.wait()


async def test_a_client_that_stops_reading_is_given_up_after_the_write_deadline(
    app: RelayApp,
) -> None:
    async with serving(app, patience=Patience(write_s=0.05)) as server, server.connect() as client:
        await client.get("/flood")
        with trio.fail_after(PATIENCE_S):
            await app.left.wait()
        assert not server.returned.is_set()


async def test_an_application_that_ends_without_reading_the_upload_ends_the_connection() -> None:
    ready_to_end = trio.Event()

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            raise NotImplementedError  # what an application without a lifespan does
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await ready_to_end.wait()

    async with serving(app) as server, server.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        with trio.move_on_after(0.1) as stuck:  # behind a queue that nobody reads
            while True:
                await client.stream.send_all(bytes(65536))
        assert stuck.cancelled_caught
        ready_to_end.set()
        assert (await client.receive_rest()).endswith(b"\r\n\r\n")


async def test_an_offered_upgrade_to_http2_is_ignored(app: RelayApp) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.send(
            b"GET /small HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
        )
        assert await client.receive_response() == (200, b"ok")


async def test_a_client_that_offered_http2_and_leaves_cancels_its_request(app: RelayApp) -> None:
    async with serving(app) as server:
        async with server.connect() as client:
            await client.send(
                b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
            )
            await trio.sleep(0.01)
        with trio.fail_after(PATIENCE_S):
            await app.left.wait()


async def test_http2_with_prior_knowledge_is_refused(app: RelayApp) -> None:
    async with serving(app) as server, server.connect() as client:
        # The answer is complete, whatever else the client says; it is read and dropped.
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        answer = await client.receive_rest()
        assert answer.startswith(b"HTTP/1.1 505 ")
        assert answer.count(b"HTTP/") == 1


@pytest.mark.parametrize(
    "malformed", [b"NOT HTTP AT ALL\r\n\r\n", b"\rGET /small HTTP/1.1\r\nHost: x\r\n\r\n"]
)
async def test_a_malformed_request_is_answered_and_the_connection_closed(
    app: RelayApp, malformed: bytes
) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.send(malformed)
        assert (await client.receive_rest()).startswith(b"HTTP/1.1 400 ")


async def test_a_response_has_a_date_and_does_not_name_the_server(app: RelayApp) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.get("/small")
        head = (await client.receive_until(b"\r\n\r\n")).lower()
        assert b"\r\ndate: " in head
        assert b"\r\nserver: " not in head


async def test_a_websocket_exchanges_messages(app: RelayApp) -> None:
    async with serving(app) as server:
        url = server.url.replace("http", "ws") + "/socket"
        with trio.fail_after(PATIENCE_S):
            async with open_websocket_url(url) as socket_:
                for text in ("one", "two"):
                    await socket_.send_message(text)
                    assert await socket_.get_message() == text


async def test_a_websocket_can_be_refused_with_a_status(app: RelayApp) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.send(
            b"GET /no-socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        answer = await client.receive_rest()
        assert answer.startswith(b"HTTP/1.1 426 ")
        assert answer.endswith(b"\r\n\r\nno")
