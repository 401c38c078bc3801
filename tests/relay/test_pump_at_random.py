"""Pumped turns whose source, client and pump do whatever they may, drawn from a seed."""

from __future__ import annotations

import random
import re
import select
from typing import Final

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

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="there is no epoll")

#: Nothing here lasts as long as any of them.
PATIENT: Final = attrs.evolve(BUDGETS, first_event_s=1e6, silence_s=1e5, turn_s=1e7)
#: From upstream's last word to the end of the turn: the client reads twice a second.
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
        await trio.sleep(luck.choice((0.1, 0.5, 0.5, 25.0)) if luck.random() < 0.5 else 0.5)
        one.read()


@pytest.mark.parametrize("seed", range(60))
@in_virtual_time
async def test_whatever_a_pumped_turn_meets_its_client_gets_all_of_it_once(seed: int) -> None:
    luck = random.Random(seed)
    async with station(budgets=PATIENT, keep_alive_s=15) as it:
        one = it.turn(buffer_bytes=luck.choice((SMALL_BYTES, None)))
        one.attempt = Whimsical(
            one.attempt.near, one.attempt.far, luck.choice((5, 4096, 65536)), luck=luck
        )
        one.client = Sluggish(one.client.near, one.client.far, luck=luck)
        events = drawn_answer(luck)
        ends_well, is_kept = luck.random() < 0.6, luck.random() < 0.6
        whole = b"".join([CREATED, TEXT, *events, COMPLETED if ends_well else b""])
        cut = b"" if ends_well else luck.choice((b"", TEXT[: luck.randrange(len(TEXT))]))
        it.nursery.start_soon(it.play, one)
        it.nursery.start_soon(listen, one, luck)

        async def end_the_pump() -> None:
            await trio.sleep(luck.uniform(0, 300))
            it.pumping.cancel()

        if luck.random() < 0.3:
            it.nursery.start_soon(end_the_pump)
        over_at_s = await say(one, whole + cut + (END if is_kept else b""), luck)
        if not is_kept:
            one.upstream.close()
        while one.ending is None:
            await trio.sleep(1)
            assert trio.current_time() < over_at_s + PROMPTLY_S, "it sleeps"
        one.read()
        told = one.heard.replace(ALIVE, b"")
        assert re.fullmatch(rb"(?:: keep-alive\n\n|event: [^\n]*\ndata: [^\n]*\n\n)*", one.heard)
        assert terminal_events(told) == [b"response.completed" if ends_well else b"response.failed"]
        assert told == whole if ends_well else told.startswith(whole + b"event: response.failed\n")
        assert one.client.ended
        assert it.is_at_rest
