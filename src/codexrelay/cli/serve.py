"""`codexrelay serve`: the composition root."""

from __future__ import annotations

import gc
import linecache
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import click
import structlog
import trio

from codexrelay.cli import logs, process
from codexrelay.cli.flags import KeyedCommand, given, key_flags
from codexrelay.cli.process import Running, World
from codexrelay.cli.signals import endings, forget_closed, is_closed, is_hangup, terminals
from codexrelay.config.folders import legacy_folders
from codexrelay.config.live import Live, Sources
from codexrelay.config.proxies import proxy_for
from codexrelay.errors import ConfigError
from codexrelay.server.drain import Drain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from codexrelay.config.settings import Settings

#: Exit status for a configuration that cannot be used.
_UNUSABLE: Final = 2
#: A terminal may be closed a moment after SIGHUP has come because of it.
_CLOSING_S: Final = 2.0

_log = structlog.get_logger("codexrelay.serve")


@click.command(cls=KeyedCommand)
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file (YAML); the variable CODEXRELAY_CONFIG may name it too.",
)
@key_flags
def serve(config_path: Path | None, **flags: str | None) -> None:
    """Relay requests of coding agents to the Codex backend, and to others, until interrupted.

    A configuration file that changes is read again within two seconds, and at once on SIGHUP; what
    needs a restart is named. SIGHUP from a terminal that is closed ends the relay.
    """
    run(config_path, flags, serve_live)


def run(
    config_path: Path | None,
    flags: Mapping[str, str | None],
    serving: Callable[[Live], Awaitable[None]],
) -> None:
    """Let `serving` serve what file, environment and flags say; what is wrong ends the process."""
    sources = Sources(config_path=config_path, environ=dict(os.environ), flags=given(flags))
    try:
        live = Live.load(sources)
        trio.run(serving, live)
    except* ConfigError as group:
        for problem in _problems(group):
            click.echo(f"codexrelay: {problem}", err=True)
        sys.exit(_UNUSABLE)


def _problems(group: BaseExceptionGroup[ConfigError]) -> list[str]:
    return [
        str(problem)
        for error in group.exceptions
        for problem in (
            _problems(error) if isinstance(error, BaseExceptionGroup) else error.problems
        )
    ]


def world_of(settings: Settings) -> World:
    """Return the real world."""
    return World(
        legacy_folders=lambda name: legacy_folders(settings, os.environ, instance=name),
        wall_clock=time.time,
        new_id=lambda: uuid4().hex,
        proxy_for=proxy_for,
        variable=os.environ.get,
    )


async def serve_live(live: Live, *, world: World | None = None) -> None:
    """Serve until a signal ends it; `world` is what stands in for the real one."""
    settings = live.settings
    logs.configure(settings.server.log_level)
    world = world or world_of(settings)
    drain = Drain(grace_s=settings.server.drain_grace_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heed_signals, drain, live, nursery.cancel_scope, terminals())
        async with trio.open_nursery() as relay:
            running = await relay.start(partial(process.run, settings, world, drain))
            click.echo(f"codexrelay listening on {running.url}", err=True)
            linecache.clearcache()  # attrs' sources of all methods that it has made: a megabyte
            _calm_the_collector()
            accounts = _Accounts(running)
            click.echo(accounts.said, err=True)
            _warn(live, running)
            nursery.start_soon(live.keep, partial(_adopt, running, accounts))
        nursery.cancel_scope.cancel()


async def _adopt(running: Running, accounts: _Accounts, settings: Settings) -> None:
    await process.adopt(running.services, settings)
    logs.configure(settings.server.log_level)
    accounts.say_if_other(running)


class _Accounts:
    """What was last said about the accounts in use."""

    def __init__(self, running: Running) -> None:
        self.said = _accounts(running)

    def say_if_other(self, running: Running) -> None:
        """Say it anew where it is not as it was."""
        if (now := _accounts(running)) != self.said:
            self.said = now
            _log.info(now.removeprefix("codexrelay "))


def _calm_the_collector() -> None:
    """Keep the garbage collector from stopping streams for what never becomes garbage.

    While 500 streams open, Python's defaults walk all modules and all streams several times, tens
    of milliseconds each: with this, p99 of their events fell from 35-75 ms to 2-60, and CPU by a
    fifth (measured, 500 streams of 5 events per second, on a busy machine).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _accounts(running: Running) -> str:
    """Name the accounts in use, or say what to do when there is none."""
    instances = running.services.relay.instances
    if accounts := instances.accounts():
        names = ", ".join(instance.qualified(account.id) for instance, account in accounts)
        return f"codexrelay accounts: {names}"
    return f"codexrelay accounts: none; {instances.members[0].lender.nothing_to_lend()}"


def _warn(live: Live, running: Running) -> None:
    """Say what should be looked at, behind the two lines that programs wait for."""
    for warning in live.warnings:
        _log.warning(str(warning))
    for instance in running.services.relay.instances.members:
        for problem in instance.lender.problems():
            _log.warning("an account file has a problem", problem=str(problem))


async def heed_signals(
    drain: Drain, live: Live, process_scope: trio.CancelScope, seen_by_somebody: tuple[int, ...]
) -> None:
    """Stop politely on the first signal, at once on the second; see `signals` for SIGHUP.

    `seen_by_somebody` are the descriptors that were terminals at the start.
    """

    def end() -> None:
        forget_closed(seen_by_somebody)
        if drain.draining:
            process_scope.cancel()
        drain.begin()

    async def look_again() -> None:
        await trio.sleep(_CLOSING_S)
        if is_closed(seen_by_somebody) and not drain.draining:
            end()

    async with trio.open_nursery() as nursery:
        # SIGINT even where the shell, for a job in the background, has it ignored.
        with trio.open_signal_receiver(*{signal.SIGINT, *endings()}) as received:
            async for one in received:
                if not is_hangup(one) or is_closed(seen_by_somebody):
                    end()
                else:
                    live.ask()
                    nursery.start_soon(look_again)
