"""What a session remembers, and the decisions made from it: values and pure functions."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from codexrelay.protocol.raw import JsonObject
from codexrelay.sessions.history import NOTHING_SAID, Conversation, History

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
#: Latest answers by whose ids a session is known: one branch of it runs, others stand beside.
MAX_RESPONSES: Final = 16
#: Backends whose turns are counted apart; more are not configured by anybody.
MAX_BACKENDS: Final = 64
#: How many characters of a request make one token, where nothing better is known.
CHARACTERS_PER_TOKEN: Final = 4.0
#: No tokenizer of text is outside; what is, comes of images or of a backend that counts otherwise.
LEAST_CHARACTERS_PER_TOKEN: Final = 1.5
MOST_CHARACTERS_PER_TOKEN: Final = 8.0
#: Beyond these a figure is no figure, and says nothing.
_NONSENSE: Final = (0.2, 50.0)
#: Of fewer tokens than these, what the backend adds itself is too large a part.
_LEAST_TOKENS: Final = 200
#: How much one turn's figure counts against all earlier ones.
_WEIGHT: Final = 0.3

_NOTHING: Final[Mapping[str, tuple[JsonObject, ...]]] = MappingProxyType({})
_NOBODY: Final[Mapping[str, str]] = MappingProxyType({})


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
    #: All that was said up to and with the answer, for clients that go on from its id; None where
    #: it is no such client, or the turn did not end well.
    conversation: Conversation | None = None


@attrs.frozen(kw_only=True)
class Savings:
    """What was kept from a request; the tokens are an estimate."""

    saved_bytes: int = 0
    saved_tokens: int = 0

    def __add__(self, other: Savings) -> Savings:
        return Savings(
            saved_bytes=self.saved_bytes + other.saved_bytes,
            saved_tokens=self.saved_tokens + other.saved_tokens,
        )

    def __bool__(self) -> bool:
        return bool(self.saved_bytes or self.saved_tokens)


#: Of a request that was sent as it came; compared by `is`, for that is most of them.
NOTHING_SAVED: Final = Savings()


@attrs.frozen(kw_only=True)
class Counters:
    """What was counted of a session since it entered the memory."""

    turns: int = 0
    #: Turns by the name of the backend that served them.
    backends: Mapping[str, int] = attrs.field(factory=dict)
    input_tokens: int = 0
    output_tokens: int = 0
    #: Turns whose history was compacted.
    compacted_turns: int = 0
    compaction: Savings = NOTHING_SAVED
    compression: Savings = NOTHING_SAVED

    @property
    def saved_something(self) -> bool:
        """Whether a request of the session became smaller."""
        return bool(self.compaction or self.compression)


class Switch(enum.Enum):
    """How far a session is on its way to an uncompacted history; nothing leads back."""

    #: It has not met the openai-codex family: its history may be compacted.
    OPEN = "open"
    #: It has, while compaction was off: nobody was told, and the memory alone knows.
    UNTOLD = "untold"
    #: Its owner was told, but the disk does not know yet.
    TOLD = "told"
    #: The disk knows.
    KEPT = "kept"


@attrs.frozen(kw_only=True)
class SessionState:
    """Everything a session remembers."""

    #: Oldest first; at most one per user turn and account.
    turn_states: tuple[TurnState, ...] = ()
    #: Oldest first; at most one per call id.
    reasoning: tuple[Reasoning, ...] = ()
    #: Digest of an encrypted item -> the account that made it; oldest first.
    owners: Mapping[str, str] = _NOBODY
    #: Whether its history may be compacted.
    switch: Switch = Switch.OPEN
    #: Its history was compacted once, and goes on to be.
    compacting: bool = False
    #: Measured by `usage`; see `CHARACTERS_PER_TOKEN`.
    characters_per_token: float = CHARACTERS_PER_TOKEN
    #: Qualified id of the account that it is bound to, as far as is known here.
    bound: str | None = None
    #: The binding comes from the disk, and no turn has been served by it since.
    restored: bool = False
    #: Ids of the latest answers, the latest last.
    responses: tuple[str, ...] = ()
    #: What its clients can go on from by the id of an answer.
    history: History = NOTHING_SAID
    counters: Counters = Counters()

    @property
    def characters(self) -> int:
        """Roughly what the session costs to remember."""
        return sum(r.characters for r in self.reasoning) + self.history.characters


#: What is known of a session before its first turn.
NEW: Final = SessionState()


@attrs.frozen(kw_only=True)
class TurnFacts:
    """What a turn tells its session when it begins."""

    user_turn: str
    #: The user turn begins with this request, so nothing is known of it yet.
    opens: bool = False
    #: The turn state that the client itself sent back, as Codex CLI does.
    offered_turn_state: str | None = None
    #: It goes to the openai-codex family first.
    family: bool = False
    #: History compaction is on, server-wide.
    compaction: bool = False
    #: Sessions are bound to accounts, so that the disk may know of a binding.
    binds: bool = False


@attrs.frozen(kw_only=True)
class TurnPlan:
    """The session's answer: what the turn may build on."""

    #: Upstream's turn state for this user turn. Only the account that gave it may be sent it.
    turn_state: TurnState | None = None
    #: Tool-call id -> the reasoning that preceded it.
    reasoning: Mapping[str, tuple[JsonObject, ...]] = _NOTHING
    #: Digest of an encrypted item -> the only account that can read it.
    owners: Mapping[str, str] = _NOBODY
    #: History compaction may act on what goes to a backend outside of the openai-codex family.
    compacts: bool = False
    #: It has acted on this session before, and acts again whatever the estimate says.
    compacting: bool = False
    #: What to estimate tokens by.
    characters_per_token: float = CHARACTERS_PER_TOKEN
    #: Qualified id of the account that the session was bound to before a restart; None where there
    #: is nothing to restore.
    bound: str | None = None
    #: Ids of the session's latest answers, the latest last.
    responses: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class TurnOutcome:
    """What a turn tells its session when it was served."""

    user_turn: str
    #: As in `TurnFacts`: what was known under this name was of an equal turn before.
    opens: bool = False
    #: Qualified id of the account that served it, None where it was no account.
    account_id: str | None = None
    turn_state: str | None = None
    left_behind: LeftBehind = LeftBehind()
    #: Name of the backend that served it.
    backend: str | None = None
    #: Qualified id of the account that the session is bound to now; None where that is not known.
    bound: str | None = None
    #: Id of the answer, for requests that go on from it.
    response_id: str | None = None
    #: What the backend counted, None where it did not.
    input_tokens: int | None = None
    output_tokens: int | None = None
    #: How many characters of the prompt were sent, as the estimate counts them.
    characters_sent: int | None = None
    #: The history that was sent had been compacted.
    compacted: bool = False
    compaction: Savings = NOTHING_SAVED
    compression: Savings = NOTHING_SAVED


