"""Faults by chance, for soak tests: as random as one likes, and the same with every run."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from harness.simulator.faults import FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.simulator.accounts import SimulatedAccount

#: Asked at each main request: the fault it meets, or None.
Chance: TypeAlias = "Callable[[SimulatedAccount], str | None]"

#: What a pool of accounts meets on a bad day: expired tokens, limits that pass soon, overload (as a
#: status and inside the stream), and throttles.
BAD_DAY: Final[Mapping[str, float]] = {
    "401": 0.05,
    "429short": 0.03,
    "503": 0.05,
    "failed_early": 0.05,
    "429plain": 0.03,
    "throttle_event": 0.02,
}


@attrs.define(eq=False)
class Dice:
    """A `Chance` with odds.

    Each account has dice of its own: what its n-th main request meets depends on the seed and n,
    not on how the requests of several accounts happen to be interleaved.
    """

    seed: int
    #: Fault -> how probable it is, 0 to 1; together at most 1, the rest goes well.
    odds: Mapping[str, float] = attrs.field(default=BAD_DAY)
    _of_account: dict[str, random.Random] = attrs.field(factory=dict, init=False)

    @odds.validator
    def _must_be_odds(self, _attribute: object, odds: Mapping[str, float]) -> None:
        if unknown := set(odds) - FAULTS:
            raise ValueError(f"no fault is called {min(unknown)!r}")
        if min(odds.values(), default=0.0) < 0.0 or sum(odds.values()) > 1.0:
            raise ValueError("the odds must not be negative, nor more than 1 together")

    def __call__(self, account: SimulatedAccount) -> str | None:
        """Roll for the account's next main request."""
        rng = self._of_account.get(account.name)
        if rng is None:
            rng = self._of_account[account.name] = random.Random(f"{self.seed} {account.name}")
        rolled = rng.random()
        for fault, probability in self.odds.items():
            if rolled < probability:
                return fault
            rolled -= probability
        return None
