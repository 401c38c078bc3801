"""What a run leaves behind, drawn from made-up figures."""

from __future__ import annotations

import html.parser
import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.chart import chart_of, colours_of
from benchmarks.figures import figures_of
from benchmarks.measurements import MEASUREMENTS
from benchmarks.results import Run, write_results
from benchmarks.subject import BARE_TRIO, CODEXRELAY, DIRECT, NGINX
from benchmarks.svg import decades
from benchmarks.table import table

if TYPE_CHECKING:
    from pathlib import Path

MEASURED = [m for m in MEASUREMENTS if m.name in ("first-event", "burst")]
SUBJECTS = (DIRECT, NGINX, BARE_TRIO, CODEXRELAY, "<other>")


def one_round(by: float) -> dict[str, dict[str, dict[str, float]]]:
    return {
        "first-event": {
            DIRECT: {"first": 0.05},
            NGINX: {"first": 0.09 * by, "cpu": 0.04 * by},
            BARE_TRIO: {"first": 0.11 * by, "cpu": 0.07 * by},
            CODEXRELAY: {"first": 1.1 * by, "cpu": 1.2 * by},
        },
        "burst": {
            BARE_TRIO: {"rate": 3e6, "cpu": 0.24},
            "<other>": {"rate": 1e4, "cpu": 50.0},
            CODEXRELAY: {"rate": 6e5, "cpu": 1.8},
        },
    }


ROUNDS = [one_round(by) for by in (1.0, 1.2, 0.9)]
FIGURES = figures_of(ROUNDS, MEASURED)


def run() -> Run:
    return Run(
        name="quick",
        machine="a machine",
        how="somehow",
        subjects=SUBJECTS,
        bridges=(),
        measurements=MEASURED,
        rounds=ROUNDS,
        figures=FIGURES,
        tables=[("beside", table(SUBJECTS, MEASURED, FIGURES))],
        notes=["<other>: left out"],
    )


class Strict(html.parser.HTMLParser):
    """Collects what a page would fetch, and checks that every tag is closed."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_run_leaves_json_and_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    write_results(tmp_path / "results", run())
    document = json.loads((tmp_path / "results" / "quick.json").read_text())
    assert document["rounds"] == ROUNDS
    assert document["targets"][1][:3] == ["(a) CPU per request, ms", "≤ 0.6", "1.2"]
    page = (tmp_path / "results" / "quick.html").read_text()
    reader = Strict()
    reader.feed(page)
    assert (reader.fetched, reader.open) == ([], [])
    assert not re.search(r"<script|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page
    for said in ("a machine", "somehow", "&lt;other&gt;: left out", "missed", "round 3"):
        assert said in page


def test_without_matplotlib_the_page_is_written_and_a_note_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quick.png").write_bytes(b"of an earlier run")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    one = run()
    written = write_results(tmp_path, one)
    assert [path.name for path in written] == ["quick.html", "quick.json"]
    assert "matplotlib cannot be used" in one.notes[-1]
    assert "matplotlib cannot be used" in (tmp_path / "quick.html").read_text()


def test_the_report_has_tables_targets_and_notes() -> None:
    report = run().report()
    for said in ("a machine\nsomehow", "beside", "| (b) Responses burst", "- <other>: left out"):
        assert said in report


def test_costs_are_compared_with_bare_trio_and_rates_are_not() -> None:
    chart = chart_of(SUBJECTS, MEASURED, ROUNDS, FIGURES)
    assert [each.title for each in chart.comparisons] == [
        "added time to first event p50, ms",
        "small request: CPU, ms",
        "Responses burst: CPU per event, µs",
    ]
    cpu = chart.comparisons[1]
    assert set(cpu.ratios) == {NGINX, BARE_TRIO, CODEXRELAY}
    assert cpu.ratios[BARE_TRIO] == 1.0
    assert cpu.limit == pytest.approx(8.57, abs=0.01)


def test_every_figure_has_its_bar_with_the_rounds() -> None:
    chart = chart_of(SUBJECTS, MEASURED, ROUNDS, FIGURES)
    panel = chart.panels[1]
    assert [bar.subject for bar in panel.bars] == [NGINX, BARE_TRIO, CODEXRELAY]
    assert panel.limit == 0.6
    assert panel.bars[2].rounds == pytest.approx((1.2, 1.44, 1.08))


def test_the_axis_holds_everything() -> None:
    comparisons = chart_of(SUBJECTS, MEASURED, ROUNDS, FIGURES).comparisons
    assert decades(comparisons) == (-1, 3)
    assert decades(()) == (0, 1)


def test_every_relay_beside_ours_has_a_colour() -> None:
    colours = colours_of((*SUBJECTS, "a", "b", "c", "d"))
    assert len(set(colours.values())) == len(SUBJECTS) + 3