def begin(state: SessionState, facts: TurnFacts) -> TurnPlan:
    """Return the plan for a turn."""
    return TurnPlan(
        turn_state=_turn_state_for(facts, state.turn_states),
        reasoning={r.call_id: r.items for r in state.reasoning} if state.reasoning else _NOTHING,
        owners=state.owners,
        compacts=facts.compaction and state.switch is Switch.OPEN and not facts.family,
        compacting=state.compacting,
        characters_per_token=state.characters_per_token,
        bound=state.bound if state.restored else None,
        responses=state.responses,
    )


def meet_family(state: SessionState) -> SessionState:
    """Return the state from the moment on at which a request goes to the openai-codex family."""
    return attrs.evolve(state, switch=Switch.UNTOLD) if state.switch is Switch.OPEN else state


def must_switch(state: SessionState, *, family: bool, compaction: bool) -> bool:
    """Tell whether the disk is to learn now that the session's history stays uncompacted.

    Where that has failed, every turn tries again; whoever met the family while compaction was off
    is told when it does so again.
    """
    if not compaction:
        return False
    return state.switch is Switch.TOLD or (family and state.switch is Switch.UNTOLD)


def restore(state: SessionState, *, uncompacted: bool, bound: str | None) -> SessionState:
    """Return the state with what the disk has kept of the session."""
    return attrs.evolve(
        state,
        switch=Switch.KEPT if uncompacted else state.switch,
        bound=bound if state.bound is None else state.bound,
        restored=bound is not None if state.bound is None else state.restored,
    )


