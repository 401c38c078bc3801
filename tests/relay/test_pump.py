"""Streams carried by the pump, over real pairs of sockets, in virtual time."""

from __future__ import annotations

import contextlib
import math
import re
import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import attrs
import pytest
import trio
import trio.testing

from codexrelay.backends.backend import UpstreamRequest
from codexrelay.errors import EventTooLargeError
from codexrelay.protocol.responses_stream import ResponsesStream
from codexrelay.relay.active import ActiveTurns
from codexrelay.relay.budgets import Budgets
from codexrelay.relay.climb import Wish
from codexrelay.relay.dues import open_keeper
from codexrelay.relay.instances import Instance, Instances
from codexrelay.relay.leg import Leg
from codexrelay.relay.mover import BodyMover
from codexrelay.relay.pump import STREAMS_PER_TICK, Pump, PumpMover
from codexrelay.relay.reply import StreamedReply
from codexrelay.relay.turn import Ending, Relay, Turn, run_turn
from tests.fakes.piped import PipedAttempt, PipedClient, pair
from tests.fakes.turn_scripts import COMPLETED, CREATED, ITEM, NOW_UNIX_S, TEXT, event
from tests.fakes.upstream import FakeLender
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    import socket

    from codexrelay.accounts.account import Account
    from codexrelay.relay.leg import RequestFor
    from codexrelay.relay.mover import Mover, Stream

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="there is no epoll")

BUDGETS = Budgets(connect_s=5, headers_s=20, first_event_s=30, silence_s=40, turn_s=1000)
SMALL_BYTES = 4096
ALIVE = b": keep-alive\n\n"


def text(number: int, size: int = 2) -> bytes:
    return event("response.output_text.delta", delta="x" * size, sequence_number=number)


@attrs.define(eq=False)
class PipedBackend:
    waiting: list[PipedAttempt] = attrs.field(factory=list)

    @asynccontextmanager
    async def attempt(
        self, request: UpstreamRequest, _account: Account
    ) -> AsyncIterator[PipedAttempt]:
        # Turns that begin together get here in any order.
        attempt = next(one for one in self.waiting if _named(one) == request.body)
        self.waiting.remove(attempt)
        try:
            yield attempt
        finally:
            attempt.close()


@attrs.define(eq=False)
class OneTurn:
    attempt: PipedAttempt
    client: PipedClient
    answer: ResponsesStream
    ending: Ending | None = None
    task: trio.lowlevel.Task | None = None
    #: Of the turn, for a client that leaves.
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    heard: bytes = b""

    @property
    def upstream(self) -> socket.socket:
        return self.attempt.far

    def read(self) -> bytes:
        self.heard += self.client.read()
        return self.heard


@attrs.define(eq=False)
class Station:
    """A relay whose streams are pumped, as `cli.process` wires it."""

    relay: Relay
    pump: Pump
    backend: PipedBackend
    lender: FakeLender
    nursery: trio.Nursery
    #: Ends the pump alone.
    pumping: trio.CancelScope
    turns: list[OneTurn] = attrs.field(factory=list)

    def turn(self, *, buffer_bytes: int | None = None, block_bytes: int = 65536) -> OneTurn:
        near, far = pair()
        attempt = PipedAttempt(near, far, block_bytes)
        client = PipedClient(*pair(buffer_bytes))
        answer = ResponsesStream(now_unix_s=NOW_UNIX_S, model="m", created_unix_s=1)
        one = OneTurn(attempt, client, answer)
        self.turns.append(one)
        return one

    async def play(self, one: OneTurn) -> None:
        one.task = trio.lowlevel.current_task()
        self.backend.waiting.append(one.attempt)
        leg = Leg(
            request_for=_asking_for(one.attempt),
            wish=Wish(route=self.relay.instances.members, model="m"),
            reply=StreamedReply(one.answer),
            passed_on=lambda _: (),
            served=_served,
        )
        with one.scope:
            one.ending = await run_turn(Turn(leg=leg, request_id="r"), one.client, self.relay)

    async def begin(self, one: OneTurn) -> OneTurn:
        """Play a turn in the background, up to the middle of its stream."""
        self.nursery.start_soon(self.play, one)
        one.upstream.send(CREATED + TEXT)
        await trio.testing.wait_all_tasks_blocked()
        assert one.read() == CREATED + TEXT
        return one

    @property
    def is_at_rest(self) -> bool:
        unasked = self.backend.waiting
        closed = all(one.attempt.closed or one.attempt in unasked for one in self.turns)
        lent = (self.lender.lent, len(self.relay.active), len(self.pump))
        assert self.relay.keeper is not None
        return closed and lent == (0, 0, 0) and len(self.relay.keeper) == 0


