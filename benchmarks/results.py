"""What a run leaves: the report on the terminal, and files for machines and for eyes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from benchmarks.chart import chart_of
from benchmarks.figures import Figures, Round
from benchmarks.measurements import Measurement
from benchmarks.page import page
from benchmarks.png import write_png
from benchmarks.subject import MeasurementError
from benchmarks.targets import cells, judged, targets_table

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.targets import Judged


@attrs.frozen(kw_only=True)
class Run:
    """One run of the benchmarks, measured to the end."""

    #: What its files are called.
    name: str
    machine: str
    #: How it was measured, in a sentence.
    how: str
    subjects: Sequence[str]
    bridges: Sequence[str]
    measurements: Sequence[Measurement]
    rounds: Sequence[Round]
    figures: Figures
    #: Captions and tables in Markdown.
    tables: Sequence[tuple[str, str]]
    notes: list[str]

    @property
    def judged(self) -> list[Judged]:
        """The targets of what was measured."""
        return judged(self.figures, (*self.subjects, *self.bridges))

    def report(self) -> str:
        """Return it as text in Markdown."""
        parts = [f"{self.machine}\n{self.how}"]
        for caption, table in self.tables:
            parts += [caption, table]
        if self.judged:
            parts.append(targets_table(self.judged))
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts)

    def document(self) -> dict[str, object]:
        """Return it as JSON."""
        return {
            "machine": self.machine,
            "how": self.how,
            "targets": [list(cells(each)) for each in self.judged],
            "figures": self.figures,
            "rounds": self.rounds,
            "notes": self.notes,
        }


def write_results(folder: Path, run: Run) -> list[Path]:
    """Write JSON, PNG and HTML, and return the paths.

    Without matplotlib a note takes the place of the PNG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chart = chart_of(run.subjects, _beside(run), run.rounds, run.figures)
    title = f"codexrelay beside yardsticks: {run.name} run"
    picture = folder / f"{run.name}.png"
    with contextlib.suppress(FileNotFoundError):
        picture.unlink()  # of an earlier run: it would be taken for this one's
    try:
        if chart.panels:
            write_png(picture, chart, title=title, machine=run.machine)
    except MeasurementError as reason:
        run.notes.append(f"{picture.name}: not drawn: {reason}")
    site = page(
        title=title,
        machine=run.machine,
        how=run.how,
        judged=run.judged,
        chart=chart,
        tables=run.tables,
        notes=run.notes,
        measurements=run.measurements,
        rounds=run.rounds,
    )
    document = json.dumps(run.document(), indent=1, ensure_ascii=False)
    (folder / f"{run.name}.html").write_text(site, "utf-8")
    (folder / f"{run.name}.json").write_text(document, "utf-8")
    return [path for path in sorted(folder.glob(f"{run.name}.*")) if path.is_file()]


def _beside(run: Run) -> list[Measurement]:
    """Return the measurements that were made beside the yardsticks, which are what is drawn."""
    known = set(run.subjects)
    return [
        measurement
        for measurement in run.measurements
        if any(known & set(values) for values in run.figures[measurement.name].values())
    ]
