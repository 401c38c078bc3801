"""What a client has sent and nobody has parsed yet."""

from __future__ import annotations

import trio
import trio.testing

from codexrelay.server.inbox import Inbox


async def test_what_was_added_is_taken_once_and_whole() -> None:
    inbox = Inbox(100)
    inbox.add(b"ab")
    inbox.add(b"c")
    assert await inbox.take() == b"abc"
    inbox.add(b"d")
    assert await inbox.take() == b"d"


async def test_taking_waits_until_there_is_something() -> None:
    inbox, taken = Inbox(100), []

    async def take() -> None:
        taken.append(await inbox.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        assert taken == []
        inbox.add(b"a")
    assert taken == [b"a"]


async def test_a_full_inbox_has_room_again_when_it_was_taken() -> None:
    inbox, had_room = Inbox(3), trio.Event()

    async def wait() -> None:
        await inbox.until_room()
        had_room.set()

    inbox.add(b"abc")
    assert inbox.is_full
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not had_room.is_set()
        assert await inbox.take() == b"abc"
    assert had_room.is_set()


async def test_closing_drops_everything_and_ends_every_wait() -> None:
    full, empty = Inbox(3), Inbox(3)
    full.add(b"abc")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(full.until_room)
        nursery.start_soon(empty.take)
        await trio.testing.wait_all_tasks_blocked()
        full.close()
        empty.close()
    for inbox in (full, empty):
        inbox.add(b"late")
        assert not inbox.is_full
        assert await inbox.take() == b""