def _named(attempt: PipedAttempt) -> bytes:
    return b"%d" % id(attempt)


def _asking_for(attempt: PipedAttempt) -> RequestFor:
    def request_for(_account_id: str, *, stripped: bool) -> UpstreamRequest:
        assert not stripped
        return UpstreamRequest(path="/responses", body=_named(attempt))

    return request_for


async def _served(_account_id: str, _turn_state: str | None) -> None:
    await trio.lowlevel.checkpoint()


@asynccontextmanager
async def station(
    *,
    budgets: Budgets = BUDGETS,
    keep_alive_s: float = math.inf,
    ready: Callable[[select.epoll], object] = lambda real: real,
) -> AsyncIterator[Station]:
    lender, backend = FakeLender(("a",)), PipedBackend()
    instance = Instance(lender=lender, backend=backend, budgets=budgets)  # type: ignore[arg-type] - fakes
    with select.epoll() as real:
        pump = Pump(ready(real))  # type: ignore[arg-type] - as told
        async with open_keeper() as keeper, trio.open_nursery() as nursery:
            pumping = trio.CancelScope()
            made = Station(
                relay=Relay(
                    instances=Instances((instance,)),
                    mover=PumpMover(pump),
                    active=ActiveTurns(),
                    keep_alive_s=keep_alive_s,
                    wall_clock=lambda: NOW_UNIX_S,
                    keeper=keeper,
                ),
                pump=pump,
                backend=backend,
                lender=lender,
                nursery=nursery,
                pumping=pumping,
            )

            async def run_pump() -> None:
                with pumping:
                    await pump.run()

            nursery.start_soon(run_pump)
            try:
                yield made
            finally:
                nursery.cancel_scope.cancel()
                for one in made.turns:
                    one.attempt.far.close()
                    one.attempt.near.close()
                    one.client.close()


def terminal_events(body: bytes) -> list[bytes]:
    return re.findall(rb"event: (response\.(?:completed|failed|incomplete)|error)\n", body)


async def quiet() -> None:
    await trio.testing.wait_all_tasks_blocked()


@attrs.define(eq=False)
class StepsOf(trio.abc.Instrument):
    """Counts the steps of one task."""

    task: trio.lowlevel.Task | None
    steps: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += task is self.task


# what is ordinary


@in_virtual_time
async def test_events_pass_one_by_one_and_wake_no_turn() -> None:
    async with station() as it:
        one = await it.begin(it.turn())
        counted = StepsOf(one.task)
        trio.lowlevel.add_instrument(counted)
        said = CREATED + TEXT
        for number in range(20):
            one.upstream.send(text(number))
            await quiet()
            said += text(number)
            assert one.read() == said
        trio.lowlevel.remove_instrument(counted)
        assert counted.steps == 0
        assert one.client.prompt_sends == 20
        one.upstream.send(COMPLETED)
        one.upstream.close()
        await quiet()
        assert one.ending is not None
        assert one.ending.fault is None
        assert one.read() == said + COMPLETED
        assert one.client.ended
        assert it.is_at_rest


@in_virtual_time
async def test_events_that_are_cut_anywhere_pass_whole() -> None:
    async with station() as it:
        one = await it.begin(it.turn(block_bytes=7))
        rest = text(1) + ITEM + COMPLETED
        for at in range(0, len(rest), 11):
            one.upstream.send(rest[at : at + 11])
            await quiet()
            assert re.fullmatch(rb"(event: .*\ndata: .*\n\n)*", one.read())
        one.upstream.close()
        await quiet()
        assert one.read() == CREATED + TEXT + rest
        assert it.is_at_rest


