"""`python -m harness simulate`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from codexrelay.protocol.raw import dump
from harness.simulator.accounts import some_accounts
from harness.simulator.faults import FAULTS
from harness.simulator.simulator import Simulator

if TYPE_CHECKING:
    from harness.simulator.seen import Seen


@click.command()
@click.option("--port", default=0, show_default=True, help="TCP port; 0 takes a free one.")
@click.option(
    "--accounts",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of simulated accounts (sim-1, sim-2, ...).",
)
@click.option(
    "--store",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write one account file per account into this folder, for a relay to use.",
)
@click.option(
    "--pace-ms",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    help="Milliseconds between two deltas; 0 sends each answer in one burst.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=click.Choice(sorted(FAULTS)),
    metavar="NAME",
    help="Spoil the next main request; given several times, one request each. "
    f"Names: {', '.join(sorted(FAULTS))}.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append each request as a line of JSON, without tokens.",
)
def simulate(
    port: int,
    accounts: int,
    store: Path | None,
    pace_ms: float,
    faults: tuple[str, ...],
    record: Path | None,
) -> None:
    """Serve a simulated Codex backend and sign-in service on 127.0.0.1 until interrupted.

    While it runs: POST /_sim/faults ["eof", ...]; GET /_sim/seen; POST /_sim/expire and
    /_sim/revoke {"account": "sim-1"}; POST /_sim/limit {"account", "after", "resets_in_s"}.
    """
    simulator = Simulator(
        accounts=some_accounts(accounts),
        pace_s=pace_ms / 1000,
        port=port,
        on_ended=lambda seen: _append(record, seen),
    )
    simulator.queue_faults(*faults)
    if store is not None:
        simulator.write_store(store)
    trio.run(_serve_until_interrupted, simulator)


async def _serve_until_interrupted(simulator: Simulator) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            base_url = await nursery.start(simulator.serve)
            click.echo(f"harness listening on {base_url}", err=True)
            async for _ in signals:
                nursery.cancel_scope.cancel()


def _append(record: Path | None, seen: Seen) -> None:
    if record is not None:
        with record.open("ab") as file:
            file.write(dump(seen.as_json()) + b"\n")
