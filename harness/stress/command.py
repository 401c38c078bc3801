"""`python -m harness stress`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Final

import attrs
import click
import trio

from harness.children import let_children_be_interrupted
from harness.relay_process import RelayStartError, relay_settings, running_relay, told_by
from harness.simulator.accounts import some_accounts
from harness.stress.holding import CountingSimulator, held_by, problems_behind
from harness.stress.killing import kill_relays
from harness.stress.leaving import leave, rows_of
from harness.stress.sharing import share
from harness.stress.stage import Delays, Stage, legacy_stage, managed_stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.stress.books import Call
    from harness.stress.killing import Killed
    from harness.stress.sharing import Shared

#: How long the sign-in service takes at most, before it looks at a token and before it answers.
_QUICK_S: Final = 0.02
_SLOW_S: Final = 0.3
_MOST_PROBLEMS: Final = 20
#: Between two deltas of the backend that clients leave.
_PACE_S: Final = 0.005
#: Clients at the same time.
_AT_ONCE: Final = 50
#: Rounds between two lines of progress.
_TELL_EVERY: Final = 100


@attrs.frozen
class Arrangement:
    """Which programs share what."""

    name: str
    title: str
    open: Callable[[_Setting, Delays], AbstractAsyncContextManager[Stage]]


ARRANGEMENTS: Final = (
    Arrangement(
        "managed",
        "managed accounts, with the relay's library",
        lambda setting, delays: managed_stage(
            setting.folder, relays=setting.relays, delays=delays, with_fourth=True
        ),
    ),
    Arrangement(
        "legacy",
        "auth.json, with a program like Codex CLI",
        lambda setting, delays: legacy_stage(setting.folder, relays=setting.relays, delays=delays),
    ),
)


@attrs.frozen
class _Setting:
    """One arrangement about to be played."""

    arrangement: Arrangement
    relays: int = attrs.field(kw_only=True)
    folder: Path = attrs.field(kw_only=True)
    rng: Random = attrs.field(kw_only=True)

    def stage(self, most_s: float) -> AbstractAsyncContextManager[Stage]:
        """Open its stage, with a sign-in service that takes up to `most_s` seconds, twice."""
        return self.arrangement.open(self, slow(self.rng, most_s))


@click.command()
@click.option(
    "--expiries",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Forced expiries in each of the two arrangements.",
)
@click.option(
    "--kills",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Killed relays in each of them.",
)
@click.option(
    "--leaves",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Clients that leave, with a backend over HTTP and with one over WebSockets.",
)
@click.option(
    "--relays", type=click.IntRange(min=1), default=3, show_default=True, help="Relay processes."
)
@click.option("--seed", type=int, help="Where and when relays are killed; drawn if not given.")
def stress(expiries: int, kills: int, leaves: int, relays: int, seed: int | None) -> None:
    """Show that refresh tokens are never burnt, and that clients who leave leave nothing behind.

    With real processes, and a simulated issuer and backend.

    The issuer revokes all tokens of a sign-in when one of them is used twice. First relays and a
    fourth program share accounts whose access tokens expire again and again: over one folder of
    managed accounts with a program that uses the relay's library, and, at the same time, over one
    auth.json with a program that behaves as Codex CLI. Then relays are killed (SIGKILL) while they
    refresh, again in both. At last clients, half of them on WebSockets, leave a relay in every
    phase of a turn: the backend must be left at once, whether it is asked over HTTP or over
    WebSockets. Exit status 1 means that something happened that must not.
    """
    let_children_be_interrupted()
    seed = SystemRandom().randrange(1 << 32) if seed is None else seed
    click.echo(f"{relays} relays, {expiries} expiries, {kills} kills, {leaves} leaves, seed {seed}")
    counts = {"expiries": expiries, "kills": kills, "leaves": leaves}
    try:
        problems = trio.run(partial(run, **counts, relays=relays, seed=seed))
    except* RelayStartError as group:
        click.echo(f"a relay did not start:\n{told_by(group)}", err=True)
        sys.exit(1)
    click.echo("FAILED" if problems else "ok: nothing happened that must not")
    sys.exit(1 if problems else 0)


async def run(*, expiries: int, kills: int, leaves: int, relays: int, seed: int) -> list[str]:
    """Run everything, print what came of it, and return what must not have happened."""
    problems: list[str] = []
    runs = (("shared", expiries, _share), ("killed", kills, _kill))
    with tempfile.TemporaryDirectory(prefix="codexrelay-stress-", ignore_cleanup_errors=True) as at:
        folder, rng = Path(at), Random(seed)
        for name, count, act in runs:
            async with trio.open_nursery() as nursery:
                for arrangement in ARRANGEMENTS if count else ():
                    setting = _Setting(
                        arrangement,
                        relays=relays,
                        folder=_new(folder / f"{name}-{arrangement.name}"),
                        rng=Random(rng.random()),
                    )
                    nursery.start_soon(act, setting, count, problems)
        for websocket in ("off", "on") if leaves else ():
            here = _new(folder / f"left-{websocket}")
            await _leave(here, leaves, problems, websocket=websocket, rng=Random(rng.random()))
    return problems


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def slow(rng: Random, most_s: float) -> Delays:
    """Return a sign-in service that takes up to `most_s` seconds, twice."""

    async def wait(_: Call) -> None:
        await trio.sleep(rng.uniform(0, most_s))

    return Delays(before=wait, after=wait)


async def _share(setting: _Setting, expiries: int, problems: list[str]) -> None:
    title = setting.arrangement.title

    def tell(shared: Shared) -> None:
        if shared.expiries % _TELL_EVERY == 0:
            click.echo(f"  ... {title}: {shared.expiries} expiries")

    began_at_s = trio.current_time()
    async with setting.stage(_QUICK_S) as stage:
        shared = await share(stage, expiries=expiries, rng=setting.rng, tell=tell)
    by = ", ".join(f"{name} {count}" for name, count in sorted(shared.refreshes.items()))
    _print(
        f"Shared: {title} ({trio.current_time() - began_at_s:.0f} s)",
        (
            ("forced expiries", shared.expiries),
            ("refreshes", f"{sum(shared.refreshes.values())} ({by})"),
            ("adopted instead (as far as told)", shared.adopted),
            ("requests", shared.requests),
            ("answered with 200", shared.served),
        ),
        shared.problems,
    )
    problems += shared.problems


async def _kill(setting: _Setting, kills: int, problems: list[str]) -> None:
    title = setting.arrangement.title

    def tell(killed: Killed) -> None:
        if killed.kills % _TELL_EVERY == 0:
            click.echo(f"  ... {title}: {killed.kills} kills")

    began_at_s = trio.current_time()
    async with setting.stage(_SLOW_S) as stage:
        killed = await kill_relays(stage, kills=kills, rng=setting.rng, tell=tell)
    _print(
        f"Killed: {title} ({trio.current_time() - began_at_s:.0f} s)",
        (
            ("kills", killed.kills),
            *((f"  {point}", count) for point, count in killed.points.items()),
            ("refreshes", killed.refreshes),
            ("adopted instead (as far as told)", killed.adopted),
            ("calls that died undecided: tokens kept", killed.dropped),
            ("pairs lost, answer not stored: allowed", killed.lost),
            ("  of which the account was marked", killed.given_up),
            ("pairs lost wrongly", killed.lost_wrongly),
            ("accounts given up wrongly", killed.given_up_wrongly),
            ("requests of programs that lived", killed.requests),
            ("answered with 200", killed.served),
            ("files of writes cut short, owner only", killed.left_over),
        ),
        killed.problems,
    )
    problems += killed.problems


async def _leave(
    folder: Path, clients: int, problems: list[str], *, websocket: str, rng: Random
) -> None:
    """Let clients leave a relay whose backend is asked as `websocket` says."""
    simulator = CountingSimulator(accounts=some_accounts(2), pace_s=_PACE_S)
    store = _new(folder / "accounts")
    began_at_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(simulator.serve)
        simulator.write_store(store)
        settings = relay_settings(
            api_base_url=simulator.api_base_url, issuer_url=simulator.issuer_url, store=store
        )
        settings["backends"]["openai_codex"]["websocket"] = websocket  # type: ignore[index]
        async with running_relay(folder, settings) as relay:
            # Whatever a first turn opens for good is open then.
            await leave(relay.url, simulator, clients=_AT_ONCE, at_once=_AT_ONCE, rng=rng)
            before = await held_by(relay, simulator)
            left = await leave(relay.url, simulator, clients=clients, at_once=_AT_ONCE, rng=rng)
            left.problems += await problems_behind(relay, simulator, before)
        nursery.cancel_scope.cancel()
    how = "WebSockets" if websocket == "on" else "HTTP"
    elapsed_s = trio.current_time() - began_at_s
    _print(f"Left: a backend asked over {how} ({elapsed_s:.0f} s)", rows_of(left), left.problems)
    problems += left.problems


def _print(title: str, rows: Sequence[tuple[str, object]], problems: Sequence[str]) -> None:
    click.echo(f"\n{title}")
    for label, value in rows:
        click.echo(f"  {label:<42}{value}")
    for problem in problems[:_MOST_PROBLEMS]:
        click.echo(f"  WRONG  {problem}")
    if len(problems) > _MOST_PROBLEMS:
        click.echo(f"  and {len(problems) - _MOST_PROBLEMS} more")
