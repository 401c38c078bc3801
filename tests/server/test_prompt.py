"""Writing to a client without waiting: what goes out, what is kept, and what comes first."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import attrs
import pytest
import trio
import trio.testing
from hypercorn.app_wrappers import ASGIWrapper

from codexrelay.server.drain import Drain
from codexrelay.server.exchange import EXCHANGE, Exchange
from codexrelay.server.heads import OwnHeaders
from codexrelay.server.listen import server_config
from codexrelay.server.tcp import ClientConnection, Patience, Service
from tests.fakes.live_server import PATIENCE_S, RawClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

    from codexrelay.relay.line import Prompt

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
LAST = b"0\r\n\r\n"
#: More than fits into the sockets of a test.
MUCH = bytes(200_000)


@attrs.define(eq=False)
class Pumped:
    """A response that has been opened, and its client."""

    exchange: Exchange
    client: RawClient
    life: trio.CancelScope
    connection: ClientConnection

    @property
    def gone(self) -> bool:
        """Whether the client was given up."""
        return self.connection.stream.socket.fileno() < 0

    @property
    def prompt(self) -> Prompt:
        prompt = self.exchange.prompt
        assert prompt is not None
        return prompt

    async def heard(self) -> bytes:
        """Return the body, as it was framed, up to and with its end."""
        return await self.client.receive_until(LAST)


@asynccontextmanager
async def pumped(
    *, headers: Sequence[tuple[bytes, bytes]] = (), version: bytes = b"1.1", hidden: bool = False
) -> AsyncIterator[Pumped]:
    """Serve one request over a pair of sockets that hold little."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client = RawClient(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
    to_test, from_app = trio.open_memory_channel[tuple[Exchange, trio.CancelScope]](1)
    done = trio.Event()

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"
        exchange = cast("Exchange", scope["extensions"][EXCHANGE])
        exchange.take()
        await exchange.start(200, headers)
        with trio.CancelScope() as life:
            to_test.send_nowait((exchange, life))
            await done.wait()

    config = server_config()
    config.include_date_header = False
    service = Service(
        app=ASGIWrapper(app),
        config=config,
        drain=Drain(grace_s=0),
        state={},
        patience=Patience(),
        own=OwnHeaders(config),
    )
    connection = ClientConnection(
        service, trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    )
    if hidden:
        connection._socket = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        await client.send(REQUEST.replace(b"1.1", version))
        exchange, life = await from_app.receive()
        yield Pumped(exchange, client, life, connection)
        done.set()
        client.stream.socket.close()


async def test_the_head_goes_out_with_the_first_piece_and_every_piece_is_a_chunk() -> None:
    async with pumped() as turn:
        assert turn.prompt.is_free
        assert turn.prompt.send_now(b"one")
        assert turn.prompt.send_now(b"")  # no last chunk
        assert turn.prompt.send_now(b"three")
        assert turn.prompt is turn.exchange.prompt
        await turn.exchange.end()
        assert await turn.client.receive_until(b"\r\n\r\n") == (
            b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert await turn.heard() == b"3\r\none\r\n5\r\nthree\r\n" + LAST


async def test_what_a_client_does_not_take_is_kept_and_goes_first() -> None:
    async with pumped() as turn, trio.open_nursery() as nursery:
        assert not turn.prompt.send_now(MUCH)
        assert not turn.prompt.is_free
        nursery.start_soon(turn.exchange.send, b": a comment")
        await trio.testing.wait_all_tasks_blocked()
        assert not turn.prompt.is_free  # somebody is writing
        await turn.client.receive_until(b"\r\n\r\n")
        body = await turn.client.receive_until(b": a comment\r\n")
        assert body == b"%x\r\n%b\r\nb\r\n: a comment\r\n" % (len(MUCH), MUCH)
        await trio.testing.wait_all_tasks_blocked()
        assert turn.prompt.is_free
        assert turn.prompt.send_now(b"on")
        await turn.exchange.end()
        assert await turn.heard() == b"2\r\non\r\n" + LAST


async def test_an_empty_piece_waits_for_what_is_kept_and_ends_nothing() -> None:
    async with pumped() as turn, trio.open_nursery() as nursery:
        assert not turn.prompt.send_now(MUCH)
        flushed = trio.Event()

        async def flush() -> None:
            await turn.exchange.send(b"")
            flushed.set()

        nursery.start_soon(flush)
        await trio.testing.wait_all_tasks_blocked()
        assert not flushed.is_set()
        await turn.client.receive_until(b"\r\n\r\n")
        await turn.client.receive_until(MUCH + b"\r\n")
        await flushed.wait()
        assert turn.prompt.is_free
        await turn.exchange.finish(b"last")
        assert await turn.heard() == b"4\r\nlast\r\n" + LAST


async def test_the_end_goes_behind_what_is_kept() -> None:
    async with pumped() as turn, trio.open_nursery() as nursery:
        assert not turn.prompt.send_now(MUCH)
        nursery.start_soon(turn.exchange.end)
        await turn.client.receive_until(b"\r\n\r\n")
        assert await turn.heard() == b"%x\r\n%b\r\n" % (len(MUCH), MUCH) + LAST


async def test_a_client_that_does_not_take_what_is_kept_is_given_up_after_the_write_deadline(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with pumped() as turn, trio.open_nursery() as nursery:
        assert not turn.prompt.send_now(MUCH)
        nursery.start_soon(turn.exchange.send, b"")
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(Patience().write_s - 1)
        await trio.testing.wait_all_tasks_blocked()
        assert not turn.gone
        mock_clock.jump(1)
        await trio.testing.wait_all_tasks_blocked()
        assert turn.gone


async def test_a_cut_response_ends_with_what_was_kept() -> None:
    async with pumped() as turn:
        assert not turn.prompt.send_now(MUCH)
        turn.life.cancel()
        assert (await turn.client.receive_rest()).endswith(b"%x\r\n%b\r\n" % (len(MUCH), MUCH))


async def test_a_client_that_is_gone_takes_everything_and_the_run_is_cancelled() -> None:
    async with pumped() as turn:
        turn.client.stream.socket.close()
        # Within this step nobody else has seen it yet.
        assert turn.prompt.send_now(b"a")
        assert turn.prompt.send_now(b"b")
        assert not turn.prompt.is_free
        with trio.fail_after(PATIENCE_S):
            await trio.testing.wait_all_tasks_blocked()


async def test_a_response_that_is_over_is_not_free() -> None:
    async with pumped() as turn:
        prompt = turn.prompt
        await turn.exchange.end()
        assert not prompt.is_free


@pytest.mark.parametrize("framing", ["length", "old version", "hidden socket"])
async def test_without_chunks_or_a_socket_there_is_no_prompt(framing: str) -> None:
    async with pumped(
        headers=[(b"content-length", b"2")] if framing == "length" else (),
        version=b"1.0" if framing == "old version" else b"1.1",
        hidden=framing == "hidden socket",
    ) as turn:
        assert turn.exchange.prompt is None
        await turn.exchange.send(b"ok")
        await turn.exchange.end()
        with trio.fail_after(PATIENCE_S):
            assert b"ok" in await turn.client.receive_until(b"ok")
