from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from codexrelay.accounts.account import Account
from codexrelay.accounts.pool import Ask, Choice, Place, Pool
from codexrelay.accounts.standing import PassedOver, Why
from codexrelay.accounts.strategies import find_strategies
from codexrelay.accounts.strategies.strategy import StrategySettings
from codexrelay.accounts.waiting import LOOK_AGAIN_S, Granted, Patience, Queue
from codexrelay.protocol.faults import Fault, FaultKind
from tests.fakes.cancel_at_step import CancelAtStep
from tests.fakes.faults import a_fault
from tests.fakes.tokens import an_account
from tests.fakes.virtual_time import in_virtual_time
from tests.fakes.wall_clock import NOW_UNIX_S as NOW

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


PATIENT = Patience(pause_s=1000, limit_s=1000)


def wall_clock() -> float:
    return NOW + trio.current_time()


@attrs.define(eq=False)
class Line:
    """A pool, its queue, and account files that can change."""

    names: str = "a"
    cap: int | None = 1
    files: list[Account] = attrs.field(init=False)
    pool: Pool = attrs.field(init=False)
    queue: Queue = attrs.field(init=False)
    looks: int = 0
    _read: list[Account] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        selector = find_strategies()["first-available"].start(
            StrategySettings(
                session_affinity_ttl_s=0, session_affinity_max_entries=0, rng=random.Random(1)
            )
        )
        self.files = [an_account(name) for name in self.names]
        self.pool = Pool(selector, max_concurrent_turns=self.cap)
        self.pool.update(self.files, now_unix_s=NOW)
        self._read = list(self.files)
        self.queue = Queue(pool=self.pool, wall_clock=wall_clock, rescan=self.rescan)

    async def rescan(self) -> None:
        self.looks += 1
        await trio.lowlevel.checkpoint()
        if self.files != self._read:
            self._read = list(self.files)
            self.pool.update(self.files, now_unix_s=wall_clock())
            self.queue.look_again()

    def take(self, ask: Ask | None = None) -> Place:
        ask = ask or Ask()
        choice = self.pool.choose(ask, now_unix_s=wall_clock())
        return self.pool.take(choice, ask)

    def give_back(self, place: Place) -> None:
        self.pool.give_back(place)
        self.queue.serve()

    def report(self, place: Place, fault: Fault) -> None:
        now_unix_s = wall_clock()
        account = next(a for a in self.pool.accounts if a.id == place.account_id)
        self.pool.report(
            account, fault, model="gpt", leased_at_unix_s=now_unix_s, now_unix_s=now_unix_s
        )
        self.queue.look_again()

    @property
    def taken(self) -> int:
        return sum(self.pool.leases_of(account) for account in self.pool.accounts)


def limited(seconds: float) -> Fault:
    return a_fault(FaultKind.LIMITED, resets_at_unix_s=wall_clock() + seconds)


def throttled(seconds: float) -> Fault:
    return a_fault(FaultKind.THROTTLED, retry_after_s=seconds)


async def granted(line: Line, ask: Ask | None = None, patience: Patience = PATIENT) -> Granted:
    with trio.fail_after(5000):
        result = await line.queue.wait(ask or Ask(), patience)
    assert isinstance(result, Granted)
    return result


async def refused(line: Line, ask: Ask | None = None, patience: Patience = PATIENT) -> Choice:
    with trio.fail_after(5000):
        result = await line.queue.wait(ask or Ask(), patience)
    assert isinstance(result, Choice)
    assert result.account is None
    return result


async def settle() -> None:
    """Let everybody run as far as they can without time passing."""
    for _ in range(20):
        await trio.lowlevel.checkpoint()


# What is worth waiting for.


def passed(name: str, why: Why, ends_in_s: float | None = None) -> PassedOver:
    until = None if ends_in_s is None else NOW + ends_in_s
    return PassedOver(account=an_account(name), why=why, until_unix_s=until)


