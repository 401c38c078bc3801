"""The interleaved rounds: every subject takes the same measurement, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.subject import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.figures import Round
    from benchmarks.load import LoadGenerator
    from benchmarks.measurements import Measurement, Result
    from benchmarks.subject import Subject


def measure_round(
    number: int,
    subjects: Sequence[Subject],
    measurements: Sequence[Measurement],
    measure: Callable[[Measurement, Subject], Result | None],
) -> Round:
    """Measure everything once; `number` counts from 0. What gave nothing is not in the result."""
    results: Round = {}
    for measurement in measurements:
        if measurement.once and number:
            continue
        for subject in rotated(subjects, number):
            result = measure(measurement, subject)
            if result is not None:
                results.setdefault(measurement.name, {})[subject.name] = result
    return results


def rotated(subjects: Sequence[Subject], number: int) -> Iterator[Subject]:
    """Yield the subjects, in each round from another one on.

    So nobody is always the one who comes after the heaviest.
    """
    first = number % len(subjects)
    yield from subjects[first:]
    yield from subjects[:first]


def measure(
    load: LoadGenerator, measurement: Measurement, subject: Subject, scale: float, notes: list[str]
) -> Result | None:
    """Measure one subject once; what a reader must know beside the figures goes to `notes`."""
