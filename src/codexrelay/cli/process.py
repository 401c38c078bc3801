"""The relay's process: everything wired together, one nursery that owns it all."""

from __future__ import annotations

import random
import select
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import httpx
import structlog
import trio
from hypercorn.typing import ASGIFramework

from codexrelay.accounts.legacy import LegacyStore
from codexrelay.accounts.lender import open_lender
from codexrelay.accounts.sources import Sources
from codexrelay.accounts.store import AccountStore
from codexrelay.accounts.turnstile import Turnstile
from codexrelay.backends.codex.backend import CodexBackend
from codexrelay.backends.codex.sockets.pool import open_sockets
from codexrelay.backends.openai.backend import OpenAIBackend
from codexrelay.backends.openai.opening import opened
from codexrelay.backends.openai.place import block_named, shown
from codexrelay.backends.transports import trust
from codexrelay.backends.transports.connection import Origin
from codexrelay.backends.transports.dialling import Dialler
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.backends.transports.proxy import Proxy
from codexrelay.backends.transports.stock import StockTransport
from codexrelay.backends.transports.websocket import WebSocketDial
from codexrelay.backends.websocket import Dial
from codexrelay.config.proxies import Named, ways
from codexrelay.errors import ConfigError, Problem
from codexrelay.relay.active import ActiveTurns
from codexrelay.relay.budgets import Budgets
from codexrelay.relay.dues import open_keeper
from codexrelay.relay.instances import Instance, Instances
from codexrelay.relay.mover import BodyMover
from codexrelay.relay.other import Other
from codexrelay.relay.pump import Pump, PumpMover
from codexrelay.relay.turn import Relay
from codexrelay.server import listen
from codexrelay.server.app import create_app
from codexrelay.server.journal import Journal
from codexrelay.server.models import open_catalogue
from codexrelay.server.services import Current, Services
from codexrelay.server.session_file import SessionFile, open_session_file
from codexrelay.sessions.registry import SessionRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from codexrelay.accounts.settings import ManagedOAuthSettings
    from codexrelay.backends.codex.settings import CodexBackendSettings
    from codexrelay.backends.openai.settings import OpenAIBackendSettings
    from codexrelay.config.settings import Settings
    from codexrelay.relay.mover import Mover
    from codexrelay.server.drain import Drain

_log = structlog.get_logger("codexrelay.process")


def _no_variable(_name: str) -> None:
    """Know of no variable."""


def _as_it_is(app: ASGIFramework) -> ASGIFramework:
    """Put nothing before an application."""
    return app


def _direct(_backend: str, transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
    """Put nothing before a backend's connections."""
    return transport


def _unchanged(_backend: str, dial: Dial) -> Dial:
    """Put nothing before a backend's WebSockets."""
    return dial


@attrs.frozen(kw_only=True)
class World:
    """What the process takes from outside; tests bring their own."""

    #: Returns the folders that may hold an instance's `auth.json`, in order.
    legacy_folders: Callable[[str], tuple[Path, ...]]
    #: Unix seconds.
    wall_clock: Callable[[], float]
    #: Returns 32 random hexadecimal digits.
    new_id: Callable[[], str]
    #: Returns the proxy that the environment names for a URL, None for a direct way.
    proxy_for: Callable[[str], Named | None]
    #: Returns what an environment variable holds that the configuration names, None if it is not
    #: set.
    variable: Callable[[str], str | None] = _no_variable
    #: What chance decides: which account takes a turn, how long to pause between refreshes.
    rng: random.Random = attrs.field(factory=random.Random)
    #: Opens what clients connect to.
    bind: listen.Bind = listen.bind_tcp
    #: Stands between the server and the application, and sees what clients send and get.
    around_app: Callable[[ASGIFramework], ASGIFramework] = _as_it_is
    #: Stands between a backend, by its canonical name, and its connections, and sees all that goes
    #: to the backend and its sign-in service.
    around_transport: Callable[[str, httpx.AsyncBaseTransport], httpx.AsyncBaseTransport] = _direct
    #: Stands likewise before its WebSockets.
    around_dial: Callable[[str, Dial], Dial] = _unchanged


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
    async with (
        open_relay(settings, world) as relay,
        open_session_file(settings.sessions, wall_clock=world.wall_clock) as kept,
        trio.open_nursery() as nursery,
    ):
        services = Services(
            relay=relay,
            sessions=SessionRegistry(
                nursery,
                max_sessions=settings.sessions.max_sessions,
                idle_s=settings.sessions.idle_seconds,
                store=kept,
            ),
            catalogue=await open_catalogue(
                settings,
                relay,
                wall_clock=world.wall_clock,
                warn=_log.warning,
            ),
            journal=Journal(Path(settings.sessions.state_path)),
            current=Current(settings),
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
                world.around_app(create_app(services)),
                host=settings.server.host,
                port=settings.server.port,
                drain=drain,
                bind=world.bind,
            )
        )
        task_status.started(Running(url=url, services=services))
        await drain.ended.wait()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_relay(settings: Settings, world: World) -> AsyncIterator[Relay]:
    """Open what turns run on, without a server before it."""
    async with (
        _instances(settings, world) as instances,
        _others(settings, world) as others,
        open_keeper() as keeper,
        _mover() as mover,
    ):
        yield Relay(
            instances=instances,
            others=others,
            mover=mover,
            keeper=keeper,
            active=ActiveTurns(),
            keep_alive_s=settings.server.keep_alive_s,
            wall_clock=world.wall_clock,
        )


