"""`python -m harness prove`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

import click

from harness.proof import wires
from harness.proof.bridges import BRIDGES, Bridge
from harness.proof.running import Outcome, Part, batches, cores, run_all, run_case

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.proof.running import Extent, Failure

_PARTS: Final[tuple[Part, ...]] = get_args(Part)
_TITLES: Final[dict[Part, str]] = {
    "loss": "loss: an answer stops at any byte of the wire",
    "long": "long: long and recorded answers stop anywhere",
    "mishaps": "mishaps: several faults, refusals and refreshes",
    "stories": "stories: many turns on one relay",
    "cancel": "cancel: left, stopped, killed at any step",
}
_BRIDGES: Final[dict[Bridge, str]] = {
    "sse-http": "client over HTTP, backend over HTTP",
    "sse-ws": "client over HTTP, backend over WebSocket",
    "ws-http": "client over WebSocket, backend over HTTP",
    "ws-ws": "client over WebSocket, backend over WebSocket",
}
#: What is cut besides, if it is there.
_CASSETTES: Final = Path("cassettes")
_MOST_FAILURES: Final = 20
#: Seconds between two lines of progress.
_TELL_EVERY_S: Final = 10.0


@click.command()
@click.option("--quick", "extent", flag_value="quick", default=True, help="A sample: seconds.")
@click.option("--full", "extent", flag_value="full", help="Every byte, every step: minutes.")
@click.option(
    "--exhaustive", "extent", flag_value="exhaustive", help="Each of them in every protocol, too."
)
@click.option("--only", help=f"Some of {', '.join(_PARTS)}, with commas between.")
@click.option(
    "--bridge",
    "bridges",
    multiple=True,
    type=click.Choice(BRIDGES),
    help="What the client speaks, and what it comes to upstream. [default: all four]",
)
@click.option(
    "--streams",
    "found_in",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Cut the answers in this cassette, .sse file or folder, too. [default: cassettes]",
)
@click.option("--seed", type=int, default=1, show_default=True, help="What is drawn, and how.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes; as many as there are cores.")
@click.option("--case", help="Run one case again, by the line that was printed for it.")
def prove(
    extent: Extent,
    only: str | None,
    bridges: tuple[Bridge, ...],
    found_in: tuple[Path, ...],
    seed: int,
    jobs: int | None,
    case: str | None,
) -> None:
    """Cut, delay and cancel a whole relay everywhere, in virtual time: nothing is lost.

    From the client's socket to the backend's, all of it is the real thing; the sockets are pairs in
    this process and the clock jumps. A client must get a true beginning of the answer and exactly
    one end; nothing may be left open, and no account charged with what is not its own. Exit status
    1 means that this was not so; each failure names the case to run again.
    """
    if wires.UNSUPPORTED is not None:
        click.echo(f"not possible here: {wires.UNSUPPORTED}", err=True)
        sys.exit(2)
    if case is not None:
        sys.exit(_again(case))
    parts = _parts(only)
    began_s = time.perf_counter()
    if not found_in and _CASSETTES.is_dir():
        found_in = (_CASSETTES,)
    bridges = tuple(bridge for bridge in BRIDGES if not bridges or bridge in bridges)
    work = batches(parts, extent, seed=seed, found_in=found_in, bridges=bridges)
    progress = _Progress(len(work))
    outcomes = run_all(work, jobs=jobs or cores(), tell=progress.tell)
    _print(parts, bridges, outcomes, time.perf_counter() - began_s)
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    _print_failures(failures)
    sys.exit(1 if failures else 0)


def _parts(only: str | None) -> tuple[Part, ...]:
    wanted = [] if only is None else [name.strip() for name in only.split(",")]
    if unknown := [name for name in wanted if name not in _PARTS]:
        known = ", ".join(_PARTS)
        raise click.BadParameter(f"{', '.join(unknown)} is none of {known}", param_hint="--only")
    return tuple(part for part in _PARTS if not wanted or part in wanted)


def _again(case: str) -> int:
    try:
        problems = run_case(case)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--case") from None
    for problem in problems:
        click.echo(f"  WRONG  {problem}")
    click.echo("FAILED" if problems else "ok")
    return 1 if problems else 0


class _Progress:
    """Tells from time to time how far it is."""

    def __init__(self, batches: int) -> None:
        self._batches = batches
        self._done = self._cases = self._failures = 0
        self._told_s = time.perf_counter()

    def tell(self, outcome: Outcome) -> None:
        """Take note of work that is done."""
        self._done += 1
        self._cases += outcome.cases
        self._failures += len(outcome.failures)
        if time.perf_counter() - self._told_s >= _TELL_EVERY_S:
            self._told_s = time.perf_counter()
            share = 100 * self._done // self._batches
            click.echo(f"  ... {share} %, {self._cases} cases, {self._failures} failures")


def _print(
    parts: Sequence[Part], bridges: Sequence[Bridge], outcomes: Sequence[Outcome], took_s: float
) -> None:
    click.echo(f"{'':<54}{'cases':>8}{'CPU s':>8}{'failures':>10}")
    for bridge in bridges:
        click.echo(f"{bridge}: {_BRIDGES[bridge]}")
        for part in parts:
            some = [one for one in outcomes if (one.part, one.bridge) == (part, bridge)]
            cases, failures = sum(one.cases for one in some), sum(len(one.failures) for one in some)
            cpu_s = sum(one.took_s for one in some)
            click.echo(f"  {_TITLES[part]:<52}{cases:>8}{cpu_s:>8.1f}{failures:>10}")
    click.echo(f"{sum(one.cases for one in outcomes)} cases in {took_s:.1f} s")


def _print_failures(failures: Sequence[Failure]) -> None:
    for failure in failures[:_MOST_FAILURES]:
        click.echo(f"FAILED  python -m harness prove --case '{failure.case}'")
        for problem in failure.problems[:3]:
            click.echo(f"        {problem[:300]}")
    if len(failures) > _MOST_FAILURES:
        click.echo(f"and {len(failures) - _MOST_FAILURES} more")
