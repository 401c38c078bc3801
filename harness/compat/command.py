"""`python -m harness compat`: real agent programs against relay and simulator."""

from __future__ import annotations

import itertools
import os
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import click
import trio

from codexrelay import __version__
from harness.children import let_children_be_interrupted
from harness.compat import report, scorecard
from harness.compat.against import (
    NamedUrl,
    all_good,
    measure_targets,
    targets_of,
    tell_progress,
)
from harness.compat.agent_process import HAS_PROCESS_GROUPS
from harness.compat.cell import run_cell
from harness.compat.drivers import all_drivers
from harness.compat.hermetic import SKIPPED, is_sealed, seal, why_not
from harness.compat.install import agents_folder, find_all, run_npm
from harness.compat.junit import junit
from harness.compat.matrix import cells_of, run_cells
from harness.compat.on_cassette import recorded_in, run_on_cassette
from harness.compat.page import Facts, page
from harness.compat.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from harness.compat.cell import Cell, Result
    from harness.compat.hermetic import Sealing

DRIVERS: Final = all_drivers()
#: What runs a cell.
Run: TypeAlias = "Callable[[Cell], Awaitable[Result]]"


class Names(click.ParamType[tuple[str, ...]]):
    """Names out of a fixed set, separated by commas."""

    name = "names"

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names; one that is not known is an error that lists those that are."""
        names = tuple(name.strip() for name in value.split(",") if name.strip())
        if unknown := [name for name in names if name not in self._known]:
            self.fail(f"{', '.join(unknown)}: not one of {', '.join(self._known)}", param, ctx)
        return names


#: What `--clients` takes: programs, and single rows of the matrix.
ROWS: Final = tuple(
    dict.fromkeys(
        (
            *(driver.name for driver in DRIVERS),
            *(variant.name for driver in DRIVERS for variant in driver.variants),
        )
    )
)
COLUMNS: Final = tuple(scenario.name for scenario in SCENARIOS)


@click.command
@click.option(
    "--clients",
    "only",
    type=Names(ROWS),
    default="",
    help="Programs or rows, such as opencode,pi-chat.",
)
@click.option(
    "--scenario",
    "scenarios",
    type=Names(COLUMNS),
    default="",
    help="Columns, such as tool,overrides.",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=3, show_default=True, help="Cells at a time."
)
@click.option(
    "--retry-once", is_flag=True, help="Try a cell that failed once more; the second try counts."
)
@click.option("--skip-missing", is_flag=True, help="Leave out programs that cannot be installed.")
@click.option(
    "--junit",
    "junit_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the results into this file, as JUnit XML.",
)
@click.option(
    "--html",
    "html_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the matrix into this file, as one page with the transcript of each cell.",
)
@click.option(
    "--hermetic",
    is_flag=False,
    flag_value="always",
    default="never",
    show_default=True,
    type=click.Choice(["never", "auto", "always"]),
    help="Cut the run off from every network but loopback (Linux): `auto`, if that is allowed.",
)
@click.option(
    "--replay",
    "cassettes",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Run on recordings (DIR/PROGRAM/COLUMN/ROW.yaml) instead of the simulated backend; cells "
    "without one are left out.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    type=NamedUrl(),
    help="Measure this relay, which runs, instead of starting one; may be repeated, with names.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=NamedUrl(),
    help="The `python -m harness simulate` behind the target; without it, few columns are run.",
)
@click.option("--target-key", help="The key that the targets want.")
@click.option("--target-model", help="The model that the targets know, for all rows.")
def compat(
    *,
    only: tuple[str, ...],
    scenarios: tuple[str, ...],
    jobs: int,
    retry_once: bool,
    skip_missing: bool,
    cassettes: Path | None,
    targets: tuple[tuple[str, str], ...],
    backends: tuple[tuple[str, str], ...],
    target_key: str | None,
    target_model: str | None,
    junit_path: Path | None,
    html_path: Path | None,
    hermetic: Sealing,
) -> None:
    """Run real agent programs through the relay, with a simulated backend behind it.

    Installs pinned versions from npm once (1.2 GB in the user's cache folder), then runs each
    program in each of its protocols through a conversation with a tool call: as it is, with other
    capabilities and another effort in its own configuration, with a call of a tool that it has not,
    with one fault at a time, and with accounts that run out of quota, are revoked or expire in its
    middle. Not every column is for every row; where there is no cell, the matrix has a dash. Needs
    no account. Exit status 0 means that every cell went as it should.

    With --target it measures any relay in the same way, one cell at a time, by what is seen of it
    from outside; with several targets, side by side.
    """
    if not HAS_PROCESS_GROUPS:
        raise click.ClickException("agents are interrupted with POSIX signals; there are none here")
    let_children_be_interrupted()
    drivers = [
        driver
        for driver in DRIVERS
        if not only or {driver.name, *(variant.name for variant in driver.variants)} & set(only)
    ]
    chosen = [scenario for scenario in SCENARIOS if not scenarios or scenario.name in scenarios]
    aims = targets_of(targets, backends, key=target_key, model=target_model)
    if aims and hermetic != "never":
        raise click.UsageError("what runs already cannot be reached from a sealed run")
    if aims and cassettes is not None:
        raise click.UsageError("what runs already has a backend: --replay is for our own relay")
    every_command = dict.fromkeys((driver.name for driver in drivers), ())
    if not cells_of(drivers, chosen, commands=every_command, only=only):
        raise click.UsageError("none of these columns is for one of these rows")
    commands, missing = find_all(drivers, folder=agents_folder(os.environ), npm=run_npm)
    cells = cells_of(drivers, chosen, commands=commands, only=only)
    if aims:
        cards = measure_targets(aims, cells, retry_once=retry_once, tell=tell_progress)
        print(scorecard.side_by_side(cards), scorecard.reasons(cards), sep="", end="")
        print(report.matrix((), missing), end="")
        relay = ", ".join(aim.name for aim in aims)
        facts = _facts("not sealed: the network can be reached", relay=relay)
        _write(scorecard.results_of(cards), missing, facts, junit_path, html_path)
        sys.exit(0 if all_good(cards) and (skip_missing or not missing) else 1)
    sealed = _sealed(hermetic)
    print(sealed, flush=True)
    run: Run = run_cell
    if cassettes is not None:
        cells = recorded_in(cells, cassettes)
        if not (cells or missing):
            raise click.UsageError(f"no recording below {cassettes} is of one of these cells")
        run = partial(run_on_cassette, folder=cassettes)
    results = _run(cells, run=run, jobs=jobs, retry_once=retry_once)
    print(report.failures(results), report.matrix(results, missing), sep="", end="")
    _write(results, missing, _facts(sealed), junit_path, html_path)
    sys.exit(exit_status(results, missing, skip_missing=skip_missing))


def _facts(sealed: str, *, relay: str = "codexrelay") -> Facts:
    today = datetime.now(UTC).date().isoformat()
    return Facts(date=today, version=__version__, sealed=sealed, relay=relay)


def _write(
    results: Sequence[Result],
    missing: Mapping[str, str],
    facts: Facts,
    junit_path: Path | None,
    html_path: Path | None,
) -> None:
    """Write the reports that are wanted."""
    if junit_path is not None:
        junit_path.write_bytes(junit(results, missing))
    if html_path is not None:
        html_path.write_text(page(results, missing, facts), "utf-8")


def _sealed(hermetic: Sealing) -> str:
    """Seal this process if that is wanted and allowed; say whether it is sealed.

    Ends the program with the status `SKIPPED` if it must be and cannot.
    """
    if is_sealed():
        return "sealed: nothing but loopback can be reached"
    if hermetic == "never":
        return "not sealed: the network can be reached"
    reason = why_not()
    if reason is None:
        seal()
        return "sealed: nothing but loopback can be reached"
    if hermetic == "always":
        print(f"skipped: it cannot be sealed here: {reason}", file=sys.stderr)
        sys.exit(SKIPPED)
    return f"not sealed: {reason}"


def exit_status(
    results: Sequence[Result], missing: Mapping[str, str], *, skip_missing: bool
) -> int:
    """Return 0 if every cell went as it should, and nothing is missing that must not be."""
    good = all(result.ok for result in results)
    return 0 if good and (skip_missing or not missing) else 1


def _run(cells: Sequence[Cell], *, run: Run, jobs: int, retry_once: bool) -> tuple[Result, ...]:
    numbers = itertools.count(1)

    def tell(result: Result) -> None:
        print(report.line(result, number=next(numbers), total=len(cells)), flush=True)

    async def main() -> tuple[Result, ...]:
        return await run_cells(cells, run=run, jobs=jobs, retry_once=retry_once, on_result=tell)

    return trio.run(main)
