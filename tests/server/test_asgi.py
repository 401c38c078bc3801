"""Responses that deliver themselves, at a real socket."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio
from quart import Response, request

from codexrelay.server.asgi import ClientSender, DeliveredResponse, RelayApp
from tests.fakes.live_server import PATIENCE_S, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


CHUNKED_END = b"0\r\n\r\n"


def app_delivering(deliver: Callable[[ClientSender], Awaitable[None]]) -> RelayApp:
    app = RelayApp(__name__)

    @app.route("/", methods=["GET", "POST"])
    async def view() -> DeliveredResponse:
        return DeliveredResponse(deliver)

    @app.errorhandler(LookupError)
    async def not_found(error: LookupError) -> Response:
        return Response(f"handled: {error.args[0]}", status=418)

    return app


async def test_deliver_decides_status_headers_and_pieces() -> None:
    async def deliver(client: ClientSender) -> None:
        assert not client.started
        await client.start(207, [(b"x-one", b"1"), (b"content-type", b"text/event-stream")])
        assert client.started
        await client.send(b"ab")
        await client.send(b"")
        await client.send(b"c")
        await client.end()

    async with serving(app_delivering(deliver)) as server, server.connect() as client:
        await client.get("/")
        head = await client.receive_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 207 ")
        assert b"x-one: 1\r\n" in head
        assert await client.receive_until(CHUNKED_END) == b"2\r\nab\r\n1\r\nc\r\n" + CHUNKED_END


async def test_a_delivered_response_leaves_the_connection_usable() -> None:
    async def deliver(client: ClientSender) -> None:
        await client.start(200, [(b"content-length", b"2")])
        await client.send(b"ok")
        await client.end()

    async with serving(app_delivering(deliver)) as server, server.connect() as client:
        for _ in range(3):
            await client.get("/")
            assert await client.receive_response() == (200, b"ok")


async def test_deliver_runs_inside_the_request() -> None:
    async def deliver(client: ClientSender) -> None:
        method = request.method.encode()
        await client.start(200, [(b"content-length", b"%d" % len(method))])
        await client.send(method)
        await client.end()

    async with serving(app_delivering(deliver)) as server, server.connect() as client:
        await client.get("/")
        assert await client.receive_response() == (200, b"GET")


async def test_an_error_before_the_head_goes_to_the_error_handlers() -> None:
    async def deliver(client: ClientSender) -> None:
        raise LookupError("no account")

    async with serving(app_delivering(deliver)) as server, server.connect() as client:
        await client.get("/")
        assert await client.receive_response() == (418, b"handled: no account")


async def test_an_error_in_a_nursery_before_the_head_goes_to_the_error_handlers() -> None:
    async def deliver(client: ClientSender) -> None:
        async with trio.open_nursery():
            raise LookupError("no account")

    async with serving(app_delivering(deliver)) as server, server.connect() as client:
        await client.get("/")
        assert await client.receive_response() == (418, b"handled: no account")


async def test_an_error_behind_the_head_cuts_the_body_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def deliver(client: ClientSender) -> None:
        await client.start(200, [])
        await client.send(b"half")
        raise LookupError("gone wrong")

    async with serving(app_delivering(deliver)) as server, server.connect() as client:
        await client.get("/")
        answer = await client.receive_rest()
    assert answer.endswith(b"\r\n\r\n4\r\nhalf\r\n")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "gone wrong" in caplog.text


async def test_a_delivery_that_never_ends_the_body_cuts_it() -> None:
    async def deliver(client: ClientSender) -> None:
        await client.start(200, [])
        await client.send(b"half")

    async with serving(app_delivering(deliver)) as server, server.connect() as client:
        await client.get("/")
        assert (await client.receive_rest()).endswith(b"\r\n\r\n4\r\nhalf\r\n")


async def test_a_cut_body_ends_the_connection_although_the_client_is_uploading() -> None:
    async def deliver(client: ClientSender) -> None:
        await client.start(200, [])
        raise LookupError("gone wrong")

    async with serving(app_delivering(deliver)) as server, server.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_upload, client.stream, 1_000_000)
            assert not (await client.receive_rest()).endswith(CHUNKED_END)


async def test_an_early_answer_reaches_a_client_that_is_still_uploading() -> None:
    async def deliver(client: ClientSender) -> None:
        await client.start(413, [(b"content-length", b"5")])
        await client.send(b"large")
        await client.end()

    async with serving(app_delivering(deliver)) as server, server.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        # As most clients do: the upload first, then a look at the answer. A server that closed at
        # once would reset the connection, and on some systems the answer would be lost with it.
        assert await _upload(client.stream, 6_000_000)
        assert await client.receive_response() == (413, b"large")
        assert await client.receive_rest() == b""


async def test_an_answer_before_the_end_of_the_upload_says_that_it_is_the_last() -> None:
    async def deliver(client: ClientSender) -> None:
        await client.start(401, [(b"content-length", b"0")])
        await client.end()

    async with serving(app_delivering(deliver)) as server, server.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        assert b"connection: close" in await client.receive_until(b"\r\n\r\n")


@pytest.mark.parametrize("behind", [b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00"])
async def test_what_follows_the_last_request_does_not_break_its_answer_off(behind: bytes) -> None:
    arrived = trio.Event()

    async def deliver(client: ClientSender) -> None:
        await client.start(200, [])
        await arrived.wait()
        await client.send(b"whole")
        await client.end()

    async with serving(app_delivering(deliver)) as server, server.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await client.receive_until(b"\r\n\r\n")
        await client.send(behind)
        await trio.sleep(0.01)  # the server takes it while the answer waits
        arrived.set()
        assert await client.receive_rest() == b"5\r\nwhole\r\n" + CHUNKED_END


async def test_a_client_that_leaves_cancels_the_delivery() -> None:
    cancelled = trio.Event()

    async def deliver(client: ClientSender) -> None:
        await client.start(200, [])
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with serving(app_delivering(deliver)) as server:
        async with server.connect() as client:
            await client.get("/")
            await client.receive_until(b"\r\n\r\n")
        with trio.fail_after(PATIENCE_S):
            await cancelled.wait()


async def test_a_client_that_leaves_while_its_body_is_read_leaves_no_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, left = RelayApp(__name__), trio.Event()

    @app.post("/")
    async def view() -> bytes:
        try:
            return b"".join([chunk async for chunk in request.body])
        finally:
            left.set()

    async with serving(app) as server:
        async with server.connect() as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
            await trio.sleep(0.01)
        with trio.fail_after(PATIENCE_S):
            await left.wait()
    assert caplog.records == []


async def test_a_piece_sent_after_a_cancelled_one_does_not_land_inside_it() -> None:
    piece, last = b"y" * 3_000_000, b"the end"

    async def deliver(client: ClientSender) -> None:
        await client.start(200, [])
        with trio.move_on_after(0.05):
            await client.send(piece)  # more than the kernel takes: waits for the client
            await trio.sleep_forever()
        await client.send(last)
        await client.end()

    async with serving(app_delivering(deliver)) as server, server.connect() as client:
        await client.get("/")
        await trio.sleep(0.1)  # the turn's budget is over before the client reads
        await client.receive_until(b"\r\n\r\n")
        body = await client.receive_until(CHUNKED_END)
    assert body == (b"%x\r\n%b\r\n" % (len(piece), piece)) + (
        b"%x\r\n%b\r\n" % (len(last), last) + CHUNKED_END
    )


async def _upload(stream: trio.SocketStream, size: int) -> bool:
    """Tell whether the server took everything."""
    with trio.fail_after(PATIENCE_S):
        try:
            for _ in range(size // 100_000):
                await stream.send_all(b"a" * 100_000)
        except trio.BrokenResourceError:
            return False
    return True
