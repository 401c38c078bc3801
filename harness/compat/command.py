"""`python -m harness compat`: real agent programs against relay and simulator."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import trio

from harness.children import let_children_be_interrupted
from harness.compat import report
from harness.compat.agent_process import HAS_PROCESS_GROUPS
from harness.compat.cell import run_cell
from harness.compat.drivers import all_drivers
from harness.compat.install import agents_folder, find_all, run_npm
from harness.compat.matrix import cells_of, run_cells
from harness.compat.recording import SCENARIO, RecordingError, record
from harness.compat.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.compat.cell import Cell, Result

DRIVERS: Final = all_drivers()


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


#: What `--only` takes: programs, and single rows of the matrix.
_ROWS: Final = (
    *(driver.name for driver in DRIVERS),
    *(variant.name for driver in DRIVERS for variant in driver.variants),
)
_COLUMNS: Final = tuple(scenario.name for scenario in SCENARIOS)


@click.command
@click.option(
    "--only", type=Names(_ROWS), default="", help="Programs or rows, such as opencode,pi-chat."
)
@click.option(
    "--scenario",
    "scenarios",
    type=Names(_COLUMNS),
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
    "--record",
    "recordings",
    type=click.Path(file_okay=False, path_type=Path),
    help="Run no matrix; write what each program sends into DIR/ROW, without texts and ids.",
)
def compat(
    *,
    only: tuple[str, ...],
    scenarios: tuple[str, ...],
    jobs: int,
    retry_once: bool,
    skip_missing: bool,
    recordings: Path | None,
) -> None:
    """Run real agent programs through the relay, with a simulated backend behind it.

    Installs pinned versions from npm once (1.2 GB in the user's cache folder), then runs each
    program in each of its protocols through a conversation with a tool call: as it is, with other
    capabilities and another effort in its own configuration, with a call of a tool that it has not,
    with one fault at a time, and with accounts that run out of quota, are revoked or expire in its
    middle. Not every column is for every row; where there is no cell, the matrix has a dash. Needs
    no account. Exit status 0 means that every cell went as it should.
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
    if recordings is not None:
        chosen = [scenario for scenario in SCENARIOS if scenario.name == SCENARIO]
    every_command = dict.fromkeys((driver.name for driver in drivers), ())
    if not cells_of(drivers, chosen, commands=every_command, only=only):
        raise click.UsageError("none of these columns is for one of these rows")
    commands, missing = find_all(drivers, folder=agents_folder(os.environ), npm=run_npm)
    cells = cells_of(drivers, chosen, commands=commands, only=only)
    if recordings is not None:
        good = trio.run(_record, cells, recordings)
        print(report.matrix((), missing), end="")
        sys.exit(0 if good and (skip_missing or not missing) else 1)
    results = _run(cells, jobs=jobs, retry_once=retry_once)
    print(report.failures(results), report.matrix(results, missing), sep="", end="")
    sys.exit(exit_status(results, missing, skip_missing=skip_missing))


def exit_status(
    results: Sequence[Result], missing: Mapping[str, str], *, skip_missing: bool
) -> int:
    """Return 0 if every cell went as it should, and nothing is missing that must not be."""
    good = all(result.ok for result in results)
    return 0 if good and (skip_missing or not missing) else 1


def _run(cells: Sequence[Cell], *, jobs: int, retry_once: bool) -> tuple[Result, ...]:
    numbers = itertools.count(1)

    def tell(result: Result) -> None:
        print(report.line(result, number=next(numbers), total=len(cells)), flush=True)

    async def main() -> tuple[Result, ...]:
        return await run_cells(
            cells, run=run_cell, jobs=jobs, retry_once=retry_once, on_result=tell
        )

    return trio.run(main)


async def _record(cells: Sequence[Cell], recordings: Path) -> bool:
    """Record one program after the other; tell whether all held their conversations."""
    good = True
    for cell in cells:
        try:
            print(f"{cell.variant.name}: {await record(cell, recordings)} requests", flush=True)
        except RecordingError as error:
            good = False
            print(error, flush=True)
    return good
