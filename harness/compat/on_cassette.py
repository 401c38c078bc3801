"""Runs a cell on its own recording: the program is real, its backend is the cassette.

The relay is a real one too (`replay --relay`). The program must do again what it did when it was
recorded: what it asks otherwise is a miss, and what it never asks is missed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from harness.compat.agent_process import Exit, run
from harness.compat.cell import PATIENCE_S, Result, other_backends, prepare, settings_for
from harness.compat.scenarios import Ending
from harness.compat.traces import last_words, text_of
from harness.relay_process import RelayStartError, replay_of, running_relay, told_by

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.compat.agent_process import Launch
    from harness.compat.cell import Cell

#: Begins the lines of a replay that say what was not as recorded.
_MISSED: Final = ("harness replay: no recording", "never asked for", "  ")


def cassette_of(cell: Cell, folder: Path) -> Path:
    """Return where the recording of a cell is."""
    return folder / cell.driver.name / cell.scenario.name / f"{cell.variant.name}.yaml"


def recorded_in(cells: Iterable[Cell], folder: Path) -> tuple[Cell, ...]:
    """Return the cells that are recorded and that a recording can be the backend of.

    An interrupted program leaves when its backend says so, which a cassette does not.
    """
    return tuple(
        cell
        for cell in cells
        if cell.ending is not Ending.INTERRUPTED and cassette_of(cell, folder).is_file()
    )


async def run_on_cassette(cell: Cell, *, folder: Path) -> Result:
    """Run a cell whose recording is in `folder`, judge it, and leave nothing behind."""
    began_at_s = trio.current_time()
    problems: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory(
        prefix="codexrelay-compat-", ignore_cleanup_errors=True
    ) as name:
        try:
            problems, traces = await _observe(cell, cassette_of(cell, folder), Path(name))
        except* RelayStartError as group:
            problems = ("the relay did not start",)
            traces = tuple(last_words("relay", told_by(group)))
    return Result(
        variant=cell.variant.name,
        scenario=cell.scenario.name,
        seconds=trio.current_time() - began_at_s,
        problems=problems,
        traces=traces if problems else (),
    )


async def _observe(
    cell: Cell, cassette: Path, folder: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    home, relay_home = folder / "home", folder / "relay"
    relay_home.mkdir()
    settings = settings_for(
        cell.scenario,
        api_base_url="http://127.0.0.1:9/backend-api/codex",
        issuer_url="http://127.0.0.1:9",
        store=folder / "accounts",
        others=other_backends(cell.scenario, "http://127.0.0.1:9/v1", relay_home),
        upstream=cell.variant.upstream,
    )
    ended, printed, complaints = Exit(), "", ""
    async with running_relay(relay_home, settings, program=replay_of(cassette)) as relay:
        for number in range(cell.scenario.runs):
            launch = prepare(cell, home, relay_url=relay.url, run=number)
            ended = await _run(launch)
            printed += text_of(launch.stdout_path)
            complaints += text_of(launch.stderr_path)
            if ended.status != 0:
                break
    problems = [*_of_the_program(cell, ended, printed)]
    if relay.status != 0:
        missed = [line for line in relay.log if line.startswith(_MISSED)]
        problems += missed or [f"the replay ended with {relay.status}"]
    traces = (
        *last_words("relay", "\n".join(relay.log)),
        *last_words("stdout", printed),
        *last_words("stderr", complaints),
    )
    return tuple(problems), traces


async def _run(launch: Launch) -> Exit:
    with trio.move_on_after(PATIENCE_S):
        return await run(launch)
    return Exit()


def _of_the_program(cell: Cell, ended: Exit, printed: str) -> Iterable[str]:
    if ended.status is None:
        yield "it was still running when its time was up"
    elif (ended.status == 0) is not (cell.ending is Ending.ANSWERED):
        yield f"exit status {ended.status}"
    if (cell.scenario.answer in printed) is not (cell.ending is Ending.ANSWERED):
        yield f"it printed {'an answer' if cell.scenario.answer in printed else 'no answer'}"
