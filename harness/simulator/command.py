"""`python -m harness simulate`."""

from __future__ import annotations

import functools
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click
import trio

from harness.simulator.accounts import some_accounts
from harness.simulator.conditions import CONDITIONS
from harness.simulator.faults import FAULTS
from harness.simulator.seen import append_to
from harness.simulator.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.simulator.accounts import SimulatedAccount
    from harness.simulator.loopback import Loopback
    from harness.simulator.seen import Seen


def _of_accounts(
    _ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """Read `NAME=VALUE`, given any number of times."""
    pairs = [one.partition("=") for one in given]
    if wrong := next((name for name, sign, _ in pairs if not sign), None):
        raise click.BadParameter(f"{wrong!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


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
    "--plan",
    "plans",
    multiple=True,
    callback=_of_accounts,
    metavar="NAME=PLAN",
    help="The plan of one account (default: plus); may be repeated.",
)
@click.option(
    "--condition",
    "conditions",
    multiple=True,
    callback=_of_accounts,
    metavar="NAME=CONDITION",
    help="Put one account into a condition; may be repeated. "
    f"Conditions: {', '.join(sorted(CONDITIONS))}.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    callback=_of_accounts,
    metavar="NAME=AFTER",
    help="Let one account reach its usage limit in so many turns; may be repeated.",
)
@click.option(
    "--websockets/--no-websockets",
    default=True,
    show_default=True,
    help="Serve WebSockets; if not, a request for one is answered 426.",
)
@click.option(
    "--ping-every-s",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds between two pings on a WebSocket (default: none).",
)
@click.option(
    "--socket-life-s",
    type=click.FloatRange(min=0),
    default=3600.0,
    show_default=True,
    help="Age in seconds at which a WebSocket takes no more messages.",
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
    plans: dict[str, str],
    conditions: dict[str, str],
    limits: dict[str, str],
    websockets: bool,  # noqa: FBT001  (click passes by name)
    ping_every_s: float | None,
    socket_life_s: float,
    record: Path | None,
) -> None:
    """Serve a simulated Codex backend and sign-in service on 127.0.0.1 until interrupted.

    While it runs: POST /_sim/faults ["eof", ...] or {"account": "sim-1", "faults": ["eof", ...]};
    GET /_sim/seen; POST /_sim/expire, /_sim/revoke and /_sim/unlimit {"account": "sim-1"};
    POST /_sim/limit {"account", "after", "resets_in_s", "used"}; POST /_sim/condition {"account",
    "condition" (null lifts it), "wait_s"}; POST /_sim/reset {"pace_s"}, which forgets
    requests, faults, conditions, limits and expiries, and leaves accounts and tokens alone.
    """
    simulator = Simulator(
        accounts=_with_plans(some_accounts(accounts), plans),
        pace_s=pace_ms / 1000,
        port=port,
        websockets=websockets,
        ping_every_s=ping_every_s,
        socket_life_s=socket_life_s,
        on_ended=writing_to(record),
    )
    simulator.queue_faults(*faults)
    try:
        for name, condition in conditions.items():
            simulator.set_condition(name, condition)
        for name, after in limits.items():
            simulator.limit(name, after=_turns(after))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if store is not None:
        simulator.write_store(store)
    trio.run(serve_until_interrupted, simulator)


def _turns(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is no number of turns")
    return int(text)


def _with_plans(
    accounts: tuple[SimulatedAccount, ...], plans: dict[str, str]
) -> tuple[SimulatedAccount, ...]:
    if unknown := plans.keys() - {account.name for account in accounts}:
        raise click.UsageError(f"no account is called {min(unknown)!r}")
    return tuple(
        attrs.evolve(account, plan=plans.get(account.name, account.plan)) for account in accounts
    )


async def serve_until_interrupted(simulator: Loopback) -> None:
    """Serve, say where on stderr, and end with SIGINT or SIGTERM."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            base_url = await nursery.start(simulator.serve)
            click.echo(f"harness listening on {base_url}", err=True)
            async for _ in signals:
                nursery.cancel_scope.cancel()


def writing_to(record: Path | None) -> Callable[[Seen], object]:
    """Return what is done with each request that has ended: it goes to the wire log, if any."""
    return (lambda _: None) if record is None else functools.partial(append_to, record)
