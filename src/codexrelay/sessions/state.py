"""What a session remembers, and the decisions made from it: values and pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from codexrelay.protocol.raw import JsonObject

#: User turns whose turn state is remembered: one runs, a title request or a subagent stands beside.
MAX_USER_TURNS: Final = 8
#: Tool calls whose reasoning is remembered. A chat client sends its whole history each time; what
#: is older than this many calls has served its purpose.
MAX_RECALLED_CALLS: Final = 256
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
    """The encrypted reasoning items before a tool call, and the account that can read them."""

    call_id: str
    account_id: str
    items: tuple[JsonObject, ...]

    @property
    def characters(self) -> int:
        """Roughly what it costs to remember."""
        return sum(len(str(item.get("encrypted_content"))) for item in self.items)


@attrs.frozen(kw_only=True)
class SessionState:
    """Everything a session remembers."""

    #: Oldest first; at most one per user turn.
    turn_states: tuple[TurnState, ...] = ()
    #: Oldest first; at most one per call id.
    reasoning: tuple[Reasoning, ...] = ()
    #: The account that served the session last.
    account_id: str | None = None


@attrs.frozen(kw_only=True)
class TurnFacts:
    """What a turn tells its session when it begins."""

    user_turn: str
    #: The turn state that the client itself sent back, as Codex CLI does.
    offered_turn_state: str | None = None


@attrs.frozen(kw_only=True)
class TurnPlan:
    """The session's answer: what the turn may build on."""

    #: The account that served the session last, and made the reasoning below.
    account_id: str | None = None
    #: Upstream's turn state for this user turn. Only `turn_state_account_id` may be given it; None
    #: there means that the client brought it and nobody here remembers it (after a restart).
    turn_state: str | None = None
    turn_state_account_id: str | None = None
    #: Tool-call id -> the reasoning that preceded it.
    reasoning: Mapping[str, tuple[JsonObject, ...]] = _NOTHING


@attrs.frozen(kw_only=True)
class TurnOutcome:
    """What a turn tells its session when it was served."""

    user_turn: str
    account_id: str
    turn_state: str | None = None
    reasoning: Mapping[str, tuple[JsonObject, ...]] = _NOTHING


def begin(state: SessionState, facts: TurnFacts) -> TurnPlan:
    """Return the plan for a turn. Reasoning of another account than the last one is left out."""
    account_id, offered = state.account_id, facts.offered_turn_state
    known = next(
        (
            s
            for s in state.turn_states
            if (s.value == offered if offered is not None else s.user_turn == facts.user_turn)
        ),
        None,
    )
    return TurnPlan(
        account_id=account_id,
        turn_state=known.value if known is not None else offered,
        turn_state_account_id=known.account_id if known is not None else None,
        reasoning={r.call_id: r.items for r in state.reasoning if r.account_id == account_id},
    )


def end(state: SessionState, outcome: TurnOutcome) -> SessionState:
    """Return the state after a turn that was served."""
    return SessionState(
        turn_states=_with_turn_state(state.turn_states, outcome),
        reasoning=_with_reasoning(state.reasoning, outcome),
        account_id=outcome.account_id,
    )


def _with_turn_state(states: tuple[TurnState, ...], outcome: TurnOutcome) -> tuple[TurnState, ...]:
    """The first value a user turn receives from an account is kept (wire notes 2.2)."""
    if outcome.turn_state is None:
        return states
    same = [s for s in states if s.user_turn == outcome.user_turn]
    if any(s.account_id == outcome.account_id for s in same):
        return states
    new = TurnState(
        user_turn=outcome.user_turn, account_id=outcome.account_id, value=outcome.turn_state
    )
    return (*(s for s in states if s not in same), new)[-MAX_USER_TURNS:]


def _with_reasoning(known: tuple[Reasoning, ...], outcome: TurnOutcome) -> tuple[Reasoning, ...]:
    if not outcome.reasoning:
        return known
    new = tuple(
        Reasoning(call_id=call_id, account_id=outcome.account_id, items=items)
        for call_id, items in outcome.reasoning.items()
    )
    kept = [r for r in known if r.call_id not in outcome.reasoning]
    merged = [*kept, *new][-MAX_RECALLED_CALLS:]
    characters = sum(r.characters for r in merged)
    while merged and characters > MAX_RECALLED_CHARACTERS:
        characters -= merged.pop(0).characters
    return tuple(merged)
