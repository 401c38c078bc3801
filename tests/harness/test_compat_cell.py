"""One cell from end to end, with the one program that needs no npm: the SDK in this environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from harness.compat.cell import Cell, run_cell
from harness.compat.drivers.openai_sdk import DRIVER
from harness.compat.install import find, run_npm
from harness.compat.scenarios import SCENARIOS, Ending
from harness.relay_process import RelayStartError, running_relay

if TYPE_CHECKING:
    from pathlib import Path

GENEROUS_S = 60.0


def cell_of(scenario: str, folder: Path) -> Cell:
    return Cell(
        driver=DRIVER,
        command=find(DRIVER, folder=folder, npm=run_npm),
        variant=next(variant for variant in DRIVER.variants if variant.name == "sdk-chat"),
        scenario=next(column for column in SCENARIOS if column.name == scenario),
    )


async def test_a_conversation_whose_first_request_meets_a_401_goes_well(tmp_path: Path) -> None:
    with trio.fail_after(GENEROUS_S):
        result = await run_cell(cell_of("401", tmp_path))
    assert result.problems == ()
    assert (result.variant, result.scenario) == ("sdk-chat", "401")


async def test_a_cell_that_ends_otherwise_than_expected_fails_and_leaves_traces(
    tmp_path: Path,
) -> None:
    cell = cell_of("eof", tmp_path)
    hopeful = attrs.evolve(cell, scenario=attrs.evolve(cell.scenario, but={}))
    assert (cell.ending, hopeful.ending) == (Ending.REPORTED, Ending.ANSWERED)
    with trio.fail_after(GENEROUS_S):
        result = await run_cell(hopeful)
    assert "exit status 1" in result.problems
    assert any(line.startswith("backend: ") and "fault eof" in line for line in result.traces)
    assert any(line.startswith("stderr: ") for line in result.traces)
    assert any(line.startswith("relay: ") for line in result.traces)


async def test_a_relay_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        trio.fail_after(GENEROUS_S),
        pytest.RaisesGroup(pytest.RaisesExc(RelayStartError, match=r"server\.prot")),
    ):
        async with running_relay(tmp_path, {"server": {"prot": 1}}):
            pytest.fail("it has no such key")


async def test_a_relay_stops_well_when_it_is_asked_to(tmp_path: Path) -> None:
    with trio.fail_after(GENEROUS_S):
        async with running_relay(tmp_path, {}) as relay:
            assert relay.url.startswith("http://127.0.0.1:")
            assert relay.status is None
    assert relay.status == 0
