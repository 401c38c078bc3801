"""`python -m benchmarks.micro`: time every case with pyperf, in processes of its own."""

from __future__ import annotations

import os
import statistics
import sys
from typing import TYPE_CHECKING, Final

import pyperf  # type: ignore[import-not-found,import-untyped,unused-ignore]  # group bench

from benchmarks.machine import describe_machine
from benchmarks.micro.case import Timing, micro_table
from benchmarks.micro.cases import every_case

if TYPE_CHECKING:
    import argparse

    from benchmarks.micro.case import Case

#: Few: a case is compared with itself of before, and what is looked for is more than a tenth.
_PROCESSES: Final = 3


def main() -> None:
    """Time what the command line asks for; pyperf's own options are there too."""
    runner = pyperf.Runner(
        processes=_PROCESSES,
        values=3,
        warmups=1,
        min_time=0.05,
        program_args=("-m", "benchmarks.micro"),
        add_cmdline_args=_for_workers,
    )
    runner.argparser.add_argument("--only", metavar="WORDS", help="cases with this in their name")
    # Its warnings are about a machine that does other work too: the table shows how far times vary.
    sys.argv.append("--quiet")
    if "PYTHONPATH" in os.environ:
        sys.argv.append("--inherit-environ=PYTHONPATH")
    given = runner.parse_args()
    cases = [case for case in every_case() if given.only is None or given.only in case.name]
    timings = {}
    for case in cases:
        if not given.worker:
            print(case.name, file=sys.stderr, flush=True)
        timing = _timed(runner, case)
        if timing is not None:
            timings[case.name] = timing
    if not given.worker:
        print(f"\n{describe_machine()}\n\n{micro_table(cases, timings)}")


def _timed(runner: pyperf.Runner, case: Case) -> Timing | None:
    """Time a case; None in a worker, and where pyperf was told not to."""
    measured = runner.bench_time_func(case.name, case.seconds, inner_loops=case.units)
    if measured is None or runner.args.worker:
        return None
    return Timing(measured.median(), statistics.median(_distances(measured)))


def _distances(measured: pyperf.Benchmark) -> list[float]:
    middle = measured.median()
    return [abs(value - middle) for value in measured.get_values()]


def _for_workers(command: list[str], given: argparse.Namespace) -> None:
    """Let the workers know which cases there are: each is told its own by number."""
    if given.only is not None:
        command.extend(("--only", given.only))


if __name__ == "__main__":
    main()
