"""What a session remembers, and what a turn is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.sessions.state import (
    CHARACTERS_PER_TOKEN,
    MAX_BACKENDS,
    MAX_OWNED,
    MAX_RECALLED_CALLS,
    MAX_RECALLED_CHARACTERS,
    MAX_RESPONSES,
    MAX_TURN_STATES,
    LeftBehind,
    Savings,
    SessionState,
    Switch,
    TurnFacts,
    TurnOutcome,
    TurnPlan,
    begin,
    end,
    meet_family,
    must_switch,
    restore,
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


# compaction


@pytest.mark.parametrize("switch", Switch)
@pytest.mark.parametrize("family", [True, False])
@pytest.mark.parametrize("compaction", [True, False])
def test_history_is_compacted_only_where_the_family_never_came_in(
    switch: Switch, family: bool, compaction: bool
) -> None:
    facts = TurnFacts(user_turn="turn-1", family=family, compaction=compaction)
    may = compaction and not family and switch is Switch.OPEN
    assert begin(SessionState(switch=switch), facts).compacts is may


@pytest.mark.parametrize(
    ("switch", "family", "expected"),
    [
        (Switch.OPEN, False, False),
        (Switch.UNTOLD, False, False),
        (Switch.UNTOLD, True, True),
        (Switch.TOLD, False, True),
        (Switch.TOLD, True, True),
        (Switch.KEPT, True, False),
        (Switch.KEPT, False, False),
    ],
)
def test_the_disk_learns_of_the_switch_when_the_owner_is_to_be_told_and_until_it_has(
    switch: Switch, family: bool, expected: bool
) -> None:
    state = SessionState(switch=switch)
    assert must_switch(state, family=family, compaction=True) is expected
    assert must_switch(state, family=family, compaction=False) is False


@pytest.mark.parametrize("switch", Switch)
def test_nothing_leads_back_to_a_history_that_may_be_compacted(switch: Switch) -> None:
    met = meet_family(SessionState(switch=switch))
    assert met.switch is (Switch.UNTOLD if switch is Switch.OPEN else switch)
    assert restore(met, uncompacted=False, bound=None).switch is met.switch
    assert restore(met, uncompacted=True, bound=None).switch is Switch.KEPT
    assert end(met, served("a", None)).switch is met.switch


def test_a_session_that_was_compacted_once_goes_on_to_be() -> None:
    state = after(TurnOutcome(user_turn="turn-1", compacted=True), served("a", None))
    assert told(state).compacting
    assert not told(after(served("a", None))).compacting


# bindings and answers


def test_a_turn_is_told_the_binding_from_the_disk_until_one_was_served_by_it() -> None:
    state = restore(SessionState(), uncompacted=False, bound="work")
    assert told(state).bound == "work"
    state = end(state, TurnOutcome(user_turn="turn-1", backend="local"))
    assert told(state).bound == "work", "another backend says nothing of it"
    state = end(state, TurnOutcome(user_turn="turn-1", account_id="work", bound="work"))
    assert told(state).bound is None
    assert state.bound == "work"


def test_what_is_bound_by_now_is_not_bound_as_it_was() -> None:
    state = after(TurnOutcome(user_turn="turn-1", account_id="home", bound="home"))
    restored = restore(state, uncompacted=False, bound="work")
    assert restored.bound == "home"
    assert told(restored).bound is None


def test_the_latest_answers_are_known_the_latest_last() -> None:
    outcomes = [
        TurnOutcome(user_turn="turn-1", response_id=f"r{n}") for n in range(MAX_RESPONSES + 1)
    ]
    state = after(*outcomes, outcomes[3], served("a", None))
    assert len(told(state).responses) == MAX_RESPONSES
    assert told(state).responses[-1] == "r3"
    assert "r0" not in told(state).responses


def test_a_turn_of_no_account_leaves_no_turn_state_and_owns_nothing() -> None:
    outcome = TurnOutcome(
        user_turn="turn-1", turn_state="s1", left_behind=LeftBehind(encrypted=("1",))
    )
    plan = told(after(outcome))
    assert plan.turn_state is None
    assert plan.owners == {}


# counting


def test_turns_tokens_and_savings_are_counted() -> None:
    saved = Savings(saved_bytes=40, saved_tokens=10)
    one = TurnOutcome(
        user_turn="turn-1", backend="local", input_tokens=100, output_tokens=10, compaction=saved
    )
    other = TurnOutcome(user_turn="turn-1", backend="openai-codex", compression=saved)
    counters = after(one, one, other).counters
    assert counters.turns == 3
    assert counters.backends == {"local": 2, "openai-codex": 1}
    assert (counters.input_tokens, counters.output_tokens) == (200, 20)
    assert counters.compaction == saved + saved
    assert counters.compression == saved
    assert counters.saved_something
    assert not SessionState().counters.saved_something


def test_backends_are_counted_up_to_a_bound() -> None:
    outcomes = [
        TurnOutcome(user_turn="turn-1", backend=f"b{n}") for n in (*range(MAX_BACKENDS + 5), 0)
    ]
    counters = after(*outcomes).counters
    assert len(counters.backends) == MAX_BACKENDS
    assert counters.backends["b0"] == 2
    assert counters.turns == MAX_BACKENDS + 6


def counted(characters: int | None, tokens: int | None) -> TurnOutcome:
    return TurnOutcome(user_turn="turn-1", characters_sent=characters, input_tokens=tokens)


def test_the_estimate_learns_from_what_the_backend_counts() -> None:
    state = after(*[counted(30_000, 10_000)] * 20)
    assert told(state).characters_per_token == pytest.approx(3.0, abs=0.01)
    once = told(end(state, counted(60_000, 10_000))).characters_per_token
    assert 3.0 < once < 4.5, "one turn alone does not turn it over"


@pytest.mark.parametrize(
    "outcome",
    [
        counted(None, 1000),
        counted(4000, None),
        counted(0, 1000),
        counted(4000, 0),
        counted(4000, -5),
        counted(-4000, 1000),
        counted(600, 100),
        counted(10, 10_000_000),
        counted(10_000_000, 1000),
    ],
    ids=lambda o: f"{o.characters_sent}/{o.input_tokens}",
)
def test_the_estimate_learns_nothing_from_nonsense(outcome: TurnOutcome) -> None:
    assert told(after(outcome)).characters_per_token == CHARACTERS_PER_TOKEN


@pytest.mark.parametrize(("characters", "expected"), [(1000, 1.5), (40_000, 8.0)])
def test_the_estimate_stays_within_what_a_tokenizer_may_do(
    characters: int, expected: float
) -> None:
    state = after(*[counted(characters, 1000)] * 50)
    assert told(state).characters_per_token == expected
