"""The climb over the accounts of one instance or several: who is asked, when, and who waits.

The pool, its strategies and its queue are the real ones; time is virtual.
"""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing

from codexrelay.accounts.pool import Ask, By
from codexrelay.accounts.standing import DEFAULT_PAUSE_S, Why
from codexrelay.errors import RequestError
from codexrelay.protocol import faults
from codexrelay.protocol.faults import Fault, FaultKind, Reached
from codexrelay.relay.budgets import Budgets
from codexrelay.relay.climb import Served, Wish, climb
from codexrelay.relay.instances import Instance, Instances
from codexrelay.relay.ladder import MAX_REST_S, RETRY_WAIT_S, Ladder
from codexrelay.relay.record import Record
from tests.fakes.cancel_at_step import CancelAtStep
from tests.fakes.upstream import ScriptedBackend, lending, wall_clock
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from codexrelay.relay.lending import Lease, Target
    from codexrelay.relay.record import Tried
    from tests.fakes.upstream import MemoryLender


def refusal(status: int, body: bytes, **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    fault = faults.from_response(status, named, body, now_unix_s=wall_clock())
    return attrs.evolve(fault, reached=Reached.SENT)


def throttled(stated_s: float | None = None) -> Fault:
    told = b'{"error":{"code":"rate_limit_exceeded","message":"too fast"}}'
    return refusal(429, told, **({} if stated_s is None else {"retry_after": str(stated_s)}))


def limited(resets_in_s: float) -> Fault:
    told = b'{"error":{"type":"usage_limit_reached","message":"spent","resets_in_seconds":%d}}'
    return refusal(429, told % resets_in_s)


def overloaded() -> Fault:
    return refusal(503, b'{"error":{"code":"server_is_overloaded","message":"busy"}}')


@attrs.define(eq=False)
class Scene:
    """Instances, and what the accounts answer: the next of their faults, else they serve."""

    instances: Instances
    answers: dict[str, deque[Fault]] = attrs.field(factory=dict)
    #: How long an account takes to serve.
    serve_s: float = 0.0
    #: Account and instant of each attempt.
    asked: list[tuple[str, float]] = attrs.field(factory=list)
    #: Turns in the order in which they were served.
    served: list[str] = attrs.field(factory=list)
    records: dict[str, Record] = attrs.field(factory=dict)
    waited: list[str] = attrs.field(factory=list)

    def answer(self, account: str, *told: Fault) -> None:
        self.answers.setdefault(account, deque()).extend(told)

    async def turn(self, name: str = "turn", **wish: object) -> Served | Fault:
        record = self.records[name] = Record(lambda _: self.waited.append(name))
        if "route" not in wish:
            wish["route"] = self.instances.route(session=wish.get("session"))  # type: ignore[arg-type]
        wanted = Wish(model="m", **wish)  # type: ignore[arg-type]

        async def attempt(_instance: Target, lease: Lease, tried: Tried) -> Served | Fault:
            await trio.lowlevel.checkpoint()
            self.asked.append((tried.account, trio.current_time()))
            if waiting := self.answers.get(tried.account):
                return waiting.popleft()
            lease.accept()
            tried.served = True
            await trio.sleep(self.serve_s)
            self.served.append(name)
            return Served()

        return await climb(wanted, Ladder(), record, attempt)

    @property
    def accounts_asked(self) -> list[str]:
        return [account for account, _ in self.asked]

    @property
    def burden(self) -> list[int]:
        """Leases, places and turns in line, of all instances."""
        held = []
        for instance in self.instances.members:
            pool = instance.lender.pool
            places = sum(pool.leases_of(account) for account in pool.accounts)
            probes = sum(standing.probes for standing in pool._standings.values())
            held += [instance.lender.leased, places, probes, len(instance.lender.queue)]
        return held


def instance(
    lender: MemoryLender,
    *,
    name: str = "openai-codex",
    weight: int = 1,
    limit_patience_s: float = 0,
) -> Instance:
    return Instance(
        lender=lender,
        backend=ScriptedBackend([]),  # type: ignore[arg-type] - the tests answer themselves
        budgets=Budgets(),
        name=name,
        weight=weight,
        limit_patience_s=limit_patience_s,
    )


def scene(*lenders: MemoryLender, limit_patience_s: float = 0, serve_s: float = 0.0) -> Scene:
    members = tuple(
        instance(
            lender,
            name="openai-codex" if number == 1 else f"openai-codex.{number}",
            limit_patience_s=limit_patience_s,
        )
        for number, lender in enumerate(lenders, start=1)
    )
    return Scene(Instances(members), serve_s=serve_s)


# asked too fast


@in_virtual_time
async def test_after_a_throttle_another_account_is_asked_at_once() -> None:
    s = scene(lending("a", "b"))
    s.answer("a", throttled(20))
    assert await s.turn() == Served()
    assert s.asked == [("a", 0.0), ("b", 0.0)]
    assert s.waited == []


@pytest.mark.parametrize(("stated_s", "waits_s"), [(2.0, 2.0), (0.5, 0.5), (None, DEFAULT_PAUSE_S)])
@in_virtual_time
async def test_with_no_other_account_the_turn_waits_the_stated_seconds(
    stated_s: float | None, waits_s: float
) -> None:
    s = scene(lending("a"))
    s.answer("a", throttled(stated_s))
    assert await s.turn() == Served()
    assert s.accounts_asked == ["a", "a"]
    assert s.asked[1][1] == pytest.approx(waits_s)
    assert s.waited == ["turn"]
    assert s.records["turn"].tried[1].waited_s == pytest.approx(waits_s)


@in_virtual_time
async def test_the_account_that_is_free_again_first_is_waited_for() -> None:
    s = scene(lending("a", "b"))
    s.answer("a", throttled(8))
    s.answer("b", throttled(3))
    assert await s.turn() == Served()
    assert s.asked == [("a", 0.0), ("b", 0.0), ("b", pytest.approx(3.0))]


@in_virtual_time
async def test_an_account_is_asked_three_times_at_most() -> None:
    s = scene(lending("a"))
    s.answer("a", *(throttled(2) for _ in range(5)))
    result = await s.turn()
    assert isinstance(result, Fault)
    assert (result.kind, result.status) == (FaultKind.THROTTLED, 429)
    assert [at for _, at in s.asked] == [0.0, pytest.approx(2.0), pytest.approx(4.0)]


@pytest.mark.parametrize(
    ("stated_s", "asked"),
    [([MAX_REST_S + 1], 1), ([MAX_REST_S - 10, 11], 2), ([MAX_REST_S - 10, 9], 3)],
    ids=["longer than a turn rests", "longer than what is left", "within what is left"],
)
@in_virtual_time
async def test_a_turn_rests_for_a_bounded_time_over_all_its_attempts(
    stated_s: list[float], asked: int
) -> None:
    s = scene(lending("a"))
    s.answer("a", *map(throttled, stated_s))
    result = await s.turn()
    assert len(s.asked) == asked
    assert isinstance(result, Served if asked > len(stated_s) else Fault)
    assert trio.current_time() <= MAX_REST_S


@in_virtual_time
async def test_overload_asks_the_same_account_after_a_moment_and_then_another() -> None:
    s = scene(lending("a", "b"))
    s.answer("a", overloaded(), overloaded())
    assert await s.turn() == Served()
    assert s.asked == [
        ("a", 0.0),
        ("a", pytest.approx(RETRY_WAIT_S)),
        ("b", pytest.approx(RETRY_WAIT_S)),
    ]


# a quota that comes back soon


@pytest.mark.parametrize(
    ("waits", "patience_s", "served"),
    [(True, 60.0, True), (True, 30.0, False), (False, 60.0, False)],
    ids=["soon enough", "too late", "a client that cannot be shown life"],
)
@in_virtual_time
async def test_a_turn_waits_for_a_quota_if_it_may_and_the_reset_is_near(
    waits: bool, patience_s: float, served: bool
) -> None:
    s = scene(lending("a"), limit_patience_s=patience_s)
    s.answer("a", limited(40))
    result = await s.turn(waits=waits)
    assert isinstance(result, Served) is served
    assert trio.current_time() == pytest.approx(40.0 if served else 0.0)
    if isinstance(result, Fault):
        assert (result.kind, result.status) == (FaultKind.LIMITED, 429)


@in_virtual_time
async def test_the_wait_for_quotas_is_bounded_over_a_whole_turn() -> None:
    s = scene(lending("a"), limit_patience_s=60.0)
    s.answer("a", limited(40), limited(10))
    result = await s.turn(waits=True)
    assert isinstance(result, Fault), "an account is waited for once"
    assert s.asked == [("a", 0.0), ("a", pytest.approx(40.0))]
    s = scene(lending("a", "b"), limit_patience_s=60.0)
    s.answer("a", limited(40), limited(900))
    s.answer("b", limited(50), limited(70))
    assert isinstance(await s.turn(waits=True), Fault)
    assert s.accounts_asked == ["a", "b", "a", "b"]
    assert trio.current_time() == pytest.approx(90.0), "twenty seconds were left of sixty"


# at most so many turns at a time


@in_virtual_time
async def test_turns_beyond_the_cap_wait_in_order_of_arrival() -> None:
    s = scene(lending("a", max_concurrent_turns=1), serve_s=10.0)
    async with trio.open_nursery() as nursery:
        for name in ("first", "second", "third"):
            nursery.start_soon(s.turn, name)
            await trio.testing.wait_all_tasks_blocked()
        assert s.burden == [1, 1, 0, 2]
    assert s.served == ["first", "second", "third"]
    assert [at for _, at in s.asked] == [0.0, pytest.approx(10.0), pytest.approx(20.0)]
    assert s.waited == ["second", "third"]
    assert s.burden == [0, 0, 0, 0]


@in_virtual_time
async def test_at_the_cap_a_turn_goes_to_another_account_first() -> None:
    s = scene(lending("a", "b", max_concurrent_turns=1), serve_s=10.0)
    async with trio.open_nursery() as nursery:
        for name in ("first", "second"):
            nursery.start_soon(s.turn, name)
            await trio.testing.wait_all_tasks_blocked()
    assert s.asked == [("a", 0.0), ("b", 0.0)]
    assert s.waited == []


@in_virtual_time
async def test_a_turn_that_leaves_the_line_holds_nobody_up() -> None:
    s = scene(lending("a", max_concurrent_turns=1), serve_s=10.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(s.turn, "first")
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(4.0):
            await s.turn("leaves")
        await s.turn("third")
    assert s.served == ["first", "third"]
    assert s.asked[-1] == ("a", pytest.approx(10.0))


# several instances


@in_virtual_time
async def test_an_exhausted_instance_gives_way_to_another_and_ids_stay_apart() -> None:
    s = scene(lending("a"), lending("a", "b"))
    s.answer("a", limited(600))
    assert await s.turn() == Served()
    assert s.accounts_asked == ["a", "openai-codex.2/a"]


@in_virtual_time
async def test_what_an_account_of_one_instance_did_rules_out_none_of_another() -> None:
    s = scene(lending("a"), lending("a"))
    s.answer("a", overloaded(), overloaded())
    assert await s.turn() == Served()
    assert s.accounts_asked == ["a", "a", "openai-codex.2/a"]


@in_virtual_time
async def test_nobody_rests_at_one_instance_while_another_is_free() -> None:
    s = scene(lending("a"), lending("b"))
    s.answer("a", throttled(9))
    assert await s.turn() == Served()
    assert s.asked == [("a", 0.0), ("openai-codex.2/b", 0.0)]
    assert s.waited == []


@in_virtual_time
async def test_nobody_stands_in_line_at_one_instance_while_another_is_free() -> None:
    s = scene(
        lending("a", max_concurrent_turns=1), lending("b", max_concurrent_turns=1), serve_s=10.0
    )
    route = s.instances.members
    async with trio.open_nursery() as nursery:
        for name in ("first", "second", "third"):
            nursery.start_soon(functools.partial(s.turn, name, route=route))
            await trio.testing.wait_all_tasks_blocked()
    *at_once, (late, at_s) = s.asked
    assert at_once == [("a", 0.0), ("openai-codex.2/b", 0.0)]
    assert late in ("a", "openai-codex.2/b")  # both are free at that moment
    assert at_s == pytest.approx(10.0)
    assert s.waited == ["third"]


@in_virtual_time
async def test_when_all_instances_rest_the_turn_waits() -> None:
    s = scene(lending("a"), lending("b"))
    s.answer("a", throttled(4))
    s.answer("openai-codex.2/b", throttled(6))
    assert await s.turn() == Served()
    assert s.asked == [("a", 0.0), ("openai-codex.2/b", 0.0), ("a", pytest.approx(4.0))]


@in_virtual_time
async def test_when_all_instances_are_exhausted_the_client_is_told_of_all_of_them() -> None:
    s = scene(lending("a"), lending("b"))
    s.answer("a", limited(900))
    s.answer("openai-codex.2/b", limited(300))
    await s.turn()
    result = await s.turn()
    assert isinstance(result, Fault)
    assert (result.kind, result.status) == (FaultKind.LIMITED, 429)
    assert result.retry_after_s == pytest.approx(300.0, abs=1.0)
    assert len(s.asked) == 2, "the second turn asked nobody"
    refused = [one.instance for one in s.records["turn"].refused]
    assert sorted(refused) == ["openai-codex", "openai-codex.2"]


@pytest.mark.parametrize("home", [0, 1], ids=["the first", "the second"])
@in_virtual_time
async def test_a_failover_to_another_instance_binds_no_session_there(home: int) -> None:
    lenders = [lending("a", strategy="session-affinity") for _ in range(2)]
    s = scene(*lenders)
    names = ["a", "openai-codex.2/a"]
    route = tuple(s.instances.members[i] for i in (home, 1 - home))
    assert await s.turn(session="s", route=route) == Served()
    s.answer(names[home], limited(60))
    assert await s.turn(session="s") == Served()
    assert await s.turn(session="s", opens=False) == Served()
    await trio.sleep(61)
    assert await s.turn(session="s") == Served()
    away = names[1 - home]
    assert s.accounts_asked == [names[home], names[home], away, away, names[home]]
    assert [lender.bound("s") is not None for lender in lenders] == [home == 0, home == 1]


def weighted(*weights: int) -> Instances:
    return Instances(
        tuple(
            instance(
                lending("a"),
                name="openai-codex" if number == 1 else f"openai-codex.{number}",
                weight=weight,
            )
            for number, weight in enumerate(weights, start=1)
        )
    )


@pytest.mark.parametrize("weights", [(3, 1), (1, 1), (5, 3, 2), (1, 0), (0, 2, 1)])
def test_over_any_run_of_turns_the_counts_stay_close_to_the_weights(
    weights: tuple[int, ...],
) -> None:
    instances = weighted(*weights)
    counts = dict.fromkeys((member.name for member in instances.members), 0)
    for turns in range(1, 61):
        counts[instances.route()[0].name] += 1
        for member in instances.members:
            fair = turns * member.weight / sum(weights)
            assert abs(counts[member.name] - fair) < 1


def test_a_route_goes_over_every_instance_that_has_a_weight() -> None:
    instances = weighted(1, 0, 1)
    first, _, third = instances.members
    assert instances.route() == (first, third)
    assert instances.route("openai-codex") == (third, first)


@pytest.mark.parametrize("name", ["openai-codex.2", "openai-codex.1"])
def test_a_name_asks_for_one_instance_alone_whatever_its_weight(name: str) -> None:
    instances = weighted(0, 0)
    [only] = instances.route(name)
    assert only.name == ("openai-codex" if name.endswith(".1") else name)


def test_where_there_is_one_instance_every_name_of_it_is_known_and_no_other() -> None:
    instances = weighted(1)
    for name in (None, "openai-codex", "openai-codex.1"):
        assert instances.route(name) == instances.members
    with pytest.raises(RequestError, match=r"'openai-codex\.2'; configured: openai-codex"):
        instances.route("openai-codex.2")


def test_a_claim_goes_first_but_not_to_an_instance_that_serves_by_name_only() -> None:
    instances = weighted(1, 1, 0)
    for _ in range(3):
        assert instances.route(claim="openai-codex.2/a")[0].name == "openai-codex.2"
    assert instances.route(claim="openai-codex.3/a")[0].name != "openai-codex.3"
    names = [instances.route(claim="openai-codex.2/gone")[0].name for _ in range(4)]
    assert names.count("openai-codex.2") == 2, "an account that is gone claims nothing"


# the client leaves


def _turns_cancelled_at(step: int, seen: set[str]) -> tuple[Scene, bool]:
    """Run a turn that waits in line at two instances, cancelled before its `step`-th task step."""
    s: Scene | None = None
    finished = False

    async def main() -> None:
        nonlocal s, finished
        lenders = [lending("a", max_concurrent_turns=1), lending("b", max_concurrent_turns=1)]
        s = scene(*lenders, serve_s=3.0)
        s.answer("openai-codex.2/b", throttled(2))
        s.answer("a", throttled(5))
        route = s.instances.members
        async with trio.open_nursery() as nursery:
            nursery.start_soon(functools.partial(s.turn, "other", route=route[:1]))
            await trio.testing.wait_all_tasks_blocked()
            with trio.CancelScope() as scope:
                instrument = CancelAtStep(scope, step)
                trio.lowlevel.add_instrument(instrument)
                try:
                    await s.turn("leaves", route=route)
                    finished = True
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            seen.update(s.waited)
            # Whoever comes next is not held up by what the other one left behind.
            with trio.fail_after(30):
                await s.turn("next", route=route)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert s is not None
    return s, finished


def test_a_turn_that_waits_in_line_leaves_nothing_behind_whenever_it_is_cancelled() -> None:
    seen: set[str] = set()
    for step in range(1, 500):
        s, finished = _turns_cancelled_at(step, seen)
        assert not any(s.burden), f"cancelled before step {step}"
        assert {"other", "next"} <= set(s.served), f"cancelled before step {step}"
        if finished:
            assert step > 10
            assert "leaves" in seen, "it never waited"
            return
    pytest.fail("the turn never finished")


# a second try on the same account


@in_virtual_time
async def test_a_turn_that_tries_again_keeps_its_place_before_those_who_stand_in_line() -> None:
    s = scene(lending("a", max_concurrent_turns=1), serve_s=5)
    s.answer("a", overloaded())
    async with trio.open_nursery() as nursery:
        for name in ("first", "second", "third"):
            nursery.start_soon(s.turn, name)
            await trio.testing.wait_all_tasks_blocked()
    assert s.served == ["first", "second", "third"]
    assert s.asked[1] == ("a", RETRY_WAIT_S)
    assert s.burden == [0, 0, 0, 0]


@in_virtual_time
async def test_under_a_cap_an_overload_asks_the_same_account_once_more_too() -> None:
    s = scene(lending("a", "b", max_concurrent_turns=1), serve_s=5)
    s.answer("a", overloaded())
    async with trio.open_nursery() as nursery:
        for name in ("first", "second", "third"):
            nursery.start_soon(s.turn, name)
            await trio.testing.wait_all_tasks_blocked()
    assert [tried.account for tried in s.records["first"].tried] == ["a", "a"]
    assert [tried.by for tried in s.records["first"].tried] == [By.STRATEGY, By.AGAIN]


@in_virtual_time
async def test_an_account_that_was_spent_meanwhile_is_not_asked_again() -> None:
    s = scene(lending("a", "b"))
    s.answer("a", overloaded())
    lender = s.instances.members[0].lender

    async def spend() -> None:
        await trio.sleep(RETRY_WAIT_S / 2)
        async with lender.lease(Ask(again="a")) as lease:
            lease.report(limited(600))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(spend)
        assert await s.turn() == Served()
    assert s.accounts_asked == ["a", "b"]


@in_virtual_time
async def test_time_in_line_is_no_rest() -> None:
    s = scene(lending("a", max_concurrent_turns=1), serve_s=10 * MAX_REST_S)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(s.turn, "long")
        await trio.testing.wait_all_tasks_blocked()
        s.answer("a", throttled(2))
        nursery.start_soon(s.turn, "patient")
    assert s.served == ["long", "patient"]
    waits_s = [tried.waited_s for tried in s.records["patient"].tried]
    assert waits_s == [pytest.approx(10 * MAX_REST_S), pytest.approx(2)]


@in_virtual_time
async def test_a_reset_that_was_told_a_little_early_is_waited_for_once_more() -> None:
    s = scene(lending("a"), limit_patience_s=20)
    s.answer("a", limited(3), limited(4))
    assert await s.turn(waits=True) == Served()
    assert [at for _, at in s.asked] == [0, pytest.approx(3), pytest.approx(4)]


# nobody


@in_virtual_time
async def test_a_turn_that_nobody_could_take_knows_why_for_each_account() -> None:
    s = scene(lending("a"), lending("a"))
    s.answer("a", limited(600))
    s.answer("openai-codex.2/a", refusal(403, b'{"detail":{"code":"deactivated_workspace"}}'))
    assert isinstance(await s.turn(), Fault)
    refused = s.records["turn"].refused
    assert [(r.instance, [(name, p.why) for name, p in r.passed_over]) for r in refused] == [
        ("openai-codex", [("a", Why.COOLING)]),
        ("openai-codex.2", [("openai-codex.2/a", Why.SET_ASIDE)]),
    ]


@in_virtual_time
async def test_a_turn_in_line_at_one_instance_goes_to_another_that_is_free_first() -> None:
    lenders = [lending(name, max_concurrent_turns=1) for name in "ab"]
    s = scene(*lenders)
    first, second = s.instances.members
    async with trio.open_nursery() as nursery:
        for instance, name, serve_s in ((first, "long", 60), (second, "short", 5)):
            s.serve_s = serve_s
            nursery.start_soon(functools.partial(s.turn, name, route=(instance,)))
            await trio.testing.wait_all_tasks_blocked()
        s.serve_s = 1
        nursery.start_soon(functools.partial(s.turn, "third", route=(first, second)))
    assert s.served == ["short", "third", "long"]
    assert s.asked[-1] == ("openai-codex.2/b", 5.0)
    assert s.burden == [0] * 8
