"""Choosing, running and printing cells; no program is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from click.testing import CliRunner

from harness.compat import report
from harness.compat.cell import Cell, Result
from harness.compat.command import compat, exit_status
from harness.compat.drivers import all_drivers
from harness.compat.matrix import cells_of, run_cells
from harness.compat.scenarios import SCENARIOS
from harness.taping.command import tape

if TYPE_CHECKING:
    from pathlib import Path

    import click

COMMANDS = {driver.name: ("true",) for driver in all_drivers()}
CELLS = cells_of(all_drivers(), SCENARIOS, commands=COMMANDS, only=["pi"])

GOOD = Result(variant="pi-chat", scenario="tool", seconds=2.04, problems=())
BAD = Result(
    variant="pi-chat",
    scenario="401",
    seconds=3.0,
    problems=("exit status 1", "no text"),
    traces=("stderr: oh", "backend: 1.00 POST /responses 401"),
)


@attrs.define
class Runner:
    """Fails the first `fail` runs of each cell; counts how many run at once."""

    fail: int = 0
    runs: list[Cell] = attrs.field(factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def __call__(self, cell: Cell) -> Result:
        self.runs.append(cell)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await trio.testing.wait_all_tasks_blocked()
        self.at_once -= 1
        failed = self.runs.count(cell) <= self.fail
        return Result(
            variant=cell.variant.name,
            scenario=cell.scenario.name,
            seconds=1.0,
            problems=("oh",) if failed else (),
        )


async def run_with(
    runner: Runner, *, jobs: int = 2, retry_once: bool = False
) -> tuple[Result, ...]:
    told: list[Result] = []
    results = await run_cells(
        CELLS, run=runner, jobs=jobs, retry_once=retry_once, on_result=told.append
    )
    assert set(map(id, told)) == set(map(id, results))
    return results


def test_every_row_has_every_column_but_those_that_are_for_others() -> None:
    cells = cells_of(all_drivers(), SCENARIOS, commands=COMMANDS)
    rows = {variant.name for driver in all_drivers() for variant in driver.variants}
    columns = {scenario.name: set[str]() for scenario in SCENARIOS}
    for cell in cells:
        columns[cell.scenario.name].add(cell.variant.name)
    assert len(cells) == sum(map(len, columns.values()))
    go_on = {"opencode-chat", "opencode-responses", "pi-chat", "pi-responses"}
    over_websockets = {"codex-ws", "codex-ws-up"}
    codex = {"codex", "codex-lite", "codex-login", "codex-ws-http", *over_websockets}
    local = go_on | {"codex", "codex-ws", "droid-chat", "droid-responses"}
    assert {name: found for name, found in columns.items() if found != rows} == {
        "adapted": go_on,
        "local-chat": local,
        "local-resp": {"codex", "droid-chat", "opencode-chat", "pi-chat"},
        "mixed": {"codex", "codex-ws", *go_on},
        "image": rows - {"droid-chat", "droid-responses"},
        "title": {"opencode-chat", "opencode-responses"},
        "resume": codex | go_on,
        "compaction": codex | go_on,
        "reconnect": over_websockets,
        "forgotten": over_websockets,
        "created-drop": over_websockets,
        "too-big": over_websockets,
        "upgrade-426": over_websockets,
        "upgrade-500": over_websockets,
    }


def test_a_program_without_a_command_has_no_cells() -> None:
    cells = cells_of(all_drivers(), SCENARIOS, commands={"pi": ("true",)})
    assert {cell.driver.name for cell in cells} == {"pi"}


@pytest.mark.parametrize(
    ("only", "rows"),
    [(["pi"], {"pi-chat", "pi-responses"}), (["pi-chat", "sdk-chat"], {"pi-chat", "sdk-chat"})],
    ids=["a program", "two rows"],
)
def test_programs_and_rows_can_be_chosen(only: list[str], rows: set[str]) -> None:
    cells = cells_of(all_drivers(), SCENARIOS, commands=COMMANDS, only=only)
    assert {cell.variant.name for cell in cells} == rows


async def test_each_cell_is_run_once_and_so_many_at_a_time() -> None:
    runner = Runner()
    await run_with(runner, jobs=3)
    assert sorted(map(id, runner.runs)) == sorted(map(id, CELLS))
    assert runner.most_at_once == 3


async def test_results_come_in_the_order_of_the_cells() -> None:
    results = await run_with(Runner(), jobs=3)
    assert [(result.variant, result.scenario) for result in results] == [
        (cell.variant.name, cell.scenario.name) for cell in CELLS
    ]


async def test_a_cell_that_failed_is_tried_once_more_and_the_second_try_counts() -> None:
    results = await run_with(Runner(fail=1), retry_once=True)
    assert all(result.ok and result.tries == 2 for result in results)


async def test_a_cell_that_fails_twice_has_failed() -> None:
    results = await run_with(Runner(fail=2), retry_once=True)
    assert not any(result.ok for result in results)


async def test_without_being_told_so_nothing_is_tried_again() -> None:
    runner = Runner(fail=1)
    results = await run_with(runner)
    assert not any(result.ok for result in results)
    assert len(runner.runs) == len(CELLS)


def test_the_matrix_shows_seconds_failures_second_tries_and_what_was_left_out() -> None:
    second = attrs.evolve(GOOD, scenario="401", variant="sdk-chat", tries=2)
    assert report.matrix([GOOD, BAD, second], {"droid": "npm is not installed"}) == (
        "seconds   tool    401\n"
        "pi-chat   ok 2.0  FAIL\n"
        "sdk-chat  -       ok 2.0*\n"
        "* the second try\n"
        "droid: left out: npm is not installed\n"
    )


def test_a_wide_matrix_goes_on_below_so_that_no_line_is_too_long() -> None:
    results = [attrs.evolve(GOOD, scenario=f"scenario-{n:02}") for n in range(25)]
    text = report.matrix([*results, attrs.evolve(BAD, scenario="scenario-00", variant="x")], {})
    assert max(map(len, text.splitlines())) <= 120
    first, *others = text.split("\n\n")
    assert all(block.startswith("seconds") and "pi-chat" in block for block in (first, *others))
    assert [text.count(f"scenario-{n:02}") for n in range(25)] == [1] * 25


def test_a_failed_cell_tells_its_problems_and_traces() -> None:
    assert report.failures([GOOD, BAD]) == (
        "--- pi-chat 401\n"
        "wrong: exit status 1\n"
        "wrong: no text\n"
        "stderr: oh\n"
        "backend: 1.00 POST /responses 401\n"
    )


def test_each_cell_is_told_in_a_line_as_it_ends() -> None:
    assert report.line(GOOD, number=3, total=117) == "[  3/117] pi-chat tool: ok 2.0 s"
    assert report.line(BAD, number=12, total=117) == ("[ 12/117] pi-chat 401: FAIL (exit status 1)")


@pytest.mark.parametrize(
    ("results", "missing", "skip", "status"),
    [
        ([GOOD], {}, False, 0),
        ([GOOD, BAD], {}, True, 1),
        ([GOOD], {"pi": "no npm"}, False, 1),
        ([GOOD], {"pi": "no npm"}, True, 0),
    ],
    ids=["all good", "one bad", "one missing", "one missing, which may be"],
)
def test_the_exit_status_is_0_only_if_all_went_well(
    results: list[Result], missing: dict[str, str], *, skip: bool, status: int
) -> None:
    assert exit_status(results, missing, skip_missing=skip) == status


@pytest.mark.parametrize("command", [compat, tape])
def test_a_column_that_is_for_none_of_the_rows_is_refused(command: click.Command) -> None:
    result = CliRunner().invoke(command, ["--clients", "droid,codex-lite", "--scenario", "adapted"])
    assert result.exit_code == 2
    assert "none of these columns is for one of these rows" in result.output


def test_to_replay_what_nobody_has_recorded_is_refused(tmp_path: Path) -> None:
    asked = ["--clients", "sdk-chat", "--scenario", "text", "--replay", str(tmp_path)]
    result = CliRunner().invoke(compat, asked)
    assert result.exit_code == 2
    assert "is of one of these cells" in result.output


def test_a_relay_that_runs_already_has_no_recorded_backend(tmp_path: Path) -> None:
    asked = ["--target", "http://127.0.0.1:9", "--replay", str(tmp_path)]
    result = CliRunner().invoke(compat, asked)
    assert result.exit_code == 2
    assert "--replay is for our own relay" in result.output


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [("--clients", "opencode,vim", "opencode-chat"), ("--scenario", "402", "keep-alive")],
)
def test_an_unknown_name_is_refused_with_the_known_ones(
    option: str, value: str, known: str
) -> None:
    result = CliRunner().invoke(compat, [option, value])
    assert result.exit_code == 2
    assert known in result.output
