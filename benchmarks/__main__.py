"""`python -m benchmarks`: build, start, measure, report."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from benchmarks.arguments import read_arguments
from benchmarks.bridges import SSE_SSE, counted, start_bridges
from benchmarks.build import build
from benchmarks.compression import compression_tables
from benchmarks.figures import figures_of
from benchmarks.load import LoadGenerator
from benchmarks.machine import describe_machine, how_busy
from benchmarks.processes import allow_many_sockets, ended_by_sigterm, rss_bytes
from benchmarks.relay import start_relay
from benchmarks.results import Run, write_results
from benchmarks.rounds import Rounds
from benchmarks.stub import check_reaches_stub, start_stub
from benchmarks.subject import (
    BARE_TRIO,
    CODEXRELAY,
    DIRECT,
    NGINX,
    ONE_PUMP,
    MeasurementError,
    Subject,
)
from benchmarks.table import table
from benchmarks.yardsticks import start_nginx, start_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.arguments import Options
    from benchmarks.figures import Figures, Round


def main() -> None:
    """Run the benchmarks that the command line asks for, and print what they found."""
    options = read_arguments(sys.argv[1:])
    if sys.platform != "linux":
        sys.exit("the benchmarks need Linux: they read /proc and build on epoll")
    ended_by_sigterm()
    allow_many_sockets()
    machine, busy_before = describe_machine(), how_busy()
    notes: list[str] = []
    try:
        subjects, rounds = _measure(options, notes)
    except MeasurementError as error:
        sys.exit(f"benchmarks: {error}")
    machine += f", load average {busy_before} before and {how_busy()} after"
    measured = (*options.measurements, *options.bridges)
    figures = figures_of(rounds, measured)
    run = Run(
        name=options.name,
        machine=machine,
        how=f"Medians of {options.rounds} round(s) at {options.scale:.0%} of the full length.",
        subjects=_names(subjects.beside),
        bridges=_names(subjects.bridges),
        measurements=measured,
        rounds=rounds,
        figures=figures,
        tables=tuple(_tables(options, subjects, figures)),
        notes=notes,
    )
    written = write_results(options.results, run)
    print(run.report())
    print("\n".join(f"written: {path}" for path in written), file=sys.stderr)


@attrs.frozen
class Subjects:
    """What is measured."""

    #: The relay and what stands beside it.
    beside: list[Subject] = attrs.field(factory=list)
    #: The relay's bridges.
    bridges: list[Subject] = attrs.field(factory=list)


def _names(subjects: list[Subject]) -> list[str]:
    return [subject.name for subject in subjects]


def _measure(options: Options, notes: list[str]) -> tuple[Subjects, list[Round]]:
    """Start everything, measure all rounds, and end everything.

    Raises:
        MeasurementError: something that cannot be left out did not start.
    """
    if not options.measurements and not options.bridges:
        return Subjects(), []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        build(folder)
        with _named("stub"):
            stub = start_stub(stack, folder, port=options.stub_port)
        started: list[Subject] = []
        if options.measurements:
            started += [Subject(DIRECT, stub.url)]
            started += _start_yardsticks(stack, options, stub, folder, notes)
            if CODEXRELAY in options.started:
                with _named(CODEXRELAY):
                    started.append(start_relay(stack, stub_url=stub.url, folder=folder))
            started += options.relays
        bridges = start_bridges(stack, stub=stub, folder=folder) if options.bridges else []
        check = partial(_checked, stub=stub, headers=options.headers)
        subjects = Subjects([*map(check, started)], [*map(check, bridges)])
        run = LoadGenerator(folder, options.headers).run
        rounds = partial(
            Rounds,
            scale=options.scale,
            on_progress=partial(print, file=sys.stderr, flush=True),
            on_note=notes.append,
        )
        beside = rounds(run=run, subjects=subjects.beside, measurements=options.measurements)
        between = rounds(
            run=counted(run, stub, notes.append),
            subjects=subjects.bridges,
            measurements=options.bridges,
        )
        measured = [
            beside.measure(number) | between.measure(number) for number in range(options.rounds)
        ]
    return subjects, measured


def _start_yardsticks(
    stack: contextlib.ExitStack, options: Options, stub: Subject, folder: Path, notes: list[str]
) -> Iterator[Subject]:
    """Start what the relay is compared with; what cannot start is left out with a note."""
    script = partial(start_script, stack, upstream_url=stub.url, folder=folder)
    starts: dict[str, Callable[[], Subject]] = {
        NGINX: partial(start_nginx, stack, upstream_url=stub.url, folder=folder),
        BARE_TRIO: partial(script, BARE_TRIO, "bare_trio.py"),
        ONE_PUMP: partial(script, ONE_PUMP, "pump_trio.py"),
    }
    for name, start in starts.items():
        if name in options.started:
            try:
                yield start()
            except MeasurementError as reason:
                notes.append(f"{name}: left out: {reason}")


def _checked(subject: Subject, *, stub: Subject, headers: tuple[str, ...]) -> Subject:
    """Note the subject's memory before any request, then make sure that it asks the stub."""
    with _named(subject.name):
        idle = None if subject.pid is None else rss_bytes(subject.pid)
        check_reaches_stub(subject, stub, headers)
    return attrs.evolve(subject, idle_rss_bytes=idle)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the subject's name before the text of an error."""
    try:
        yield
    except MeasurementError as error:
        raise MeasurementError(f"{name}: {error}") from None


def _tables(options: Options, subjects: Subjects, figures: Figures) -> Iterator[tuple[str, str]]:
    """Yield captions and tables in Markdown."""
    if options.measurements:
        caption = (
            "Beside yardsticks. In brackets the ratio to nginx / to bare trio; direct is the stub "
            "itself, [absolute] where the others show what they add."
        )
        yield caption, table(_names(subjects.beside), options.measurements, figures)
    if options.bridges:
        caption = (
            "The relay's bridges, client-backend, each over HTTP or WebSocket. In brackets the "
            f"ratio to {SSE_SSE}."
        )
        names = _names(subjects.bridges)
        yield caption, table(names, options.bridges, figures, bases=(SSE_SSE,))
    if options.compression:
        whole, each = compression_tables(options.rounds).split("\n\n")
        yield "Compression of tool outputs", whole
        yield "Each compressor by itself", each


if __name__ == "__main__":
    main()