@pytest.mark.parametrize(
    ("passed_over", "patience", "allowed"),
    [
        pytest.param([], PATIENT, False, id="there is no account"),
        pytest.param([passed("a", Why.BUSY)], Patience(), True, id="a turn ends some time"),
        pytest.param([passed("x", Why.BUSY)], PATIENT, False, id="busy, but it was tried"),
        pytest.param([passed("a", Why.PAUSED, 9)], Patience(), False, id="no patience"),
        pytest.param([passed("a", Why.PAUSED, 9)], Patience(pause_s=9), True, id="pause"),
        pytest.param([passed("a", Why.PAUSED, 9)], Patience(pause_s=8), False, id="long pause"),
        pytest.param([passed("a", Why.PAUSED, 9)], Patience(limit_s=99), False, id="not quota"),
        pytest.param(
            [passed("a", Why.PAUSED, 9)], Patience(pause_s=9, rested_s=1), False, id="used up"
        ),
        pytest.param([passed("a", Why.COOLING, 60)], Patience(limit_s=60), True, id="quota"),
        pytest.param([passed("a", Why.COOLING, 61)], Patience(limit_s=60), False, id="far reset"),
        pytest.param([passed("a", Why.COOLING, 9)], Patience(pause_s=99), False, id="not a pause"),
        pytest.param(
            [passed("x", Why.COOLING, 5)], PATIENT, False, id="its quota would come too late"
        ),
        pytest.param([passed("x", Why.PAUSED, 5)], PATIENT, False, id="it was given up"),
        pytest.param(
            [passed("a", Why.COOLING, 500), passed("b", Why.PAUSED, 9)],
            Patience(pause_s=9),
            True,
            id="one of them",
        ),
        pytest.param(
            [
                passed("a", Why.NEEDS_REAUTH),
                passed("b", Why.SET_ASIDE, 1),
                passed("c", Why.NO_MODEL, 1),
                passed("d", Why.RULED_OUT),
            ],
            PATIENT,
            False,
            id="nothing that waiting would help",
        ),
    ],
)
def test_a_turn_waits_for_what_ends_within_its_patience(
    passed_over: list[PassedOver], patience: Patience, allowed: bool
) -> None:
    choice = Choice(account=None, passed_over=tuple(passed_over))
    assert allowed is patience.allows(
        choice, rejected=frozenset({"x"}), rested_s=patience.rested_s, now_unix_s=NOW
    )


# Waiting.


@in_virtual_time
async def test_a_busy_account_is_waited_for_without_any_patience() -> None:
    line = Line()
    place = line.take()
    told: list[Choice] = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            late = await granted(line, patience=Patience(told=told.append))
            assert late.waited_s == trio.current_time() == 300
            line.give_back(late.place)

        await trio.sleep(300)
        line.give_back(place)
    assert [p.why for p in told[0].passed_over] == [Why.BUSY]
    assert len(told) == 1  # once, however often it has looked
    assert (line.taken, len(line.queue)) == (0, 0)


@in_virtual_time
async def test_nobody_is_told_of_a_wait_that_does_not_begin() -> None:
    line = Line()
    line.report(line.take(), limited(60))
    told: list[Choice] = []
    await refused(line, patience=Patience(told=told.append))
    assert told == []


@in_virtual_time
async def test_who_comes_when_an_account_is_free_has_not_waited() -> None:
    late = await granted(Line())
    assert late.waited_s == 0


@pytest.mark.parametrize(
    ("fault", "patience", "waits_s"),
    [
        (throttled, Patience(pause_s=20), 20),
        (throttled, Patience(pause_s=19), None),
        (throttled, Patience(pause_s=25, rested_s=6), None),
        (limited, Patience(limit_s=20), 20),
        (limited, Patience(limit_s=19), None),
        (limited, Patience(limit_s=0, pause_s=30), None),
    ],
)
@in_virtual_time
async def test_pauses_and_quota_are_waited_for_as_long_as_patience_says(
    fault: Callable[[float], Fault], patience: Patience, waits_s: float | None
) -> None:
    line = Line(cap=None)
    place = line.take()
    line.report(place, fault(20))
    line.give_back(place)
    if waits_s is None:
        await refused(line, patience=patience)
        assert trio.current_time() == 0
    else:
        late = await granted(line, patience=patience)
        assert late.waited_s == trio.current_time() == waits_s


@in_virtual_time
async def test_patience_is_counted_over_all_that_follows_one_upon_the_other() -> None:
    line = Line(cap=None)
    line.report(line.take(), throttled(20))
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            await refused(line, patience=Patience(pause_s=30))
            assert trio.current_time() == 19

        await trio.sleep(19)
        account = line.pool.accounts[0]
        line.pool.report(
            account, throttled(15), leased_at_unix_s=wall_clock(), now_unix_s=wall_clock()
        )
        line.queue.look_again()


@in_virtual_time
async def test_a_session_that_waits_leaves_the_strategys_order_alone() -> None:
    line = Line("abc", cap=1)
    line.pool._selector = find_strategies()["round-robin"].start(
        StrategySettings(
            session_affinity_ttl_s=0, session_affinity_max_entries=0, rng=random.Random(1)
        )
    )
    places = [line.take() for _ in "abc"]
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            assert (await granted(line)).place.account_id == "c"

        await trio.sleep(3 * LOOK_AGAIN_S)
        line.give_back(places[2])
        await settle()
        line.give_back(places[1])
        line.give_back(places[0])
    assert line.take().account_id == "a"  # the one after the last one served, as ever


