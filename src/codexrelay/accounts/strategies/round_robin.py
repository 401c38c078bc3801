"""Round-robin: the turns go round over all accounts, and each one gets its share."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.strategies.strategy import Strategy

if TYPE_CHECKING:
    from codexrelay.accounts.strategies.strategy import Candidates


@attrs.define(eq=False)
class RoundRobin:
    """Chooses the first eligible account after the last served one, in cyclic order of all.

    The order is that of the whole list: an account that drops out for a while, or for ever, never
    makes its neighbour skip a turn. As long as the eligible accounts stay the same, their counts
    differ by at most 1 over any run of turns.
    """

    #: The account served last. It may be gone: its place in the order is what counts.
    _last: str | None = attrs.field(default=None, init=False)

    def choose(self, candidates: Candidates) -> str:
        """Return the next one."""
        order = candidates.order
        first = (
            0 if self._last is None else bisect.bisect_right(order, _bytes(self._last), key=_bytes)
        )
        self._last = next(
            account_id
            for account_id in order[first:] + order[:first]
            if account_id in candidates.eligible
        )
        return self._last


def _bytes(account_id: str) -> bytes:
    return account_id.encode()


STRATEGY: Final = Strategy(name="round-robin", start=RoundRobin)
