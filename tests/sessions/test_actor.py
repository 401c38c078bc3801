"""The actor and those who ask it: one that leaves harms nobody."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from codexrelay.sessions.identity import SessionKey
from codexrelay.sessions.registry import SessionRegistry
from codexrelay.sessions.state import TurnFacts, TurnOutcome
from tests.fakes.session_store import MemoryStore
from tests.fakes.virtual_time import in_virtual_time

KEY = SessionKey(text="s")
FACTS = TurnFacts(user_turn="turn-1")


@pytest.mark.parametrize("ask", ["a plan", "the family"])
@in_virtual_time
async def test_who_leaves_while_the_disk_is_asked_costs_the_session_nothing(ask: str) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        known = SessionRegistry(nursery, store=store)
        session = known.session(KEY)
        store.held = trio.Event()
        with trio.move_on_after(1):
            if ask == "a plan":
                await session.begin_turn(FACTS)
            else:
                await session.meets_family(compaction=True)
        store.held.set()
        store.held = None
        await trio.testing.wait_all_tasks_blocked()
        await session.end_turn(TurnOutcome(user_turn="turn-1", account_id="a", turn_state="ts"))
        plan = await session.begin_turn(FACTS)
        assert known.session(KEY) is session, "its actor lives on"
        assert plan.turn_state is not None
        nursery.cancel_scope.cancel()