@in_virtual_time
async def test_when_the_last_turn_ends_in_a_limit_all_who_wait_are_told_at_once() -> None:
    line = Line("ab")
    first, second = line.take(), line.take()
    async with trio.open_nursery() as nursery:
        for _ in range(5):

            @nursery.start_soon
            async def _() -> None:
                choice = await refused(line, Ask(rejected=frozenset("b")), Patience())
                assert [p.why for p in choice.passed_over] == [Why.COOLING, Why.RULED_OUT]
                assert trio.current_time() == 1

        await trio.sleep(1)
        line.report(first, limited(900))  # while it still has its place, and b is busy
        line.give_back(first)
    assert (line.taken, len(line.queue)) == (1, 0)
    line.give_back(second)


@in_virtual_time
async def test_a_turn_that_waits_notices_an_account_file_that_appears() -> None:
    line = Line()
    line.take()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            assert (await granted(line)).place.account_id == "b"

        await trio.sleep(1)
        line.files.append(an_account("b"))
    assert trio.current_time() <= 1 + LOOK_AGAIN_S


@in_virtual_time
async def test_a_turn_that_waits_notices_that_the_account_is_gone() -> None:
    line = Line("ab")
    line.take()
    line.take()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            await refused(line, Ask(rejected=frozenset("b")))

        await trio.sleep(1)
        del line.files[0]
        await line.rescan()  # somebody looks
    assert trio.current_time() == 1


@in_virtual_time
async def test_a_cool_down_that_is_lifted_serves_who_waits_for_it_at_once() -> None:
    line = Line(cap=None)
    line.report(line.take(), limited(900))
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            await granted(line)
            assert trio.current_time() == 7

        await trio.sleep(7)
        account = line.pool.accounts[0]
        now_unix_s = wall_clock()
        line.pool.accept(account, leased_at_unix_s=now_unix_s, now_unix_s=now_unix_s)
        line.queue.serve()


@in_virtual_time
async def test_who_cannot_use_what_is_free_does_not_hold_up_who_can() -> None:
    line = Line("ab")
    places = [line.take(), line.take()]
    got: list[str] = []
    async with trio.open_nursery() as nursery:

        async def turn(ask: Ask) -> None:
            place = (await granted(line, ask)).place
            got.append(place.account_id)
            line.give_back(place)

        nursery.start_soon(turn, Ask(rejected=frozenset("a")))
        await settle()
        nursery.start_soon(turn, Ask())
        await settle()
        line.give_back(places[0])
        await settle()
        assert got == ["a"]
        line.give_back(places[1])
    assert got == ["a", "b"]


@in_virtual_time
async def test_a_question_of_the_relays_own_waits_for_a_pause_and_not_for_turns() -> None:
    line = Line()
    place = line.take()
    line.report(place, throttled(9))
    late = await granted(line, Ask(aside=True))
    assert late.waited_s == trio.current_time() == 9
    assert line.taken == 1


@attrs.define(eq=False)
class CountingPool:
    """Counts the choices of a pool."""

    _pool: Pool
    choices: int = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._pool, name)

    def choose(self, ask: Ask, *, now_unix_s: float) -> Choice:
        self.choices += 1
        return self._pool.choose(ask, now_unix_s=now_unix_s)


@in_virtual_time
async def test_a_crowd_costs_one_choice_each_time_something_changes() -> None:
    line = Line()
    place = line.take()
    line.queue.pool = pool = CountingPool(line.pool)  # type: ignore[assignment]
    async with trio.open_nursery() as nursery:

        async def turn() -> None:
            late = await granted(line)
            await trio.sleep(0.05)
            line.give_back(late.place)

        for _ in range(50):
            nursery.start_soon(turn)
        await trio.sleep(0.5)
        line.give_back(place)
    # Twice when a turn comes: for the line, and for itself. Then for whoever is served, for the
    # first one who is not, and once more when it runs.
    assert pool.choices <= 50 * (2 + 3)


# Order, cancellation, and that nothing is lost.


