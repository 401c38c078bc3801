"""Random: every eligible account is as likely as any other, whatever was chosen before.

Several relays over the same accounts spread their turns with it, without knowing of each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.strategies.strategy import Strategy

if TYPE_CHECKING:
    import random  # noqa: TC004  (for annotations alone: the core imports no source of luck)

    from codexrelay.accounts.strategies.strategy import Candidates, StrategySettings


@attrs.frozen
class AtRandom:
    """Draws one of the eligible accounts."""

    _rng: random.Random

    def choose(self, candidates: Candidates) -> str:
        """Return the one that was drawn."""
        # Drawn from the order and not from the set, whose own order differs between processes.
        return self._rng.choice(candidates.usable)

    def bound(self, session: str, *, now_s: float) -> None:
        """Nothing is bound."""

    def used(self, session: str, *, now_s: float) -> None:
        """Nothing is bound."""


def _start(settings: StrategySettings) -> AtRandom:
    return AtRandom(settings.rng)


STRATEGY: Final = Strategy(name="random", start=_start)
