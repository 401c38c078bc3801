"""The sessions of a process, and the tasks that own them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing

from codexrelay.errors import SessionLostError
from codexrelay.sessions import actor as actors
from codexrelay.sessions.identity import SessionKey
from codexrelay.sessions.registry import SessionRegistry
from codexrelay.sessions.state import LeftBehind, TurnFacts, TurnOutcome
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codexrelay.protocol.raw import JsonObject

_FACTS = TurnFacts(user_turn="turn-1")
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
    mailbox = actors.open_mailbox(lambda _: None)
    with trio.move_on_after(1) as patience:
        await mailbox.session.begin_turn(_FACTS)  # the actor does not run yet
    assert patience.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.actor.run)
        await mailbox.session.end_turn(_OUTCOME)
        assert (await mailbox.session.begin_turn(_FACTS)).turn_state is not None
        mailbox.session.close()
