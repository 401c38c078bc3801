"""A request that is served below ASGI, at a real socket."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import attrs
import pytest
import trio
import trio.testing

from codexrelay.server.exchange import EXCHANGE
from codexrelay.server.tcp import Patience
from tests.fakes.live_server import PATIENCE_S, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

    from codexrelay.server.exchange import Exchange

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
EMPTY = HEAD + b"Content-Length: 0\r\n\r\n"
LAST = b"0\r\n\r\n"
#: More than the kernel's buffers hold.
MUCH = bytes(8_000_000)


@attrs.define(eq=False)
class Served:
    """What became of a run."""

    reached: trio.Event = attrs.field(factory=trio.Event)
    cancelled: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    go: trio.Event = attrs.field(factory=trio.Event)


@pytest.fixture
def served() -> Served:
    return Served()


def app_serving(serve: Callable[[Exchange], Awaitable[None]], served: Served) -> ASGIFramework:
    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            raise NotImplementedError  # what an application without a lifespan does
        exchange = cast("Exchange", scope["extensions"][EXCHANGE])
        exchange.take()
        try:
            await serve(exchange)
        except trio.Cancelled:
            served.cancelled.set()
            raise
        served.ended.set()

    return app


async def soon(event: trio.Event) -> None:
    with trio.fail_after(PATIENCE_S):
        await event.wait()


async def answer(exchange: Exchange, text: bytes) -> None:
    await exchange.start(200, [(b"content-length", b"%d" % len(text))])
    await exchange.send(text)
    await exchange.end()


async def test_requests_are_read_and_answered_one_after_the_other(served: Served) -> None:
    async def serve(exchange: Exchange) -> None:
        assert not exchange.started
        body = await exchange.body(max_bytes=100)
        assert body is not None
        await answer(exchange, body[::-1])
        assert exchange.started

    async with serving(app_serving(serve, served)) as server, server.connect() as client:
        for text in (b"abc", b"", b"de"):
            await client.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(text) + text)
            assert await client.receive_response() == (200, text[::-1])


async def test_head_pieces_and_end_are_what_a_client_reads(served: Served) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.start(207, [(b"x-one", b"1")])
        await exchange.send(b"ab")
        await exchange.send(b"")
        await exchange.send(b"c")
        await exchange.finish(b"d")

    async with serving(app_serving(serve, served)) as server, server.connect() as client:
        await client.send(EMPTY)
        head = await client.receive_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 207 \r\nx-one: 1\r\ndate: ")
        assert await client.receive_until(LAST) == b"2\r\nab\r\n1\r\nc\r\n1\r\nd\r\n" + LAST


async def test_an_empty_piece_sends_the_head_alone(served: Served) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.start(200, [])
        await exchange.send(b"")
        await served.go.wait()
        await exchange.end()

    async with serving(app_serving(serve, served)) as server, server.connect() as client:
        await client.send(EMPTY)
        await client.receive_until(b"\r\n\r\n")
        served.go.set()
        assert await client.receive_until(LAST) == LAST


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_comes_whole_however_late_it_is(served: Served, *, chunked: bool) -> None:
    size = 300_000

    async def serve(exchange: Exchange) -> None:
        served.reached.set()
        body = await exchange.body(max_bytes=size)
        await answer(exchange, b"%d" % len(body or b""))

    async with serving(app_serving(serve, served)) as server, server.connect() as client:
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
        await client.send(HEAD + framing + b"\r\n\r\n")
        await soon(served.reached)
        for _ in range(3):
            piece = bytes(size // 3)
            await client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await trio.testing.wait_all_tasks_blocked()
        if chunked:
            await client.send(LAST)
        assert await client.receive_response() == (200, b"300000")


async def test_a_body_that_announces_too_much_is_not_read(served: Served) -> None:
    async def serve(exchange: Exchange) -> None:
        assert await exchange.body(max_bytes=10) is None
        await exchange.start(413, [(b"content-length", b"0")])
        await exchange.end()

    async with serving(app_serving(serve, served)) as server, server.connect() as client:
        await client.send(HEAD + b"Content-Length: 11\r\n\r\n")
        told = await client.receive_rest()
        assert told.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nconnection: close\r\n" in told


async def test_a_body_in_chunks_is_read_up_to_the_bound_and_not_further(served: Served) -> None:
    async def serve(exchange: Exchange) -> None:
        assert await exchange.body(max_bytes=100_000) is None
        served.reached.set()
        await served.go.wait()
        await answer(exchange, b"too much")

    async with serving(app_serving(serve, served)) as server, server.connect() as client:
        await client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n%b\r\n" % (65536, bytes(65536))
        with trio.move_on_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:

                async def upload() -> None:
                    while True:
                        await client.stream.send_all(chunk)

                nursery.start_soon(upload)
                await soon(served.reached)
                await trio.testing.wait_all_tasks_blocked(0.05)  # the kernel takes no more
                nursery.cancel_scope.cancel()
        served.go.set()
        assert b"\r\n\r\ntoo much" in await client.receive_rest()


@pytest.mark.parametrize("phase", ["before it is taken", "body", "waiting", "opened", "sending"])
async def test_a_client_that_leaves_cancels_the_run_at_once(served: Served, phase: str) -> None:
    async def serve(exchange: Exchange) -> None:
        if phase == "body":
            served.reached.set()
            await exchange.body(max_bytes=100)
        if phase in ("opened", "sending"):
            await exchange.start(200, [])
            await exchange.send(b"a")
        served.reached.set()
        while phase == "sending":
            await exchange.send(bytes(65536))
        await trio.sleep_forever()

    async def late(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if phase == "before it is taken" and scope["type"] == "http":
            served.reached.set()
            await served.go.wait()
        await app_serving(serve, served)(scope, receive, send)

    async with serving(late) as server:
        async with server.connect() as client:
            await client.send(HEAD + b"Content-Length: 3\r\n\r\n" + b"abc"[phase == "body" :])
            await soon(served.reached)
            await trio.testing.wait_all_tasks_blocked(0.01)  # the kernel takes no more
        if phase == "before it is taken":
            await trio.testing.wait_all_tasks_blocked(0.01)
            served.go.set()
        await soon(served.cancelled)


async def test_a_client_that_leaves_behind_the_end_cancels_nothing(served: Served) -> None:
    async def serve(exchange: Exchange) -> None:
        await answer(exchange, b"ok")
        served.reached.set()
        await served.go.wait()
        await trio.lowlevel.checkpoint()

    async with serving(app_serving(serve, served)) as server:
        async with server.connect() as client:
            await client.send(EMPTY)
            await client.receive_response()
            await soon(served.reached)
        await trio.testing.wait_all_tasks_blocked(0.01)
        served.go.set()
        await soon(served.ended)
    assert not served.cancelled.is_set()


async def test_what_a_run_does_behind_its_end_neither_delays_nor_is_cut_by_the_next_request(
    served: Served,
) -> None:
    runs = list[str]()

    async def serve(exchange: Exchange) -> None:
        runs.append("begun")
        if len(runs) > 1:
            served.reached.set()
            await trio.sleep_forever()
        await answer(exchange, b"ok")
        with trio.CancelScope() as scope:
            await served.go.wait()
            runs.append("wound up")
        assert not scope.cancelled_caught

    async with serving(app_serving(serve, served)) as server:
        async with server.connect() as client:
            await client.send(EMPTY)
            assert await client.receive_response() == (200, b"ok")
            await client.send(EMPTY)
            await soon(served.reached)
        await soon(served.cancelled)
        served.go.set()
        await soon(served.ended)
    assert runs == ["begun", "begun", "wound up"]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_run_that_ends_without_an_end_cuts_its_response(
    served: Served, caplog: pytest.LogCaptureFixture, *, fails: bool
) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.start(200, [])
        await exchange.send(b"half")
        if fails:
            raise LookupError("nobody foresaw this")

    async with serving(app_serving(serve, served)) as server, server.connect() as client:
        await client.send(EMPTY)
        assert (await client.receive_rest()).endswith(b"\r\n\r\n4\r\nhalf\r\n")
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == fails


async def test_a_run_that_ends_before_its_first_piece_still_sends_the_head(served: Served) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.start(200, [])

    async with serving(app_serving(serve, served)) as server, server.connect() as client:
        await client.send(EMPTY)
        told = await client.receive_rest()
        assert told.startswith(b"HTTP/1.1 200 ")
        assert told.endswith(b"\r\n\r\n")


async def test_a_run_that_says_nothing_is_a_500(served: Served) -> None:
    async def serve(exchange: Exchange) -> None:
        pass

    async with serving(app_serving(serve, served)) as server, server.connect() as client:
        await client.send(EMPTY)
        assert (await client.receive_rest()).startswith(b"HTTP/1.1 500 ")


async def test_a_client_that_stops_reading_is_given_up(served: Served) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.start(200, [])
        await exchange.send(MUCH)

    patience = Patience(write_s=0.05)
    async with (
        serving(app_serving(serve, served), patience=patience) as server,
        server.connect() as client,
    ):
        await client.send(EMPTY)
        await soon(served.cancelled)


async def test_a_piece_sent_after_a_cancelled_one_does_not_land_inside_it(served: Served) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.start(200, [])
        with trio.move_on_after(0.02):
            await exchange.send(MUCH)
            await trio.sleep_forever()
        await exchange.finish(b"the end")

    async with serving(app_serving(serve, served)) as server, server.connect() as client:
        await client.send(EMPTY)
        await client.receive_until(b"\r\n\r\n")
        body = await client.receive_until(LAST)
    assert body == b"%x\r\n%b\r\n7\r\nthe end\r\n" % (len(MUCH), MUCH) + LAST