@in_virtual_time
async def test_what_was_there_before_the_stream_was_handed_over_is_not_forgotten() -> None:
    async with station() as it:
        one = it.turn(block_bytes=len(CREATED + TEXT))
        one.upstream.send(CREATED + TEXT + ITEM + COMPLETED)
        one.upstream.close()
        await it.play(one)
        assert one.read() == CREATED + TEXT + ITEM + COMPLETED


@in_virtual_time
async def test_a_stream_ends_with_its_terminal_event_where_upstream_leaves_its_body_open() -> None:
    async with station() as it:
        one = await it.begin(it.turn())
        one.upstream.send(ITEM + COMPLETED)
        await quiet()
        assert one.read() == CREATED + TEXT + ITEM + COMPLETED
        note = event("ping", cost="0")
        one.upstream.send(note)
        await trio.sleep(1)
        assert one.read() == CREATED + TEXT + ITEM + COMPLETED + note
        assert one.client.ended
        assert it.is_at_rest


@in_virtual_time
async def test_the_session_is_told_before_the_client_is() -> None:
    async with station() as it:
        seen: list[bytes] = []
        one = it.turn()

        async def served(_account: str, _state: str | None) -> None:
            await trio.lowlevel.checkpoint()
            seen.append(one.read())

        it.backend.waiting.append(one.attempt)
        leg = Leg(
            request_for=_asking_for(one.attempt),
            wish=Wish(route=it.relay.instances.members),
            reply=StreamedReply(one.answer),
            passed_on=lambda _: (),
            served=served,
        )
        it.nursery.start_soon(run_turn, Turn(leg=leg, request_id="r"), one.client, it.relay)
        one.upstream.send(CREATED + TEXT)
        await quiet()
        one.upstream.send(COMPLETED)
        await quiet()
        assert seen == [CREATED + TEXT]
        assert one.read() == CREATED + TEXT + COMPLETED


# what is not


@in_virtual_time
async def test_an_upstream_that_ends_early_gives_one_terminal_event() -> None:
    async with station() as it:
        one = await it.begin(it.turn())
        one.upstream.send(ITEM + TEXT[:9])
        one.upstream.close()
        await quiet()
        assert one.read().startswith(CREATED + TEXT + ITEM + b"event: response.failed\n")
        assert terminal_events(one.heard) == [b"response.failed"]
        assert one.client.ended
        assert it.is_at_rest


@in_virtual_time
async def test_an_answer_whose_last_block_says_that_it_is_over_is_not_waited_for() -> None:
    """The connection stays open, so the set has nothing to tell of it any more."""
    for last in (ITEM, TEXT[:9]):
        async with station() as it:
            one = it.turn()
            one.attempt = FramedAttempt(one.attempt.near, one.attempt.far)
            await it.begin(one)
            began_at_s = trio.current_time()
            one.upstream.send(last + FramedAttempt.END)
            await quiet()
            assert trio.current_time() == began_at_s
            assert terminal_events(one.read()) == [b"response.failed"]
            whole = ITEM if last == ITEM else b""
            assert one.heard.startswith(CREATED + TEXT + whole + b"event: response.failed\n")
            assert b"ended before its terminal event" in one.heard
            assert one.client.ended
            assert it.is_at_rest


@attrs.define(eq=False)
class FramedAttempt(PipedAttempt):
    """Its body says itself where it ends, as HTTP's chunks do."""

    END: ClassVar[bytes] = b"\0"

    def receive_now(self) -> bytes | None:
        block = PipedAttempt.receive_now(self)
        if block and block.endswith(self.END):
            self._end = b""
            return block[: -len(self.END)] or None
        return block


