"""Conversations by the ids of their answers: what is shared, what is bounded, who may go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from codexrelay.sessions import history as bounds
from codexrelay.sessions.history import MAX_ANSWERS, Conversation, History
from codexrelay.sessions.identity import SessionKey
from codexrelay.sessions.registry import SessionRegistry
from codexrelay.sessions.state import LeftBehind, SessionState, TurnFacts, TurnOutcome, end

if TYPE_CHECKING:
    import pytest

    from codexrelay.protocol.raw import Json


def _item(text: str) -> Json:
    return {"type": "message", "role": "user", "content": text}


def _said(*texts: str) -> Conversation:
    return Conversation().followed_by([_item(text) for text in texts])


def test_a_conversation_gives_back_what_it_was_given() -> None:
    odd: Json = {"type": "reasoning", "encrypted_content": "gAAA", "summary": [], "content": None}
    conversation = _said("a").followed_by([odd, _item("half \ud83d")]).followed_by([])
    assert conversation.items == [_item("a"), odd, _item("half \ud83d")]
    assert Conversation().items == []


def test_what_goes_on_shares_what_came_before() -> None:
    first = _said("a" * 1000)
    second = first.followed_by([_item("b")])
    assert second.pieces[0] is first.pieces[0]
    history = History().with_answer("r1", first).with_answer("r2", second)
    assert history.characters == second.characters
    assert first.characters < second.characters < 1200


def test_what_is_done_with_the_items_changes_no_history() -> None:
    conversation = _said("a")
    conversation.items.clear()
    assert conversation.items == [_item("a")]


def test_the_oldest_answer_makes_room() -> None:
    history = History()
    for number in range(MAX_ANSWERS + 3):
        history = history.with_answer(f"r{number}", _said(str(number)))
    assert list(history.known) == [f"r{number}" for number in range(3, MAX_ANSWERS + 3)]


def test_an_answer_that_is_given_again_is_the_latest() -> None:
    history = History().with_answer("r1", _said("a")).with_answer("r2", _said("b"))
    history = history.with_answer("r1", _said("c"))
    assert list(history.known) == ["r2", "r1"]
    found = history.after("r1")
    assert found is not None
    assert found.items == [_item("c")]
    assert history.after("r3") is None


def test_long_histories_push_older_ones_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_CHARACTERS", 1000)
    history = History()
    for number in range(4):
        history = history.with_answer(f"r{number}", _said(str(number) * 400))
    assert list(history.known) == ["r2", "r3"]
    assert history.characters <= 1000


def test_one_that_is_too_long_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_CHARACTERS", 1000)
    history = History().with_answer("r1", _said("a"))
    assert history.with_answer("r2", _said("b" * 1000)) is history


def test_a_turn_leaves_its_conversation_under_the_id_of_its_answer() -> None:
    conversation = _said("a")
    left = LeftBehind(conversation=conversation)
    state = end(SessionState(), TurnOutcome(user_turn="u", left_behind=left, response_id="resp_1"))
    assert state.history.after("resp_1") is conversation
    assert state.characters == conversation.characters
    # An answer without an id can be gone on from by nobody.
    assert end(SessionState(), TurnOutcome(user_turn="u", left_behind=left)).characters == 0
    # And a client that does not go on leaves nothing.
    assert end(SessionState(), TurnOutcome(user_turn="u", response_id="resp_2")).characters == 0


_KEY = SessionKey(text="s")
_OTHER = SessionKey(text="t")
_FACTS = TurnFacts(user_turn="u")


async def _answered(sessions: SessionRegistry, response_id: str, *texts: str) -> None:
    session, _ = await sessions.begin_turn(_KEY, _FACTS)
    left = LeftBehind(conversation=_said(*texts))
    await session.end_turn(TurnOutcome(user_turn="u", left_behind=left, response_id=response_id))


async def test_a_session_recalls_its_own_answers_only() -> None:
    async with trio.open_nursery() as nursery:
        sessions = SessionRegistry(nursery)
        await _answered(sessions, "resp_1", "a")
        await sessions.begin_turn(_OTHER, _FACTS)
        found = await sessions.recall(_KEY, "resp_1")
        assert found is not None
        assert found.items == [_item("a")]
        assert await sessions.recall(_OTHER, "resp_1") is None
        assert await sessions.recall(_KEY, "resp_2") is None
        nursery.cancel_scope.cancel()


async def test_to_ask_begins_no_session() -> None:
    async with trio.open_nursery() as nursery:
        sessions = SessionRegistry(nursery)
        assert await sessions.recall(_KEY, "resp_1") is None
        assert len(sessions) == 0
        nursery.cancel_scope.cancel()


async def test_an_answer_of_the_relays_own_can_be_gone_on_from() -> None:
    async with trio.open_nursery() as nursery:
        sessions = SessionRegistry(nursery)
        session, _ = await sessions.begin_turn(_KEY, _FACTS)
        await session.answered("resp_warm", _said("prompt"))
        assert (await sessions.recall(_KEY, "resp_warm")) is not None
        assert sessions.continued("resp_warm") == _KEY
        # It was no turn.
        counters = sessions.counters(_KEY)
        assert counters is not None
        assert counters.turns == 0
        nursery.cancel_scope.cancel()


async def test_histories_count_in_what_all_sessions_may_keep() -> None:
    async with trio.open_nursery() as nursery:
        sessions = SessionRegistry(nursery, max_characters=3000)
        await _answered(sessions, "resp_1", "a" * 2000)
        assert (await sessions.recall(_KEY, "resp_1")) is not None
        assert sessions.characters > 2000
        session, _ = await sessions.begin_turn(_OTHER, _FACTS)
        await session.answered("resp_2", _said("b" * 2000))
        assert (await sessions.recall(_OTHER, "resp_2")) is not None
        # The session used longest ago left the memory, as a whole.
        assert await sessions.recall(_KEY, "resp_1") is None
        assert sessions.characters < 3000
        nursery.cancel_scope.cancel()
