"""Turns with several legs: when one is followed by the next; what is told if none serves."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing

from codexrelay.accounts.refresh import Outcome, RefreshResult
from codexrelay.backends.backend import UpstreamRequest
from codexrelay.errors import RequestError
from codexrelay.protocol.faults import Fault, FaultKind
from codexrelay.protocol.responses_stream import ResponsesStream
from codexrelay.protocol.responses_whole import ResponsesWhole
from codexrelay.relay.active import ActiveTurns
from codexrelay.relay.budgets import Budgets
from codexrelay.relay.climb import Wish
from codexrelay.relay.instances import Instance, Instances
from codexrelay.relay.leg import LEADS_ON, Later, Leg, Way, most_hopeful
from codexrelay.relay.mover import BodyMover
from codexrelay.relay.reply import StreamedReply, WholeReply
from codexrelay.relay.turn import Ending, Relay, Turn, run_turn
from tests.fakes.cancel_at_step import CancelAtStep
from tests.fakes.client import FakeClient
from tests.fakes.faults import a_fault
from tests.fakes.turn_scripts import (
    BROKEN,
    COMPLETED,
    CREATED,
    GOOD,
    ITEM,
    LIMITED,
    NOW_UNIX_S,
    OVERLOADED,
    REFUSED,
    TEXT,
)
from tests.fakes.upstream import FOREVER, MemoryLender, Script, ScriptedBackend, Wait, head, lending
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from codexrelay.accounts.account import Account


BUDGETS = Budgets(connect_s=5, headers_s=20, first_event_s=30, silence_s=40, turn_s=1000)
#: What a fault of each kind is followed by on its own leg, so that the leg ends with it.
AGAIN = 3


class NoSignIn:
    """A sign-in service that is away: no token is renewed."""

    async def refresh(self, account: Account, *, reason: str) -> RefreshResult:
        await trio.lowlevel.checkpoint()
        return RefreshResult(outcome=Outcome.POSTPONED, account=account, why="it is away")


@attrs.define(eq=False)
class Stop:
    """One backend that the turn may go to."""

    name: str
    backend: ScriptedBackend
    lender: MemoryLender
    instance: Instance
    opened: int = 0
    #: Raised instead of planning its leg.
    unsuited: RequestError | None = None
    #: Its leg must be planned anew.
    is_outdated: bool = False
    #: Told when its leg is planned.
    opens: Callable[[], None] = lambda: None


@attrs.define(eq=False)
class Journey:
    """A turn over several backends; each has one account, `a`."""

    stops: list[Stop]
    stream: bool
    client: FakeClient = attrs.field(factory=FakeClient)
    relay: Relay = attrs.field(init=False)
    served: list[str] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.relay = Relay(
            instances=Instances((self.stops[0].instance,)),
            mover=BodyMover(),
            active=ActiveTurns(),
            keep_alive_s=15.0,
            wall_clock=lambda: NOW_UNIX_S,
        )

    async def play(self) -> Ending:
        turn = Turn(
            leg=self._leg(self.stops[0]),
            further=tuple(map(self._later, self.stops[1:])),
            request_id="req_1",
        )
        return await run_turn(turn, self.client, self.relay)

    @property
    def asked(self) -> list[str]:
        """Backends in the order in which they were asked, each as often as it was in a row."""
        return [stop.name for stop in self.stops for _ in stop.backend.attempts]

    @property
    def at_rest(self) -> bool:
        closed = all(a.closed for stop in self.stops for a in stop.backend.attempts)
        lent = sum(stop.lender.leased + len(stop.lender.queue) for stop in self.stops)
        return closed and lent == 0 and len(self.relay.active) == 0

    def _later(self, stop: Stop) -> Later:
        async def open_leg() -> Leg:
            await trio.lowlevel.checkpoint()
            stop.opens()
            if stop.unsuited is not None:
                raise stop.unsuited
            return self._leg(stop)

        wish = Wish(route=(stop.instance,), model="m")
        return Later(
            name=stop.name,
            is_ready=lambda: stop.lender.can_take(wish.ask(stop.instance, Way().ladder)),
            open=open_leg,
        )

    def _leg(self, stop: Stop) -> Leg:
        stop.opened += 1
        number = stop.opened
        made = ResponsesStream if self.stream else ResponsesWhole
        answer = made(now_unix_s=NOW_UNIX_S, model="m", created_unix_s=int(NOW_UNIX_S))
        reply = StreamedReply(answer) if isinstance(answer, ResponsesStream) else WholeReply(answer)

        def request_for(account_id: str, *, stripped: bool) -> UpstreamRequest:
            return UpstreamRequest(path="/responses", body=f"{stop.name} {number}".encode())

        async def served(account_id: str, _turn_state: str | None) -> None:
            await trio.lowlevel.checkpoint()
            self.served.append(account_id)

        async def again() -> Leg:
            await trio.lowlevel.checkpoint()
            return self._leg(stop)

        return Leg(
            wish=Wish(route=(stop.instance,), model=f"model of {stop.name}", waits=self.stream),
            request_for=request_for,
            reply=reply,
            passed_on=lambda _: [(b"x-from", stop.name.encode())],
            adjusted=(f"{stop.name}=a->b",),
            served=served,
            anew=lambda: again if stop.is_outdated else None,
        )


def stop(name: str, *scripts: Script, turns: int | None = None, budgets: Budgets = BUDGETS) -> Stop:
    lender = lending("a", max_concurrent_turns=turns)
    lender.refresher = NoSignIn()  # type: ignore[assignment] - all that is asked of it
    backend = ScriptedBackend(list(scripts))
    instance = Instance(
        lender=lender, backend=backend, budgets=budgets, name=f"openai-codex.{name}"
    )
    return Stop(name, backend, lender, instance)


def journey(*stops: Stop, stream: bool = True) -> Journey:
    return Journey(list(stops), stream)


# which faults lead on


def test_every_kind_of_fault_says_whether_the_next_leg_follows() -> None:
    assert set(LEADS_ON) == set(FaultKind)
    assert {kind for kind, on in LEADS_ON.items() if not on} == {
        FaultKind.REFUSED,
        FaultKind.UNREADABLE,
    }


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("kind", list(FaultKind), ids=lambda kind: kind.value)
@in_virtual_time
async def test_before_the_first_output_the_table_says_what_follows_a_fault(
    kind: FaultKind, stream: bool
) -> None:
    first = stop("1", *[[a_fault(kind, status=418)]] * AGAIN)
    j = journey(first, stop("2", GOOD), stream=stream)
    ending = await j.play()
    if LEADS_ON[kind]:
        assert j.asked[-1] == "2"
        assert (j.client.status, ending.fault) == (200, None)
        assert (ending.account_id, ending.backend) == ("openai-codex.2/a", "openai-codex.2")
        assert ending.attempts == len(j.asked)
    else:
        assert set(j.asked) == {"1"}
        assert j.client.status == 418
        assert ending.backend is None
    assert j.at_rest


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("kind", list(FaultKind), ids=lambda kind: kind.value)
@in_virtual_time
async def test_after_the_first_output_no_fault_leads_anywhere(
    kind: FaultKind, stream: bool
) -> None:
    j = journey(
        stop("1", [head(), CREATED, TEXT, a_fault(kind, status=418)]), stop("2"), stream=stream
    )
    ending = await j.play()
    assert j.asked == ["1"]
    assert ending.fault is not None
    assert ending.fault.kind is kind
    assert j.client.status == (200 if stream else 418)
    assert j.at_rest


@pytest.mark.parametrize(
    "script",
    [[BROKEN], [head(), BROKEN], [head(), CREATED, BROKEN], [head(), CREATED], [head(), FOREVER]],
    ids=["before the head", "after the head", "after the handshake", "an early end", "too slow"],
)
@in_virtual_time
async def test_a_failover_before_the_first_output_is_never_seen(script: Script) -> None:
    j = journey(stop("1", *[script] * AGAIN), stop("2", GOOD))
    j.relay.keep_alive_s = 1000.0
    await j.play()
    assert j.client.body == CREATED + TEXT + ITEM + COMPLETED
    assert j.client.headers[b"x-from"] == b"2"
    assert j.client.headers[b"x-codexrelay-account"] == b"openai-codex.2/a"
    assert j.client.headers[b"x-codexrelay-attempts"] == b"%d" % len(j.asked)
    assert j.client.headers[b"x-codexrelay-adjusted"] == b"2=a->b"
    assert j.served == ["openai-codex.2/a"]


@in_virtual_time
async def test_a_stream_that_was_opened_in_silence_goes_on_on_the_next_leg() -> None:
    j = journey(stop("1", [Wait(18), REFUSED_BY_KEY]), stop("2", GOOD))
    await j.play()
    assert j.client.status == 200
    assert j.client.body.endswith(CREATED + TEXT + ITEM + COMPLETED)


# how legs are opened


@in_virtual_time
async def test_a_leg_is_planned_only_when_the_turn_comes_to_it() -> None:
    j = journey(stop("1", GOOD), stop("2"))
    await j.play()
    assert [one.opened for one in j.stops] == [1, 0]


@in_virtual_time
async def test_a_leg_that_cannot_be_planned_is_left_out() -> None:
    second = stop("2")
    second.unsuited = RequestError(message="no such tool there", param="tools")
    j = journey(stop("1", *[[BROKEN]] * AGAIN), second, stop("3", GOOD))
    ending = await j.play()
    assert ending.backend == "openai-codex.3"
    assert "2" not in j.asked


@in_virtual_time
async def test_of_a_leg_that_cannot_be_planned_the_client_is_told_if_there_is_nothing_better() -> (
    None
):
    second = stop("2")
    second.unsuited = RequestError(message="no such tool there", param="tools", status=422)
    j = journey(stop("1", [OVERLOADED], [OVERLOADED]), second)
    await j.play()
    assert j.client.status == 503
    error = j.client.json["error"]
    assert isinstance(error, dict)
    assert "no such tool there" in error["message"]


# legs that cannot take the turn now


@in_virtual_time
async def test_a_leg_whose_account_rests_is_passed_over_at_first() -> None:
    first = stop("1")
    first.lender.pool.report(
        first.lender.accounts()[0],
        attrs.evolve(LIMITED, resets_at_unix_s=first.lender.wall_clock() + 600),
        model="m",
        leased_at_unix_s=first.lender.wall_clock(),
        now_unix_s=first.lender.wall_clock(),
    )
    j = journey(first, stop("2", GOOD))
    ending = await j.play()
    assert j.asked == ["2"]
    assert ending.record.put_off == ["openai-codex.1:model of 1"]


@in_virtual_time
async def test_a_leg_that_was_passed_over_is_asked_when_nobody_else_has_served() -> None:
    # Its account serves another turn, for 10 s more.
    first = stop("1", [head(), CREATED, TEXT, Wait(10), COMPLETED], GOOD, turns=1)
    other = journey(first)
    j = journey(first, stop("2", *[[BROKEN]] * AGAIN))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.play)
        await trio.testing.wait_all_tasks_blocked()
        ending = await j.play()
    assert ending.backend == "openai-codex.1"
    assert ending.fault is None
    assert [tried.account for tried in ending.record.tried[:1]] == ["openai-codex.2/a"]
    assert trio.current_time() == pytest.approx(10, abs=0.5)


@in_virtual_time
async def test_nobody_stands_in_line_on_one_leg_while_another_would_take_the_turn() -> None:
    throttled = a_fault(FaultKind.THROTTLED, status=429, retry_after_s=9)
    j = journey(stop("1", [throttled]), stop("2", GOOD))
    await j.play()
    assert j.asked == ["1", "2"]
    assert trio.current_time() < 1


@in_virtual_time
async def test_a_leg_that_was_left_for_another_is_waited_for_if_that_one_fails() -> None:
    throttled = a_fault(FaultKind.THROTTLED, status=429, retry_after_s=9)
    j = journey(stop("1", [throttled], GOOD), stop("2", *[[BROKEN]] * AGAIN))
    ending = await j.play()
    assert ending.backend == "openai-codex.1"
    assert trio.current_time() == pytest.approx(9, abs=1)


@in_virtual_time
async def test_a_leg_that_is_outdated_is_planned_anew_when_the_turn_comes_back() -> None:
    throttled = a_fault(FaultKind.THROTTLED, status=429, retry_after_s=9)
    first = stop("1", [throttled], GOOD)
    second = stop("2", *[[BROKEN]] * AGAIN)
    second.opens = lambda: setattr(first, "is_outdated", True)
    j = journey(first, second)
    await j.play()
    assert first.opened == 2
    assert [a.request.body for a in first.backend.attempts] == [b"1 1", b"1 2"]
    assert j.client.body.endswith(COMPLETED)


# what the client is told when nobody serves


@in_virtual_time
async def test_when_all_legs_fail_the_fault_is_told_that_time_mends() -> None:
    j = journey(
        stop("1", [OVERLOADED], [OVERLOADED]),
        stop("2", *[[a_fault(FaultKind.FORBIDDEN, status=403, message="not you")]] * AGAIN),
    )
    ending = await j.play()
    assert j.client.status == 503
    error = j.client.json["error"]
    assert isinstance(error, dict)
    assert error["message"].startswith("busy (openai-codex.1:model of 1). Also asked: 2: ")
    assert "not you" in error["message"]
    assert ending.attempts == len(j.asked)
    assert j.at_rest


def test_of_faults_that_hold_out_the_same_the_last_is_told() -> None:
    ways = [
        Way(later=later(name), fault=a_fault(FaultKind.BROKEN, status=502, message=name))
        for name in ("a", "b")
    ]
    assert most_hopeful(ways).message == "b (b). Also asked: a: a"


def test_the_fault_of_an_only_leg_is_told_in_its_own_words() -> None:
    assert most_hopeful([Way(later=later("a"), fault=BROKEN)]) is BROKEN


def later(name: str) -> Later:
    async def never() -> Leg:
        raise AssertionError

    return Later(name=name, is_ready=lambda: True, open=never)


@in_virtual_time
async def test_a_refusal_on_a_later_leg_is_told_as_it_is() -> None:
    j = journey(stop("1", *[[BROKEN]] * AGAIN), stop("2", [REFUSED]), stop("3", GOOD))
    await j.play()
    assert j.client.status == 400
    error = j.client.json["error"]
    assert isinstance(error, dict)
    assert error["message"] == "Bad thing"


# budgets


@in_virtual_time
async def test_the_turns_budget_bounds_all_legs_together() -> None:
    short = attrs.evolve(BUDGETS, turn_s=25.0)
    j = journey(stop("1", [FOREVER], budgets=short), stop("2", [FOREVER]), stream=False)
    ending = await j.play()
    assert trio.current_time() == pytest.approx(25.0)
    assert j.asked == ["1", "2"]
    assert ending.fault is not None
    assert ending.fault.code == "upstream_timeout_turn"


@pytest.mark.parametrize("silence_s", [10.0, 90.0], ids=["shorter", "longer"])
@in_virtual_time
async def test_silence_is_counted_by_the_budget_of_the_leg_that_serves(silence_s: float) -> None:
    own = attrs.evolve(BUDGETS, silence_s=silence_s, block="backends.local")
    j = journey(
        stop("1", [OVERLOADED], [OVERLOADED]),
        stop("2", [head(), CREATED, TEXT, FOREVER], budgets=own),
        stream=False,
    )
    ending = await j.play()
    assert ending.total_s == pytest.approx(silence_s, abs=1)
    assert ending.fault is not None
    assert "backends.local.budgets.silence_s" in ending.fault.message


# the client leaves


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_turn_over_two_legs_cancelled_at_any_step_leaves_nothing_behind(stream: bool) -> None:
    def make() -> Journey:
        throttled = a_fault(FaultKind.THROTTLED, status=429, retry_after_s=2)
        return journey(
            stop("1", [throttled], [head(), CREATED, Wait(16), TEXT, COMPLETED]),
            stop("2", [OVERLOADED], [head(), CREATED, OVERLOADED]),
            stream=stream,
        )

    for step in itertools.count(1):
        j, finished = _cancelled_at(make, step)
        assert j.at_rest, f"cancelled before step {step}"
        if finished:
            assert step > 20
            assert j.client.ended
            return


@pytest.mark.parametrize(
    "second",
    [[FOREVER], [head(), FOREVER], [head(), CREATED, FOREVER], [head(), CREATED, TEXT, FOREVER]],
    ids=["before the head", "before the first event", "after the handshake", "mid-stream"],
)
@in_virtual_time
async def test_a_client_that_leaves_on_the_second_leg_frees_everything_at_once(
    second: Script,
) -> None:
    j = journey(stop("1", [OVERLOADED], [OVERLOADED]), stop("2", second))
    with trio.move_on_after(0.8) as left:
        await j.play()
    assert left.cancelled_caught
    assert trio.current_time() == pytest.approx(0.8)
    assert j.asked == ["1", "1", "2"]
    assert j.at_rest


def _cancelled_at(make: Callable[[], Journey], step: int) -> tuple[Journey, bool]:
    """Play a turn, cancelled before its `step`-th task step; tell whether it finished."""
    finished = False
    made: list[Journey] = []

    async def main() -> None:
        nonlocal finished
        made.append(make())
        with trio.CancelScope() as scope:
            instrument = CancelAtStep(scope, step)
            trio.lowlevel.add_instrument(instrument)
            try:
                await made[0].play()
                finished = True
            finally:
                trio.lowlevel.remove_instrument(instrument)
        assert not trio.lowlevel.current_task().child_nurseries

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return made[0], finished


REFUSED_BY_KEY: Fault = a_fault(FaultKind.FORBIDDEN, status=403)
