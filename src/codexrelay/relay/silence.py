"""The silence budget of a committed stream, without a deadline to move for each event.

A stream notes when it last heard something (one assignment per block); the keeper of dues looks
when the budget could have run out, and ends the wait if it really has.
"""

from __future__ import annotations

import math

import attrs
import trio


@attrs.define(eq=False)
class Silence:
    """Watches one stream. Armed by `heard`, fired by the keeper."""

    budget_s: float
    #: See `Budgets.block`.
    block: str = "backends.openai_codex"
    #: The wait that is cancelled when the budget runs out; there is one before it is armed.
    scope: trio.CancelScope | None = None
    _heard_at_s: float = math.inf

    def heard(self, now_s: float) -> None:
        """Something came, or the stream begins: count from now, on trio's clock."""
        self._heard_at_s = now_s

    def rest(self) -> None:
        """Do not count: the stream is over, or waits for its client and not for upstream."""
        self._heard_at_s = math.inf

    @property
    def due_at_s(self) -> float:
        """When the budget will have run out if nothing more comes, on trio's clock."""
        return self._heard_at_s + self.budget_s

    def fire(self) -> None:
        """End the wait."""
        assert self.scope is not None
        self.rest()
        self.scope.cancel()
