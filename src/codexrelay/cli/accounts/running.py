"""Running what needs the network, and what it needs of it."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import click
import trio

from codexrelay.accounts.issuer import Issuer
from codexrelay.accounts.refresh import Refresher
from codexrelay.cli.accounts.failure import FailureError
from codexrelay.cli.process import transport_of
from codexrelay.cli.signals import endings
from codexrelay.errors import CodexRelayError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import httpx

    from codexrelay.cli.accounts.call import Call
    from codexrelay.cli.accounts.instance import Instance

_Result = TypeVar("_Result")


def run(call: Call, main: Callable[[], Awaitable[_Result]]) -> _Result:
    """Run `main` under trio and return its result.

    Ctrl-C ends it at once, also while a thread waits for input: nobody waits for that thread. So do
    SIGTERM and SIGHUP. What must not be cut short, such as a refresh, has shielded itself.

    Raises:
        FailureError: it raised an error of ours, whose text this has.
        click.Abort: the person pressed Ctrl-C, or the program was told to end.
    """
    call.world.configure_logs()
    errors: list[Exception] = []
    interrupted = False
    results: list[_Result] = []
    try:
        trio.run(partial(_run_until_told, main, results))
    except* (CodexRelayError, FailureError) as group:
        errors += _leaves(group)
    except* KeyboardInterrupt:
        interrupted = True
    if errors and not interrupted:
        raise FailureError(str(errors[0])) from None
    if interrupted or not results:
        raise click.Abort
    return results[0]


async def _run_until_told(main: Callable[[], Awaitable[_Result]], results: list[_Result]) -> None:
    """Run `main` until it returns, or is cancelled by a signal; its result goes to `results`."""
    # Python lets only its first thread receive signals.
    signals = endings() if threading.current_thread() is threading.main_thread() else ()
    # Around the nursery: a second signal must not kill what ends in an orderly way.
    with trio.open_signal_receiver(*signals) if signals else nullcontext() as received:
        async with trio.open_nursery() as nursery:
            if received is not None:
                nursery.start_soon(_cancel_when_told, received, nursery.cancel_scope)
            results.append(await main())
            nursery.cancel_scope.cancel()


async def _cancel_when_told(received: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in received:
        scope.cancel()


def _leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


@asynccontextmanager
async def way_out(call: Call, instance: Instance) -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Open the instance's way to its backend and its sign-in service, as the relay has it.

    Raises:
        ConfigError: a proxy that does not work, or certificates that cannot be read.
    """
    async with transport_of(
        instance.codex, instance=instance.name, proxy_for=call.world.proxy_for
    ) as transport:
        yield transport


@asynccontextmanager
async def refreshing(
    call: Call, instance: Instance, transport: httpx.AsyncBaseTransport
) -> AsyncIterator[Refresher]:
    """Refresh tokens as a relay does, beside those that run: same locks, same rules.

    On the way out a call that is under way gets a few seconds, as its tokens would be lost.
    """
    async with trio.open_nursery() as nursery:
        refresher = Refresher(
            nursery=nursery,
            issuer=Issuer(url=instance.issuer_url, transport=transport),
            files=instance.token_files,
            wall_clock=call.world.wall_clock,
        )
        try:
            yield refresher
        finally:
            refresher.close()
