"""Line charts: as a page with inline SVG that needs nothing else, and as a PNG.

The x axis is logarithmic, the y axis linear and begins at 0: a flat cost looks flat.
"""

from __future__ import annotations

import html
import importlib
import importlib.util
import math
from typing import TYPE_CHECKING, Any, Final

import attrs

from benchmarks.table import short

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: Of the lines, in their order; told apart by people who do not see all colours.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_WIDTH: Final = 640
_HEIGHT: Final = 300
#: Room for the axes' labels: left, right, above, below.
_LEFT: Final = 64
_RIGHT: Final = 16
_ABOVE: Final = 12
_BELOW: Final = 44
_Y_TICKS: Final = 5
_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; }
p, h1, h2, ul { padding: 0 1rem; }
svg { width: 100%; height: auto; } text { font: 12px system-ui, sans-serif; fill: #333; }
.grid { stroke: #ddd; } .line { fill: none; stroke-width: 2; } .key { padding-right: 1.2em; }
.key b { display: inline-block; width: .8em; height: .8em; margin-right: .4em; }
"""


@attrs.frozen
class Line:
    """One subject's line: (x, y), ascending; x above 0."""

    name: str
    points: tuple[tuple[float, float], ...]


@attrs.frozen(kw_only=True)
class Chart:
    """One plot."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    #: Said below it.
    remarks: tuple[str, ...] = ()

    def xs(self) -> list[float]:
        """Return every x that has a point: the ticks of the axis."""
        return sorted({x for line in self.lines for x, _ in line.points})

    def top(self) -> float:
        """Return the y that the axis ends at."""
        return _round_above(max((y for line in self.lines for _, y in line.points), default=1.0))


def as_html(title: str, introduction: str, charts: Sequence[Chart], notes: Sequence[str]) -> str:
    """Return a page that needs nothing beside it."""
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p>{html.escape(introduction)}</p>"]
    for chart in charts:
        parts += [f"<h2>{html.escape(chart.title)}</h2>", _key(chart), as_svg(chart)]
        parts += [f"<p>{html.escape(remark)}</p>" for remark in chart.remarks]
    if notes:
        parts += ["<ul>", *(f"<li>{html.escape(note)}</li>" for note in notes), "</ul>"]
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}'
    return f"{head}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"


def as_svg(chart: Chart) -> str:
    """Return the chart as an SVG element."""
    label = html.escape(f"{chart.title}: {chart.y_label} by {chart.x_label}", quote=True)
    head = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
    return "".join([head, *_axes(chart), *_lines(chart), "</svg>"])


def write_png(charts: Sequence[Chart], path: Path) -> bool:
    """Write all charts into one picture; False: matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    # Of matplotlib, which need not be there to check types.
    figure_class: Any = importlib.import_module("matplotlib.figure").Figure
    figure = figure_class(figsize=(8, 4 * len(charts)), layout="constrained")
    places = figure.subplots(len(charts), squeeze=False)
    for chart, (place,) in zip(charts, places, strict=True):
        for number, line in enumerate(chart.lines):
            xs, ys = zip(*line.points, strict=True) if line.points else ((), ())
            place.plot(xs, ys, marker="o", color=_colour(number), label=line.name)
        place.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label, xscale="log")
        place.set_ylim(0, chart.top())
        place.set_xticks(chart.xs(), [f"{x:,g}" for x in chart.xs()])
        place.minorticks_off()
        place.grid(axis="y", color="#ddd")
        if chart.lines:
            place.legend()
    figure.savefig(path, dpi=110)
    return True


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _key(chart: Chart) -> str:
    return "".join(
        f'<span class="key"><b style="background:{_colour(number)}"></b>{html.escape(line.name)}'
        "</span>"
        for number, line in enumerate(chart.lines)
    )


def _axes(chart: Chart) -> Iterator[str]:
    bottom, right, top = _HEIGHT - _BELOW, _WIDTH - _RIGHT, chart.top()
    for tick in range(_Y_TICKS + 1):
        value = top * tick / _Y_TICKS
        y = _y(value, top)
        yield f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
    xs = chart.xs()
    for x in xs:
        yield (f'<text x="{_x(x, xs):.1f}" y="{bottom + 16}" text-anchor="middle">{x:,g}</text>')
    middle = (_LEFT + right) / 2
    yield (
        f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">'
        f"{html.escape(chart.x_label)}</text>"
    )
    yield (
        f'<text transform="translate(14 {(bottom + _ABOVE) / 2}) rotate(-90)" '
        f'text-anchor="middle">{html.escape(chart.y_label)}</text>'
    )


def _lines(chart: Chart) -> Iterator[str]:
    top, xs = chart.top(), chart.xs()
    for number, line in enumerate(chart.lines):
        places = [(_x(x, xs), _y(y, top), x, y) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in places)
        colour = _colour(number)
        yield f'<polyline class="line" stroke="{colour}" points="{path}"/>'
        for x, y, at, value in places:
            said = html.escape(f"{line.name}, {at:,g}: {short(value)}")
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}">'
            yield f"<title>{said}</title></circle>"


def _x(value: float, xs: Sequence[float]) -> float:
    """Return where a value stands; alone, in the middle."""
    low, high = math.log(xs[0]), math.log(xs[-1])
    share = (math.log(value) - low) / (high - low) if high > low else 0.5
    return _LEFT + 12 + share * (_WIDTH - _LEFT - _RIGHT - 24)


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BELOW - value / top * (_HEIGHT - _ABOVE - _BELOW)


def _round_above(value: float) -> float:
    """Return 1, 2, 2.5 or 5 times a power of ten, with a little room above the value."""
    if value <= 0:
        return 1.0
    wanted = value * 1.05
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= wanted)
