"""A curve as a table in Markdown, and as a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.growth.curve import Costs, verdict
from benchmarks.growth.plot import Chart, Line
from benchmarks.subject import BARE_TRIO
from benchmarks.table import NOTHING, ratio, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarks.growth.curve import Curve


def curve_table(curve: Curve, costs: Mapping[str, Costs]) -> str:
    """Return a line for each point, a column for each subject, and a verdict below each.

    Beside a figure stands its ratio to bare trio at the same point.
    """
    subjects = list(costs)
    lines = [
        [f"{curve.title}: {curve.x_label}", *(f"{name}, {curve.y_label}" for name in subjects)]
    ]
    lines.append(["---"] * (len(subjects) + 1))
    for point in curve.points:
        base = costs.get(BARE_TRIO, {}).get(point)
        cells = [_cell(name, costs[name].get(point), base) for name in subjects]
        lines.append([f"{point:,g}", *cells])
    lines.append(["**verdict**", *(verdict(curve, costs[name]) for name in subjects)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def charts_of(found: Iterable[tuple[Curve, Mapping[str, Costs]]]) -> list[Chart]:
    """Return a chart for each curve, its verdicts below it."""
    return [
        Chart(
            title=curve.title,
            x_label=curve.x_label,
            y_label=curve.y_label,
            lines=tuple(Line(name, tuple(sorted(each.items()))) for name, each in costs.items()),
            remarks=tuple(f"{name}: {verdict(curve, each)}" for name, each in costs.items()),
        )
        for curve, costs in found
    ]


def _cell(name: str, cost: float | None, base: float | None) -> str:
    if cost is None:
        return NOTHING
    alone = name == BARE_TRIO or base is None
    return short(cost) if alone else f"{short(cost)} ({ratio(cost, base)})"
