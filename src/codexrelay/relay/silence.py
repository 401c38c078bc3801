"""The silence budget of a committed stream, without a deadline to move for each event.

A stream notes when it last heard something (one assignment per block); the turn's pulse looks when
the budget could have run out, and ends the wait if it really has.
"""

from __future__ import annotations

import math

import attrs
import trio


@attrs.define(eq=False)
class Silence:
    """Watches one stream. Armed by `listen`, fired by the pulse."""

    budget_s: float
    #: See `Budgets.block`.
    block: str = "backends.openai_codex"
    #: The wait that is cancelled when the budget runs out.
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    fired: bool = False
    _heard_at_s: float = math.inf

    def heard(self) -> None:
        """Something came, or the stream begins: count from now."""
        self._heard_at_s = trio.current_time()

    def rest(self) -> None:
        """Do not count: the stream is over, or waits for its client and not for upstream."""
        self._heard_at_s = math.inf

    @property
    def due_at_s(self) -> float:
        """When the budget will have run out if nothing more comes, on trio's clock."""
        return self._heard_at_s + self.budget_s

    def fire(self) -> None:
        """End the wait."""
        self.fired = True
        self.rest()
        self.scope.cancel()
