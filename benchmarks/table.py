"""The figures as a table in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.subject import BARE_TRIO, DIRECT, NGINX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.figures import Figures
    from benchmarks.measurements import Measurement, Row

NOTHING: Final = "-"


#: What the relay stands beside.
YARDSTICKS: Final = (NGINX, BARE_TRIO)


def table(
    subjects: Sequence[str],
    measurements: Iterable[Measurement],
    figures: Figures,
    *,
    bases: Sequence[str] = YARDSTICKS,
) -> str:
    """Return a line for each metric that at least one subject has, a column for each subject.

    Beside a figure stand its ratios to those of `bases`.
    """
    head = [_line(["measurement", *subjects]), _line(["---"] * (len(subjects) + 1))]
    return "\n".join(
        head
        + [
            _line([row.label, *(_cell(row, values, subject, bases) for subject in subjects)])
            for measurement in measurements
            for row in measurement.rows
            if (values := figures[measurement.name][row.metric])
        ]
    )


def short(value: float) -> str:
    """Return about three significant digits, with k from ten thousand and M from a million."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g} M"
    if size >= 1e4:
        return f"{value / 1e3:.3g} k"
    if size >= 100:
        return f"{value:.0f}"
    return f"{value:.2g}" if size < 1 else f"{value:.3g}"


def ratio(value: float, base: float | None) -> str:
    """Return `value / base`, or nothing where an added time is below 0, which is noise."""
    if base is None or base <= 0 or value < 0:
        return NOTHING
    return f"{value / base:.0f}" if value >= 10 * base else f"{value / base:.2g}"


def _cell(row: Row, values: dict[str, float], subject: str, bases: Sequence[str]) -> str:
    value = values.get(subject)
    if value is None:
        return NOTHING
    if subject == DIRECT:
        return f"[{short(value)}]" if row.added else short(value)
    beside = [ratio(value, values.get(base)) for base in bases]
    if not row.ratio or set(beside) <= {NOTHING}:
        return short(value)
    return f"{short(value)} ({' / '.join(beside)})"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
