"""The pictures as SVG, written by hand: it needs nothing, and takes the page's ink.

Text and lines are drawn in `currentColor`, so that one picture serves light and dark.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Final

from benchmarks.table import short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.chart import Chart, Comparison, Panel

#: All lengths are in pixels of the picture, which a page may scale.
_LABEL_WIDTH: Final = 290
_PLOT_WIDTH: Final = 560
_LINE_HEIGHT: Final = 26
_TOP: Final = 30
_PANEL_WIDTH: Final = 360
_NAME_WIDTH: Final = 84
_VALUE_WIDTH: Final = 62
_BAR_HEIGHT: Final = 14
_BAR_STEP: Final = 20


def legend(colours: dict[str, str]) -> str:
    """Return the names beside their colours, as HTML."""
    names = (
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in colours.items()
    )
    return f'<p class="legend">{"".join(names)}</p>'


def comparison_svg(chart: Chart) -> str:
    """Return all costs as multiples of bare trio's, one line each, on a logarithmic axis."""
    height = _TOP + _LINE_HEIGHT * len(chart.comparisons) + 8
    first, last = decades(chart.comparisons)
    scale = _PLOT_WIDTH / (last - first)

    def x(ratio: float) -> float:
        return _LABEL_WIDTH + (math.log10(ratio) - first) * scale

    def grid() -> Iterator[str]:
        for decade in range(first, last + 1):
            for step in (1, 2, 5):
                at = step * 10.0**decade
                if decade + math.log10(step) > last + 1e-9:
                    continue
                strength = "0.55" if at == 1 else "0.16"
                yield _line(x(at), _TOP - 6, x(at), height - 6, f'stroke-opacity="{strength}"')
                if step == 1:
                    said = f"{short(at)}x"
                    yield _text(x(at), _TOP - 12, said, 'text-anchor="middle" class="axis"')

    def lines() -> Iterator[str]:
        for number, comparison in enumerate(chart.comparisons):
            y = _TOP + _LINE_HEIGHT * (number + 0.5)
            yield _text(_LABEL_WIDTH - 12, y + 4, comparison.title, 'text-anchor="end"')
            yield _line(_LABEL_WIDTH, y, x(10.0**last), y, 'stroke-opacity="0.16"')
            if comparison.limit is not None:
                yield _limit_mark(x(comparison.limit), y - 9, y + 9, f"{short(comparison.limit)}x")
            for name, ratio in comparison.ratios.items():
                said = escape(f"{name}: {short(ratio)} x bare trio")
                colour = f'fill="{chart.colours[name]}" fill-opacity="0.9"'
                yield (
                    f'<circle cx="{x(ratio):.1f}" cy="{y:.1f}" r="6" {colour}>'
                    f"<title>{said}</title></circle>"
                )

    width = _LABEL_WIDTH + _PLOT_WIDTH + 24
    return _picture(width, height, "Costs as multiples of bare trio", [*grid(), *lines()])


def decades(comparisons: tuple[Comparison, ...]) -> tuple[int, int]:
    """Return the powers of ten between which every ratio and every target lies."""
    shown = [ratio for each in comparisons for ratio in each.ratios.values()]
    shown += [each.limit for each in comparisons if each.limit is not None]
    first = math.floor(math.log10(min(shown, default=1.0)))
    return first, max(math.ceil(math.log10(max(shown, default=1.0))), first + 1)


def panel_svg(panel: Panel, colours: dict[str, str]) -> str:
    """Return the bars of one metric, with a dot for each round and a line at the target."""
    room = _PANEL_WIDTH - _NAME_WIDTH - _VALUE_WIDTH
    height = _TOP + _BAR_STEP * len(panel.bars) + 4
    largest = largest_in(panel)

    def x(value: float) -> float:
        return _NAME_WIDTH + room * max(0.0, value) / largest

    def parts() -> Iterator[str]:
        yield _text(0, 15, panel.title, 'class="title"')
        for number, bar in enumerate(panel.bars):
            y = _TOP + _BAR_STEP * number
            yield _text(_NAME_WIDTH - 8, y + 11, bar.subject, 'text-anchor="end"')
            width = max(1.0, x(bar.value) - _NAME_WIDTH)
            yield (
                f'<rect x="{_NAME_WIDTH}" y="{y}" width="{width:.1f}" height="{_BAR_HEIGHT}" '
                f'rx="2" fill="{colours[bar.subject]}"/>'
            )
            if len(bar.rounds) > 1:
                for value in bar.rounds:
                    yield (
                        f'<circle cx="{x(value):.1f}" cy="{y + _BAR_HEIGHT / 2}" r="2" '
                        'fill="currentColor" fill-opacity="0.6"/>'
                    )
        if panel.limit is not None:
            bottom = _TOP + _BAR_STEP * len(panel.bars) - 2
            yield _limit_mark(x(panel.limit), _TOP - 6, bottom, short(panel.limit))
        # The values last, so that no line runs through them.
        for number, bar in enumerate(panel.bars):
            end = max(x(bar.value), x(max(bar.rounds, default=0.0)))
            y = _TOP + _BAR_STEP * number + 11
            yield _text(end + 6, y, short(bar.value), 'class="value"')

    return _picture(_PANEL_WIDTH, height, panel.title, list(parts()))


def largest_in(panel: Panel) -> float:
    """Return the value at the right end of a panel."""
    values = [value for bar in panel.bars for value in (bar.value, *bar.rounds)]
    return max([*values, panel.limit or 0.0]) or 1.0


def _limit_mark(x: float, top: float, bottom: float, said: str) -> str:
    return (
        f'<line class="limit" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}">'
        f"<title>target: {escape(said)}</title></line>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, more: str) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="currentColor" {more}/>'
    )


def _text(x: float, y: float, text: str, more: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _picture(width: float, height: float, name: str, parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(name)}" fill="currentColor">{"".join(parts)}</svg>'
    )
