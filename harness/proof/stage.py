"""A whole relay between clients and a backend that are in this process, and what it holds."""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import structlog.testing
import trio

from codexrelay.accounts.pool import Ask
from codexrelay.accounts.settings import ManagedOAuthSettings
from codexrelay.backends.codex.settings import (
    CodexBackendSettings,
    CodexSettings,
    ExtraSettings,
)
from codexrelay.backends.settings import BudgetSettings
from codexrelay.backends.transports.dialling import Dialler
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.backends.transports.websocket import WebSocketDial
from codexrelay.cli import process
from codexrelay.cli.process import Running, World
from codexrelay.config.settings import BackendsSettings, ServerSettings, Settings
from codexrelay.protocol.raw import get_text, parse_object
from codexrelay.server.drain import Drain
from codexrelay.server.listen import Bound
from codexrelay.server.services import Services
from codexrelay.sessions.settings import SessionsSettings
from harness.proof.bridges import PLAIN, Bridge, Mode, mode_of
from harness.proof.upstream import Upstream
from harness.proof.wires import Door, Wiring
from harness.simulator import Simulator
from harness.simulator.accounts import SimulatedAccount, some_accounts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import httpx

    from codexrelay.backends.websocket import Dial
    from harness.proof.virtual import Clocks

#: The address is never looked up: connections are made here.
BACKEND_URL: Final = "http://127.0.0.1:9"
#: How long a turn's last traces may take: the end of upstream's body (0.1 s), the journal (0.2 s).
SETTLE_S: Final = 0.5
#: The patience of the relay under proof: short enough that its phases can be told apart.
BUDGETS: Final = BudgetSettings(
    connect_s=3.0, headers_s=20.0, first_event_s=25.0, silence_s=30.0, turn_s=600.0
)
KEEP_ALIVE_S: Final = 11.0
_OPEN_FILES: Final = Path("/proc/self/fd")


@attrs.frozen
class Level:
    """What a relay and its surroundings hold."""

    tasks: int
    #: 0 where the system does not tell.
    open_files: int
    turns: int
    leases: int
    in_line: int
    busy_connections: int

    def above(self, other: Level) -> str | None:
        """Say what there is more of than in `other`, None if nothing is."""
        more = [
            f"{name} {value} instead of {before}"
            for (name, value), before in zip(
                attrs.asdict(self).items(), attrs.astuple(other), strict=True
            )
            if value > before
        ]
        return ", ".join(more) or None


@attrs.define(eq=False, kw_only=True)
class Stage:
    """The relay under proof, and both its sides."""

    simulator: Simulator
    upstream: Upstream
    wiring: Wiring
    door: Door
    services: Services
    drain: Drain
    #: Folder of the account files.
    store: Path
    #: Everything the relay runs in.
    scope: trio.CancelScope
    #: Set when the relay has stopped.
    stopped: trio.Event
    transports: list[DirectTransport]
    #: What the relay has logged since the last look.
    logged: list[MutableMapping[str, object]]
    alarms: _Alarms

    def connect(self, *, buffer_bytes: int | None = None) -> trio.SocketStream:
        """Return a client's end of a new connection."""
        return self.door.connect(buffer_bytes=buffer_bytes)

    def level(self) -> Level:
        """Return what is held now; what is idle or kept for the next request is nobody's."""
        relay = self.services.relay
        idle = sum(transport.idle_connections for transport in self.transports)
        lenders = [instance.lender for instance in relay.instances.members]
        # Each end of a connection that is kept is a socket, upstream's a task too.
        return Level(
            tasks=trio.lowlevel.current_statistics().tasks_living - min(idle, self.upstream.open),
            open_files=_open_files() - idle - min(idle, self.upstream.open),
            turns=len(relay.active),
            leases=sum(lender.leased for lender in lenders),
            in_line=sum(len(lender.queue) for lender in lenders),
            busy_connections=sum(transport.busy_connections for transport in self.transports),
        )

    def standings(self) -> dict[str, str]:
        """Return how each account stands, in a word: `good`, or what speaks against it."""
        found: dict[str, str] = {}
        for instance in self.services.relay.instances.members:
            pool = instance.lender.pool
            ask = Ask(aside=True, model="gpt-5.5")
            choice = pool.choose(ask, now_unix_s=self.simulator.wall_clock())
            against = {passed.account.id: passed.why.value for passed in choice.passed_over}
            for account in pool.accounts:
                token = "token refused" if pool.is_rejected(account) else "good"
                found[account.id] = against.get(account.id, token)
        return found

    def unburnt(self) -> list[str]:
        """Return what is wrong with the refresh tokens in the store: those the issuer refuses."""
        problems = []
        for path in sorted(self.store.glob("*.json")):
            token = get_text(parse_object(path.read_bytes()), "refresh_token")
            if token is None:
                continue  # the state of an account, which stands beside it
            family = self.simulator.issuer._refresh.get(token)  # noqa: SLF001  (its owner looks)
            if family is None or family.revoked or family.current != token:
                problems.append(f"the refresh token of {path.stem} in the store is burnt")
        return problems

    def unforeseen(self) -> list[str]:
        """Return the relay's own mistakes since the last look, as it logged or as upstream saw."""
        found = [str(line.get("event")) for line in self.logged if line.get("log_level") == "error"]
        found += self.alarms.heard
        breaches, self.upstream.breaches = self.upstream.breaches, []
        self.logged.clear()
        self.alarms.heard.clear()
        told = [f"the relay logged: {told}" for told in found]
        return told + [f"upstream was sent {breach}" for breach in breaches]


