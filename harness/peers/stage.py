"""Puts each relay in front of a simulated backend of its own, and measures it there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay import __version__
from harness.compat.target import Scorecard, Target, bench, measure_all
from harness.compat.verdict import CLIENT_KEY
from harness.peers.peer import upstream_of
from harness.relay_process import relay_settings, running_relay
from harness.servers.running import running_program
from harness.simulator import SimulatedAccount, Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from harness.compat.cell import Cell
    from harness.compat.target import Score
    from harness.peers.peer import Peer

OURSELVES: Final = "codexrelay"


@attrs.frozen(kw_only=True)
class Contender:
    """A relay that can be put on the stage."""

    name: str
    version: str
    #: In a line, what it is given.
    given: str
    #: How many accounts its backend knows, and so it.
    accounts: int
    #: Runs it in front of a backend, in a new folder.
    start: Callable[[Simulator, Path], AbstractAsyncContextManager[Target]]


def ourselves() -> Contender:
    """Return codexrelay, which is measured by the same means as the others."""
    return Contender(
        name=OURSELVES,
        version=__version__,
        given="two accounts, a session staying on one of them; its settings else as they are",
        accounts=2,
        start=_our_own,
    )


def contender(peer: Peer, python: Path) -> Contender:
    """Return a peer that is installed for this interpreter."""

    @contextlib.asynccontextmanager
    async def start(simulator: Simulator, folder: Path) -> AsyncIterator[Target]:
        program = peer.program_before(upstream_of(simulator))
        async with running_program(program, python, folder) as running:
            yield Target(
                name=peer.name,
                url=running.api_base_url,
                key=program.key or CLIENT_KEY,
                backend_url=simulator.base_url,
            )

    return Contender(
        name=peer.name, version=peer.version, given=peer.given, accounts=1, start=start
    )


async def measure_contender(
    contender: Contender,
    cells: Sequence[Cell],
    folder: Path,
    *,
    retry_once: bool,
    on_score: Callable[[str, Score], None],
) -> Scorecard:
    """Measure one relay from its start to its end, in a new folder.

    Raises (perhaps inside a group):
        ServerStartError, RelayStartError: it did not start.
        TargetError: it did not answer.
    """
    accounts = [SimulatedAccount(name) for name in ("one", "two")[: contender.accounts]]
    simulator = Simulator(accounts=accounts)
    async with trio.open_nursery() as nursery:
        await nursery.start(simulator.serve)
        async with contender.start(simulator, folder) as target, bench(target) as ready:
            card = await measure_all(ready, cells, retry_once=retry_once, on_score=on_score)
        nursery.cancel_scope.cancel()
    return card


@contextlib.asynccontextmanager
async def _our_own(simulator: Simulator, folder: Path) -> AsyncIterator[Target]:
    simulator.write_store(folder / "accounts")
    settings = relay_settings(
        api_base_url=simulator.api_base_url,
        issuer_url=simulator.issuer_url,
        store=folder / "accounts",
        managed_oauth={"selection_strategy": "session-affinity"},
    )
    async with running_relay(folder, settings) as relay:
        yield Target(name=OURSELVES, url=relay.url, backend_url=simulator.base_url)
