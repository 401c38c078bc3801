"""What of an answer a Chat client has been told, part by part.

Upstream says a text up to four times: in deltas, whole, with the finished item, and with the
response. A client is told it once, from wherever it comes first.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import attrs

#: How an item is known: its output index, or its id where upstream gives no index. `NAMELESS` where
#: it gives neither.
Key: TypeAlias = int | str
#: Which of an item's lists a part stands in.
Within: TypeAlias = Literal["content", "summary", "annotations"]
#: An item, one of its lists, and an index in it; None for an event that names no index.
Part: TypeAlias = tuple[Key, Within, int | None]

NAMELESS: Final = ""


@attrs.define(eq=False)
class Told:
    """The parts that were passed on."""

    _parts: set[Part] = attrs.field(factory=set)

    def add(self, part: Part) -> None:
        """Note that (a piece of) `part` is passed on."""
        self._parts.add(part)

    def claim(self, part: Part) -> bool:
        """Note that `part` is passed on whole; False if it was told, so that it must not be."""
        if self._has(part):
            return False
        self._parts.add(part)
        return True

    def _has(self, part: Part) -> bool:
        key, within, index = part
        if index is None:
            return any(told[:2] == (key, within) for told in self._parts)
        # What came without an index may have been any part, and without a key that of any item:
        # better to miss a part of a sloppy backend's than to say one twice.
        return not self._parts.isdisjoint((part, (key, within, None), (NAMELESS, within, None)))
