"""First-available: one account is used up before the next one is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.strategies.strategy import Strategy

if TYPE_CHECKING:
    from codexrelay.accounts.strategies.strategy import Candidates, StrategySettings


@attrs.frozen
class FirstAvailable:
    """Chooses the first eligible account in order, every time."""

    def choose(self, candidates: Candidates) -> str:
        """Return the first one."""
        return candidates.usable[0]

    def bound(self, session: str, *, now_s: float) -> None:
        """Nothing is bound."""

    def used(self, session: str, *, now_s: float) -> None:
        """Nothing is bound."""


def _start(_settings: StrategySettings) -> FirstAvailable:
    return FirstAvailable()


STRATEGY: Final = Strategy(name="first-available", start=_start)
