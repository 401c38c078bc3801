"""What became of texts before: a bounded memory from digests to results, the oldest use goes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import attrs

#: About what an entry costs beside its text: key, value, and their places in the mapping.
ENTRY_BYTES: Final = 300


@attrs.frozen
class Known:
    """What became of a text."""

    #: The shorter text; None: the text was left alone.
    shorter: str | None
    #: By how much it is shorter, in bytes.
    saved_bytes: int = 0


@attrs.define(eq=False)
class Remembered:
    """Results by digest, at most `max_bytes` of them; what was asked for longest ago goes first.

    A text has one result as long as it is remembered: the first one that was put in.
    """

    max_bytes: int
    _known: OrderedDict[bytes, Known] = attrs.field(factory=OrderedDict, init=False)
    _size_bytes: int = attrs.field(default=0, init=False)

    @property
    def size_bytes(self) -> int:
        """How much is remembered, about."""
        return self._size_bytes

    def get(self, digest: bytes) -> Known | None:
        """Return what became of the text with this digest, None if that is not known."""
        known = self._known.get(digest)
        if known is not None:
            self._known.move_to_end(digest)
        return known

    def put(self, digest: bytes, known: Known) -> Known:
        """Remember a result, unless there is one already, and return the one that counts.

        Two turns may have worked on the same text at the same time, one of them out of its budget:
        both go on with what the first of them has put in.
        """
        earlier = self.get(digest)
        if earlier is not None:
            return earlier
        self._known[digest] = known
        self._size_bytes += _size_bytes(known)
        while self._size_bytes > self.max_bytes and self._known:
            _, oldest = self._known.popitem(last=False)
            self._size_bytes -= _size_bytes(oldest)
        return known


def _size_bytes(known: Known) -> int:
    # As Python holds it: up to four bytes for a character, where one of them is beyond the others.
    text = known.shorter or ""
    width = 1 if text.isascii() else 4 if max(text) > "\uffff" else 2
    return ENTRY_BYTES + width * len(text)
