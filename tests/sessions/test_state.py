"""What a session remembers, and what a turn is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.sessions.state import (
    MAX_OWNED,
    MAX_RECALLED_CALLS,
    MAX_RECALLED_CHARACTERS,
    MAX_TURN_STATES,
    LeftBehind,
    SessionState,
    TurnFacts,
    TurnOutcome,
    TurnPlan,
    begin,
    end,
)

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject


def after(*outcomes: TurnOutcome) -> SessionState:
    state = SessionState()
    for outcome in outcomes:
        state = end(state, outcome)
    return state


def served(account_id: str, value: str | None, user_turn: str = "turn-1") -> TurnOutcome:
    return TurnOutcome(user_turn=user_turn, account_id=account_id, turn_state=value)


def thought(call_id: str, account_id: str = "a", content: str = "secret") -> TurnOutcome:
    item: JsonObject = {"type": "reasoning", "encrypted_content": content}
    left_behind = LeftBehind(reasoning={call_id: (item,)})
    return TurnOutcome(user_turn="turn-1", account_id=account_id, left_behind=left_behind)


def made(*digests: str, account_id: str = "a") -> TurnOutcome:
    left_behind = LeftBehind(encrypted=digests)
    return TurnOutcome(user_turn="turn-1", account_id=account_id, left_behind=left_behind)


def told(state: SessionState, user_turn: str = "turn-1", offered: str | None = None) -> TurnPlan:
    return begin(state, TurnFacts(user_turn=user_turn, offered_turn_state=offered))


def turn_state(plan: TurnPlan) -> tuple[str, str] | None:
    """Return account and value of the turn state that a turn is told."""
    state = plan.turn_state
    return None if state is None else (state.account_id, state.value)


def test_a_new_session_knows_nothing() -> None:
    assert told(SessionState()) == TurnPlan()


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([served("a", "s1")], ("a", "s1")),
        ([served("a", "s1"), served("a", "s2")], ("a", "s1")),
        ([served("a", None), served("a", "s2")], ("a", "s2")),
        ([served("a", None)], None),
        ([served("a", "s1"), served("b", "s2")], ("b", "s2")),
        ([served("a", "s1"), served("b", "s2"), served("a", "s3")], ("a", "s1")),
        ([served("a", "s1"), served("b", "s2"), served("a", None)], ("a", "s1")),
        ([served("a", "s1"), served("b", "s2", "turn-2")], ("a", "s1")),
        ([served("a", "s1", "turn-2")], None),
    ],
    ids=[
        "the value received",
        "the first value is kept",
        "the first value may come late",
        "none received",
        "after a move, that of the new account",
        "after a move and back, the first one of the old account",
        "after a move and back, without a new value",
        "another user turn does not matter",
        "never that of another user turn",
    ],
)
def test_a_turn_is_told_the_state_of_its_user_turn(
    outcomes: list[TurnOutcome], expected: tuple[str, str] | None
) -> None:
    assert turn_state(told(after(*outcomes))) == expected


@pytest.mark.parametrize(
    ("offered", "expected"),
    [("s1", ("a", "s1")), ("s2", ("b", "s2")), ("nobody's", None)],
    ids=["of one turn", "of another", "unknown, as after a restart"],
)
def test_the_value_that_a_client_sends_names_its_user_turn(
    offered: str, expected: tuple[str, str] | None
) -> None:
    state = after(served("a", "s1", "turn-1"), served("b", "s2", "turn-2"))
    assert turn_state(told(state, "turn-3", offered)) == expected


def test_the_first_value_of_a_moved_turn_is_exchanged_for_that_of_its_new_account() -> None:
    # Codex CLI goes on sending the first one.
    state = after(served("a", "s1"), served("b", "s2"))
    assert turn_state(told(state, offered="s1")) == ("b", "s2")


def test_an_unknown_value_does_not_hide_what_is_known_of_the_turn() -> None:
    assert turn_state(told(after(served("a", "s1")), offered="nobody's")) == ("a", "s1")


def test_old_turn_states_are_forgotten() -> None:
    outcomes = [served("a", f"s{n}", f"turn-{n}") for n in range(MAX_TURN_STATES + 1)]
    state = after(*outcomes)
    assert len(state.turn_states) == MAX_TURN_STATES
    assert turn_state(told(state, "turn-0")) is None
    assert turn_state(told(state, f"turn-{MAX_TURN_STATES}")) is not None


def test_reasoning_is_told_by_the_call_that_it_preceded() -> None:
    plan = told(after(thought("call_1"), thought("call_2")))
    assert set(plan.reasoning) == {"call_1", "call_2"}


def test_a_turn_is_told_who_made_which_encrypted_item() -> None:
    plan = told(after(made("1", "2"), made("3", account_id="b"), served("b", None)))
    assert dict(plan.owners) == {"1": "a", "2": "a", "3": "b"}


def test_old_owners_are_forgotten() -> None:
    digests = [str(n) for n in range(MAX_OWNED + 1)]
    plan = told(after(made(*digests)))
    assert len(plan.owners) == MAX_OWNED
    assert "0" not in plan.owners


def test_a_turn_that_begins_is_told_no_state_of_an_equal_turn_before() -> None:
    state = after(served("a", "s1"))
    assert turn_state(begin(state, TurnFacts(user_turn="turn-1", opens=True))) is None
    offered = TurnFacts(user_turn="turn-1", opens=True, offered_turn_state="s1")
    assert turn_state(begin(state, offered)) == ("a", "s1")
    again = TurnOutcome(user_turn="turn-1", opens=True, account_id="b", turn_state="s2")
    assert turn_state(told(end(state, again))) == ("b", "s2")


def test_reasoning_of_a_call_that_comes_again_is_replaced() -> None:
    plan = told(after(thought("call_1", content="old"), thought("call_1", content="new")))
    [item] = plan.reasoning["call_1"]
    assert item["encrypted_content"] == "new"


def test_old_reasoning_is_forgotten() -> None:
    state = after(*(thought(f"call_{n}") for n in range(MAX_RECALLED_CALLS + 1)))
    calls = told(state).reasoning
    assert len(calls) == MAX_RECALLED_CALLS
    assert "call_0" not in calls


def test_reasoning_is_bounded_by_its_size_too() -> None:
    large = "x" * (MAX_RECALLED_CHARACTERS // 2)
    state = after(*(thought(f"call_{n}", content=large) for n in range(3)))
    assert set(told(state).reasoning) == {"call_1", "call_2"}


def test_reasoning_larger_than_all_bounds_is_not_kept() -> None:
    assert (
        told(after(thought("call_1", content="x" * (MAX_RECALLED_CHARACTERS + 1)))).reasoning == {}
    )
