"""The seam of a selection strategy: one file beside this one, exposing one `STRATEGY`.

A strategy knows ids only. Who is eligible, and why another one is not, is decided by the pool.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    import random  # noqa: TC004  (for annotations alone: the core imports no source of luck)


def _in_order(candidates: Candidates) -> tuple[str, ...]:
    return tuple(name for name in candidates.order if name in candidates.eligible)


@attrs.frozen(kw_only=True)
class Candidates:
    """What there is to choose from for one turn."""

    #: Ids of all accounts, eligible or not, in byte order.
    order: tuple[str, ...]
    #: Those of them that can take the turn; never empty.
    eligible: frozenset[str]
    #: Those of them that do not come back by themselves: their owner must act first.
    lost: frozenset[str] = frozenset()
    #: The session that the turn belongs to; None when it belongs to none.
    session: str | None = None
    #: Any clock, as long as it is the same one for all calls of a selector.
    now_s: float = 0.0
    #: The eligible ones in order; who has them at hand may give them.
    usable: tuple[str, ...] = attrs.field(default=attrs.Factory(_in_order, takes_self=True))


class Selector(Protocol):
    """A strategy at work, with what it remembers of earlier turns."""

    def choose(self, candidates: Candidates) -> str:
        """Return one of `candidates.eligible`. Called once per choice; it counts as served."""

    def bound(self, session: str, *, now_s: float) -> str | None:
        """Return the account that `session` is bound to, None when it is bound to none.

        To ask changes nothing; in particular it does not count as a use of the binding.
        """

    def used(self, session: str, *, now_s: float) -> None:
        """Note a turn of `session` that something else than this strategy has given an account."""


@attrs.frozen(kw_only=True)
class StrategySettings:
    """What a strategy may want to know when it starts; most need nothing of it."""

    #: For how long a session stays bound to its account after its last turn; 0: not at all.
    session_affinity_ttl_s: float
    #: For how many sessions at most the account is remembered; 0: for none.
    session_affinity_max_entries: int
    rng: random.Random


@attrs.frozen(kw_only=True)
class Strategy:
    """What the package finds in each of its modules."""

    #: The value of `selection_strategy` in the configuration.
    name: str
    #: Makes a selector that remembers nothing yet.
    start: Callable[[StrategySettings], Selector]


@attrs.define(eq=False)
class Cycle:
    """Goes round over the accounts: the order in which more than one strategy gives them shares.

    The order is that of the whole list: an account that drops out for a while, or for ever, never
    makes its neighbour skip a turn. As long as the eligible accounts stay the same, their counts
    differ by at most 1 over any run of turns.
    """

    #: The account served last. It may be gone: its place in the order is what counts.
    _last: str | None = attrs.field(default=None, init=False)

    def next(self, candidates: Candidates) -> str:
        """Return the first eligible account after the last served one, and go on to it."""
        usable = candidates.usable
        # Texts compare as their UTF-8 does, so this finds its place in byte order.
        first = 0 if self._last is None else bisect.bisect_right(usable, self._last)
        self._last = usable[first if first < len(usable) else 0]
        return self._last
