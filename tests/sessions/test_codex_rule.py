"""The first request of a session to openai-codex turns history compaction off for good."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from codexrelay.errors import SessionLostError
from codexrelay.sessions.identity import SessionKey, session_key
from codexrelay.sessions.registry import SessionRegistry
from codexrelay.sessions.state import TurnFacts, TurnOutcome
from codexrelay.sessions.store import Kept
from tests.fakes.cancel_at_step import CancelAtStep
from tests.fakes.session_store import MemoryStore
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping

    from codexrelay.protocol.raw import JsonObject
    from codexrelay.sessions.store import SessionStore

LOCAL = TurnFacts(user_turn="turn-1", compaction=True)
FAMILY = attrs.evolve(LOCAL, family=True)
KEY = SessionKey(text="ses_1", name="ses_1")


@asynccontextmanager
async def relay(store: SessionStore, *, max_sessions: int = 100) -> AsyncIterator[SessionRegistry]:
    """Run a relay's sessions: leaving the block is what a restart begins with."""
    async with trio.open_nursery() as nursery:
        yield SessionRegistry(nursery, max_sessions, store=store)
        nursery.cancel_scope.cancel()


async def compacts(sessions: SessionRegistry, facts: TurnFacts = LOCAL) -> bool:
    _session, plan = await sessions.begin_turn(KEY, facts)
    return plan.compacts


def told(logs: list[MutableMapping[str, object]]) -> list[MutableMapping[str, object]]:
    """Return the warnings about compaction."""
    return [line for line in logs if "compaction" in str(line) and line["log_level"] == "warning"]


@in_virtual_time
async def test_from_the_first_turn_to_the_family_on_all_stays_whole_and_that_is_told_once() -> None:
    store = MemoryStore()
    with capture_logs() as logs:
        async with relay(store) as sessions:
            assert await compacts(sessions)
            assert await compacts(sessions)
            assert not told(logs)
            assert not await compacts(sessions, FAMILY)
            for facts in (LOCAL, FAMILY, LOCAL):
                assert not await compacts(sessions, facts)
    [warning] = told(logs)
    assert warning["session"] == KEY.cache_key
    assert warning["client_session"] == "ses_1"
    assert len(logs) == 1
    assert store.rows == {KEY.cache_key: Kept(uncompacted=True)}


@in_virtual_time
async def test_a_restart_neither_forgets_it_nor_tells_it_again() -> None:
    store = MemoryStore()
    with capture_logs() as logs:
        for facts in (FAMILY, LOCAL, FAMILY):
            async with relay(store) as sessions:
                assert not await compacts(sessions, facts)
    assert len(told(logs)) == 1
    assert len(store.saves) == 1


@in_virtual_time
async def test_a_failover_into_the_family_counts_from_before_its_request_is_built() -> None:
    store = MemoryStore()
    with capture_logs() as logs:
        async with relay(store) as sessions:
            session, plan = await sessions.begin_turn(KEY, LOCAL)
            assert plan.compacts
            await session.meets_family(compaction=True)
            assert store.rows[KEY.cache_key].uncompacted
            assert len(told(logs)) == 1
            await session.meets_family(compaction=True)
            assert not await compacts(sessions)
    assert len(told(logs)) == 1


@in_virtual_time
async def test_first_turns_at_the_same_time_are_told_once_and_none_is_compacted_after() -> None:
    store, plans = MemoryStore(), []
    with capture_logs() as logs:
        async with relay(store) as sessions:
            async with trio.open_nursery() as turns:
                for facts in (FAMILY, FAMILY, LOCAL, FAMILY):

                    async def ask(facts: TurnFacts = facts) -> None:
                        plans.append((facts, await compacts(sessions, facts)))

                    turns.start_soon(ask)
            assert not await compacts(sessions)
    assert [may for facts, may in plans if facts is FAMILY] == [False] * 3
    assert len(told(logs)) == 1
    assert len(store.saves) == 1


@in_virtual_time
async def test_each_conversation_of_a_client_without_ids_is_told_once() -> None:
    with capture_logs() as logs:
        async with relay(MemoryStore()) as sessions:
            for prompt in ("one", "two"):
                history: list[JsonObject] = [{"role": "user", "content": prompt}]
                for _ in range(4):
                    key = session_key({}, {"messages": [*history]})
                    _session, plan = await sessions.begin_turn(key, FAMILY)
                    assert not plan.compacts
                    history.append({"role": "assistant", "content": "answer"})
    warnings = told(logs)
    assert len(warnings) == 2
    assert all("client_session" not in warning for warning in warnings)


@in_virtual_time
async def test_where_compaction_is_off_nobody_is_told_and_the_disk_is_left_alone() -> None:
    store = MemoryStore()
    with capture_logs() as logs:
        async with relay(store) as sessions:
            facts = attrs.evolve(FAMILY, compaction=False)
            session, plan = await sessions.begin_turn(KEY, facts)
            assert not plan.compacts
            await session.meets_family(compaction=False)
    assert logs == []
    assert store.loads == store.saves == []


