"""`python -m harness servers`: the relay before real OpenAI-compatible servers."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import trio

from harness.children import let_children_be_interrupted
from harness.compat import report
from harness.compat.agent_process import HAS_PROCESS_GROUPS
from harness.compat.cell import Result
from harness.compat.command import Names, exit_status
from harness.relay_process import (
    RelayProcess,
    RelayStartError,
    other_backend,
    relay_settings,
    running_relay,
    told_by,
)
from harness.servers.install import find_all, run_pip, servers_folder
from harness.servers.kinds import all_kinds
from harness.servers.running import RunningServer, ServerStartError, running_server
from harness.servers.turns import Row, cells_of, run_cell, wrong_key_name
from harness.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.servers.kinds.kind import Kind

KINDS: Final = all_kinds()
_WRONG_KEY: Final = "sk-this-is-not-the-key"
#: Relay and servers share two cores with the clients.
_JOBS: Final = 2


@click.command()
@click.option(
    "--only", type=Names(tuple(kind.name for kind in KINDS)), default="", help="Servers by name."
)
@click.option("--skip-missing", is_flag=True, help="Leave out servers that cannot be installed.")
def servers(*, only: tuple[str, ...], skip_missing: bool) -> None:
    """Run the relay before real OpenAI-compatible servers.

    Installs pinned versions from the package index once (1.5 GB in the user's cache folder), starts
    them on loopback with models that are made on the spot, and holds conversations with tool calls
    in both protocols over each wire that they speak. Exit status 0 means that everything went as it
    should.
    """
    if not HAS_PROCESS_GROUPS:
        raise click.ClickException("servers are ended with POSIX signals; there are none here")
    let_children_be_interrupted()
    kinds = [kind for kind in KINDS if not only or kind.name in only]
    found, missing = find_all(kinds, folder=servers_folder(os.environ), pip=run_pip)
    there = [kind for kind in kinds if kind.name in found]
    for kind in there:
        print(f"{kind.name} {kind.version}: {', '.join(kind.wires)}", flush=True)
    results: Sequence[Result] = ()
    try:
        results = trio.run(_run, there, found) if there else ()
    except* (ServerStartError, RelayStartError) as group:
        print(told_by(group))
        sys.exit(1)
    print(report.failures(results), report.matrix(results, missing), sep="", end="")
    sys.exit(exit_status(results, missing, skip_missing=skip_missing))


async def _run(kinds: Sequence[Kind], found: Mapping[str, Path]) -> tuple[Result, ...]:
    with tempfile.TemporaryDirectory(
        prefix="codexrelay-servers-", ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        (folder / "relay").mkdir()
        async with contextlib.AsyncExitStack() as stack, trio.open_nursery() as nursery:
            running = await _start_all(kinds, found, folder, stack)
            codex = Simulator()
            await nursery.start(codex.serve)
            codex.write_store(folder / "accounts")
            settings = relay_settings(
                api_base_url=codex.api_base_url,
                issuer_url=codex.issuer_url,
                store=folder / "accounts",
                aliases={},
                others=_backends(running, folder),
            )
            async with running_relay(folder / "relay", settings) as relay:
                results = await _run_cells(_rows(running, relay, folder))
            nursery.cancel_scope.cancel()
    return (*results, _codex_was_left_alone(codex))


async def _start_all(
    kinds: Sequence[Kind],
    found: Mapping[str, Path],
    folder: Path,
    stack: contextlib.AsyncExitStack,
) -> list[RunningServer]:
    # One after the other: two at once only compete for the same cores.
    return [
        await stack.enter_async_context(running_server(kind, found[kind.name], folder / kind.name))
        for kind in kinds
    ]


def _backends(running: Sequence[RunningServer], folder: Path) -> Mapping[str, Mapping[str, object]]:
    """Return the relay's backends: each wire of each server, and again with a wrong key."""
    backends: dict[str, Mapping[str, object]] = {}
    for server in running:
        kind = server.kind
        for wire in kind.wires:
            name = f"{kind.name}-{wire}"
            for key, called in ((kind.key, name), (_WRONG_KEY, wrong_key_name(name))):
                backends[called] = other_backend(
                    server.api_base_url, models=[], wire=wire, key=key, folder=folder
                )
    return backends


def _rows(running: Sequence[RunningServer], relay: RelayProcess, folder: Path) -> list[Row]:
    return [
        Row(server=server, wire=wire, relay=relay, folder=folder)
        for server in running
        for wire in server.kind.wires
    ]


async def _run_cells(rows: Sequence[Row]) -> tuple[Result, ...]:
    cells = list(cells_of(rows))
    results: dict[int, Result] = {}
    numbers, waiting = itertools.count(1), enumerate(cells)

    async def work() -> None:
        for place, (row, column) in waiting:  # no checkpoint between workers and iterator
            results[place] = result = await run_cell(row, column)
            print(report.line(result, number=next(numbers), total=len(cells)), flush=True)

    async with trio.open_nursery() as nursery:
        for _ in range(_JOBS):
            nursery.start_soon(work)
    return tuple(results[place] for place in range(len(cells)))


def _codex_was_left_alone(codex: Simulator) -> Result:
    """Judge whether all turns went where they were sent."""
    turns = [seen for seen in codex.seen if seen.path.endswith("/responses")]
    problems = (f"Codex was asked {len(turns)} times",) if turns else ()
    return Result(variant="codex", scenario="left-alone", seconds=0.0, problems=problems)
