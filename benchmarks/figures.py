"""From the results of all rounds to one figure for each metric and subject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.subject import DIRECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.measurements import Measurement, Result, Row

#: Measurement -> subject -> what it measured in one round.
Round = dict[str, dict[str, "Result"]]
#: Measurement -> metric -> subject -> figure.
Figures = dict[str, dict[str, dict[str, float]]]


def figures_of(rounds: Sequence[Round], measurements: Iterable[Measurement]) -> Figures:
    """Fold the rounds as each row says; what was never measured is not there."""
    return {
        measurement.name: {
            row.metric: _folded(row, [each.get(measurement.name, {}) for each in rounds])
            for row in measurement.rows
        }
        for measurement in measurements
    }


def _folded(row: Row, results_by_round: Iterable[dict[str, Result]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for results in results_by_round:
        for subject, value in _values(row, results):
            values.setdefault(subject, []).append(value)
    return {subject: row.fold(each) for subject, each in values.items()}


def _values(row: Row, results: dict[str, Result]) -> Iterator[tuple[str, float]]:
    """Yield each subject's value of one round, less the direct one of that round if asked for."""
    direct = results.get(DIRECT, {}).get(row.metric)
    for subject, result in results.items():
        value = result.get(row.metric)
        if value is None:
            continue
        if not row.added or subject == DIRECT:
            yield subject, value
        elif direct is not None:
            yield subject, value - direct
