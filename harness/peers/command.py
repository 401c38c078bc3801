"""`python -m harness peers`: codexrelay and two other relays, side by side."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import trio

from harness.children import let_children_be_interrupted
from harness.compat import report, scorecard
from harness.compat.against import all_good, tell_progress
from harness.compat.agent_process import HAS_PROCESS_GROUPS
from harness.compat.command import DRIVERS, Names
from harness.compat.install import agents_folder, find_all, run_npm
from harness.compat.matrix import cells_of
from harness.compat.scenarios import SCENARIOS
from harness.compat.target import FOR_ANY_RELAY, TargetError
from harness.peers import chatmock, litellm_proxy
from harness.peers.stage import Contender, contender, measure_contender, ourselves
from harness.relay_process import RelayStartError, told_by
from harness.servers.install import find_all as find_peers
from harness.servers.install import peers_folder, run_pip
from harness.servers.running import ServerStartError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.compat.cell import Cell
    from harness.compat.target import Scorecard
    from harness.peers.peer import Peer

PEERS: Final[tuple[Peer, ...]] = (chatmock.PEER, litellm_proxy.PEER)
_ROWS: Final = tuple(variant.name for driver in DRIVERS for variant in driver.variants)
#: One row for each shape of request, of programs that everybody can have.
_USUAL_ROWS: Final = (
    *("sdk-chat", "sdk-responses", "sdk-chat-whole", "sdk-responses-whole"),
    *("pi-chat", "pi-responses", "codex", "opencode-chat"),
)


@click.command()
@click.option(
    "--peers",
    "names",
    type=Names(tuple(peer.name for peer in PEERS)),
    default=",".join(peer.name for peer in PEERS),
    show_default=True,
    help="The other relays.",
)
@click.option(
    "--clients",
    type=Names(_ROWS),
    default=",".join(_USUAL_ROWS),
    show_default=True,
    help="Rows, such as codex,pi-chat.",
)
@click.option(
    "--scenario",
    "scenarios",
    type=Names(FOR_ANY_RELAY),
    default=",".join(FOR_ANY_RELAY),
    show_default=True,
    help="Columns, such as tool,drop.",
)
@click.option(
    "--retry-once", is_flag=True, help="Try a cell that failed once more; the second try counts."
)
@click.option("--skip-missing", is_flag=True, help="Leave out what cannot be installed.")
def peers(
    *,
    names: tuple[str, ...],
    clients: tuple[str, ...],
    scenarios: tuple[str, ...],
    retry_once: bool,
    skip_missing: bool,
) -> None:
    """Measure codexrelay and other relays by the same means, side by side.

    Installs the others from the package index once (pinned versions, 1 GB in the user's cache
    folder) and the programs from npm, and puts each relay in front of a simulated backend of its
    own, with a made-up login. All are judged by what is seen from outside. What a relay cannot do
    by design is a dash. Exit status 0 means that all were measured, and that codexrelay has no
    failure.
    """
    if not HAS_PROCESS_GROUPS:
        raise click.ClickException("peers are ended with POSIX signals; there are none here")
    let_children_be_interrupted()
    chosen = [peer for peer in PEERS if peer.name in names]
    pythons, missing = find_peers(chosen, folder=peers_folder(os.environ), pip=run_pip)
    drivers = [
        driver for driver in DRIVERS if {variant.name for variant in driver.variants} & {*clients}
    ]
    commands, no_programs = find_all(drivers, folder=agents_folder(os.environ), npm=run_npm)
    columns = [scenario for scenario in SCENARIOS if scenario.name in scenarios]
    cells = [
        cell
        for cell in cells_of(drivers, columns, commands=commands)
        if cell.variant.name in clients
    ]
    contenders = [
        ourselves(),
        *(contender(peer, pythons[peer.name]) for peer in chosen if peer.name in pythons),
    ]
    for one in contenders:
        print(f"{one.name} {one.version}: {one.given}", flush=True)
    cards, fallen = trio.run(lambda: _measure(contenders, cells, retry_once=retry_once))
    missing = {**missing, **no_programs, **fallen}
    print(scorecard.side_by_side(cards), scorecard.reasons(cards), sep="", end="")
    print(report.matrix((), missing), end="")
    ours = [card for card in cards if card.target == contenders[0].name]
    sys.exit(0 if all_good(ours) and (skip_missing or not missing) else 1)


async def _measure(
    contenders: Sequence[Contender], cells: Sequence[Cell], *, retry_once: bool
) -> tuple[tuple[Scorecard, ...], dict[str, str]]:
    """Measure all at the same time, each one cell after the other; none shares anything.

    Returns the scorecards, and the reasons of those that have none.
    """
    cards: dict[str, Scorecard] = {}
    fallen: dict[str, str] = {}

    async def measure(one: Contender, folder: Path) -> None:
        try:
            cards[one.name] = await measure_contender(
                one, cells, folder, retry_once=retry_once, on_score=tell_progress
            )
        except* (ServerStartError, RelayStartError, TargetError) as group:
            fallen[one.name] = told_by(group)

    with tempfile.TemporaryDirectory(
        prefix="codexrelay-peers-", ignore_cleanup_errors=True
    ) as name:
        async with trio.open_nursery() as nursery:
            for one in contenders:
                nursery.start_soon(measure, one, Path(name) / one.name)
    return tuple(cards[one.name] for one in contenders if one.name in cards), fallen