@in_virtual_time
async def test_an_error_in_one_stream_ends_that_stream_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_block: bytes) -> bytes:
        raise RuntimeError("a bug")

    async with station() as it:
        one, other = await it.begin(it.turn()), await it.begin(it.turn())
        answer = Failing(one.answer, fails)
        for carried in it.pump._carried.values():
            if carried.stream.answer is one.answer:
                carried.stream.answer = answer
        one.upstream.send(ITEM)
        other.upstream.send(ITEM)
        await quiet()
        assert terminal_events(one.read()) == [b"response.failed"]
        assert b"nobody foresaw" in one.heard
        assert other.read() == CREATED + TEXT + ITEM
        other.upstream.send(COMPLETED)
        other.upstream.close()
        await quiet()
        assert other.read() == CREATED + TEXT + ITEM + COMPLETED
        assert it.is_at_rest


@attrs.define(eq=False)
class Failing:
    """An answer with another `feed`."""

    answer: ResponsesStream
    feed: Callable[[bytes], bytes]

    def __getattr__(self, name: str) -> object:
        return getattr(self.answer, name)


@in_virtual_time
async def test_an_event_that_is_too_large_is_a_fault_as_it_is_without_the_pump() -> None:
    def too_large(_block: bytes) -> bytes:
        raise EventTooLargeError(limit_bytes=5)

    async with station() as it:
        one = await it.begin(it.turn())
        [carried] = it.pump._carried.values()
        carried.stream.answer = Failing(one.answer, too_large)
        one.upstream.send(ITEM)
        await quiet()
        assert terminal_events(one.read()) == [b"response.failed"]
        assert one.ending is not None
        assert one.ending.fault is not None
        assert one.ending.fault.status == 502
        assert it.is_at_rest


@in_virtual_time
async def test_a_slow_client_gets_every_byte_and_upstream_is_not_read_meanwhile() -> None:
    async with station() as it:
        one = await it.begin(it.turn(buffer_bytes=SMALL_BYTES, block_bytes=SMALL_BYTES))
        said = CREATED + TEXT
        for number in range(60):
            one.upstream.send(text(number, 1000))
            said += text(number, 1000)
        await quiet()
        # What the two sockets hold, and a block that the client could not take.
        assert one.attempt.received_bytes < 10 * SMALL_BYTES
        assert len(it.pump) == 0, "its own task waits for the client"
        while len(one.heard) < len(said):
            before = len(one.heard)
            one.read()
            await quiet()
            assert len(one.heard) > before
        assert one.heard == said
        assert len(it.pump) == 1, "and has given it back"
        one.upstream.send(COMPLETED)
        one.upstream.close()
        await quiet()
        assert one.read() == said + COMPLETED
        assert it.is_at_rest


@in_virtual_time
async def test_a_slow_client_is_no_silent_upstream() -> None:
    async with station() as it:
        one = await it.begin(it.turn(buffer_bytes=SMALL_BYTES, block_bytes=SMALL_BYTES))
        for number in range(60):
            one.upstream.send(text(number, 1000))
        await trio.sleep(10 * BUDGETS.silence_s)
        one.upstream.send(COMPLETED)
        one.upstream.close()
        while one.ending is None:
            one.read()
            await quiet()
        assert terminal_events(one.read()) == [b"response.completed"]


@in_virtual_time
async def test_a_stop_reaches_a_turn_whose_client_is_slow_and_nothing_is_said_twice() -> None:
    async with station() as it:
        one = await it.begin(it.turn(buffer_bytes=SMALL_BYTES, block_bytes=SMALL_BYTES))
        for number in range(60):
            one.upstream.send(text(number, 1000))
        await quiet()
        it.relay.active.stop()
        while one.ending is None:
            one.read()
            await quiet()
        events = one.read().split(b"\n\n")
        assert [e for e in events if b"delta" in e] == [
            e.rstrip(b"\n") for e in [TEXT, *(text(n, 1000) for n in range(len(events) - 4))]
        ]
        assert terminal_events(one.heard) == [b"response.failed"]
        assert it.is_at_rest


# time


@in_virtual_time
async def test_silence_is_counted_from_the_latest_event() -> None:
    async with station() as it:
        one = await it.begin(it.turn())
        for _ in range(5):
            await trio.sleep(BUDGETS.silence_s - 1)
            one.upstream.send(TEXT)
            await quiet()
        await trio.sleep(BUDGETS.silence_s - 0.1)
        assert one.ending is None
        await trio.sleep(0.2)
        assert one.ending is not None
        assert b"silence_s" in one.read()
        assert terminal_events(one.heard) == [b"response.failed"]
        assert it.is_at_rest