@asynccontextmanager
async def _mover() -> AsyncIterator[Mover]:
    """Open what carries streams: one pump for all, where the system tells which are ready."""
    if not hasattr(select, "epoll"):
        yield BodyMover()
        return
    with select.epoll() as ready:
        async with trio.open_nursery() as nursery:
            pump = Pump(ready)
            nursery.start_soon(pump.run)
            yield PumpMover(pump)
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
    managed = codex.extra.codex.managed_oauth
    roads = roads_to(_urls(codex), codex, backend=name, proxy_for=world.proxy_for)
    async with AsyncExitStack() as stack:
        connections = await stack.enter_async_context(roads.transport())
        transport = world.around_transport(name, connections)
        dial = world.around_dial(name, roads.dial())
        sockets = await stack.enter_async_context(open_sockets(dial, block=block_named(name)))
        lender = await stack.enter_async_context(
            open_lender(
                sources_of(managed, world.legacy_folders(name)),
                managed,
                issuer_url=codex.extra.codex.oauth_issuer,
                transport=transport,
                wall_clock=world.wall_clock,
                rng=world.rng,
                turnstile=turnstile,
            )
        )
        instance = Instance(
            name=name,
            lender=lender,
            backend=CodexBackend(
                transport=transport,
                base_url=httpx.URL(codex.api_base_url),
                connect_s=codex.budgets.connect_s,
                wall_clock=world.wall_clock,
                identity=codex.identity,
                websocket=codex.websocket,
                sockets=sockets,
            ),
            budgets=_budgets(codex, name),
        )
        _configure(instance, codex)
        yield instance


@asynccontextmanager
async def _others(settings: Settings, world: World) -> AsyncIterator[Mapping[str, Other]]:
    """Open the backends of other kinds; nothing is connected to before a turn goes there."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(_other(name, block, world))
            for name, block in settings.backends.others
        }


@asynccontextmanager
async def _other(name: str, block: OpenAIBackendSettings, world: World) -> AsyncIterator[Other]:
    way = way_to((block.api_base_url,), block, backend=name, proxy_for=world.proxy_for)
    async with way as connections:
        variable = block.api_key_env
        backend = opened(
            name,
            block,
            transport=world.around_transport(name, connections),
            from_variable=None if variable is None else world.variable(variable),
            wall_clock=world.wall_clock,
        )
        yield Other(
            name=name,
            wire=block.wire,
            lender=backend.lender,
            backend=backend.backend,
            budgets=_budgets(block, name),
            listing=backend.listing,
            url=shown(httpx.URL(block.api_base_url)),
        )


async def adopt(services: Services, settings: Settings) -> None:
    """Let settings act that differ from those in force where keys can change; others are ignored.

    The account files are looked at on the way. Then everything changes at once, so that no request
    sees one half of the old and one of the new; what runs keeps what it began with. Cancelled, it
    has changed all or nothing.
    """
    relay, family = services.relay, dict(settings.backends.family)
    others = dict(settings.backends.others)
    async with AsyncExitStack() as stack:
        changes = []
        for instance in relay.instances.members:
            managed = family[instance.name].extra.codex.managed_oauth
            changes.append(await stack.enter_async_context(instance.lender.change(managed)))
        # No checkpoint from here to the end of the block.
        services.current.settings = settings
        services.drain.grace_s = settings.server.drain_grace_s
        services.sessions.adopt(settings.sessions)
        if isinstance(kept := services.sessions.store, SessionFile):
            kept.adopt(settings.sessions)
        relay.keep_alive_s = settings.server.keep_alive_s
        relay.instances.weigh({name: codex.weight for name, codex in family.items()})
        for instance in relay.instances.members:
            _configure(instance, family[instance.name])
        for name, other in relay.others.items():
            _configure_other(other, others[name])
        for change in changes:
            change()


def _configure(instance: Instance, codex: CodexBackendSettings) -> None:
    """Set the figures of an instance that may change while it serves."""
    instance.weight = codex.weight
    instance.budgets = _budgets(codex, instance.name)
    instance.limit_patience_s = codex.extra.codex.managed_oauth.max_rate_limit_wait_seconds
    if isinstance(instance.backend, CodexBackend):
        # Another one, over the same connections: an attempt that runs keeps its own.
        instance.backend = attrs.evolve(
            instance.backend,
            connect_s=codex.budgets.connect_s,
            identity=codex.identity,
            websocket=codex.websocket,
        )
        if instance.backend.sockets is not None and codex.websocket == "off":
            instance.backend.sockets.let_go()


def _configure_other(other: Other, block: OpenAIBackendSettings) -> None:
    """Set the figures of a backend of another kind that may change while it serves."""
    other.budgets = _budgets(block, other.name)
    if isinstance(other.backend, OpenAIBackend):
        other.backend = attrs.evolve(other.backend, connect_s=block.budgets.connect_s)


def _budgets(settings: CodexBackendSettings | OpenAIBackendSettings, name: str) -> Budgets:
    budgets = settings.budgets
    return Budgets(
        block=block_named(name),
        connect_s=budgets.connect_s,
        headers_s=budgets.headers_s,
        first_event_s=budgets.first_event_s,
        silence_s=settings.timeout if budgets.silence_s is None else budgets.silence_s,
        turn_s=budgets.turn_s,
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
    codex: CodexBackendSettings, *, instance: str, proxy_for: Callable[[str], Named | None]
) -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Open an instance's way to its backend and its sign-in service.

    `proxy_for` is what the environment says, asked where the block does not say it itself.

    Raises:
        ConfigError: a proxy that does not work, or certificates that cannot be read.
    """
    async with way_to(_urls(codex), codex, backend=instance, proxy_for=proxy_for) as transport:
        yield transport


