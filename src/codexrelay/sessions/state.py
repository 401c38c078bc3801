"""What a session remembers, and the decisions made from it: values and pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from codexrelay.protocol.raw import JsonObject

#: Turn states that are remembered: a user turn has one on each account that served it, usually one;
#: one user turn runs, a title request or a subagent stands beside.
MAX_TURN_STATES: Final = 8
#: Tool calls whose reasoning is remembered. A chat client sends its whole history each time; what
#: is older than this many calls has served its purpose.
MAX_RECALLED_CALLS: Final = 256
#: Encrypted items whose maker is remembered: more than any history holds.
MAX_OWNED: Final = 4096
#: Bound on the encrypted reasoning kept per session, in characters.
MAX_RECALLED_CHARACTERS: Final = 4_000_000

_NOTHING: Final[Mapping[str, tuple[JsonObject, ...]]] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class TurnState:
    """Upstream's opaque `x-codex-turn-state`, which is valid for one user turn on one account."""

    user_turn: str
    account_id: str
    value: str


@attrs.frozen(kw_only=True)
class Reasoning:
    """The encrypted reasoning items that preceded a tool call."""

    call_id: str
    items: tuple[JsonObject, ...]

    @property
    def characters(self) -> int:
        """Roughly what it costs to remember."""
        return sum(len(str(item.get("encrypted_content"))) for item in self.items)


@attrs.frozen(kw_only=True)
class LeftBehind:
    """What an answer held that later turns may need."""

    #: Tool-call id -> the reasoning that preceded it, for clients that cannot carry it themselves.
    reasoning: Mapping[str, tuple[JsonObject, ...]] = _NOTHING
    #: Digests of all encrypted items, for the question who made them.
    encrypted: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class SessionState:
    """Everything a session remembers."""

    #: Oldest first; at most one per user turn and account.
    turn_states: tuple[TurnState, ...] = ()
    #: Oldest first; at most one per call id.
    reasoning: tuple[Reasoning, ...] = ()
    #: Digest of an encrypted item -> the account that made it; oldest first.
    owners: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def characters(self) -> int:
        """Roughly what the session costs to remember."""
        return sum(r.characters for r in self.reasoning)


@attrs.frozen(kw_only=True)
class TurnFacts:
    """What a turn tells its session when it begins."""

    user_turn: str
    #: The user turn begins with this request, so nothing is known of it yet.
    opens: bool = False
    #: The turn state that the client itself sent back, as Codex CLI does.
    offered_turn_state: str | None = None


@attrs.frozen(kw_only=True)
class TurnPlan:
    """The session's answer: what the turn may build on."""

    #: Upstream's turn state for this user turn. Only the account that gave it may be sent it.
    turn_state: TurnState | None = None
    #: Tool-call id -> the reasoning that preceded it.
    reasoning: Mapping[str, tuple[JsonObject, ...]] = _NOTHING
    #: Digest of an encrypted item -> the only account that can read it.
    owners: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class TurnOutcome:
    """What a turn tells its session when it was served."""

    user_turn: str
    #: As in `TurnFacts`: what was known under this name was of an equal turn before.
    opens: bool = False
    account_id: str
    turn_state: str | None = None
    left_behind: LeftBehind = attrs.field(factory=LeftBehind)


def begin(state: SessionState, facts: TurnFacts) -> TurnPlan:
    """Return the plan for a turn."""
    return TurnPlan(
        turn_state=_turn_state_for(facts, state.turn_states),
        reasoning={r.call_id: r.items for r in state.reasoning},
        owners=state.owners,
    )


def _turn_state_for(facts: TurnFacts, states: tuple[TurnState, ...]) -> TurnState | None:
    """Return the state of the user turn, on the account that served it last.

    Codex CLI sends the first value of a user turn to its end, even when the turn has moved to
    another account in between: its value says which user turn it is, no more. A value that nobody
    here remembers (after a restart) may belong to any account, and is sent to none: what is lost is
    a place in a cache.
    """
    offered = next((s for s in states if s.value == facts.offered_turn_state), None)
    if offered is None and facts.opens:
        return None
    user_turn = facts.user_turn if offered is None else offered.user_turn
    return next((s for s in reversed(states) if s.user_turn == user_turn), None)


def end(state: SessionState, outcome: TurnOutcome) -> SessionState:
    """Return the state after a turn that was served."""
    return SessionState(
        turn_states=_with_turn_state(state.turn_states, outcome),
        reasoning=_with_reasoning(state.reasoning, outcome.left_behind),
        owners=_with_owners(state.owners, outcome),
    )


def _with_turn_state(states: tuple[TurnState, ...], outcome: TurnOutcome) -> tuple[TurnState, ...]:
    """The first value a user turn receives from an account is kept (wire notes 2.2)."""
    if outcome.opens:
        states = tuple(s for s in states if s.user_turn != outcome.user_turn)
    turn = (outcome.user_turn, outcome.account_id)
    latest = next((s for s in states if (s.user_turn, s.account_id) == turn), None)
    if latest is None:
        if outcome.turn_state is None:
            return states
        latest = TurnState(
            user_turn=outcome.user_turn, account_id=outcome.account_id, value=outcome.turn_state
        )
    return (*(s for s in states if s is not latest), latest)[-MAX_TURN_STATES:]


def _with_reasoning(known: tuple[Reasoning, ...], left_behind: LeftBehind) -> tuple[Reasoning, ...]:
    if not left_behind.reasoning:
        return known
    new = [Reasoning(call_id=call, items=items) for call, items in left_behind.reasoning.items()]
    kept = [r for r in known if r.call_id not in left_behind.reasoning]
    merged = [*kept, *new][-MAX_RECALLED_CALLS:]
    characters = sum(r.characters for r in merged)
    while merged and characters > MAX_RECALLED_CHARACTERS:
        characters -= merged.pop(0).characters
    return tuple(merged)


def _with_owners(owners: Mapping[str, str], outcome: TurnOutcome) -> Mapping[str, str]:
    encrypted = outcome.left_behind.encrypted
    if not encrypted:
        return owners
    merged = {**owners, **dict.fromkeys(encrypted, outcome.account_id)}
    too_many = len(merged) - MAX_OWNED
    return dict(list(merged.items())[too_many:]) if too_many > 0 else merged
