"""Sending of one request on one connection, with the reader's pace in the test's hand."""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from codexrelay.backends.transports.connection import Connection, Origin, receive_room
from codexrelay.backends.transports.exchange import PART_BYTES, Exchange, Message, Timeouts
from codexrelay.backends.transports.idle import IdleConnections
from codexrelay.protocol.faults import Reached

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD: Final = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
BODY: Final = bytes(20 * PART_BYTES)


@pytest.fixture
def idle() -> IdleConnections:
    return IdleConnections(max_idle=1, idle_s=60.0)


@pytest.fixture
def ends(idle: IdleConnections) -> Iterator[tuple[Exchange, socket.socket]]:
    """Give an exchange whose parts may take 30 s each, and its peer's end, which never waits."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        theirs.settimeout(0)
        timeouts = Timeouts(connect_s=math.inf, read_s=math.inf, write_s=30.0)
        connection = Connection(Origin("http", "x", 80), ours, receive_room())
        idle.put_out()
        yield Exchange.on(connection, idle, timeouts), theirs


def message(body: bytes) -> Message:
    return Message(HEAD % len(body), body)


async def drained(theirs: socket.socket, size: int) -> bytes:
    """Read so many bytes while whoever sends them goes on."""
    got = bytearray()
    while len(got) < size:
        try:
            got += theirs.recv(size - len(got))
        except BlockingIOError:
            await wait_all_tasks_blocked()
    return bytes(got)


async def test_a_small_request_is_out_before_anybody_waits(
    ends: tuple[Exchange, socket.socket], idle: IdleConnections
) -> None:
    exchange, theirs = ends
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.run_to_head, message(b"{}"))
        await wait_all_tasks_blocked()
        assert exchange.reached() is Reached.SENT
        assert theirs.recv(1000) == HEAD % 2 + b"{}"
        theirs.send(ANSWER)
    assert (exchange.status, await exchange.receive(), await exchange.receive()) == (
        200,
        b"hi",
        b"",
    )
    assert (idle.out, len(idle)) == (0, 1)
    await exchange.close()
    assert (idle.out, len(idle)) == (0, 1)


async def test_each_part_of_a_large_request_has_its_own_time(
    ends: tuple[Exchange, socket.socket], idle: IdleConnections, mock_clock: MockClock
) -> None:
    exchange, theirs = ends
    sent = message(BODY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.run_to_head, sent)
        await wait_all_tasks_blocked()
        assert exchange.reached() is Reached.UNKNOWN
        got = b""
        for _ in range(10):
            mock_clock.jump(20.0)
            got += await drained(theirs, 2 * PART_BYTES)
            await wait_all_tasks_blocked()
        got += await drained(theirs, len(sent.head + sent.body) - len(got))
        theirs.send(ANSWER)
    assert got == sent.head + sent.body
    assert exchange.status == 200
    assert (idle.out, len(idle)) == (0, 1)


async def test_a_part_that_nobody_takes_is_a_write_timeout(
    ends: tuple[Exchange, socket.socket], idle: IdleConnections, mock_clock: MockClock
) -> None:
    exchange, theirs = ends

    async def send() -> None:
        with pytest.raises(httpx.WriteTimeout):
            await exchange.run_to_head(message(BODY))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        mock_clock.jump(20.0)
        await drained(theirs, 2 * PART_BYTES)
        await wait_all_tasks_blocked()
        mock_clock.jump(31.0)
    assert exchange.reached() is Reached.UNKNOWN
    assert (idle.out, len(idle)) == (0, 0)


async def test_an_early_answer_ends_the_sending(
    ends: tuple[Exchange, socket.socket], idle: IdleConnections
) -> None:
    exchange, theirs = ends
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.run_to_head, message(BODY))
        await wait_all_tasks_blocked()
        theirs.send(ANSWER)
    assert (exchange.status, exchange.reached()) == (200, Reached.UNKNOWN)
    assert await exchange.receive() == b"hi"
    assert (idle.out, len(idle)) == (0, 0)


async def test_a_cancel_while_an_early_answer_comes_closes_the_connection(
    ends: tuple[Exchange, socket.socket], idle: IdleConnections
) -> None:
    exchange, theirs = ends
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.run_to_head, message(BODY))
        await wait_all_tasks_blocked()
        theirs.send(ANSWER[:-1])
        nursery.cancel_scope.cancel()
    assert (idle.out, len(idle)) == (0, 0)
    assert not exchange.connection.is_open