def _urls(codex: CodexBackendSettings) -> tuple[str, ...]:
    return (codex.api_base_url, codex.extra.codex.oauth_issuer)


@asynccontextmanager
async def way_to(
    urls: Sequence[str],
    settings: CodexBackendSettings | OpenAIBackendSettings,
    *,
    backend: str,
    proxy_for: Callable[[str], Named | None],
) -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Open the way to the servers of a backend's block; for the rest see `transport_of`."""
    roads = roads_to(urls, settings, backend=backend, proxy_for=proxy_for)
    async with roads.transport() as transport:
        yield transport


@attrs.frozen(kw_only=True)
class Roads:
    """The way to the servers of a backend's block, for requests and for WebSockets."""

    #: None: none is needed, as it seems; the usual one is made if it is after all.
    ssl_context: ssl.SSLContext | None
    proxies: Mapping[Origin, Proxy]
    is_direct: bool

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return a new transport."""
        if self.is_direct:
            return DirectTransport(ssl_context=self.ssl_context, proxies=self.proxies)
        context = self.ssl_context or trust.trusting(None)
        return StockTransport(ssl_context=context, proxies=self.proxies)

    def dial(self) -> Dial:
        """Return what opens WebSockets."""
        return WebSocketDial(Dialler(ssl_context=self.ssl_context, proxies=self.proxies))


def roads_to(
    urls: Sequence[str],
    settings: CodexBackendSettings | OpenAIBackendSettings,
    *,
    backend: str,
    proxy_for: Callable[[str], Named | None],
) -> Roads:
    """Return the way to the servers of a backend's block; for the rest see `transport_of`."""
    block = f"backends.{backend.replace('-', '_')}"
    proxies = ways(urls, settings.proxy, key=f"{block}.proxy", proxy_for=proxy_for)
    origins = {Origin.of(httpx.URL(url)) for url in urls} | {p.origin for p in proxies.values()}
    is_direct = settings.transport == "direct"
    needed = settings.ca_file is not None or any(one.scheme == "https" for one in origins)
    return Roads(
        ssl_context=(
            _trusting(settings.ca_file, key=f"{block}.ca_file") if needed or not is_direct else None
        ),
        proxies=proxies,
        is_direct=is_direct,
    )


def _trusting(ca_file: str | None, *, key: str) -> ssl.SSLContext:
    problem = None if ca_file is None else trust.problem_with(ca_file)
    if problem is not None:
        raise ConfigError((Problem(key, problem),))
    try:
        return trust.trusting(ca_file)
    except OSError as error:
        told = f"the certificates that it names cannot be read: {error.strerror or error}"
        raise ConfigError((Problem("SSL_CERT_FILE", told),)) from None
