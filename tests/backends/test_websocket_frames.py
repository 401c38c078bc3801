"""WebSockets on real sockets: what passes on an open one, and how it ends."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from codexrelay.backends.transports.dialling import Dialler
from codexrelay.backends.transports.websocket import TrioFrames, WebSocketDial
from codexrelay.backends.transports.wire import MAX_WAITING_BYTES
from codexrelay.backends.websocket import Closed, Handshake, Opened
from tests.fakes.scripted_server import serving
from tests.fakes.websocket_server import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Peer,
    accepting,
    close_frame,
    echo,
    frame,
    silent,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio.testing import MockClock

MEBIBYTE: Final = 2**20


@asynccontextmanager
async def talking(
    script: Callable[[Peer], Awaitable[None]], *, max_message_bytes: int = 64 * MEBIBYTE
) -> AsyncIterator[TrioFrames]:
    """Open a WebSocket to a server that follows the script."""
    async with serving(accepting(script)) as server:
        dial = WebSocketDial(Dialler(), max_message_bytes=max_message_bytes)
        asked = Handshake(url=httpx.URL(server.url), headers=(), within_s=20)
        async with dial(asked) as result:
            assert isinstance(result, Opened)
            assert isinstance(result.frames, TrioFrames)
            yield result.frames


async def end_of(frames: TrioFrames) -> tuple[int, str]:
    """Receive to the end; return its code and reason."""
    with pytest.raises(Closed) as caught:
        await receive_all(frames)
    assert frames.closed is not None
    assert (frames.closed.code, frames.closed.reason) == (caught.value.code, caught.value.reason)
    return caught.value.code, caught.value.reason


async def receive_all(frames: TrioFrames) -> None:
    while True:
        await frames.receive()


async def test_a_burst_comes_in_order() -> None:
    sent = [f"event {n}" for n in range(5000)]

    async def script(peer: Peer) -> None:
        await peer.send(b"".join(frame(text.encode()) for text in sent))
        await peer.left()

    with trio.fail_after(20):
        async with talking(script) as frames:
            received = []
            while len(received) < len(sent):
                received += [await frames.receive(), *frames.ready()]
    assert received == sent


async def test_a_message_in_pieces_with_a_ping_between_them_is_one() -> None:
    got = []

    async def script(peer: Peer) -> None:
        await peer.send(frame(b"o", ends=False) + frame(b"p", PING) + frame(b"ne", 0))
        got.append(await peer.next())
        await peer.left()

    with trio.fail_after(20):
        async with talking(script) as frames:
            assert await frames.receive() == "one"
            await wait_all_tasks_blocked(0.01)
    assert got == [(PONG, b"p")]


async def test_cancelling_a_receive_loses_nothing() -> None:
    go_on = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.send(frame(b"half a message")[:7])
        await go_on.wait()
        await peer.send(frame(b"half a message")[7:])
        await peer.left()

    with trio.fail_after(20):
        async with talking(script) as frames:
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(frames.receive)
                    await wait_all_tasks_blocked(0.01)
                    nursery.cancel_scope.cancel()
            go_on.set()
            assert await frames.receive() == "half a message"


async def test_one_task_at_a_time_receives() -> None:
    async with talking(silent) as frames, trio.open_nursery() as nursery:
        nursery.start_soon(frames.receive)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await frames.receive()
        nursery.cancel_scope.cancel()


async def test_receiving_and_sending_go_on_at_the_same_time() -> None:
    async def script(peer: Peer) -> None:
        kind, payload = await peer.next()
        await peer.send(frame(payload, kind))
        await peer.left()

    got = []
    with trio.fail_after(20):
        async with talking(script) as frames, trio.open_nursery() as nursery:

            async def receive() -> None:
                got.append(await frames.receive())

            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            await frames.send("x" * 5_000_000)
    assert got == ["x" * 5_000_000]


# Pings. The clock jumps whenever everybody waits, hence nobody really does.


async def test_pings_are_answered_while_nobody_receives(autojump_clock: MockClock) -> None:
    got = []

    async def script(peer: Peer) -> None:
        await peer.send(frame(b"a message"))
        for n in range(3):
            await trio.sleep(100)
            await peer.send(frame(b"%d" % n, PING))
            got.append(await peer.next())
        await peer.send(frame(b"another"))
        await peer.left()

    async with talking(script) as frames:
        await trio.sleep(1000)
        assert got == [(PONG, b"0"), (PONG, b"1"), (PONG, b"2")]
        assert [await frames.receive(), await frames.receive()] == ["a message", "another"]


async def test_pings_are_answered_between_two_messages_and_while_one_waits(
    autojump_clock: MockClock,
) -> None:
    answered_after_s = []

    async def script(peer: Peer) -> None:
        for pause_s in (0.1, 0.1, 5.0, 0.1):
            await peer.send(frame(b"event"))
            await trio.sleep(pause_s)
            began_at_s = trio.current_time()
            await peer.send(frame(b"p", PING))
            assert await peer.next() == (PONG, b"p")
            answered_after_s.append(trio.current_time() - began_at_s)
        await peer.left()

    async with talking(script) as frames:
        for _ in range(4):
            assert await frames.receive() == "event"
            await trio.sleep(0.05)
        await trio.sleep(20)
    assert len(answered_after_s) == 4
    assert max(answered_after_s) <= 2.0


async def test_a_close_is_noticed_while_nobody_receives(autojump_clock: MockClock) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(frame(b"last") + close_frame(1011, "keepalive ping timeout"))
        assert await peer.next() == (CLOSE, b"\x03\xf3keepalive ping timeout")

    async with talking(script) as frames:
        await trio.sleep(10)
        assert frames.closed is not None
        assert frames.closed.code == 1011
        assert await frames.receive() == "last"
        assert await end_of(frames) == (1011, "keepalive ping timeout")


async def test_what_has_come_is_seen_at_once_by_whoever_asks_whether_it_is_closed() -> None:
    told, got = trio.Event(), []

    async def script(peer: Peer) -> None:
        await peer.send(frame(b"p", PING))
        await told.wait()
        await peer.send(frame(b"unasked") + close_frame(1000, "bye"))
        got.extend([await peer.next(), await peer.next()])

    with trio.fail_after(20):
        async with talking(script) as frames:
            assert frames.closed is None
            told.set()
            while frames.closed is None:
                await trio.lowlevel.checkpoint()
            assert (frames.closed.code, frames.closed.reason) == (1000, "bye")
            assert frames.ready() == ["unasked"]
            await wait_all_tasks_blocked(0.01)
    assert got == [(PONG, b"p"), (CLOSE, b"\x03\xe8bye")]


async def test_and_an_end_without_a_word_too() -> None:
    with trio.fail_after(20):
        async with talking(ending) as frames:
            while frames.closed is None:
                await trio.lowlevel.checkpoint()
                assert frames.ready() in ([], (), ["one"])
            assert frames.closed.code == 1006


async def test_a_ping_waits_for_its_answer_with_and_without_a_receiver() -> None:
    with trio.fail_after(20):
        async with talking(echo) as frames:
            await frames.ping()
            await frames.ping()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(frames.receive)
                await wait_all_tasks_blocked()
                await frames.ping()
                nursery.cancel_scope.cancel()
            await frames.ping()


async def test_a_half_open_connection_answers_no_ping(autojump_clock: MockClock) -> None:
    async with talking(silent) as frames:
        with trio.move_on_after(20) as limit:
            await frames.ping()
        assert limit.cancelled_caught
        assert frames.closed is None
        await frames.aclose()
        assert (await end_of(frames))[0] == 1006


@pytest.mark.parametrize("receiving", [False, True])
async def test_a_ping_ends_when_the_connection_does(receiving: bool) -> None:
    async def script(peer: Peer) -> None:
        assert (await peer.next())[0] == PING

    with trio.fail_after(20):
        async with talking(script) as frames, trio.open_nursery() as nursery:
            if receiving:
                nursery.start_soon(end_of, frames)
            with pytest.raises(Closed) as caught:
                await frames.ping()
            assert caught.value.code == 1006


# How it ends.


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (close_frame(1000), (1000, "")),
        (close_frame(1009, "message too big"), (1009, "message too big")),
        (close_frame(4321, "mine"), (4321, "mine")),
        (frame(b"", CLOSE), (1005, "")),
    ],
)
async def test_a_close_frame_is_answered_and_told_behind_the_messages(
    last: bytes, told: tuple[int, str]
) -> None:
    got = []

    async def script(peer: Peer) -> None:
        await peer.send(frame(b"one") + frame(b"two") + last)
        got.append((await peer.next())[0])

    with trio.fail_after(20):
        async with talking(script) as frames:
            assert await frames.receive() == "one"
            assert frames.ready() == ["two"]
            assert await end_of(frames) == told
            await wait_all_tasks_blocked(0.01)
            with pytest.raises(Closed):
                await frames.send("more")
            with pytest.raises(Closed):
                await frames.ping()
            await frames.close()
            assert frames.closed is not None
            assert frames.closed.code == told[0]
    assert got == [CLOSE]


async def ending(peer: Peer) -> None:
    await peer.send(frame(b"one"))


async def resetting(peer: Peer) -> None:
    await peer.send(frame(b"one"))
    await peer.next()
    peer.caller.reset()


async def cut_off(peer: Peer) -> None:
    await peer.send(frame(b"one") + frame(b"two")[:-1])


@pytest.mark.parametrize("script", [ending, resetting, cut_off])
async def test_an_end_without_a_close_frame_is_1006(
    script: Callable[[Peer], Awaitable[None]],
) -> None:
    with trio.fail_after(20):
        async with talking(script) as frames:
            assert await frames.receive() == "one"
            if script is resetting:
                await frames.send("now")
            code, reason = await end_of(frames)
    assert code == 1006
    assert reason


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (frame(b"x" * 1001), 1009),
        (frame(b"a\xff"), 1007),
        (frame(b"a\xff", 0), 1002),
        (b"\x81\x85xxxxhello", 1002),
    ],
    ids=["too big", "no UTF-8", "a continuation of nothing", "masked"],
)
async def test_a_mistake_is_told_to_the_server_and_closes(stream: bytes, code: int) -> None:
    got = []

    async def script(peer: Peer) -> None:
        await peer.send(frame(b"before") + stream)
        got.append(await peer.next())

    with trio.fail_after(20):
        async with talking(script, max_message_bytes=1000) as frames:
            assert await frames.receive() == "before"
            assert (await end_of(frames))[0] == code
            await wait_all_tasks_blocked(0.01)
    [(kind, payload)] = got
    assert (kind, int.from_bytes(payload[:2])) == (CLOSE, code)


async def test_a_binary_message_is_bytes() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(frame(b"\x00\xff", BINARY))
        await peer.left()

    with trio.fail_after(20):
        async with talking(script) as frames:
            assert await frames.receive() == b"\x00\xff"


async def test_closing_says_so_and_waits_for_the_answer() -> None:
    got = []

    async def script(peer: Peer) -> None:
        await peer.send(frame(b"unread"))
        got.append(await peer.next())
        await peer.send(close_frame(1000, "bye"))

    with trio.fail_after(20):
        async with talking(script) as frames:
            await frames.close(1000, "bye")
            assert frames.closed is not None
            assert (frames.closed.code, frames.closed.reason) == (1000, "bye")
            await frames.close()
            await frames.aclose()
    assert got == [(CLOSE, b"\x03\xe8bye")]


async def test_a_peer_that_does_not_answer_a_close_frame_is_left(
    autojump_clock: MockClock,
) -> None:
    async with talking(silent) as frames:
        began_at_s = trio.current_time()
        await frames.close()
        assert trio.current_time() - began_at_s == pytest.approx(2.0)
        assert (await end_of(frames))[0] == 1000


async def test_dropping_wakes_whoever_receives() -> None:
    with trio.fail_after(20):
        async with talking(silent) as frames, trio.open_nursery() as nursery:
            nursery.start_soon(end_of, frames)
            await wait_all_tasks_blocked()
            await frames.aclose()


# Sending.


async def test_a_peer_that_wants_no_more_of_a_message_says_why(
    autojump_clock: MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.caller._exactly(1000)
        await peer.send(close_frame(1009, "too big"))
        await trio.sleep_forever()

    async with talking(script) as frames:
        with pytest.raises(Closed) as caught:
            await frames.send("x" * 16 * MEBIBYTE)
        assert (caught.value.code, caught.value.reason) == (1009, "too big")


async def test_and_is_heard_also_if_it_resets_at_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.caller._exactly(1000)
        await peer.send(close_frame(1009, "too big"))

    with trio.fail_after(20):
        async with talking(script) as frames:
            with pytest.raises(Closed) as caught:
                await frames.send("x" * 16 * MEBIBYTE)
    if os.name == "posix":  # elsewhere a reset may take with it what came before
        assert caught.value.code == 1009


async def test_no_pong_lands_inside_a_message(autojump_clock: MockClock) -> None:
    message = "x" * 16 * MEBIBYTE
    got = []

    async def script(peer: Peer) -> None:
        await trio.sleep(1)  # the message fills the socket
        await peer.send(frame(b"p", PING))
        await trio.sleep(10)  # the ping is read
        got.extend([await peer.next(), await peer.next()])
        await peer.left()

    async with talking(script) as frames:
        await frames.send(message)
        await trio.sleep(20)
    assert [(kind, len(payload)) for kind, payload in got] == [(TEXT, len(message)), (PONG, 1)]
    assert got[0][1] == message.encode()


async def test_who_is_cancelled_before_a_message_goes_out_sends_none_of_it() -> None:
    got = []

    async def script(peer: Peer) -> None:
        got.append(await peer.next())
        await peer.send(frame(b"heard"))
        await peer.left()

    with trio.fail_after(20):
        async with talking(script) as frames:
            with trio.CancelScope() as scope:
                scope.cancel()
                await frames.send("not wanted any more")
            await frames.send("wanted")
            assert await frames.receive() == "heard"
    assert got == [(TEXT, b"wanted")]


async def test_a_message_sent_in_part_drops_the_connection() -> None:
    with trio.fail_after(20):
        async with talking(silent) as frames:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(frames.send, "x" * 16 * MEBIBYTE)
                await wait_all_tasks_blocked(0.01)
                nursery.cancel_scope.cancel()
            assert await end_of(frames) == (1006, "a message was sent in part")


# Back-pressure.


async def test_who_does_not_receive_stops_the_sender(autojump_clock: MockClock) -> None:
    sent = 0
    total = 32

    async def script(peer: Peer) -> None:
        nonlocal sent
        for _ in range(total):
            await peer.send(frame(b"x" * MEBIBYTE))
            sent += 1
        await peer.left()

    async with talking(script) as frames:
        await trio.sleep(3600)
        stopped_at = sent
        # What waits, what is under way, and what the buffers of both kernels hold.
        assert MAX_WAITING_BYTES // MEBIBYTE <= stopped_at <= 20
        assert sum(map(len, frames.ready())) <= 4 * MEBIBYTE
        await trio.sleep(3600)
        assert stopped_at < sent < total


async def test_a_receiver_alone_reads_no_more_than_it_wants() -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        for _ in range(64):
            await peer.send(frame(b"x" * MEBIBYTE))
            sent += 1
        await peer.left()

    with trio.fail_after(20):
        async with talking(script) as frames:
            await frames.receive()
            await wait_all_tasks_blocked(0.01)
            assert sent <= 20
