"""The seam of a selection strategy: one file beside this one, exposing one `STRATEGY`.

A strategy knows ids only. Who is eligible, and why another one is not, is decided by the pool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs


@attrs.frozen(kw_only=True)
class Candidates:
    """What there is to choose from for one turn."""

    #: Ids of all accounts, eligible or not, in byte order.
    order: tuple[str, ...]
    #: Those of them that can take the turn; never empty.
    eligible: frozenset[str]


class Selector(Protocol):
    """A strategy at work, with what it remembers of earlier turns."""

    def choose(self, candidates: Candidates) -> str:
        """Return one of `candidates.eligible`. Called once per choice; it counts as served."""


@attrs.frozen(kw_only=True)
class Strategy:
    """What the package finds in each of its modules."""

    #: The value of `selection_strategy` in the configuration.
    name: str
    #: Makes a selector that remembers nothing yet.
    start: Callable[[], Selector]
