"""`codexrelay serve`: the composition root."""

from __future__ import annotations

import gc
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
from codexrelay.cli.process import Running, World
from codexrelay.cli.signals import endings, forget_closed, terminals
from codexrelay.config.folders import legacy_folders
from codexrelay.config.keys import KEYS
from codexrelay.config.loading import load
from codexrelay.config.proxies import proxy_for
from codexrelay.errors import ConfigError
from codexrelay.server.drain import Drain

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.config.loading import Loaded

#: Exit status for a configuration that cannot be used.
_UNUSABLE: Final = 2

_log = structlog.get_logger("codexrelay.serve")


def _flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one flag for each configuration key; values are checked with the rest."""
    for key in reversed(tuple(KEYS.values())):
        told = key.name
        if isinstance(key.field.default, str | int | float):
            told += f"  [default: {key.field.default}]"
        # click takes identifiers only: `server__port` for `server.port`.
        option = click.option(key.flag, "__".join(key.path), metavar="VALUE", help=told)
        command = option(command)
    return command


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file (YAML); the variable CODEXRELAY_CONFIG may name it too.",
)
@_flags
def serve(config_path: Path | None, **flags: str | None) -> None:
    """Relay requests of coding agents to the Codex backend until interrupted."""
    given = {name.replace("__", "."): value for name, value in flags.items()}
    try:
        loaded = load(config_path=config_path, environ=os.environ, flags=given)
        trio.run(_serve, loaded)
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


async def _serve(loaded: Loaded) -> None:
    settings = loaded.settings
    logs.configure(settings.server.log_level)
    world = World(
        legacy_folders=lambda name: legacy_folders(settings, os.environ, instance=name),
        wall_clock=time.time,
        new_id=lambda: uuid4().hex,
        proxy_for=proxy_for,
    )
    drain = Drain(grace_s=settings.server.drain_grace_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drain_on_signal, drain, nursery.cancel_scope)
        async with trio.open_nursery() as relay:
            running = await relay.start(partial(process.run, settings, world, drain))
            click.echo(f"codexrelay listening on {running.url}", err=True)
            _calm_the_collector()
            click.echo(_accounts(running), err=True)
            _warn(loaded, running)
        nursery.cancel_scope.cancel()


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


def _warn(loaded: Loaded, running: Running) -> None:
    """Say what should be looked at, behind the two lines that programs wait for."""
    for warning in loaded.warnings:
        _log.warning(str(warning))
    for instance in running.services.relay.instances.members:
        for problem in instance.lender.problems():
            _log.warning("an account file has a problem", problem=str(problem))


async def _drain_on_signal(drain: Drain, process_scope: trio.CancelScope) -> None:
    """Stop politely on the first signal, at once on the second."""
    seen_by_somebody = terminals()
    # SIGINT even where the shell, for a job in the background, has it ignored.
    with trio.open_signal_receiver(*{signal.SIGINT, *endings()}) as received:
        async for _ in received:
            forget_closed(seen_by_somebody)
            if drain.draining:
                process_scope.cancel()
            drain.begin()
