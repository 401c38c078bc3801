"""`python -m benchmarks`: build, start, measure, report."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from benchmarks.arguments import read_arguments
from benchmarks.build import build
from benchmarks.compression import compression_tables
from benchmarks.figures import figures_of
from benchmarks.load import LoadGenerator
from benchmarks.machine import describe_machine, how_busy
from benchmarks.processes import allow_many_sockets, rss_bytes
from benchmarks.relay import start_relay
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
from benchmarks.targets import TARGETS, targets_table
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children are ended too
    allow_many_sockets()
    machine, busy_before = describe_machine(), how_busy()
    notes: list[str] = []
    try:
        subjects, rounds = _measure(options, notes) if options.measurements else ([], [])
    except MeasurementError as error:
        sys.exit(f"benchmarks: {error}")
    machine += f", load average {busy_before} before and {how_busy()} after"
    figures = figures_of(rounds, options.measurements)
    if options.json_path is not None:
        document = {"machine": machine, "figures": figures, "rounds": rounds, "notes": notes}
        options.json_path.parent.mkdir(parents=True, exist_ok=True)
        options.json_path.write_text(json.dumps(document, indent=1, ensure_ascii=False), "utf-8")
    if options.measurements:
        print(_report(options, machine, subjects, figures, notes))
    else:
        print(machine)
    if options.compression:
        print(f"\n{compression_tables(options.rounds)}")


def _measure(options: Options, notes: list[str]) -> tuple[list[str], list[Round]]:
    """Start everything, measure all rounds, and end everything.

    Raises:
        MeasurementError: something that cannot be left out did not start.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        build(folder)
        with _named("stub"):
            stub = start_stub(stack, folder, port=options.stub_port)
        started = [Subject(DIRECT, stub.url)]
        started += _start_yardsticks(stack, options, stub, folder, notes)
        if CODEXRELAY in options.started:
            with _named(CODEXRELAY):
                started.append(start_relay(stack, stub_url=stub.url, folder=folder))
        subjects = [
            _checked(subject, stub, options.headers) for subject in (*started, *options.relays)
        ]
        rounds = Rounds(
            run=LoadGenerator(folder, options.headers).run,
            subjects=subjects,
            measurements=options.measurements,
            scale=options.scale,
            on_progress=partial(print, file=sys.stderr, flush=True),
            on_note=notes.append,
        )
        measured = [rounds.measure(number) for number in range(options.rounds)]
    return [subject.name for subject in subjects], measured


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


def _checked(subject: Subject, stub: Subject, headers: tuple[str, ...]) -> Subject:
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


def _report(
    options: Options, machine: str, subjects: list[str], figures: Figures, notes: list[str]
) -> str:
    parts = [
        machine,
        f"Medians of {options.rounds} round(s) at {options.scale:.0%} of the full length; in "
        "brackets the ratio to nginx / to bare trio. Direct is the stub itself: [absolute].",
        table(subjects, options.measurements, figures),
    ]
    if CODEXRELAY in subjects:
        measured = {measurement.name for measurement in options.measurements}
        targets = [target for target in TARGETS if target.measurement in measured]
        parts.append(targets_table(CODEXRELAY, targets, figures))
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