@settings(max_examples=25, deadline=None)
@given(durations=st.lists(st.floats(0, 30), min_size=1, max_size=12), gap_s=st.floats(0, 3))
def test_turns_are_served_in_the_order_in_which_they_came(
    durations: list[float], gap_s: float
) -> None:
    came: list[int] = []
    served: list[int] = []

    async def main() -> None:
        line = Line()

        async def turn(number: int, duration_s: float) -> None:
            came.append(number)
            late = await granted(line)
            served.append(number)
            await trio.sleep(duration_s)
            line.give_back(late.place)

        async with trio.open_nursery() as nursery:
            for number, duration_s in enumerate(durations):
                nursery.start_soon(turn, number, duration_s)
                await trio.sleep(gap_s)
        assert (line.taken, len(line.queue)) == (0, 0)

    run(main)
    assert served == came


@in_virtual_time
async def test_a_cancelled_turn_hands_on_the_place_it_was_granted() -> None:
    line = Line()
    place = line.take()
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        @nursery.start_soon
        async def _() -> None:
            with scope:
                await line.queue.wait(Ask(), PATIENT)

        await settle()

        @nursery.start_soon
        async def _() -> None:
            await granted(line)
            assert trio.current_time() == 2

        await trio.sleep(2)
        scope.cancel()
        line.give_back(place)  # granted to the one that is about to leave
    assert scope.cancelled_caught
    assert (line.taken, len(line.queue)) == (1, 0)


def test_a_turn_cancelled_at_any_step_leaves_the_next_one_in_line_no_worse() -> None:
    for at in range(1, 200):
        outcome: list[bool] = []

        async def main(at: int = at, outcome: list[bool] = outcome) -> None:
            line = Line()
            place = line.take()
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def _() -> None:
                    with trio.CancelScope() as scope:
                        canceller = CancelAtStep(scope, at)
                        trio.lowlevel.add_instrument(canceller)
                        try:
                            late = await granted(line)
                            line.give_back(late.place)
                        finally:
                            trio.lowlevel.remove_instrument(canceller)
                    outcome.append(scope.cancelled_caught)

                await settle()

                @nursery.start_soon
                async def _() -> None:
                    late = await granted(line)
                    assert trio.current_time() <= 12
                    line.give_back(late.place)

                await trio.sleep(12)  # it has looked at the files in between
                line.give_back(place)
            assert (line.taken, len(line.queue)) == (0, 0)
            assert not line.pool.is_in_use

        run(main)
        if outcome == [False]:
            break
    else:
        pytest.fail("the turn never finished")
    assert at > 20


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    cap=st.none() | st.integers(1, 3),
    names=st.sampled_from(("a", "ab", "abc")),
)
def test_no_wake_up_is_lost_and_no_place_leaks(seed: int, cap: int | None, names: str) -> None:
    """Turns that come, fail, leave and wait, in any order: whoever waits is told in time."""
    rng = random.Random(seed)
    ends: list[str] = []

    async def main() -> None:
        line = Line(names, cap)

        async def turn() -> None:
            rejected = frozenset(rng.choice(names) for _ in range(rng.choice((0, 0, 1))))
            ask = Ask(rejected=rejected, aside=rng.random() < 0.1, session=rng.choice("st"))
            with trio.move_on_after(rng.choice((math.inf, rng.uniform(0, 40)))):
                patience = Patience(pause_s=rng.choice((0, 15)), limit_s=rng.choice((0, 40)))
                result = await line.queue.wait(ask, patience)
                if isinstance(result, Choice):
                    # Right at this moment there is nothing for it.
                    assert line.pool.choose(ask, now_unix_s=wall_clock()).account is None
                    ends.append("refused")
                    return
                try:
                    await trio.sleep(rng.uniform(0, 10))
                    fault = rng.choice((None, None, limited(20), throttled(5)))
                    if fault is not None:
                        line.report(result.place, fault)
                    await trio.sleep(rng.uniform(0, 2))
                    ends.append("served")
                finally:
                    line.give_back(result.place)
                return
            ends.append("cancelled")

        async def never_side_by_side() -> None:
            """A free account and a turn that waits for it do not stand side by side for long."""
            while True:
                await trio.sleep(rng.uniform(0, 1))
                await trio.testing.wait_all_tasks_blocked()
                for waiter in line.queue._waiters:
                    choice = line.pool.choose(waiter.ask, now_unix_s=wall_clock())
                    assert choice.account is None

        with trio.fail_after(3600):
            async with trio.open_nursery() as watch:
                watch.start_soon(never_side_by_side)
                async with trio.open_nursery() as turns:
                    for _ in range(40):
                        turns.start_soon(turn)
                        await trio.sleep(rng.uniform(0, 2))
                watch.cancel_scope.cancel()
        assert (line.taken, len(line.queue)) == (0, 0)
        assert all(standing.places == 0 for standing in line.pool._standings.values())

    run(main)
    assert len(ends) == 40
