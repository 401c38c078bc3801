"""Pumped turns whose source, client and pump do whatever they may, drawn from a seed."""

from __future__ import annotations

import contextlib
import random
import re
import select
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio
import trio.testing

from tests.fakes.piped import PipedAttempt, PipedClient
from tests.fakes.turn_scripts import COMPLETED, CREATED, ITEM, TEXT
from tests.fakes.virtual_time import in_virtual_time
from tests.relay.test_pump import (
    ALIVE,
    BUDGETS,
    SMALL_BYTES,
    OneTurn,
    station,
    terminal_events,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.relay.test_pump import Station

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="there is no epoll")

#: Nothing here lasts as long as any of them.
PATIENT: Final = attrs.evolve(BUDGETS, first_event_s=1e6, silence_s=1e5, turn_s=1e7)
#: From upstream's last word to the end of the turn: the client reads every few seconds.
PROMPTLY_S: Final = 300.0
END: Final = b"\0"


@attrs.define(eq=False)
class Whimsical(PipedAttempt):
    """Ends at a mark or with its connection, and leaves things to `receive` now and then."""

    luck: random.Random = attrs.field(factory=random.Random)

    @property
    def source(self) -> Whimsical | None:  # type: ignore[override]
        return None if self.luck.random() < 0.1 else self

    def receive_now(self) -> bytes | None:
        if self.luck.random() < 0.1 and not self.is_over:
            return None
        return self._received_now()

    def _received_now(self) -> bytes | None:
        block = PipedAttempt.receive_now(self)
        if block and block.endswith(END):
            self._end = b""
            return block.removesuffix(END) or None
        return block

    async def receive(self) -> bytes | trio.Event:  # type: ignore[override]
        while True:
            await trio.lowlevel.checkpoint()
            block = self._received_now()
            if block is None:
                assert self._end is not None
                return self._end  # type: ignore[return-value]
            if block:
                return block
            await trio.lowlevel.wait_readable(self.near)


@attrs.define(eq=False)
class Sluggish(PipedClient):
    """Keeps a part of what it is given, now and then."""

    luck: random.Random = attrs.field(factory=random.Random)

    @property
    def is_free(self) -> bool:
        return self.luck.random() >= 0.1 and super().is_free

    def send_now(self, data: bytes) -> bool:
        assert super().is_free
        if self.luck.random() >= 0.2:
            self.kept = data
            self._push()
            return not self.kept
        went = self.luck.randrange(len(data))
        self.kept = data[:went]
        self._push()
        self.kept += data[went:]
        return False


def drawn_answer(luck: random.Random) -> list[bytes]:
    """Return the events behind the first output."""
    sizes = (0, 1, 30, 3000, 9000)
    events = [text(n, luck.choice(sizes)) for n in range(luck.randrange(12))]
    return [*events, ITEM] if luck.random() < 0.5 else events


async def say(one: OneTurn, said: bytes, luck: random.Random) -> float:
    """Send the answer in pieces, and return when its last one was."""
    while said:
        piece = said[: luck.choice((1, 7, 200, 5000, 60000))]
        try:
            said = said[one.upstream.send(piece) :]
        except BlockingIOError:
            await trio.sleep(0.1)
        if luck.random() < 0.3:
            await trio.sleep(luck.choice((0.0, 0.1, 20.0, 90.0)))
        elif luck.random() < 0.3:
            await trio.testing.wait_all_tasks_blocked()
    return trio.current_time()


async def listen(one: OneTurn, luck: random.Random) -> None:
    while True:
        await trio.sleep(luck.choice((0.1, 0.5, 0.5, 3.0)))
        one.read()


@attrs.frozen
class Drawn:
    """A turn, and what upstream says to it."""

    one: OneTurn
    whole: bytes
    ends_well: bool
    is_kept: bool
    #: Of an event that never comes whole.
    cut: bytes

    async def say(self, luck: random.Random) -> float:
        """Say all of it, and return when that was over."""
        over_at_s = await say(self.one, self.whole + self.cut + END * self.is_kept, luck)
        if not self.is_kept:
            self.one.upstream.close()
        return over_at_s


