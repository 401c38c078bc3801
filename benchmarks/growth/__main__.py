"""`python -m benchmarks.growth`: measure every point of the curves, and say which are flat."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.build import build
from benchmarks.growth.curve import CurveRound, medians
from benchmarks.growth.curves import CURVES, Measured
from benchmarks.growth.ground import EVENTS_PER_S, Ground
from benchmarks.growth.plot import as_html, write_png
from benchmarks.growth.report import charts_of, curve_table
from benchmarks.load import LoadGenerator
from benchmarks.machine import describe_machine, how_busy
from benchmarks.processes import allow_many_sockets
from benchmarks.rounds import rotated
from benchmarks.stub import start_stub
from benchmarks.subject import MeasurementError
from benchmarks.table import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_RESULTS: Final = Path(__file__).resolve().parents[1] / "results"
_QUICK_SCALE: Final = 0.4
_FULL_ROUNDS: Final = 3


def main() -> None:
    """Measure what the command line asks for; print the tables, write the rest."""
    given = _parser().parse_args()
    if sys.platform != "linux":
        sys.exit("the benchmarks need Linux: they read /proc and build on epoll")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children are ended too
    allow_many_sockets()
    chosen = [each for each in CURVES if not given.only or each.curve.name in given.only]
    machine, busy_before = describe_machine(), how_busy()
    run = Run(scale=1.0 if given.full else _QUICK_SCALE, events_per_s=given.events_per_s)
    rounds = given.rounds or (_FULL_ROUNDS if given.full else 1)
    try:
        found = run.measure(chosen, rounds=rounds)
    except MeasurementError as error:
        sys.exit(f"benchmarks: {error}")
    machine += f", load average {busy_before} before and {how_busy()} after"
    how = f"{machine}. Medians of {rounds} round(s); {run.events_per_s:,} events/s in all streams."
    print(_report(how, chosen, found, run.notes))
    _write(given.out, how, chosen, found, run.notes)


@attrs.define
class Run:
    """One run of everything, and what a reader must know beside its figures."""

    #: Share of the full length of each measurement.
    scale: float
    events_per_s: int = EVENTS_PER_S
    notes: list[str] = attrs.field(factory=list, init=False)

    def measure(self, chosen: Sequence[Measured], *, rounds: int) -> dict[str, list[CurveRound]]:
        """Return each curve's rounds; what gave nothing is missing, with a note.

        Raises:
            MeasurementError: stub or load generator cannot be had.
        """
        found: dict[str, list[CurveRound]] = {each.curve.name: [] for each in chosen}
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="growth-")))
            build(folder)
            stub = start_stub(stack, folder, port=0)
            ground = Ground(stub, LoadGenerator(folder), self.events_per_s)
            for number in range(rounds):
                for each in chosen:
                    found[each.curve.name].append(self._round(each, ground, number))
        return found

    def _round(self, measured: Measured, ground: Ground, number: int) -> CurveRound:
        costs: CurveRound = {}
        for point in measured.curve.points:
            for kind in rotated(measured.kinds, number):
                now = f"{kind.name}, {measured.curve.name} {point:,g}, round {number + 1}"
                try:
                    cost = measured.measure(ground, kind, point, self.scale)
                except MeasurementError as reason:
                    self.notes.append(f"{now}: {reason}")
                    continue
                costs.setdefault(kind.name, {})[point] = cost.value
                print(f"{now}: {short(cost.value)} {measured.curve.y_label}", file=sys.stderr)
                if cost.note:
                    self.notes.append(f"{now}: {cost.note}")
        return costs


def _report(
    how: str, chosen: Iterable[Measured], found: dict[str, list[CurveRound]], notes: list[str]
) -> str:
    parts = [how]
    parts += [curve_table(each.curve, medians(found[each.curve.name])) for each in chosen]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts)


def _write(
    folder: Path,
    how: str,
    chosen: Sequence[Measured],
    found: dict[str, list[CurveRound]],
    notes: list[str],
) -> None:
    """Write the figures and the plots into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": how,
        "curves": {each.curve.name: attrs.asdict(each.curve) for each in chosen},
        "medians": {name: medians(rounds) for name, rounds in found.items()},
        "rounds": found,
        "notes": notes,
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / "growth.json").write_text(text, "utf-8")
    charts = charts_of([(each.curve, medians(found[each.curve.name])) for each in chosen])
    (folder / "growth.html").write_text(as_html("Growth", how, charts, notes), "utf-8")
    names = ["growth.json", "growth.html"]
    if write_png(charts, folder / "growth.png"):
        names.append("growth.png")
    else:
        print("no growth.png: matplotlib is not installed", file=sys.stderr)
    print(f"\n{folder}: {', '.join(names)}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    names = [each.curve.name for each in CURVES]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth",
        description="What a unit of work costs when there is more of everything around it.",
    )
    parser.add_argument(
        "--full", action="store_true", help=f"full length, {_FULL_ROUNDS} rounds: half an hour"
    )
    parser.add_argument("--rounds", type=int, help="interleaved rounds")
    parser.add_argument("--only", action="append", choices=names, help="a curve; may be repeated")
    parser.add_argument(
        "--events-per-s",
        type=int,
        default=EVENTS_PER_S,
        help=f"of all streams together ({EVENTS_PER_S:,}); less for a machine that falls behind",
    )
    parser.add_argument("--out", type=Path, default=_RESULTS, help="folder for JSON and plots")
    return parser


if __name__ == "__main__":
    main()