@in_virtual_time
async def test_the_disk_is_asked_once_its_answer_matters() -> None:
    store = MemoryStore(rows={KEY.cache_key: Kept(uncompacted=True, bound="work")})
    plain = TurnFacts(user_turn="turn-1", family=True)
    async with relay(store) as sessions:
        _session, plan = await sessions.begin_turn(KEY, plain)
        assert plan.bound is None
        assert store.loads == []
        _session, plan = await sessions.begin_turn(KEY, attrs.evolve(plain, binds=True))
        assert plan.bound == "work"
    async with relay(store) as sessions:
        await sessions.begin_turn(KEY, attrs.evolve(plain, family=False))
        assert not await compacts(sessions), "compaction was switched on meanwhile"
    assert len(store.loads) == 2


@in_virtual_time
async def test_who_met_the_family_before_compaction_was_on_is_told_at_its_next_such_turn() -> None:
    store = MemoryStore()
    with capture_logs() as logs:
        async with relay(store) as sessions:
            await compacts(sessions, attrs.evolve(FAMILY, compaction=False))
            assert not await compacts(sessions, LOCAL)
            assert not told(logs)
            assert store.saves == []
            assert not await compacts(sessions, FAMILY)
            assert len(told(logs)) == 1
            assert not await compacts(sessions, FAMILY)
    assert len(told(logs)) == 1
    assert store.rows[KEY.cache_key].uncompacted


@in_virtual_time
async def test_a_store_that_fails_is_told_and_asked_again_while_nothing_is_compacted() -> None:
    store = MemoryStore(unwritable=True)
    with capture_logs() as logs:
        async with relay(store) as sessions:
            assert not await compacts(sessions, FAMILY)
            assert len(told(logs)) == 1
            assert len(logs) == 2, "and another one, of the store"
            assert not await compacts(sessions, LOCAL)
            assert not await compacts(sessions, FAMILY)
            assert len(store.saves) == 3, "each turn tries again"
            store.unwritable = False
            assert not await compacts(sessions, LOCAL)
            assert store.rows[KEY.cache_key].uncompacted
            await compacts(sessions, FAMILY)
            assert len(store.saves) == 4
    assert len(told(logs)) == 1
    assert len(logs) == 2


@in_virtual_time
async def test_while_it_cannot_be_known_whether_a_session_was_switched_nothing_is_compacted() -> (
    None
):
    store = MemoryStore(rows={KEY.cache_key: Kept(uncompacted=True)}, unreadable=True)
    with capture_logs() as logs:
        async with relay(store) as sessions:
            assert not await compacts(sessions)
            store.unreadable = False
            assert not await compacts(sessions)
            assert not await compacts(sessions, FAMILY)
            _session, plan = await sessions.begin_turn(SessionKey(text="other"), LOCAL)
            assert plan.compacts
    assert logs == []


@in_virtual_time
async def test_what_another_relay_on_the_same_disk_has_told_is_not_told_again() -> None:
    store = MemoryStore()
    with capture_logs() as logs:
        async with relay(store) as one, relay(store) as other:
            assert await compacts(one)
            assert await compacts(other)
            assert not await compacts(one, FAMILY)
            assert not await compacts(other, FAMILY)
    assert len(told(logs)) == 1


@in_virtual_time
async def test_leaving_the_memory_takes_nothing_back() -> None:
    with capture_logs() as logs:
        async with relay(MemoryStore(), max_sessions=1) as sessions:
            for _ in range(3):
                assert not await compacts(sessions, FAMILY)
                sessions.session(SessionKey(text="other"))
                assert not await compacts(sessions, LOCAL)
                sessions.session(SessionKey(text="other"))
    assert len(told(logs)) == 1


@pytest.mark.parametrize("compaction", [True, False], ids=["failing disk", "compaction off"])
@in_virtual_time
async def test_leaving_the_memory_takes_nothing_back_that_the_disk_does_not_know(
    compaction: bool,
) -> None:
    store = MemoryStore(unwritable=True)
    with capture_logs() as logs:
        async with relay(store, max_sessions=1) as sessions:
            await compacts(sessions, attrs.evolve(FAMILY, compaction=compaction))
            sessions.session(SessionKey(text="other"))
            await trio.testing.wait_all_tasks_blocked()
            assert not await compacts(sessions, LOCAL)
    assert len(told(logs)) == compaction


@in_virtual_time
async def test_a_session_that_leaves_while_it_switches_ends_that_before_it_comes_back() -> None:
    store = MemoryStore(held=trio.Event())
    with capture_logs() as logs:
        async with relay(store, max_sessions=1) as sessions, trio.open_nursery() as turns:
            turns.start_soon(compacts, sessions, FAMILY)
            await trio.testing.wait_all_tasks_blocked()
            assert store.loads == [KEY.cache_key]
            sessions.session(SessionKey(text="other"))
            plans = []

            async def come_back() -> None:
                plans.append(await compacts(sessions, LOCAL))

            turns.start_soon(come_back)
            await trio.testing.wait_all_tasks_blocked()
            assert store.loads.count(KEY.cache_key) == 1, "two actors would know two things"
            store.held.set()
            await trio.testing.wait_all_tasks_blocked()
            assert plans == [False]
    assert len(told(logs)) == 1


