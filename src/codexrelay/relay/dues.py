"""What falls due in running turns: one task for all of them, instead of one for each.

A turn that streams puts off what is due with every event, by one assignment. So a due is looked at
when it would have come if nothing had happened since, and only then asked when it really comes.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: So many entries that mean nothing any more are nobody's concern.
_FEW: Final = 64


class Dutiful(Protocol):
    """Somebody with something that falls due."""

    def come_due(self, now_s: float) -> float:
        """Do what is due, and return when to look again, which is later than `now_s`.

        Called in the keeper's task, on trio's clock; must neither wait nor fail.
        """


@attrs.define(eq=False)
class Due:
    """One entry. It outlives the turn for a while, so it holds nothing of it then."""

    owner: Dutiful | None
    #: On trio's clock. Of several entries for one due only the one at this time counts.
    at_s: float


@attrs.define(eq=False)
class Keeper:
    """Looks at dues when they come."""

    #: What takes longer than a moment runs here: whoever starts it sees to its end.
    nursery: trio.Nursery
    #: With a number that keeps dues of the same time from being compared.
    _heap: list[tuple[float, int, Due]] = attrs.field(factory=list, init=False)
    _numbers: Iterator[int] = attrs.field(factory=itertools.count, init=False)
    #: Entries in the heap that do not count.
    _void: int = attrs.field(default=0, init=False)
    _nap: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    def enter(self, owner: Dutiful, at_s: float) -> Due:
        """Look at `owner` when it is `at_s`, and from then on whenever it says, until `leave`."""
        due = Due(owner, at_s)
        self._push(due)
        return due

    def hasten(self, due: Due, at_s: float) -> None:
        """Look at `at_s`, if that is earlier than what the owner has said."""
        if at_s < due.at_s:
            due.at_s = at_s
            self._void += 1
            self._push(due)

    def leave(self, due: Due) -> None:
        """Forget it."""
        due.owner = None
        self._void += 1
        # A short turn leaves its entry behind for as long as a silence may last.
        if self._void > _FEW and self._void > len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if _counts(entry)]
            heapq.heapify(self._heap)
            self._void = 0

    async def run(self) -> None:
        """Look at what comes due, until cancelled."""
        while True:
            self._look(trio.current_time())
            with trio.CancelScope(deadline=self._next_s) as self._nap:
                await trio.sleep_forever()

    def __len__(self) -> int:
        return len(self._heap) - self._void

    @property
    def _next_s(self) -> float:
        return self._heap[0][0] if self._heap else math.inf

    def _push(self, due: Due) -> None:
        heapq.heappush(self._heap, (due.at_s, next(self._numbers), due))
        if due.at_s < self._nap.deadline:
            self._nap.deadline = due.at_s

    def _look(self, now_s: float) -> None:
        while self._heap and self._heap[0][0] <= now_s:
            entry = heapq.heappop(self._heap)
            if not _counts(entry):
                self._void -= 1
                continue
            due = entry[2]
            assert due.owner is not None
            due.at_s = due.owner.come_due(now_s)
            self._push(due)


def _counts(entry: tuple[float, int, Due]) -> bool:
    at_s, _, due = entry
    return due.owner is not None and due.at_s == at_s


@asynccontextmanager
async def open_keeper() -> AsyncIterator[Keeper]:
    """Keep dues until the block ends."""
    async with trio.open_nursery() as nursery:
        keeper = Keeper(nursery)
        nursery.start_soon(keeper.run)
        yield keeper
        nursery.cancel_scope.cancel()
