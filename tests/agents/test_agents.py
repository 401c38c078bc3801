"""Real agent programs through relay and simulator: the cells of `make compat`, as tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from harness.compat.cell import Cell, run_cell
from harness.compat.drivers import all_drivers
from harness.compat.install import NotInstalledError, agents_folder, find, run_npm
from harness.compat.scenarios import SCENARIOS, Scenario

if TYPE_CHECKING:
    from harness.compat.drivers.driver import Driver, Variant

pytestmark = pytest.mark.agents

ROWS = [
    pytest.param(driver, variant, id=variant.name)
    for driver in all_drivers()
    for variant in driver.variants
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize(("driver", "variant"), ROWS)
async def test_a_program_gets_through_a_conversation(
    driver: Driver, variant: Variant, scenario: Scenario
) -> None:
    if not scenario.is_for(variant.name):
        pytest.skip(f"{scenario.name} is not for {variant.name}")
    try:
        command = find(driver, folder=agents_folder(os.environ), npm=run_npm)
    except NotInstalledError as error:
        pytest.skip(str(error))
    result = await run_cell(
        Cell(driver=driver, command=command, variant=variant, scenario=scenario)
    )
    assert result.ok, "\n".join((*result.problems, *result.traces))
