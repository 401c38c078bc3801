"""`python -m harness tape`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import trio

from harness.children import let_children_be_interrupted
from harness.compat.agent_process import HAS_PROCESS_GROUPS
from harness.compat.command import COLUMNS, DRIVERS, ROWS, Names
from harness.compat.install import agents_folder, find_all, run_npm
from harness.compat.matrix import cells_of
from harness.compat.scenarios import SCENARIOS
from harness.taping.cells import TapingError, record_cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.compat.cell import Cell

_FOLDER: Final = Path("cassettes")


@click.command()
@click.option(
    "--clients", type=Names(ROWS), default="", help="Programs or rows, such as opencode,pi-chat."
)
@click.option(
    "--scenario", "scenarios", type=Names(COLUMNS), default="", help="Columns, such as tool,text."
)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=_FOLDER,
    show_default=True,
    help="Cassettes are DIR/PROGRAM/COLUMN/ROW.yaml; those that are there are replaced.",
)
def tape(clients: tuple[str, ...], scenarios: tuple[str, ...], folder: Path) -> None:
    """Record cells of the compatibility matrix: real programs, a relay, a simulated backend.

    A recording is kept if the cell went as it should and a relay answers it again as it was
    answered. The texts of the programs' makers are replaced by filler. Exit status 1: a cell could
    not be recorded.
    """
    if not HAS_PROCESS_GROUPS:
        raise click.ClickException("agents are interrupted with POSIX signals; there are none here")
    let_children_be_interrupted()
    drivers = [
        driver
        for driver in DRIVERS
        if not clients or {driver.name, *(one.name for one in driver.variants)} & set(clients)
    ]
    chosen = [scenario for scenario in SCENARIOS if not scenarios or scenario.name in scenarios]
    every_command = dict.fromkeys((driver.name for driver in drivers), ())
    if not cells_of(drivers, chosen, commands=every_command, only=clients):
        raise click.UsageError("none of these columns is for one of these rows")
    commands, missing = find_all(drivers, folder=agents_folder(os.environ), npm=run_npm)
    for name, reason in missing.items():
        click.echo(f"{name}: left out: {reason}", err=True)
    cells = cells_of(drivers, chosen, commands=commands, only=clients)
    good = trio.run(_tape_all, cells, folder)
    sys.exit(0 if good and not missing else 1)


async def _tape_all(cells: Sequence[Cell], folder: Path) -> bool:
    good = True
    for cell in cells:
        try:
            click.echo(f"recorded {await record_cell(cell, folder)}")
        except TapingError as error:
            good = False
            click.echo(str(error), err=True)
    return good