def begin(it: Station, luck: random.Random) -> Drawn:
    """Begin a turn whose client reads, and which may lose its pump."""
    one = it.turn(buffer_bytes=luck.choice((SMALL_BYTES, None)))
    one.attempt = Whimsical(
        one.attempt.near, one.attempt.far, luck.choice((5, 4096, 65536)), luck=luck
    )
    one.client = Sluggish(one.client.near, one.client.far, luck=luck)
    ends_well = luck.random() < 0.6
    drawn = Drawn(
        one,
        b"".join([CREATED, TEXT, *drawn_answer(luck), COMPLETED if ends_well else b""]),
        ends_well,
        is_kept=luck.random() < 0.6,
        cut=b"" if ends_well or luck.random() < 0.5 else TEXT[: luck.randrange(len(TEXT))],
    )
    it.nursery.start_soon(it.play, one)
    it.nursery.start_soon(listen, one, luck)
    if luck.random() < 0.3:
        it.nursery.start_soon(after, luck.uniform(0, 300), it.pumping.cancel)
    return drawn


async def after(seconds: float, act: Callable[[], object]) -> None:
    await trio.sleep(seconds)
    act()


def is_whole_events(heard: bytes) -> bool:
    return bool(re.fullmatch(rb"(?:: keep-alive\n\n|event: [^\n]*\ndata: [^\n]*\n\n)*", heard))


@pytest.mark.parametrize("seed", range(25))
@in_virtual_time
async def test_whatever_a_pumped_turn_meets_its_client_gets_all_of_it_once(seed: int) -> None:
    luck = random.Random(seed)
    async with station(budgets=PATIENT, keep_alive_s=15) as it:
        drawn = begin(it, luck)
        one, whole = drawn.one, drawn.whole
        over_at_s = await drawn.say(luck)
        while one.ending is None:
            await trio.sleep(1)
            assert trio.current_time() < over_at_s + PROMPTLY_S, "it sleeps"
        told = one.read().replace(ALIVE, b"")
        assert is_whole_events(one.heard)
        if drawn.ends_well:
            assert told == whole
        else:
            assert told.startswith(whole + b"event: response.failed\n")
            assert terminal_events(told) == [b"response.failed"]
        assert one.client.ended
        assert it.is_at_rest


@pytest.mark.parametrize("seed", range(25))
@in_virtual_time
async def test_whatever_ends_a_pumped_turn_before_its_time_is_told_once(seed: int) -> None:
    """A stop, a budget, or a client that leaves; the client gets a true beginning."""
    luck = random.Random(seed)
    budgets = attrs.evolve(PATIENT, silence_s=luck.choice((20.0, 90.0, 1e5)))
    async with station(budgets=budgets, keep_alive_s=luck.choice((15, 20))) as it:
        drawn = begin(it, luck)
        one, at_s = drawn.one, luck.uniform(0, 200)
        leaves = luck.random() < 0.3
        it.nursery.start_soon(after, at_s, one.scope.cancel if leaves else it.relay.active.stop)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await drawn.say(luck)
        await trio.sleep(at_s + PROMPTLY_S)
        told = one.read().replace(ALIVE, b"")
        assert it.is_at_rest
        if one.ending is None:
            assert leaves
            cut = (ALIVE[:at] for at in range(len(ALIVE)))
            assert any(drawn.whole.startswith(told.removesuffix(comment)) for comment in cut)
        elif one.client.status == 200:
            before, _, _ = told.partition(b"event: response.failed\n")
            assert is_whole_events(one.heard)
            assert drawn.whole.startswith(before)
            assert len(terminal_events(told)) == 1
            assert one.client.ended
