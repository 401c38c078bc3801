"""Time that jumps as soon as nothing is in flight, and tasks that always run in the same order.

A send on a socket pair can be received at once, and trio looks for what can be received before it
lets the clock jump. So the clock never jumps over bytes under way. A thread is different: nobody
sees it work. While one does, the clock stands still.
"""

from __future__ import annotations

import contextlib
import math
import random
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
import trio
import trio.testing
from trio._core import _run as _scheduler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

_T = TypeVar("_T")

#: The wall clock's reading when virtual time begins, Unix seconds.
EPOCH_UNIX_S: Final = 1_800_000_000.0


@attrs.define(eq=False)  # trio keeps instruments in a dict: identity and hash needed
class _StillWhileThreadsWork(trio.abc.Instrument):
    """Keeps a clock from jumping while any thread works for a task."""

    clock: trio.testing.MockClock

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002  (trio's signature)
        wanted = math.inf if trio.testing.active_thread_count() else 0.0
        if self.clock.autojump_threshold != wanted:
            self.clock.autojump_threshold = wanted


@attrs.frozen
class Clocks:
    """The two clocks of a run, which go together."""

    _clock: trio.testing.MockClock
    #: The wall clock's reading when trio's is 0.
    _epoch_unix_s: float

    def wall(self) -> float:
        """Return Unix seconds. May be called from a thread."""
        return self._epoch_unix_s + self._clock.current_time()


def run(act: Callable[[Clocks], Awaitable[_T]], *, epoch_unix_s: float = EPOCH_UNIX_S) -> _T:
    """Run `act` in virtual time, with its tasks in an order that `settle_order` fixes.

    `epoch_unix_s` is what the wall clock says at its beginning.
    """
    clock = trio.testing.MockClock(autojump_threshold=0.0)
    with _fixed_order():
        return trio.run(
            partial(act, Clocks(clock, epoch_unix_s)),
            clock=clock,
            instruments=[_StillWhileThreadsWork(clock)],
        )


def settle_order(seed: int) -> None:
    """Let the order in which tasks that are ready together run follow from `seed` from here on."""
    _scheduler._r.seed(seed)  # noqa: SLF001


@contextlib.contextmanager
def _fixed_order() -> Iterator[None]:
    """Take chance out of trio's scheduler, as pytest-trio does for hypothesis; put it back later.

    Otherwise the tasks that are ready together run in an order that nobody can ask for again. trio
    has no public way to this.
    """
    before, state = _scheduler._ALLOW_DETERMINISTIC_SCHEDULING, _scheduler._r.getstate()  # noqa: SLF001
    _scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # noqa: SLF001
    settle_order(0)
    try:
        yield
    finally:
        _scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]  # noqa: SLF001
        _scheduler._r.setstate(state)  # noqa: SLF001


def rng_of(*parts: object) -> random.Random:
    """Return a source of chance that follows from `parts` alone, in every process."""
    return random.Random(" ".join(map(str, parts)))