@in_virtual_time
async def test_an_event_in_the_very_moment_in_which_the_budget_runs_out_is_not_lost() -> None:
    async with station() as it:
        one = await it.begin(it.turn())
        await trio.sleep_until(trio.current_time() + BUDGETS.silence_s)
        one.upstream.send(ITEM)
        await trio.sleep(1)
        assert one.read().startswith(CREATED + TEXT)
        if one.ending is not None:
            assert terminal_events(one.heard) == [b"response.failed"]
        else:
            assert one.heard == CREATED + TEXT + ITEM


@in_virtual_time
async def test_a_silent_stream_shows_life_without_its_turn() -> None:
    async with station(keep_alive_s=15) as it:
        one = await it.begin(it.turn())
        counted = StepsOf(one.task)
        trio.lowlevel.add_instrument(counted)
        await trio.sleep(31)
        assert one.read() == CREATED + TEXT + 2 * ALIVE
        one.upstream.send(ITEM)
        await trio.sleep(14)
        assert one.read() == CREATED + TEXT + 2 * ALIVE + ITEM
        await trio.sleep(2)
        assert one.read() == CREATED + TEXT + 2 * ALIVE + ITEM + ALIVE
        trio.lowlevel.remove_instrument(counted)
        assert counted.steps == 0


@in_virtual_time
async def test_an_event_waits_for_a_comment_that_the_client_does_not_take() -> None:
    async with station(keep_alive_s=15) as it:
        one = await it.begin(it.turn(buffer_bytes=SMALL_BYTES))
        filler = b"x" * SMALL_BYTES
        filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += one.client.near.send(filler)
        await trio.sleep(35)  # the first comment is kept, the second one waits for it
        one.upstream.send(ITEM)
        await quiet()
        one.upstream.send(COMPLETED)
        one.upstream.close()
        while one.ending is None:
            one.read()
            await quiet()
        said = one.read().replace(b"x" * filled, b"")
        assert said.replace(ALIVE, b"") == CREATED + TEXT + ITEM + COMPLETED
        assert said.count(ALIVE) >= 1
        assert it.is_at_rest


