"""The relay's process: everything wired together, one nursery that owns it all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import httpx
import trio

from codexrelay.accounts.legacy import LegacyStore
from codexrelay.accounts.lender import open_lender
from codexrelay.accounts.sources import Sources
from codexrelay.accounts.store import AccountStore
from codexrelay.backends.codex.backend import CodexBackend
from codexrelay.backends.codex.catalogue import Catalogue
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.relay.active import ActiveTurns
from codexrelay.relay.budgets import Budgets
from codexrelay.relay.mover import BodyMover
from codexrelay.relay.turn import Relay
from codexrelay.server import listen
from codexrelay.server.app import create_app
from codexrelay.server.models import fetch_models
from codexrelay.server.services import Services
from codexrelay.sessions.registry import SessionRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codexrelay.accounts.lender import Lender
    from codexrelay.accounts.settings import ManagedOAuthSettings
    from codexrelay.backends.codex.settings import CodexBackendSettings
    from codexrelay.config.settings import Settings
    from codexrelay.server.drain import Drain


@attrs.frozen(kw_only=True)
class World:
    """What the process takes from outside; tests bring their own."""

    #: Folders that may hold Codex CLI's `auth.json`, in order.
    legacy_folders: tuple[Path, ...]
    #: Unix seconds.
    wall_clock: Callable[[], float]
    #: Returns 32 random hexadecimal digits.
    new_id: Callable[[], str]
    #: Returns the proxy for a URL, None for a direct way.
    proxy_for: Callable[[str], str | None]


@attrs.frozen(kw_only=True)
class Running:
    """A relay that accepts connections."""

    url: str
    services: Services


async def run(
    settings: Settings,
    world: World,
    drain: Drain,
    *,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a relay until `drain` has begun and nothing is left, or it is cancelled.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    codex = settings.backends.openai_codex
    managed = codex.extra.codex.managed_oauth
    async with (
        _transport(codex, proxy=world.proxy_for(codex.api_base_url)) as transport,
        open_lender(
            _sources(managed, world),
            managed,
            issuer_url=codex.extra.codex.oauth_issuer,
            transport=transport,
            wall_clock=world.wall_clock,
        ) as lender,
        trio.open_nursery() as nursery,
    ):
        relay = _relay(settings, world, lender, transport)
        services = Services(
            relay=relay,
            sessions=SessionRegistry(nursery),
            catalogue=Catalogue(partial(fetch_models, relay, session_id=world.new_id())),
            settings=settings.server,
            drain=drain,
            wall_clock=world.wall_clock,
            new_id=world.new_id,
        )
        nursery.start_soon(_stop_turns, drain, relay.active)
        url = await nursery.start(
            partial(
                listen.serve,
                create_app(services),
                host=settings.server.host,
                port=settings.server.port,
                drain=drain,
            )
        )
        task_status.started(Running(url=url, services=services))
        await drain.ended.wait()
        nursery.cancel_scope.cancel()


async def _stop_turns(drain: Drain, active: ActiveTurns) -> None:
    """Once the grace is over, let every running turn tell its client so."""
    await drain.expired.wait()
    active.stop()


def _relay(
    settings: Settings, world: World, lender: Lender, transport: httpx.AsyncBaseTransport
) -> Relay:
    codex = settings.backends.openai_codex
    budgets = codex.budgets
    return Relay(
        lender=lender,
        backend=CodexBackend(
            transport=transport,
            base_url=httpx.URL(codex.api_base_url),
            connect_s=budgets.connect_s,
            wall_clock=world.wall_clock,
        ),
        mover=BodyMover(),
        budgets=Budgets(
            connect_s=budgets.connect_s,
            headers_s=budgets.headers_s,
            first_event_s=budgets.first_event_s,
            silence_s=codex.timeout if budgets.silence_s is None else budgets.silence_s,
            turn_s=budgets.turn_s,
        ),
        active=ActiveTurns(),
        keep_alive_s=settings.server.keep_alive_s,
        wall_clock=world.wall_clock,
    )


def _sources(managed: ManagedOAuthSettings, world: World) -> Sources:
    legacy = managed.allow_legacy_fallback or not managed.enabled
    return Sources(
        store=AccountStore(Path(managed.storage_path)) if managed.enabled else None,
        legacy=LegacyStore(world.legacy_folders) if legacy else None,
        allowed=managed.accounts,
    )


@asynccontextmanager
async def _transport(
    codex: CodexBackendSettings, *, proxy: str | None
) -> AsyncIterator[httpx.AsyncBaseTransport]:
    transport: httpx.AsyncBaseTransport
    if codex.transport == "direct":
        transport = DirectTransport()
    else:
        # Without a limit on connections: httpcore leaks its slots when requests are cancelled
        # (encode/httpcore issue 1093). Goes when that is repaired.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        transport = httpx.AsyncHTTPTransport(limits=limits, proxy=proxy)
    async with transport:
        yield transport
