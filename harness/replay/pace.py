"""How fast recorded answers come: in recorded time, faster, at once, or in recorded order."""

from __future__ import annotations

import math
from typing import Final

import attrs

_INSTANT: Final = "instant"
_CAUSAL: Final = "causal"


@attrs.frozen
class Pace:
    """When what was recorded is said again."""

    #: Recorded times are divided by this; infinite: nothing is waited for.
    speed: float = 1.0
    #: A chunk waits for no time, but until every request has begun that had begun before it.
    causal: bool = False

    @classmethod
    def parse(cls, text: str) -> Pace:
        """Return the pace of a text: a number above 0, `instant` or `causal`.

        Raises:
            ValueError: it is none of these; the text says what is possible.
        """
        if text == _INSTANT:
            return cls(math.inf)
        if text == _CAUSAL:
            return cls(math.inf, causal=True)
        try:
            speed = float(text)
        except ValueError:
            speed = math.nan
        if not (speed > 0 and math.isfinite(speed)):
            raise ValueError(f"{text!r} is no pace: a number above 0, {_INSTANT} or {_CAUSAL}")
        return cls(speed)

    def __str__(self) -> str:
        if self.causal:
            return _CAUSAL
        return _INSTANT if math.isinf(self.speed) else f"{self.speed:g}"

    def offset_s(self, at_s: float) -> float:
        """Return how long after its request something is said, in seconds."""
        return at_s / self.speed