@in_virtual_time
async def test_the_turns_budget_ends_a_stream_that_is_pumped() -> None:
    async with station() as it:
        one = await it.begin(it.turn())
        for _ in range(round(BUDGETS.turn_s) // 10):
            assert one.ending is None
            one.upstream.send(TEXT)
            await trio.sleep(10)
        await quiet()
        assert one.ending is not None
        assert b"turn_s" in one.read()
        assert terminal_events(one.heard) == [b"response.failed"]


# leaving


@in_virtual_time
async def test_a_client_that_leaves_frees_everything_at_once() -> None:
    async with station() as it:
        one, other = await it.begin(it.turn()), await it.begin(it.turn())
        one.scope.cancel()
        await quiet()
        assert one.attempt.closed
        assert len(it.pump) == 1
        other.upstream.send(COMPLETED)
        other.upstream.close()
        await quiet()
        assert other.read() == CREATED + TEXT + COMPLETED
        assert it.is_at_rest


@in_virtual_time
async def test_a_client_that_a_write_finds_gone_leaves_in_the_middle_of_the_tick() -> None:
    async with station() as it:
        one, other = await it.begin(it.turn()), await it.begin(it.turn())
        one.client.gone = one.scope.cancel
        one.client.far.close()
        one.upstream.send(ITEM + ITEM)
        other.upstream.send(ITEM)
        await quiet()
        assert one.attempt.closed
        assert one.ending is None
        assert other.read() == CREATED + TEXT + ITEM
        other.scope.cancel()
        await quiet()
        assert it.is_at_rest


@in_virtual_time
async def test_a_descriptor_that_is_given_out_again_belongs_to_the_new_stream() -> None:
    async with station() as it:
        numbers = []
        for _ in range(3):
            one = it.turn()
            numbers.append(one.attempt.fileno())
            await it.begin(one)
            one.upstream.send(ITEM)
            one.scope.cancel()
            await quiet()
            one.attempt.far.close()
            one.client.close()
        assert len(set(numbers)) < 3
        one = await it.begin(it.turn())
        one.upstream.send(COMPLETED)
        one.upstream.close()
        await quiet()
        assert one.read() == CREATED + TEXT + COMPLETED
        assert it.is_at_rest


def _played(step: int, end: Callable[[Station, OneTurn], None]) -> tuple[OneTurn, bool, bool]:
    """Play a pumped turn that meets `end` before the `step`-th task step."""
    seen: list[tuple[OneTurn, bool, bool]] = []

    class AtStep(trio.abc.Instrument):
        steps = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if "_played" not in task.name or "main" in task.name:  # neither `say` nor `listen`
                self.steps += 1
                if self.steps == step:
                    end(it, one)

    async def say(one: OneTurn) -> None:
        for block in (CREATED + TEXT, ITEM[:5], ITEM[5:], text(5), text(6, 9000), COMPLETED):
            await trio.sleep(16)
            with contextlib.suppress(BrokenPipeError):
                one.upstream.send(block)
        one.upstream.close()

    async def listen(one: OneTurn) -> None:
        while True:
            await trio.sleep(3.3)
            one.read()

    async def main() -> None:
        nonlocal it, one
        async with station(keep_alive_s=15) as it:
            one = it.turn(buffer_bytes=SMALL_BYTES)
            it.nursery.start_soon(say, one)
            it.nursery.start_soon(listen, one)
            instrument = AtStep()
            trio.lowlevel.add_instrument(instrument)
            await it.play(one)
            trio.lowlevel.remove_instrument(instrument)
            await trio.sleep(30)
            assert it.is_at_rest, step
            one.read()
            seen.append((one, instrument.steps >= step, one.client.ended))

    it: Station
    one: OneTurn
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return seen[0]


WHOLE = CREATED + TEXT + ITEM + text(5) + text(6, 9000) + COMPLETED


def test_a_pumped_turn_whose_client_leaves_at_any_step_leaves_nothing_behind() -> None:
    for step in range(1, 2000, 1):
        one, reached, _ = _played(step, lambda _, one: one.scope.cancel())
        assert WHOLE.startswith(one.heard.replace(ALIVE, b"")), step
        if not reached:
            assert one.heard.replace(ALIVE, b"") == WHOLE
            assert step > 25
            return
    pytest.fail("the turn never finished")


def _stop(it: Station, _one: OneTurn) -> None:
    it.relay.active.stop()


def _spend(it: Station, _one: OneTurn) -> None:
    for scope in it.relay.active._scopes:
        scope.deadline = -math.inf


def _end_the_pump(it: Station, _one: OneTurn) -> None:
    it.pumping.cancel()


@pytest.mark.parametrize("end", [_stop, _spend, _end_the_pump], ids=["stop", "budget", "pump"])
def test_whenever_a_pumped_turn_is_ended_its_client_gets_one_terminal_event(
    end: Callable[[Station, OneTurn], None],
) -> None:
    for step in range(1, 2000, 1):
        one, reached, ended = _played(step, end)
        assert ended, step
        if one.client.status == 200:
            told = one.heard.replace(ALIVE, b"")
            assert len(terminal_events(told)) == 1, step
            before, _, _ = told.partition(b"event: response.failed\n")
            assert WHOLE.startswith(before), step
            if end is _end_the_pump:
                assert told == WHOLE, step
        if not reached:
            assert step > 25
            return
    pytest.fail("the turn never finished")


# the pump itself


@in_virtual_time
async def test_a_burst_starves_nobody() -> None:
    async with station() as it:
        burst, paced = await it.begin(it.turn()), await it.begin(it.turn())
        ticks = 0

        class Endless(PipedAttempt):
            """Has always more to say."""

            def receive_now(self) -> bytes | None:
                nonlocal ticks
                ticks += 1
                if ticks == 5:
                    paced.upstream.send(ITEM)
                if ticks == 10:
                    self.far.close()
                return PipedAttempt.receive_now(self)

        for carried in it.pump._carried.values():
            if carried.source is burst.attempt:
                carried.source = Endless(burst.attempt.near, burst.attempt.far, block_bytes=8)
        burst.upstream.send(TEXT * 50)
        while ticks < 7:
            await trio.lowlevel.checkpoint()
        assert paced.read() == CREATED + TEXT + ITEM, "within two ticks"


@in_virtual_time
async def test_of_many_that_are_always_ready_none_is_left_out() -> None:
    class FewAtATime:
        """A set that reports no more than it was asked for; checks that it is asked so."""

        def __init__(self, real: select.epoll) -> None:
            self.real = real

        def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
            assert maxevents == STREAMS_PER_TICK
            return self.real.poll(timeout, 2)

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    async with station(ready=FewAtATime) as it:
        streams = [await it.begin(it.turn(block_bytes=len(TEXT))) for _ in range(7)]
        for one in streams:
            one.upstream.send(TEXT * 10)
        for _ in range(16):
            await trio.lowlevel.checkpoint()
        passed = [len(one.read()) for one in streams]
        assert max(passed) - min(passed) <= 2 * len(TEXT)
        await quiet()
        assert all(one.read() == CREATED + TEXT * 11 for one in streams)


@in_virtual_time
async def test_without_a_running_pump_streams_go_on() -> None:
    async with station() as it:
        one = await it.begin(it.turn())
        it.pumping.cancel()
        await quiet()
        one.upstream.send(ITEM)
        await quiet()
        assert one.read() == CREATED + TEXT + ITEM
        late = await it.begin(it.turn())
        for each in (one, late):
            each.upstream.send(COMPLETED)
            each.upstream.close()
        await quiet()
        assert one.read() == CREATED + TEXT + ITEM + COMPLETED
        assert late.read() == CREATED + TEXT + COMPLETED
        assert it.is_at_rest


@in_virtual_time
async def test_a_pump_that_crashes_gives_its_streams_back() -> None:
    class Broken:
        fails = False

        def __init__(self, real: select.epoll) -> None:
            self.real = real

        def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
            raise OSError("the set is gone")

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    with select.epoll() as real:
        pump = Pump(Broken(real))  # type: ignore[arg-type] - a fake
        async with station() as it:
            it.relay.mover = PumpMover(pump)
            with pytest.RaisesGroup(OSError):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pump.run)
                    await quiet()
                    one = await it.begin(it.turn())
                    assert len(pump) == 1
                    one.upstream.send(ITEM)
                    await quiet()
            assert len(pump) == 0
            one.upstream.send(COMPLETED)
            one.upstream.close()
            await quiet()
            assert one.read() == CREATED + TEXT + ITEM + COMPLETED


