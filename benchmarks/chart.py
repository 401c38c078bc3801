"""What the pictures of a run show, whoever draws them (`svg.py`, `png.py`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.figures import by_round
from benchmarks.subject import BARE_TRIO, CODEXRELAY, DIRECT, NGINX, ONE_PUMP
from benchmarks.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.figures import Figures, Round
    from benchmarks.measurements import Measurement, Row

#: Told apart by the colour-blind too, on light and on dark ground.
_COLOURS: Final = {
    DIRECT: "#8a8f98",
    NGINX: "#009e73",
    BARE_TRIO: "#3d8fd1",
    ONE_PUMP: "#cc79a7",
    CODEXRELAY: "#e0601f",
}
_COLOURS_OF_OTHERS: Final = ("#b8860b", "#6f62c9", "#2f9aa0", "#a0522d")
#: Metrics of which less is better: what a subject adds, and what it costs.
_COSTS: Final = frozenset({"first", "cpu", "p50", "p99", "stream"})
_MARKUP: Final = re.compile(r"\*\*")


@attrs.frozen
class Bar:
    """One subject's figure."""

    subject: str
    value: float
    #: The same of every round.
    rounds: tuple[float, ...]


@attrs.frozen
class Panel:
    """One metric: a bar for each subject."""

    title: str
    bars: tuple[Bar, ...]
    #: The relay's target, absolute.
    limit: float | None


@attrs.frozen
class Comparison:
    """One cost, as multiples of what bare trio pays."""

    title: str
    #: Subject -> ratio, above 0.
    ratios: dict[str, float]
    #: The relay's target.
    limit: float | None


@attrs.frozen
class Chart:
    """All pictures of a run."""

    #: Subject -> colour.
    colours: dict[str, str]
    comparisons: tuple[Comparison, ...]
    panels: tuple[Panel, ...]


def chart_of(
    subjects: Sequence[str],
    measurements: Iterable[Measurement],
    rounds: Sequence[Round],
    figures: Figures,
) -> Chart:
    """Return what is drawn of a run; a metric that nobody has is not drawn."""
    comparisons: list[Comparison] = []
    panels: list[Panel] = []
    for measurement in measurements:
        for row in measurement.rows:
            values = figures[measurement.name][row.metric]
            # Streams that finished are the same for everybody on a good day: the table has them.
            if not values or row.metric == "finished":
                continue
            every = by_round(rounds, measurement, row)
            bars = (Bar(name, values[name], tuple(every[name])) for name in _in(subjects, values))
            panels.append(Panel(_title(row), tuple(bars), _limit(measurement, row)))
            base = values.get(BARE_TRIO, 0.0)
            if base > 0 and row.metric in _COSTS:
                beside = {
                    name: values[name] / base
                    for name in _in(subjects, values)
                    if name != DIRECT and values[name] > 0
                }
                comparisons.append(Comparison(_title(row), beside, _ratio(measurement, row)))
    return Chart(colours_of(subjects), tuple(comparisons), tuple(panels))


def colours_of(subjects: Sequence[str]) -> dict[str, str]:
    """Return a colour for each subject; more than a few others share theirs."""
    others = [name for name in subjects if name not in _COLOURS]
    return {
        name: _COLOURS.get(name) or _COLOURS_OF_OTHERS[others.index(name) % len(_COLOURS_OF_OTHERS)]
        for name in subjects
    }


def _in(subjects: Iterable[str], values: dict[str, float]) -> list[str]:
    return [name for name in subjects if name in values]


def _title(row: Row) -> str:
    return _MARKUP.sub("", row.label)


def _limit(measurement: Measurement, row: Row) -> float | None:
    for target in TARGETS:
        if (target.measurement, target.metric) == (measurement.name, row.metric):
            return target.limit if target.subject == CODEXRELAY else None
    return None


def _ratio(measurement: Measurement, row: Row) -> float | None:
    for target in TARGETS:
        if (target.measurement, target.metric) == (measurement.name, row.metric):
            return next((r.limit for r in target.ratios if r.base == BARE_TRIO), None)
    return None
