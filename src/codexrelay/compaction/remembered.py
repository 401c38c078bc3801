"""What became of texts before: a bounded memory from digests to results, the oldest use goes."""

from __future__ import annotations

import sys
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
    #: Each with its size, which is not the same later on: Python adds to a text that it encodes.
    _known: OrderedDict[bytes, tuple[Known, int]] = attrs.field(factory=OrderedDict, init=False)
    _size_bytes: int = attrs.field(default=0, init=False)

    @property
    def size_bytes(self) -> int:
        """How much is remembered, about."""
        return self._size_bytes

    def get(self, digest: bytes) -> Known | None:
        """Return what became of the text with this digest, None if that is not known."""
        entry = self._known.get(digest)
        if entry is None:
            return None
        self._known.move_to_end(digest)
        return entry[0]

    def put(self, digest: bytes, known: Known) -> Known:
        """Remember a result, unless there is one already, and return the one that counts.

        Two turns may have worked on the same text at the same time, one of them out of its budget:
        both go on with what the first of them has put in.
        """
        earlier = self.get(digest)
        if earlier is not None:
            return earlier
        size_bytes = ENTRY_BYTES + (0 if known.shorter is None else sys.getsizeof(known.shorter))
        self._known[digest] = known, size_bytes
        self._size_bytes += size_bytes
        while self._size_bytes > self.max_bytes and self._known:
            _, (_, oldest_bytes) = self._known.popitem(last=False)
            self._size_bytes -= oldest_bytes
        return known
