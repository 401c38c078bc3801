"""A run as one HTML file that needs nothing else: no script, no font, no picture beside it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from benchmarks.figures import by_round
from benchmarks.svg import comparison_svg, legend, panel_svg
from benchmarks.table import short
from benchmarks.targets import HEAD, cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.chart import Chart
    from benchmarks.figures import Round
    from benchmarks.measurements import Measurement
    from benchmarks.targets import Judged

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1d2126; --faint: #e3e6ea;
  --soft: #5d6570; --good: #1a7f4b; --bad: #b3261e; --mark: #111111; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e4e7eb; --faint: #2b3138;
  --soft: #9aa3ad; --good: #5ccb92; --bad: #ff8a80; --mark: #ffffff; } }
body { margin: 2rem auto; max-width: 74rem; padding: 0 1.2rem; background: var(--paper);
  color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
p.soft, .soft { color: var(--soft) } .wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--faint);
  white-space: nowrap }
th:first-child, td:first-child, td.verdict, .targets th:last-child { text-align: left }
td.good { color: var(--good) } td.bad { color: var(--bad); font-weight: 600 }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)); gap: 1.1rem }
svg { max-width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif }
svg text.title { font-weight: 600 } svg text.axis, svg text.value { font-size: 11px }
svg text.value { stroke: var(--paper); stroke-width: 4px; paint-order: stroke }
svg line.limit { stroke: var(--mark); stroke-width: 2; stroke-dasharray: 4 2 }
.legend span { margin-right: 1.1rem } .legend i { display: inline-block; width: .8rem;
  height: .8rem; border-radius: 50%; margin-right: .35rem; vertical-align: -1px }
summary { cursor: pointer; margin: .8rem 0 }
"""


def page(
    *,
    title: str,
    machine: str,
    how: str,
    judged: Sequence[Judged],
    chart: Chart,
    tables: Iterable[tuple[str, str]],
    notes: Sequence[str],
    measurements: Sequence[Measurement],
    rounds: Sequence[Round],
) -> str:
    """Return the page; `tables` are captions with tables in Markdown.

    The first sentence of a caption is the heading.
    """

    def body() -> Iterator[str]:
        yield f"<h1>{escape(title)}</h1><p class=soft>{escape(machine)}<br>{escape(how)}</p>"
        if judged:
            yield f"<h2>Targets</h2><div class=wide>{_targets(judged)}</div>"
        if chart.comparisons:
            yield "<h2>Costs, as multiples of what bare trio pays</h2>"
            yield "<p class=soft>Less is better; a dashed line is the relay's target.</p>"
            compared = {name for each in chart.comparisons for name in each.ratios}
            colours = {name: chart.colours[name] for name in chart.colours if name in compared}
            yield f"{legend(colours)}<div class=wide>{comparison_svg(chart)}</div>"
        if chart.panels:
            panels = "".join(panel_svg(panel, chart.colours) for panel in chart.panels)
            yield f"<h2>Figures</h2>{legend(chart.colours)}<div class=panels>{panels}</div>"
        for caption, table in tables:
            heading, _, more = caption.partition(". ")
            yield f"<h2>{escape(heading)}</h2><p class=soft>{escape(more)}</p>"
            yield f"<div class=wide>{_markdown(table)}</div>"
        if notes:
            items = "".join(f"<li>{escape(note)}</li>" for note in notes)
            yield f"<h2>Notes</h2><ul>{items}</ul>"
        every = _rounds(measurements, rounds)
        yield "<details><summary>Every round's figures</summary>"
        yield f"<div class=wide>{every}</div></details>"

    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body())}</body></html>\n"
    )


def _targets(judged: Sequence[Judged]) -> str:
    colours = {True: "good", False: "bad", None: "soft"}
    lines = [_row("th", HEAD)]
    for each in judged:
        *figures, verdict = (escape(cell) for cell in cells(each))
        inner = "".join(f"<td>{cell}</td>" for cell in figures)
        lines.append(f'<tr>{inner}<td class="verdict {colours[each.kept]}">{verdict}</td></tr>')
    return f"<table class=targets>{''.join(lines)}</table>"


def _markdown(table: str) -> str:
    """Return a table in Markdown, as `table.table` writes it, in HTML."""
    head, _, *lines = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.split("\n")
    )
    rows = [_row("th", head), *(_row("td", [_plain(cell) for cell in line]) for line in lines)]
    return f"<table>{''.join(rows)}</table>"


def _rounds(measurements: Iterable[Measurement], rounds: Sequence[Round]) -> str:
    numbers = [f"round {number + 1}" for number in range(len(rounds))]
    lines = [_row("th", ["measurement", "of", *numbers])]
    for measurement in measurements:
        for row in measurement.rows:
            for subject, values in by_round(rounds, measurement, row).items():
                cells = [_plain(row.label), subject, *map(short, values)]
                lines.append(_row("td", cells + [""] * (len(rounds) - len(values))))
    return f"<table>{''.join(lines)}</table>"


def _plain(cell: str) -> str:
    return cell.replace("**", "")


def _row(tag: str, cells: Iterable[str]) -> str:
    inner = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inner}</tr>"
