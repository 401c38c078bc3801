"""The matrix: every way of running a program, times every scenario that is for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from harness.compat.cell import Cell, Result

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from harness.compat.drivers.driver import Driver
    from harness.compat.install import Command
    from harness.compat.scenarios import Scenario


def cells_of(
    drivers: Iterable[Driver],
    scenarios: Sequence[Scenario],
    *,
    commands: Mapping[str, Command],
    only: Sequence[str] = (),
) -> tuple[Cell, ...]:
    """Return the cells of the programs that have a command, row by row.

    `only` names drivers or variants; empty means all. Where a scenario is not for a variant, the
    matrix has no cell.
    """
    return tuple(
        Cell(driver=driver, command=commands[driver.name], variant=variant, scenario=scenario)
        for driver in drivers
        if driver.name in commands
        for variant in driver.variants
        if not only or driver.name in only or variant.name in only
        for scenario in scenarios
        if scenario.is_for(variant.name)
    )


async def run_cells(
    cells: Sequence[Cell],
    *,
    run: Callable[[Cell], Awaitable[Result]],
    jobs: int,
    retry_once: bool,
    on_result: Callable[[Result], None],
) -> tuple[Result, ...]:
    """Let `run` run each of `cells`, `jobs` at a time; `on_result` is told of each as it ends.

    The results come in the order of the cells.

    With `retry_once` a cell that failed is run again, and the second try is its result.
    """
    results: dict[int, Result] = {}
    waiting = enumerate(cells)

    async def work() -> None:
        for (
            place,
            cell,
        ) in waiting:  # the workers take turns: no checkpoint between them and the iterator
            result = await run(cell)
            if retry_once and not result.ok:
                result = attrs.evolve(await run(cell), tries=2)
            results[place] = result
            on_result(result)

    async with trio.open_nursery() as nursery:
        for _ in range(jobs):
            nursery.start_soon(work)
    return tuple(results[place] for place in range(len(cells)))
