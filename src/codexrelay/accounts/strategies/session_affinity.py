"""Session-affinity: the turns of one session go to one account, whose cache knows them.

New sessions are spread round-robin, so each account gets its share of sessions. A session moves to
another account for good in two cases only: its account is lost, or the binding is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.strategies.strategy import Cycle, Strategy

if TYPE_CHECKING:
    from codexrelay.accounts.strategies.strategy import Candidates, StrategySettings


@attrs.frozen
class _Binding:
    account_id: str
    #: When the session had its last turn.
    used_s: float


@attrs.define(eq=False)
class SessionAffinity:
    """Binds a session to the account of its first turn.

    Any turn of the session counts as a use of its binding, also one that another account has to
    take: a session that is alive through a long cool-down returns to its account afterwards.
    """

    _ttl_s: float
    _max_entries: int
    _cycle: Cycle = attrs.field(factory=Cycle, init=False)
    #: By session, the one used longest ago first.
    _bindings: OrderedDict[str, _Binding] = attrs.field(factory=OrderedDict, init=False)

    def choose(self, candidates: Candidates) -> str:
        """Return the bound account, or the next one in cyclic order when that cannot take it."""
        session, now_s = candidates.session, candidates.now_s
        if session is None or self._ttl_s <= 0:
            return self._cycle.next(candidates)
        bound = self.bound(session, now_s=now_s)
        if bound in candidates.eligible:
            assert bound is not None
            self._bind(session, _Binding(bound, now_s))
            return bound
        chosen = self._cycle.next(candidates)
        gone = bound not in candidates.order or bound in candidates.lost
        # A failover is for this turn only: the binding stays with the account that comes back.
        kept = chosen if bound is None or gone else bound
        self._bind(session, _Binding(kept, now_s))
        return chosen

    def bound(self, session: str, *, now_s: float) -> str | None:
        """Return the account that `session` is bound to."""
        binding = self._bindings.get(session)
        if binding is None or now_s - binding.used_s >= self._ttl_s:
            return None
        return binding.account_id

    def used(self, session: str, *, now_s: float) -> None:
        """Let the session's binding live on, if it has one."""
        if (bound := self.bound(session, now_s=now_s)) is not None:
            self._bind(session, _Binding(bound, now_s))

    def restore(self, session: str, account_id: str, *, now_s: float) -> None:
        """Bind a session as it was bound in an earlier life, unless it is bound by now."""
        if self._ttl_s > 0 and self.bound(session, now_s=now_s) is None:
            self._bind(session, _Binding(account_id, now_s))

    def adapt(self, settings: StrategySettings) -> None:
        """Go by other settings; what they leave of the bindings stays."""
        self._ttl_s = settings.session_affinity_ttl_s
        self._max_entries = settings.session_affinity_max_entries
        while len(self._bindings) > self._max_entries:
            self._bindings.popitem(last=False)

    def _bind(self, session: str, binding: _Binding) -> None:
        self._bindings[session] = binding
        self._bindings.move_to_end(session)
        if len(self._bindings) > self._max_entries:
            self._bindings.popitem(last=False)


def _start(settings: StrategySettings) -> SessionAffinity:
    return SessionAffinity(settings.session_affinity_ttl_s, settings.session_affinity_max_entries)


STRATEGY: Final = Strategy(name="session-affinity", start=_start)