def _open_files() -> int:
    return len(os.listdir(_OPEN_FILES)) if _OPEN_FILES.is_dir() else 0


class _Alarms(logging.Handler):
    """Keeps what is logged as an error by the standard library's means."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record's text."""
        error = record.exc_info[1] if record.exc_info else None
        self.heard.append(record.getMessage() + (f" ({error!r})" if error else ""))


@contextlib.contextmanager
def _alarms() -> Iterator[_Alarms]:
    handler, logger = _Alarms(), logging.getLogger("codexrelay")
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


@asynccontextmanager
async def staged(
    folder: Path,
    clocks: Clocks,
    *,
    accounts: tuple[SimulatedAccount, ...] | int = 2,
    seed: int = 0,
    max_concurrent_turns: int | None = None,
    after: Stage | None = None,
    bridge: Bridge = PLAIN,
) -> AsyncIterator[Stage]:
    """Run a whole relay in virtual time; what it keeps lies below `folder`, which is empty.

    It is set up for turns on `bridge`.
    `after` is a relay that has stopped: this one takes over its accounts and its backend.
    At the end of the block the relay is stopped, the polite way if it still runs.
    """
    if after is None:
        if isinstance(accounts, int):
            accounts = some_accounts(accounts)
        simulator = Simulator(accounts=accounts, wall_clock=clocks.wall, seed=seed)
        store = folder / "accounts"
        simulator.write_store(store)
        upstream = Upstream(simulator)
    else:
        simulator, store, upstream = after.simulator, after.store, after.upstream
    door = Door()
    settings = _settings(
        folder, store, max_concurrent_turns=max_concurrent_turns, websocket=mode_of(bridge)
    )
    drain, stopped, scope = Drain(grace_s=0.0), trio.Event(), trio.CancelScope()
    transports: list[DirectTransport] = []
    with structlog.testing.capture_logs() as logged, _alarms() as alarms:
        async with trio.open_nursery() as nursery:
            wiring = Wiring(nursery, upstream.serve)
            ids = iter(range(1, 1 << 60))

            def around(_backend: str, _real: httpx.AsyncBaseTransport) -> DirectTransport:
                transports.append(DirectTransport(opening=wiring.open))
                return transports[-1]

            def around_dial(_backend: str, _real: Dial) -> Dial:
                return WebSocketDial(Dialler(opening=wiring.open))

            async def bind(_host: str, _port: int) -> Bound:
                await trio.lowlevel.checkpoint()
                return Bound(url="http://127.0.0.1:1", listeners=[door])

            world = World(
                legacy_folders=lambda _: (),
                wall_clock=clocks.wall,
                new_id=lambda: f"{next(ids):032x}",
                proxy_for=lambda _: None,
                rng=random.Random(seed),
                bind=bind,
                around_transport=around,
                around_dial=around_dial,
            )

            async def run(*, task_status: trio.TaskStatus[Running]) -> None:
                with scope:
                    await process.run(settings, world, drain, task_status=task_status)
                for transport in transports:
                    await transport.aclose()
                stopped.set()

            running = await nursery.start(run)
            yield Stage(
                simulator=simulator,
                upstream=upstream,
                wiring=wiring,
                door=door,
                services=running.services,
                drain=drain,
                store=store,
                scope=scope,
                stopped=stopped,
                transports=transports,
                logged=logged,
                alarms=alarms,
            )
            drain.begin()
            await stopped.wait()
            nursery.cancel_scope.cancel()


def _settings(
    folder: Path, store: Path, *, max_concurrent_turns: int | None, websocket: Mode
) -> Settings:
    managed = ManagedOAuthSettings(
        storage_path=str(store), max_concurrent_turns=max_concurrent_turns
    )
    backend = CodexBackendSettings(
        api_base_url=f"{BACKEND_URL}/backend-api/codex",
        budgets=BUDGETS,
        websocket=websocket,
        extra=ExtraSettings(codex=CodexSettings(managed_oauth=managed, oauth_issuer=BACKEND_URL)),
    )
    return Settings(
        server=ServerSettings(port=0, keep_alive_s=KEEP_ALIVE_S),
        sessions=SessionsSettings(state_path=str(folder / "state")),
        backends=BackendsSettings(openai_codex=backend),
    )
