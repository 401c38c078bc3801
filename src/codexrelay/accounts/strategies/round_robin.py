"""Round-robin: the turns go round over all accounts, and each one gets its share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.strategies.strategy import Cycle, Strategy

if TYPE_CHECKING:
    from codexrelay.accounts.strategies.strategy import Candidates, StrategySettings


@attrs.define(eq=False)
class RoundRobin:
    """Chooses the first eligible account after the last served one, in cyclic order of all."""

    _cycle: Cycle = attrs.field(factory=Cycle, init=False)

    def choose(self, candidates: Candidates) -> str:
        """Return the next one."""
        return self._cycle.next(candidates)

    def bound(self, session: str, *, now_s: float) -> None:
        """Nothing is bound."""

    def used(self, session: str, *, now_s: float) -> None:
        """Nothing is bound."""


def _start(_settings: StrategySettings) -> RoundRobin:
    return RoundRobin()


STRATEGY: Final = Strategy(name="round-robin", start=_start)
