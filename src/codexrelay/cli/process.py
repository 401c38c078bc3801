"""The relay's process: everything wired together, one nursery that owns it all."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
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
from codexrelay.accounts.turnstile import Turnstile
from codexrelay.backends.codex.backend import CodexBackend
from codexrelay.backends.codex.catalogue import Catalogue
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.relay.active import ActiveTurns
from codexrelay.relay.budgets import Budgets
from codexrelay.relay.instances import Instance, Instances
from codexrelay.relay.mover import BodyMover
from codexrelay.relay.turn import Relay
from codexrelay.server import listen
from codexrelay.server.app import create_app
from codexrelay.server.journal import Journal
from codexrelay.server.models import fetch_models
from codexrelay.server.services import Services
from codexrelay.sessions.registry import SessionRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codexrelay.accounts.settings import ManagedOAuthSettings
    from codexrelay.backends.codex.settings import CodexBackendSettings
    from codexrelay.config.settings import Settings
    from codexrelay.server.drain import Drain


@attrs.frozen(kw_only=True)
class World:
    """What the process takes from outside; tests bring their own."""

    #: Returns the folders that may hold an instance's `auth.json`, in order.
    legacy_folders: Callable[[str], tuple[Path, ...]]
    #: Unix seconds.
    wall_clock: Callable[[], float]
    #: Returns 32 random hexadecimal digits.
    new_id: Callable[[], str]
    #: Returns the proxy for a URL, None for a direct way.
    proxy_for: Callable[[str], str | None]
    #: What chance decides: which account takes a turn, how long to pause between refreshes.
    rng: random.Random = attrs.field(factory=random.Random)


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
    async with _instances(settings, world) as instances, trio.open_nursery() as nursery:
        relay = Relay(
            instances=instances,
            mover=BodyMover(),
            active=ActiveTurns(),
            keep_alive_s=settings.server.keep_alive_s,
            wall_clock=world.wall_clock,
        )
        services = Services(
            relay=relay,
            sessions=SessionRegistry(nursery),
            catalogue=Catalogue(partial(fetch_models, relay, session_id=world.new_id())),
            journal=Journal(Path(settings.sessions.state_path)),
            settings=settings.server,
            drain=drain,
            wall_clock=world.wall_clock,
            new_id=world.new_id,
        )
        nursery.start_soon(services.journal.keep_writing)
        nursery.start_soon(services.catalogue.keep_fresh)
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


@asynccontextmanager
async def _instances(settings: Settings, world: World) -> AsyncIterator[Instances]:
    turnstile = Turnstile(wall_clock=world.wall_clock, rng=world.rng)
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(_instance(name, codex, world, turnstile))
            for name, codex in settings.backends.family
        ]
        yield Instances(tuple(members))


@asynccontextmanager
async def _instance(
    name: str, codex: CodexBackendSettings, world: World, turnstile: Turnstile
) -> AsyncIterator[Instance]:
    managed, budgets = codex.extra.codex.managed_oauth, codex.budgets
    async with (
        transport_of(codex, proxy=world.proxy_for(codex.api_base_url)) as transport,
        open_lender(
            sources_of(managed, world.legacy_folders(name)),
            managed,
            issuer_url=codex.extra.codex.oauth_issuer,
            transport=transport,
            wall_clock=world.wall_clock,
            rng=world.rng,
            turnstile=turnstile,
        ) as lender,
    ):
        yield Instance(
            name=name,
            weight=codex.weight,
            lender=lender,
            backend=CodexBackend(
                transport=transport,
                base_url=httpx.URL(codex.api_base_url),
                connect_s=budgets.connect_s,
                wall_clock=world.wall_clock,
            ),
            budgets=Budgets(
                connect_s=budgets.connect_s,
                headers_s=budgets.headers_s,
                first_event_s=budgets.first_event_s,
                silence_s=codex.timeout if budgets.silence_s is None else budgets.silence_s,
                turn_s=budgets.turn_s,
            ),
            limit_patience_s=managed.max_rate_limit_wait_seconds,
        )


def sources_of(managed: ManagedOAuthSettings, legacy_folders: tuple[Path, ...]) -> Sources:
    """Return where an instance's accounts come from."""
    legacy = managed.allow_legacy_fallback or not managed.enabled
    return Sources(
        store=AccountStore(Path(managed.storage_path)) if managed.enabled else None,
        legacy=LegacyStore(legacy_folders) if legacy else None,
        allowed=managed.accounts,
    )


@asynccontextmanager
async def transport_of(
    codex: CodexBackendSettings, *, proxy: str | None
) -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Open an instance's way to its backend and its sign-in service."""
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