def _turn_state_for(facts: TurnFacts, states: tuple[TurnState, ...]) -> TurnState | None:
    """Return the state of the user turn, on the account that served it last.

    Codex CLI sends the first value of a user turn to its end, even when the turn has moved to
    another account in between: its value says which user turn it is, no more. A value that nobody
    here remembers (after a restart) may belong to any account, and is sent to none: what is lost is
    a place in a cache.
    """
    if not states:
        return None
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
        switch=state.switch,
        compacting=state.compacting or outcome.compacted,
        characters_per_token=_calibrated(state.characters_per_token, outcome),
        bound=outcome.bound or state.bound,
        restored=state.restored and outcome.bound is None,
        responses=_with_response(state.responses, outcome.response_id),
        history=_with_conversation(state.history, outcome),
        counters=_counted(state.counters, outcome),
    )


def answer(state: SessionState, response_id: str, conversation: Conversation) -> SessionState:
    """Return the state after an answer that the relay has given itself, which is no turn."""
    return attrs.evolve(
        state,
        responses=_with_response(state.responses, response_id),
        history=state.history.with_answer(response_id, conversation),
    )


def _with_conversation(history: History, outcome: TurnOutcome) -> History:
    conversation = outcome.left_behind.conversation
    if conversation is None or not outcome.response_id:
        return history
    return history.with_answer(outcome.response_id, conversation)


def _with_response(known: tuple[str, ...], response_id: str | None) -> tuple[str, ...]:
    if not response_id:
        return known
    if response_id not in known:
        return (*known, response_id)[-MAX_RESPONSES:]
    return (*(known_id for known_id in known if known_id != response_id), response_id)[
        -MAX_RESPONSES:
    ]


def _counted(counters: Counters, outcome: TurnOutcome) -> Counters:
    backends = counters.backends
    name = outcome.backend
    if name is not None and (name in backends or len(backends) < MAX_BACKENDS):
        backends = {**backends, name: backends.get(name, 0) + 1}
    return Counters(
        turns=counters.turns + 1,
        backends=backends,
        input_tokens=counters.input_tokens + max(0, outcome.input_tokens or 0),
        output_tokens=counters.output_tokens + max(0, outcome.output_tokens or 0),
        compacted_turns=counters.compacted_turns + outcome.compacted,
        compaction=_sum(counters.compaction, outcome.compaction),
        compression=_sum(counters.compression, outcome.compression),
    )


def _sum(saved: Savings, more: Savings) -> Savings:
    return saved if more is NOTHING_SAVED else saved + more


def _calibrated(present: float, outcome: TurnOutcome) -> float:
    """Return the estimate's divisor, drawn towards what the backend has counted."""
    characters, tokens = outcome.characters_sent, outcome.input_tokens
    if not characters or tokens is None or tokens < _LEAST_TOKENS:
        return present
    measured = characters / tokens
    least, most = _NONSENSE
    if not least <= measured <= most:
        return present
    drawn = present + _WEIGHT * (measured - present)
    return min(max(drawn, LEAST_CHARACTERS_PER_TOKEN), MOST_CHARACTERS_PER_TOKEN)


def _with_turn_state(states: tuple[TurnState, ...], outcome: TurnOutcome) -> tuple[TurnState, ...]:
    """The first value a user turn receives from an account is kept (wire notes 2.2)."""
    if outcome.account_id is None or not (states or outcome.turn_state):
        return states
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
    if not encrypted or outcome.account_id is None:
        return owners
    merged = {**owners, **dict.fromkeys(encrypted, outcome.account_id)}
    too_many = len(merged) - MAX_OWNED
    return dict(list(merged.items())[too_many:]) if too_many > 0 else merged
