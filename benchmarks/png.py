"""The same pictures as PNG, where matplotlib is installed (group `bench`)."""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from benchmarks.subject import MeasurementError
from benchmarks.svg import decades, largest_in
from benchmarks.table import short

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.chart import Chart, Panel

#: Of matplotlib, which need not be there to check types.
_Axes: TypeAlias = Any

_COLUMNS: Final = 3
_DOTS_PER_INCH: Final = 110
_INK: Final = "#333333"
_FAINT: Final = "#dddddd"
_LIMIT: Final = "#111111"
#: Behind a value, so that no line runs through it.
_PAPER: Final = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
_LINE_INCHES: Final = 0.28
_PANEL_INCHES: Final = 1.9


def write_png(path: Path, chart: Chart, *, title: str, machine: str) -> None:
    """Draw a run.

    Raises:
        MeasurementError: matplotlib is not installed.
    """
    try:
        # A figure by itself: pyplot would look for a screen.
        figure_class: Any = importlib.import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise MeasurementError(f"matplotlib cannot be used ({error})") from None
    rows = math.ceil(len(chart.panels) / _COLUMNS)
    above = 1.6 + _LINE_INCHES * len(chart.comparisons) if chart.comparisons else 0.0
    heights = [above, *[_PANEL_INCHES] * rows] if above else [_PANEL_INCHES] * rows
    figure = figure_class(
        figsize=(14, 1.2 + sum(heights)), dpi=_DOTS_PER_INCH, layout="constrained"
    )
    figure.get_layout_engine().set(h_pad=0.1)
    grid = figure.add_gridspec(len(heights), _COLUMNS, height_ratios=heights)
    if above:
        _draw_comparison(figure.add_subplot(grid[0, :]), chart)
    for number, panel in enumerate(chart.panels):
        row, column = divmod(number, _COLUMNS)
        _draw_panel(figure.add_subplot(grid[row + bool(above), column]), panel, chart.colours)
    figure.suptitle(f"{title}\n{machine}", fontsize=10, color=_INK)
    figure.savefig(path)


def _draw_comparison(axes: _Axes, chart: Chart) -> None:
    labels = [each.title for each in chart.comparisons]
    for number, each in enumerate(chart.comparisons):
        if each.limit is not None:
            axes.plot([each.limit] * 2, [number - 0.4, number + 0.4], color=_LIMIT, lw=2, zorder=2)
        for name, ratio in each.ratios.items():
            axes.scatter(ratio, number, s=60, color=chart.colours[name], alpha=0.9, zorder=3)
    first, last = decades(chart.comparisons)
    axes.set(xscale="log", xlim=(10.0**first, 10.0**last), ylim=(len(labels) - 0.4, -0.6))
    ticks = [s * 10.0**d for d in range(first, last + 1) for s in (1, 2, 5)]
    ticks = [tick for tick in ticks if tick <= 10.0**last]
    axes.set_xticks(ticks, [f"{short(tick)}x" for tick in ticks], fontsize=8, color=_INK)
    axes.set_xticks([], minor=True)
    axes.set_yticks(range(len(labels)), labels, fontsize=8, color=_INK)
    axes.grid(color=_FAINT, zorder=0)
    axes.axvline(1, color=_INK, lw=1, zorder=1)
    axes.set_title("cost as a multiple of bare trio (less is better; | target)", fontsize=10)
    for name, colour in chart.colours.items():
        if any(name in each.ratios for each in chart.comparisons):
            axes.scatter([], [], s=60, color=colour, label=name)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    _bare(axes)


def _draw_panel(axes: _Axes, panel: Panel, colours: dict[str, str]) -> None:
    names = [bar.subject for bar in panel.bars]
    largest = largest_in(panel)
    for number, bar in enumerate(panel.bars):
        axes.barh(number, max(0.0, bar.value), color=colours[bar.subject], height=0.7)
        if len(bar.rounds) > 1:
            axes.scatter(bar.rounds, [number] * len(bar.rounds), s=5, color=_INK, zorder=3)
        end = max(bar.value, *bar.rounds)
        axes.text(
            end + largest * 0.02, number, short(bar.value), va="center", fontsize=8, bbox=_PAPER
        )
    if panel.limit is not None:
        axes.axvline(panel.limit, color=_LIMIT, ls="--", lw=1.2)
    axes.set(xlim=(0, largest * 1.2), ylim=(len(names) - 0.4, -0.6))
    axes.set_yticks(range(len(names)), names, fontsize=8, color=_INK)
    axes.set_xticks([])
    axes.set_title(panel.title, fontsize=9, loc="left")
    _bare(axes)


def _bare(axes: _Axes) -> None:
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(_FAINT)
    axes.tick_params(length=0)