@in_virtual_time
async def test_an_actor_that_fails_leaves_the_switch_behind() -> None:
    poison: TurnOutcome = None  # type: ignore[assignment]
    store = MemoryStore()
    with capture_logs() as logs:
        async with relay(store) as sessions:
            for compaction in (False, True):
                await compacts(sessions, attrs.evolve(FAMILY, compaction=compaction))
                await sessions.session(KEY).end_turn(poison)
                await trio.testing.wait_all_tasks_blocked()
                assert len(sessions) == 0
                assert not await compacts(sessions, LOCAL)
    assert len(told(logs)) == 1


@in_virtual_time
async def test_a_turn_that_leaves_at_any_step_leaves_the_switch_whole_or_to_be_made() -> None:
    """At each step: before the actor has heard of it, while it loads, while it saves, after it."""
    outcomes = set()
    for step in range(1, 40):
        store = MemoryStore()
        with capture_logs() as logs:
            async with relay(store) as sessions:
                outcomes.add(await _leave_at(step, sessions, store))
                assert not await compacts(sessions, FAMILY)
                assert not await compacts(sessions, LOCAL)
                assert len(sessions) == 1
        assert len(told(logs)) == 1, step
        assert store.rows == {KEY.cache_key: Kept(uncompacted=True)}, step
    assert {(True, False), (True, True), (False, True)} <= outcomes


async def _leave_at(step: int, sessions: SessionRegistry, store: MemoryStore) -> tuple[bool, bool]:
    """Cancel a turn at a step; return whether that met it, and whether it had switched."""
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(scope, step)
        trio.lowlevel.add_instrument(instrument)
        try:
            session, _plan = await sessions.begin_turn(KEY, LOCAL)
            await session.meets_family(compaction=True)
            await session.end_turn(TurnOutcome(user_turn="turn-1"))
        finally:
            trio.lowlevel.remove_instrument(instrument)
    await trio.testing.wait_all_tasks_blocked()
    return scope.cancelled_caught, bool(store.rows)


@in_virtual_time
async def test_a_turn_whose_session_is_gone_says_so_to_the_next_one() -> None:
    store = MemoryStore()
    with capture_logs() as logs:
        async with relay(store, max_sessions=1) as sessions:
            session, _plan = await sessions.begin_turn(KEY, LOCAL)
            sessions.session(SessionKey(text="other"))
            with pytest.raises(SessionLostError):
                await session.meets_family(compaction=True)
            await sessions.meets_family(KEY, compaction=True)
            assert not await compacts(sessions)
    assert len(told(logs)) == 1


# bindings


BOUND = TurnOutcome(user_turn="turn-1", account_id="work", bound="work")


@in_virtual_time
async def test_a_binding_is_stored_when_it_is_new_and_told_after_a_restart() -> None:
    store = MemoryStore()
    async with relay(store) as sessions:
        session, plan = await sessions.begin_turn(KEY, LOCAL)
        assert plan.bound is None
        for outcome in (BOUND, BOUND, TurnOutcome(user_turn="turn-1", backend="local")):
            await session.end_turn(outcome)
        await trio.testing.wait_all_tasks_blocked()
        assert store.saves == [Kept(bound="work")]
    async with relay(store) as sessions:
        session, plan = await sessions.begin_turn(KEY, FAMILY)
        assert plan.bound == "work"
        await session.end_turn(BOUND)
        _session, plan = await sessions.begin_turn(KEY, LOCAL)
        assert plan.bound is None
    assert store.rows == {KEY.cache_key: Kept(uncompacted=True, bound="work")}


@in_virtual_time
async def test_a_binding_that_cannot_be_stored_is_stored_later() -> None:
    store = MemoryStore(unwritable=True)
    async with relay(store) as sessions:
        session = sessions.session(KEY)
        await session.begin_turn(LOCAL)
        await session.end_turn(BOUND)
        await trio.testing.wait_all_tasks_blocked()
        store.unwritable = False
        await session.end_turn(BOUND)
        await trio.testing.wait_all_tasks_blocked()
        assert store.rows[KEY.cache_key].bound == "work"


@in_virtual_time
async def test_a_session_in_long_use_reminds_the_disk_of_itself() -> None:
    store = MemoryStore()
    async with relay(store) as sessions:
        for _ in range(5):
            session, _plan = await sessions.begin_turn(KEY, LOCAL)
            await session.end_turn(BOUND)
            await trio.sleep(4 * 3600)
        assert store.saves == [Kept(bound="work")] * 3


@in_virtual_time
async def test_the_disk_is_left_alone_by_a_session_of_which_there_is_nothing_to_keep() -> None:
    store = MemoryStore()
    async with relay(store) as sessions:
        for _ in range(3):
            session, _plan = await sessions.begin_turn(KEY, LOCAL)
            await session.end_turn(TurnOutcome(user_turn="turn-1", account_id="work"))
            await trio.sleep(12 * 3600)
    assert store.saves == []
    assert len(store.loads) == 1
