"""The WebSockets of an instance: how long they live, and what ends them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
import trio.testing

from codexrelay.backends.codex.sockets import pool as pools
from codexrelay.backends.codex.sockets.connection import (
    CLOSE_S,
    MAX_AGE_S,
    MAX_IDLE_S,
    PING_EVERY_S,
    PONG_WITHIN_S,
)
from codexrelay.backends.codex.sockets.pool import Sockets, open_sockets
from codexrelay.backends.websocket import Closed, Handshake, Opened
from tests.fakes.sockets import FakeDial, Peer, as_dial
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codexrelay.backends.codex.sockets.connection import Connection
    from codexrelay.backends.websocket import Dial, Refused, Unreachable

MARK = ("bearer",)
HANDSHAKE = Handshake(url=httpx.URL("http://backend.test"), headers=(), within_s=5.0)
BLOCK = "backends.openai_codex"


async def silent(peer: Peer) -> None:
    await trio.lowlevel.checkpoint()


async def opened(sockets: Sockets, session: str = "s") -> Connection:
    connection = sockets.open("work", session, MARK, HANDSHAKE)
    await connection.dialled.wait()
    assert isinstance(connection.result, Opened)
    return connection


def give_back(sockets: Sockets, connection: Connection) -> None:
    connection.give_back(None, response_id=None)
    sockets.look()


@asynccontextmanager
async def pool(count: int = 1) -> AsyncIterator[tuple[Sockets, FakeDial]]:
    fake = FakeDial([silent] * count)
    async with open_sockets(as_dial(fake), block=BLOCK) as sockets:
        yield sockets, fake
    assert fake.open == 0


@in_virtual_time
async def test_a_connection_without_a_turn_is_closed_after_a_while() -> None:
    async with pool() as (sockets, fake):
        give_back(sockets, await opened(sockets))
        await trio.sleep(MAX_IDLE_S - 1)
        assert not fake.peers[0].left.is_set()
        await trio.sleep(2)
        assert (fake.peers[0].closed_by_relay, fake.open) == (1000, 0)
        assert sockets.warm("work", "s", MARK) is None


@in_virtual_time
async def test_an_old_connection_is_closed_but_never_in_a_turn() -> None:
    async with pool() as (sockets, fake):
        connection = await opened(sockets)
        await trio.sleep(MAX_AGE_S + 1)
        assert not fake.peers[0].left.is_set()
        give_back(sockets, connection)
        await fake.peers[0].left.wait()
        assert fake.peers[0].closed_by_relay == 1000


@in_virtual_time
async def test_a_connection_that_gets_old_without_a_turn_is_closed() -> None:
    async with pool() as (sockets, fake):
        connection = await opened(sockets)
        await trio.sleep(MAX_AGE_S - 10)
        give_back(sockets, connection)
        await fake.peers[0].left.wait()
        assert trio.current_time() == MAX_AGE_S


@in_virtual_time
async def test_no_turn_gets_a_connection_that_is_too_old() -> None:
    async with pool() as (sockets, _):
        connection = await opened(sockets)
        await trio.sleep(MAX_AGE_S)
        give_back(sockets, connection)
        assert sockets.warm("work", "s", MARK) is None


@in_virtual_time
async def test_a_connection_in_use_stays_young_as_often_as_it_is_used() -> None:
    async with pool() as (sockets, fake):
        connection = await opened(sockets)
        for _ in range(10):
            give_back(sockets, connection)
            await trio.sleep(MAX_IDLE_S - 1)
            assert sockets.warm("work", "s", MARK) is connection
            await connection.at_rest()
        assert len(fake.handshakes) == 1


@pytest.mark.parametrize("idle_s", [0.0, 1.0])
@in_virtual_time
async def test_what_came_unasked_is_not_the_next_turns(idle_s: float) -> None:
    async with pool() as (sockets, fake):
        connection = await opened(sockets)
        give_back(sockets, connection)
        await trio.sleep(idle_s)
        fake.peers[0].say("late", "later")
        assert sockets.warm("work", "s", MARK) is connection
        await connection.at_rest()
        fake.peers[0].say("mine")
        assert await connection.frames.receive() == "mine"


@in_virtual_time
async def test_what_comes_unasked_is_not_kept() -> None:
    async with pool() as (sockets, fake):
        give_back(sockets, await opened(sockets))
        fake.peers[0].say("late", "later")
        await trio.sleep(1)
        assert not fake.peers[0].outbox


@pytest.mark.parametrize("idle_s", [0.0, 1.0])
@in_virtual_time
async def test_no_turn_gets_a_connection_that_was_closed_while_idle(idle_s: float) -> None:
    async with pool() as (sockets, fake):
        connection = await opened(sockets)
        give_back(sockets, connection)
        await trio.sleep(idle_s)
        fake.peers[0].close()
        assert sockets.warm("work", "s", MARK) is None
        await connection.ended.wait()
        assert trio.current_time() <= idle_s


@in_virtual_time
async def test_a_connection_that_is_retired_while_idle_is_closed_at_once() -> None:
    async with pool() as (sockets, fake):
        connection = await opened(sockets)
        give_back(sockets, connection)
        connection.retire()
        await connection.ended.wait()
        assert (trio.current_time(), fake.peers[0].closed_by_relay) == (0, 1000)


@in_virtual_time
async def test_a_peer_is_pinged_also_while_a_turn_runs() -> None:
    async with pool() as (sockets, fake):
        connection = await opened(sockets)
        await trio.sleep(2 * PING_EVERY_S + 1)
        give_back(sockets, connection)
        await trio.sleep(PING_EVERY_S)
        assert fake.peers[0].pings == [PING_EVERY_S, 2 * PING_EVERY_S, 3 * PING_EVERY_S]


@in_virtual_time
async def test_a_connection_whose_peer_is_gone_is_dropped_while_idle() -> None:
    async with pool() as (sockets, fake):
        connection = await opened(sockets)
        fake.peers[0].answers_pings = False
        give_back(sockets, connection)
        await connection.ended.wait()
        assert trio.current_time() == PING_EVERY_S + PONG_WITHIN_S
        assert fake.peers[0].was_dropped


@in_virtual_time
async def test_a_turn_that_waits_for_a_peer_that_is_gone_sees_the_connection_broken() -> None:
    async with pool() as (sockets, fake):
        connection = await opened(sockets)
        fake.peers[0].answers_pings = False
        connection.is_waiting = True
        with pytest.raises(Closed):
            await connection.frames.receive()
        assert trio.current_time() == PING_EVERY_S + PONG_WITHIN_S
        connection.drop()
        await connection.ended.wait()


@pytest.mark.parametrize("why", ["its client is slow", "it sends", "something came"])
@in_virtual_time
async def test_a_missing_pong_is_no_sign_while_the_turn_is_busy(why: str) -> None:
    async with pool() as (sockets, fake):
        connection = await opened(sockets)
        fake.peers[0].answers_pings = False
        connection.is_waiting = why == "something came"
        connection.is_sending = why == "it sends"
        for _ in range(100):
            await trio.sleep(1)
            connection.heard += why == "something came"
        assert fake.peers[0].closed is None
        assert bool(fake.peers[0].pings) is (why != "it sends")
        connection.drop()


@in_virtual_time
async def test_only_so_many_connections_wait_for_a_turn() -> None:
    async with pool(pools.MAX_IDLE + 2) as (sockets, fake):
        for number in range(pools.MAX_IDLE + 1):
            give_back(sockets, await opened(sockets, f"s{number}"))
            await trio.sleep(0.1)
        await fake.peers[0].left.wait()
        assert sockets.idle == pools.MAX_IDLE
        # The one that has waited longest goes, not the one that was opened first.
        again = sockets.warm("work", "s1", MARK)
        assert again is not None
        await again.at_rest()
        give_back(sockets, again)
        give_back(sockets, await opened(sockets, "last"))
        await fake.peers[2].left.wait()
        assert not fake.peers[1].left.is_set()


@in_virtual_time
async def test_at_the_end_idle_connections_are_closed_with_a_word() -> None:
    fake = FakeDial([silent, silent])
    async with open_sockets(as_dial(fake), block=BLOCK) as sockets:
        give_back(sockets, await opened(sockets))
        await opened(sockets, "other")
    assert fake.open == 0
    assert fake.peers[0].closed_by_relay == 1000
    assert fake.peers[1].was_dropped
    assert trio.current_time() <= CLOSE_S


@in_virtual_time
async def test_an_end_is_not_kept_by_a_peer_that_does_not_close() -> None:
    fake = FakeDial([silent])
    async with open_sockets(as_dial(fake), block=BLOCK) as sockets:
        connection = await opened(sockets)
        fake.peers[0].answers_closes = False
        give_back(sockets, connection)
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == pytest.approx(CLOSE_S)
    assert fake.open == 0


def test_a_dial_that_fails_in_a_way_nobody_foresaw_ends_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @asynccontextmanager
    async def dial(_: Handshake) -> AsyncIterator[Opened | Refused | Unreachable]:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("a bug")
        yield

    async def main() -> None:
        seam: Dial = dial
        async with open_sockets(seam, block=BLOCK) as sockets:
            connection = sockets.open("work", "s", MARK, HANDSHAKE)
            await connection.dialled.wait()
            assert connection.result is None
            await connection.ended.wait()

    in_virtual_time(main)()
    assert "a bug" in capsys.readouterr().out
