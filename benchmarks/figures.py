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
            row.metric: {
                subject: row.fold(values)
                for subject, values in by_round(rounds, measurement, row).items()
            }
            for row in measurement.rows
        }
        for measurement in measurements
    }


def by_round(rounds: Iterable[Round], measurement: Measurement, row: Row) -> dict[str, list[float]]:
    """Return each subject's values of one metric, in the order of the rounds."""
    values: dict[str, list[float]] = {}
    for results in rounds:
        for subject, value in _values(row, results.get(measurement.name, {})):
            values.setdefault(subject, []).append(value)
    return values


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
