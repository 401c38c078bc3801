"""One thing to measure, and the table of what was measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, TypeAlias

import attrs

#: What one call of a case works on so often that its time is divided by their number.
Unit: TypeAlias = Literal["event", "KB", "call", "message"]

_NS_PER_S: Final = 1e9
_NS_PER_US: Final = 1e3


@attrs.frozen(kw_only=True)
class Case:
    """A piece of work that can be repeated as often as one likes."""

    name: str
    #: What it is given, with sizes.
    given: str
    #: Makes the input, and returns the work on it: each call does the same.
    prepare: Callable[[], Callable[[], object]]
    unit: Unit = "call"
    #: How many of them one call works on.
    units: int = 1

    def seconds(self, calls: int) -> float:
        """Return the CPU time that so many calls took; the input is made outside of it.

        It is this thread's time, not the clock's: on a machine that does other work too, a clock
        measures its neighbours.
        """
        work = self.prepare()
        begun_s = time.thread_time()
        for _ in range(calls):
            work()
        return time.thread_time() - begun_s


@attrs.frozen
class Timing:
    """What one unit took."""

    median_s: float
    #: Median of the distances to the median.
    deviation_s: float


def micro_table(cases: Iterable[Case], timings: Mapping[str, Timing]) -> str:
    """Return a line in Markdown for each case that was measured."""
    lines = [["function", "given", "time per", "median", "±"], ["---"] * 5]
    for case in cases:
        if (timing := timings.get(case.name)) is not None:
            took = (said(timing.median_s), said(timing.deviation_s))
            lines.append([case.name, case.given, case.unit, *took])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def said(seconds: float) -> str:
    """Return a time in ns or µs with three digits."""
    ns = seconds * _NS_PER_S
    return f"{ns:.3g} ns" if ns < _NS_PER_US else f"{ns / _NS_PER_US:,.4g} µs"