@in_virtual_time
async def test_a_stream_without_a_source_or_a_prompt_is_carried_by_its_own_task() -> None:
    async with station() as it:
        carried: list[Stream] = []

        class Watching(PumpMover):
            async def _next(self, stream: Stream) -> object:  # type: ignore[override]
                carried.append(stream)
                return await PumpMover._next(self, stream)

        it.relay.mover = Watching(it.pump)
        for attempt_has, client_has in ((False, True), (True, False)):
            one = it.turn()
            if not attempt_has:
                one.attempt = SourcelessAttempt(one.attempt.near, one.attempt.far)
            if not client_has:
                one.client = PromptlessClient(one.client.near, one.client.far)
            await it.begin(one)
            assert len(it.pump) == 0
            one.upstream.send(ITEM + COMPLETED)
            one.upstream.close()
            await quiet()
            assert one.read() == CREATED + TEXT + ITEM + COMPLETED
        assert len(carried) == 2


class SourcelessAttempt(PipedAttempt):
    @property
    def source(self) -> None:  # type: ignore[override]
        """Nothing."""


class PromptlessClient(PipedClient):
    @property
    def prompt(self) -> None:  # type: ignore[override]
        """Nothing."""


def test_the_pump_is_a_mover() -> None:
    movers: list[type[Mover]] = [PumpMover, BodyMover]
    assert movers
