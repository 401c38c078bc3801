"""A curve: the cost of one unit of work along an axis, and whether it is flat."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from benchmarks.table import short

#: Point on the axis -> cost of a unit.
Costs = Mapping[float, float]
#: Of one curve in one round: subject -> its costs.
CurveRound = dict[str, dict[float, float]]


@attrs.frozen(kw_only=True)
class Curve:
    """What grows, and what is counted."""

    name: str
    title: str
    x_label: str
    y_label: str
    #: Ascending.
    points: tuple[float, ...]
    #: How far the costs of two points beyond the first may lie apart and still be called flat, as
    #: a ratio.
    bound: float


@attrs.frozen
class Spread:
    """How far the costs beyond the first point lie apart."""

    cheapest: float
    cheapest_at: float
    dearest: float
    dearest_at: float

    @property
    def ratio(self) -> float:
        """How many times the cheapest the dearest is."""
        return self.dearest / self.cheapest


def medians(rounds: Sequence[CurveRound]) -> dict[str, dict[float, float]]:
    """Fold the rounds: the median of each subject at each point where it was measured."""
    values: dict[str, dict[float, list[float]]] = {}
    for each in rounds:
        for subject, costs in each.items():
            for point, cost in costs.items():
                values.setdefault(subject, {}).setdefault(point, []).append(cost)
    return {
        subject: {point: statistics.median(costs[point]) for point in sorted(costs)}
        for subject, costs in values.items()
    }


def spread(costs: Costs, *, first: float) -> Spread | None:
    """Compare the points beyond `first`, where what is fixed weighs most; None: less than two.

    A cost of nothing, or less, is noise of the clock and does not count.
    """
    beyond = {point: cost for point, cost in costs.items() if point > first and cost > 0}
    if len(beyond) < 2:
        return None
    cheapest_at = min(beyond, key=beyond.__getitem__)
    dearest_at = max(beyond, key=beyond.__getitem__)
    return Spread(beyond[cheapest_at], cheapest_at, beyond[dearest_at], dearest_at)


NOT_MEASURED: Final = "not measured"


def verdict(curve: Curve, costs: Costs) -> str:
    """Say whether the costs are flat, and where they are not."""
    found = spread(costs, first=curve.points[0])
    if found is None:
        return NOT_MEASURED
    if found.ratio <= curve.bound:
        return f"flat: {found.ratio:.2f} ≤ {curve.bound:g}"
    way = "grows" if found.dearest_at > found.cheapest_at else "falls"
    return (
        f"{way}: {found.ratio:.2f} > {curve.bound:g}, {short(found.cheapest)} at "
        f"{found.cheapest_at:,g} and {short(found.dearest)} at {found.dearest_at:,g}"
    )
