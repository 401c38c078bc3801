"""Running what needs the network, and what it needs of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import click
import trio

from codexrelay.accounts.issuer import Issuer
from codexrelay.accounts.refresh import Refresher
from codexrelay.cli.accounts.failure import FailureError
from codexrelay.cli.process import transport_of
from codexrelay.errors import CodexRelayError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import httpx

    from codexrelay.cli.accounts.call import Call
    from codexrelay.cli.accounts.instance import Instance

_Result = TypeVar("_Result")


def run(call: Call, main: Callable[[], Awaitable[_Result]]) -> _Result:
    """Run `main` under trio and return its result.

    Ctrl-C ends it at once, also while a thread waits for input: nobody waits for that thread.

    Raises:
        FailureError: it raised an error of ours, whose text this has.
        click.Abort: the person pressed Ctrl-C.
    """
    call.world.configure_logs()
    errors: list[CodexRelayError] = []
    interrupted = False
    try:
        return trio.run(main)
    except* CodexRelayError as group:
        errors += _leaves(group)
    except* KeyboardInterrupt:
        interrupted = True
    if interrupted or not errors:
        raise click.Abort
    raise FailureError(str(errors[0]))


def _leaves(group: BaseExceptionGroup[CodexRelayError]) -> list[CodexRelayError]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


@asynccontextmanager
async def way_out(
    call: Call, instance: Instance, *, url: str
) -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Open the instance's way to a backend or sign-in service at `url`, as the relay has it."""
    async with transport_of(instance.codex, proxy=call.world.proxy_for(url)) as transport:
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
