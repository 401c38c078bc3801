"""The interleaved rounds: every subject takes the same measurement, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import attrs

from benchmarks.load import Report, Work
from benchmarks.measurements import Measurement
from benchmarks.subject import MeasurementError, Subject

if TYPE_CHECKING:
    from benchmarks.figures import Round
    from benchmarks.measurements import Result

_Each = TypeVar("_Each")


@attrs.frozen(kw_only=True)
class Rounds:
    """Measures everything, again and again."""

    #: Sends work through a subject; `LoadGenerator.run`.
    run: Callable[[Subject, Work], Report]
    subjects: Sequence[Subject]
    measurements: Sequence[Measurement]
    #: Share of the full length of each measurement.
    scale: float
    #: Told of what is measured next.
    on_progress: Callable[[str], None]
    #: Told of what a reader must know beside the figures.
    on_note: Callable[[str], None]

    def measure(self, number: int) -> Round:
        """Measure round `number`, counted from 0. What gave nothing is missing in the result."""
        results: Round = {}
        for measurement in self.measurements:
            if measurement.once and number:
                continue
            for subject in rotated(self.subjects, number):
                if measurement.websocket_only and not subject.websocket:
                    continue
                if measurement.of_processes and subject.pid is None:
                    continue
                now = f"{subject.name}, {measurement.name}, round {number + 1}"
                self.on_progress(now)
                try:
                    result = self._measure_one(measurement, subject, now)
                except MeasurementError as reason:
                    self.on_note(f"{now}: {reason}")
                else:
                    results.setdefault(measurement.name, {})[subject.name] = result
        return results

    def _measure_one(self, measurement: Measurement, subject: Subject, now: str) -> Result:
        report = self.run(subject, measurement.work(self.scale))
        if complaint := report.complaint():
            self.on_note(f"{now}: {complaint}")
        return measurement.read(report, subject)


def rotated(subjects: Sequence[_Each], number: int) -> list[_Each]:
    """Return the subjects, beginning with another one in each round.

    So nobody is always the one who comes after the heaviest.
    """
    first = number % len(subjects)
    return [*subjects[first:], *subjects[:first]]
