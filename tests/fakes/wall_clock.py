"""A wall clock that a test moves by hand."""

from __future__ import annotations

import attrs

#: 2026-11-22, more or less.
NOW_UNIX_S = 1_795_350_000.0


@attrs.define(eq=False)
class WallClock:
    """Stands still until it is moved."""

    now_unix_s: float = NOW_UNIX_S

    def __call__(self) -> float:
        return self.now_unix_s
