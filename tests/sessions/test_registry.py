"""The sessions of a process, and the tasks that own them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing

from codexrelay.errors import SessionLostError
from codexrelay.sessions import registry as registries
from codexrelay.sessions.identity import SessionKey
from codexrelay.sessions.registry import SessionRegistry
from codexrelay.sessions.settings import SessionsSettings
from codexrelay.sessions.state import LeftBehind, Savings, TurnFacts, TurnOutcome
from tests.fakes.session_store import MemoryStore
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codexrelay.protocol.raw import JsonObject

_FACTS = TurnFacts(user_turn="turn-1")
#: Of a turn before which the disk is asked.
_BINDS = attrs.evolve(_FACTS, binds=True)
_OUTCOME = TurnOutcome(user_turn="turn-1", account_id="a", turn_state="s1")
#: An outcome that makes the actor fail: nothing of it can be read.
_POISON: TurnOutcome = None  # type: ignore[assignment]


def key(text: str = "one") -> SessionKey:
    return SessionKey(text=text)


@asynccontextmanager
async def registry(
    *, max_sessions: int = 100, idle_s: float = 100
) -> AsyncIterator[SessionRegistry]:
    async with trio.open_nursery() as nursery:
        yield SessionRegistry(nursery, max_sessions=max_sessions, idle_s=idle_s)
        nursery.cancel_scope.cancel()


@in_virtual_time
async def test_what_one_turn_leaves_the_next_one_finds() -> None:
    async with registry() as sessions:
        await sessions.session(key()).end_turn(_OUTCOME)
        plan = await sessions.session(key()).begin_turn(_FACTS)
        other = await sessions.session(key("two")).begin_turn(_FACTS)
    assert plan.turn_state is not None
    assert plan.turn_state.value == "s1"
    assert other.turn_state is None


@in_virtual_time
async def test_turns_that_begin_at_once_share_one_session() -> None:
    async with registry() as sessions:
        assert sessions.session(key()) is sessions.session(key())
        assert len(sessions) == 1


@in_virtual_time
async def test_the_session_used_longest_ago_makes_room() -> None:
    async with registry(max_sessions=2) as sessions:
        await sessions.session(key("one")).end_turn(_OUTCOME)
        sessions.session(key("two"))
        sessions.session(key("one"))
        sessions.session(key("three"))
        await trio.testing.wait_all_tasks_blocked()
        assert len(sessions) == 2
        plan = await sessions.session(key("one")).begin_turn(_FACTS)
    assert plan.turn_state is not None, "it was used in between"


@in_virtual_time
async def test_an_idle_session_is_forgotten() -> None:
    async with registry(idle_s=100) as sessions:
        await sessions.session(key()).end_turn(_OUTCOME)
        await trio.sleep(101)
        sessions.session(key("two"))
        assert len(sessions) == 1
        assert (await sessions.session(key()).begin_turn(_FACTS)).turn_state is None


@in_virtual_time
async def test_all_sessions_together_are_bounded_by_what_they_remember() -> None:
    item: JsonObject = {"type": "reasoning", "encrypted_content": "x" * 100}
    outcome = attrs.evolve(_OUTCOME, left_behind=LeftBehind(reasoning={"call_1": (item,)}))
    async with registry() as sessions:
        sessions.max_characters = 250
        for name in ("one", "two", "three"):
            await sessions.session(key(name)).end_turn(outcome)
            await trio.testing.wait_all_tasks_blocked()
        assert len(sessions) == 2
        assert sessions.characters == 200
        assert (await sessions.session(key("one")).begin_turn(_FACTS)).turn_state is None


@in_virtual_time
async def test_a_turn_of_a_forgotten_session_is_told_so() -> None:
    async with registry(max_sessions=1) as sessions:
        forgotten = sessions.session(key("one"))
        sessions.session(key("two"))
        with pytest.raises(SessionLostError):
            await forgotten.begin_turn(_FACTS)
        with pytest.raises(SessionLostError):
            await forgotten.end_turn(_OUTCOME)


@in_virtual_time
async def test_an_actor_that_fails_ends_no_other_session_and_begins_anew() -> None:
    async with registry() as sessions:
        await sessions.session(key("two")).end_turn(_OUTCOME)
        broken = sessions.session(key("one"))
        lost = []

        async def ask() -> None:
            try:
                await broken.begin_turn(_FACTS)
            except SessionLostError:
                lost.append(broken)

        async with trio.open_nursery() as waiting:
            await broken.end_turn(_POISON)
            for _ in range(3):
                waiting.start_soon(ask)
        assert len(lost) == 3
        assert (await sessions.session(key("one")).begin_turn(_FACTS)).turn_state is None
        assert (await sessions.session(key("two")).begin_turn(_FACTS)).turn_state is not None


@in_virtual_time
async def test_a_turn_that_gives_up_waiting_harms_nobody() -> None:
    store = MemoryStore(held=trio.Event())
    async with trio.open_nursery() as nursery:
        sessions = SessionRegistry(nursery, store=store)
        session = sessions.session(key())
        nursery.start_soon(session.begin_turn, _BINDS)  # the disk is asked, all others wait
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1) as patience:
            await session.begin_turn(_FACTS)
        assert patience.cancelled_caught
        store.held.set()
        await session.end_turn(_OUTCOME)
        assert (await session.begin_turn(_FACTS)).turn_state is not None


@in_virtual_time
async def test_an_answers_id_leads_to_its_session_also_when_that_has_left_the_memory() -> None:
    async with registry(max_sessions=1) as sessions:
        for name, ids in (("one", ("r1", "r2")), ("two", ("r3",))):
            for response_id in ids:
                outcome = attrs.evolve(_OUTCOME, response_id=response_id)
                await sessions.session(key(name)).end_turn(outcome)
        await trio.testing.wait_all_tasks_blocked()
        assert sessions.continued("r1") == sessions.continued("r2") == key("one")
        assert sessions.continued("r3") == key("two")
        assert sessions.continued("r4") is None
        plan = await sessions.session(key("two")).begin_turn(_FACTS)
        assert plan.responses == ("r3",)


@in_virtual_time
async def test_of_very_many_answers_the_ones_used_longest_ago_are_forgotten() -> None:
    async with registry() as sessions:
        for n in range(registries.MAX_RESPONSES + 1):
            sessions._note_response(f"r{n}", key())
            sessions.continued("r0")
        assert sessions.continued("r0") == key()
        assert sessions.continued("r1") is None
        assert sessions.continued(f"r{n}") == key()


@in_virtual_time
async def test_other_settings_act_at_once() -> None:
    async with registry() as sessions:
        for name in ("one", "two", "three"):
            sessions.session(key(name))
        sessions.adopt(SessionsSettings(max_sessions=2, idle_seconds=10))
        assert len(sessions) == 2
        await trio.sleep(11)
        sessions.session(key("four"))
        assert len(sessions) == 1


@in_virtual_time
async def test_what_an_ending_actor_still_hears_is_not_counted_against_the_others() -> None:
    item: JsonObject = {"type": "reasoning", "encrypted_content": "x" * 100}
    outcome = attrs.evolve(_OUTCOME, left_behind=LeftBehind(reasoning={"call_1": (item,)}))
    async with registry(max_sessions=1) as sessions:
        first = sessions.session(key("one"))
        await trio.testing.wait_all_tasks_blocked()
        await first.end_turn(outcome)  # heard, but not dealt with yet
        sessions.session(key("two"))
        await trio.testing.wait_all_tasks_blocked()
        assert sessions.characters == 0


@in_virtual_time
async def test_savings_are_told_of_the_sessions_that_have_some() -> None:
    saved = Savings(saved_bytes=400, saved_tokens=100)
    async with registry() as sessions:
        await sessions.session(key("one")).end_turn(attrs.evolve(_OUTCOME, compaction=saved))
        await sessions.session(key("two")).end_turn(_OUTCOME)
        await trio.testing.wait_all_tasks_blocked()
        [(told, counters)] = sessions.savings()
        assert sessions.counters(key("one")) is counters
        assert sessions.counters(key("three")) is None
    assert told == key("one")
    assert counters.compaction == saved


@in_virtual_time
async def test_a_turn_begins_although_its_session_left_the_memory_just_now() -> None:
    async with registry(max_sessions=1) as sessions:
        held = sessions.session(key("one"))
        async with trio.open_nursery() as turns:
            turns.start_soon(sessions.begin_turn, key("one"), _FACTS)
            await trio.lowlevel.checkpoint()
            sessions.session(key("two"))
        with pytest.raises(SessionLostError):
            await held.begin_turn(_FACTS)
        session, _plan = await sessions.begin_turn(key("one"), _FACTS)
        await session.end_turn(_OUTCOME)


@in_virtual_time
async def test_more_turns_at_once_than_sessions_may_stay_all_begin() -> None:
    async with registry(max_sessions=2) as sessions:
        plans = []

        async def begin(name: str) -> None:
            plans.append(await sessions.begin_turn(key(name), _FACTS))

        async with trio.open_nursery() as turns:
            for n in range(60):
                turns.start_soon(begin, str(n % 40))
        assert len(plans) == 60
        assert len(sessions) == 2


@in_virtual_time
async def test_a_turn_that_gives_up_while_its_session_leaves_lets_the_actor_end() -> None:
    store = MemoryStore(held=trio.Event())
    async with trio.open_nursery() as nursery:
        sessions = SessionRegistry(nursery, max_sessions=1, store=store)
        with trio.move_on_after(1) as patience:
            nursery.start_soon(_leave_soon, sessions)
            await sessions.session(key()).begin_turn(_BINDS)
        assert patience.cancelled_caught
        store.held.set()
        with trio.fail_after(1):
            await sessions.begin_turn(key(), _BINDS)  # the next actor waits for this one
        assert not sessions._leaving


async def _leave_soon(sessions: SessionRegistry) -> None:
    await trio.sleep(0.5)
    sessions.session(key("two"))


@in_virtual_time
async def test_an_idle_session_has_no_task_and_its_turns_cost_no_switch() -> None:
    async with trio.open_nursery() as nursery:
        sessions = SessionRegistry(nursery)
        steps = _Steps()
        trio.lowlevel.add_instrument(steps)
        session, _plan = await sessions.begin_turn(key(), _FACTS)
        await session.end_turn(_OUTCOME)
        _session, plan = await sessions.begin_turn(key(), _FACTS)
        assert await sessions.recall(key(), "r1") is None
        trio.lowlevel.remove_instrument(steps)
        assert plan.turn_state is not None
        assert steps.count == 0
        assert not nursery.child_tasks


class _Steps(trio.abc.Instrument):
    """Counts how often a task goes on."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """See `Instrument.before_task_step`."""
        self.count += 1


@in_virtual_time
async def test_a_turn_that_is_cancelled_before_it_begins_does_not_begin() -> None:
    async with registry() as sessions:
        with trio.CancelScope() as scope:
            scope.cancel()
            await sessions.session(key()).end_turn(_OUTCOME)
        assert scope.cancelled_caught
        assert (await sessions.session(key()).begin_turn(_FACTS)).turn_state is None


@in_virtual_time
async def test_who_asks_while_the_disk_is_asked_is_served_in_order() -> None:
    store, served = MemoryStore(held=trio.Event()), []
    async with trio.open_nursery() as nursery:
        sessions = SessionRegistry(nursery, store=store)
        session = sessions.session(key())

        async def begin(name: str, facts: TurnFacts) -> None:
            plan = await session.begin_turn(facts)
            served.append((name, plan.turn_state is not None))

        for name, facts in (("disk", _BINDS), ("behind", _FACTS)):
            nursery.start_soon(begin, name, facts)
            await trio.testing.wait_all_tasks_blocked()
        await session.end_turn(_OUTCOME)  # it waits for nobody
        nursery.start_soon(begin, "last", _FACTS)
        await trio.testing.wait_all_tasks_blocked()
        assert served == []
        store.held.set()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(served) == [("behind", False), ("disk", False), ("last", True)]
        assert not nursery.child_tasks


@in_virtual_time
async def test_a_session_whose_actors_all_fail_is_given_up() -> None:
    poison: TurnFacts = None  # type: ignore[assignment]
    async with registry() as sessions:
        with pytest.raises(SessionLostError):
            await sessions.begin_turn(key(), poison)
        assert len(sessions) == 0
