"""A backend that plays scripts, and lenders of accounts that need no refresh: all in memory."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from codexrelay.accounts.account import Account, Credentials
from codexrelay.accounts.lender import Lender
from codexrelay.accounts.pool import Ask, By, Pool
from codexrelay.accounts.sources import Sources
from codexrelay.accounts.standing import PassedOver
from codexrelay.accounts.strategies import find_strategies
from codexrelay.accounts.strategies.strategy import StrategySettings
from codexrelay.accounts.waiting import Queue
from codexrelay.backends.backend import Head, UpstreamRequest
from codexrelay.errors import AccountError, AllLimitedError, AllTriedError, Waiting
from codexrelay.protocol.faults import Fault, FaultKind, Reached
from codexrelay.protocol.limits import NO_HEADERS

if TYPE_CHECKING:
    from codexrelay.accounts.waiting import Patience
    from codexrelay.protocol.limits import Limits


@attrs.frozen
class Wait:
    """Let this many seconds pass; `float("inf")` waits until cancelled."""

    seconds: float


FOREVER = Wait(float("inf"))

#: What one attempt gives: waits and a head (or a fault), then waits, blocks, a fault; then the end.
Script = Sequence[Wait | Head | Fault | bytes]


def head(**headers: str) -> Head:
    return Head(status=200, headers={name.replace("_", "-"): v for name, v in headers.items()})


@attrs.define(eq=False)
class ScriptedAttempt:
    steps: list[Wait | Head | Fault | bytes]
    request: UpstreamRequest
    account: Account
    closed: bool = False
    #: What is left has come whole, once `send` has returned.
    is_whole: bool = False
    #: Sent with the first step, unless a fault of the script says otherwise.
    reached: Reached = Reached.NOT_SENT

    async def _next(self) -> Head | Fault | bytes | None:
        await trio.lowlevel.checkpoint()
        while self.steps:
            step = self.steps[0]
            if isinstance(step, Wait):
                await trio.sleep(step.seconds)
                self.steps.pop(0)
                continue
            return self.steps.pop(0)
        return None

    async def send(self) -> Head | Fault:
        self.reached = Reached.SENT
        step = await self._next()
        assert isinstance(step, Head | Fault), step
        if isinstance(step, Fault) and step.reached is not None:
            self.reached = step.reached
        return step

    @property
    def source(self) -> None:
        """See `Attempt.source`."""

    async def receive(self) -> bytes | Fault:
        step = await self._next()
        assert not isinstance(step, Head), step
        return b"" if step is None else step


@attrs.define(eq=False)
class ScriptedBackend:
    """Plays one script per attempt, in order."""

    scripts: list[Script]
    attempts: list[ScriptedAttempt] = attrs.field(factory=list)
    #: See `ScriptedAttempt.is_whole`.
    whole: bool = False

    @asynccontextmanager
    async def attempt(
        self, request: UpstreamRequest, account: Account
    ) -> AsyncIterator[ScriptedAttempt]:
        script = list(self.scripts.pop(0))
        attempt = ScriptedAttempt(script, request, account, is_whole=self.whole)
        self.attempts.append(attempt)
        try:
            yield attempt
        finally:
            attempt.closed = True

    @property
    def accounts_asked(self) -> list[str]:
        return [attempt.account.id for attempt in self.attempts]


def account(name: str) -> Account:
    return Account(
        id=name,
        workspace_id=f"ws-{name}",
        email=None,
        plan_type="plus",
        credentials=Credentials(
            access_token=f"access-{name}",
            refresh_token=f"refresh-{name}",
            id_token=None,
            expires_at_unix_s=None,
        ),
        needs_reauth=None,
        rate_limited_until_unix_s=None,
        origin="managed",
        fedramp=False,
    )


@attrs.define(eq=False)
class FakeLease:
    account: Account
    reports: list[Fault | None]
    by: By = By.STRATEGY
    candidates: tuple[str, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    bound: str | None = None
    refreshed: bool = False
    waited_s: float = 0.0
    rested_s: float = 0.0
    leased_at_unix_s: float = 0.0

    async def renew(self) -> bool:
        await trio.lowlevel.checkpoint()
        self.by = By.AGAIN
        return True

    def accept(self, headers: Mapping[str, str] = NO_HEADERS) -> None:
        self.reports.append(None)

    def observe(self, seen: Limits | None) -> None:
        pass

    def report(self, fault: Fault) -> None:
        self.reports.append(fault)


@attrs.define(eq=False)
class FakeLender:
    """Lends the first account that is not rejected; limited ones stay limited."""

    names: tuple[str, ...]
    #: Seconds every lease waits first, as for a refresh.
    wait_s: float = 0.0
    lent: int = 0
    reports: dict[str, list[Fault | None]] = attrs.field(factory=dict)
    raises: AccountError | None = None
    #: Nobody stands in it.
    queue: Queue = attrs.field(
        factory=lambda: Queue(pool=None, wall_clock=wall_clock, rescan=trio.lowlevel.checkpoint)  # type: ignore[arg-type]
    )

    def accounts(self) -> tuple[Account, ...]:
        return tuple(map(account, self.names))

    def bound(self, session: str) -> str | None:
        return None

    @asynccontextmanager
    async def lease(self, ask: Ask, patience: Patience) -> AsyncIterator[FakeLease]:
        await trio.sleep(self.wait_s)
        if self.raises is not None:
            raise self.raises
        limited = [
            name
            for name, faults in self.reports.items()
            if any(f is not None and f.kind is FaultKind.LIMITED for f in faults)
        ]
        free = [name for name in self.names if name not in {*ask.rejected, *limited}]
        if ask.again in free:
            free.insert(0, ask.again)
        if not free:
            if limited:
                waiting = (Waiting(account_id=name, until_unix_s=1000.0) for name in limited)
                raise AllLimitedError(waiting=tuple(waiting), now_unix_s=400.0)
            raise AllTriedError(told=self.names)
        lease = FakeLease(account(free[0]), self.reports.setdefault(free[0], []))
        self.lent += 1
        try:
            yield lease
        finally:
            self.lent -= 1


#: trio's clock 0 on the wall, for lenders in virtual time.
WALL_BEGAN_UNIX_S = 1_000_000.0


def wall_clock() -> float:
    """Return the time of day: trio's clock, which tests let jump."""
    return WALL_BEGAN_UNIX_S + trio.current_time()


@attrs.define(eq=False, kw_only=True)
class MemoryLender(Lender):
    """The real lender over the real pool, without files to look at."""

    async def rescan(self) -> None:
        await trio.lowlevel.checkpoint()


def lending(
    *names: str, strategy: str = "first-available", max_concurrent_turns: int | None = None
) -> MemoryLender:
    """Return a lender of these accounts, all in good standing, on trio's clock."""
    settings = StrategySettings(
        session_affinity_ttl_s=1e6, session_affinity_max_entries=100, rng=random.Random(1)
    )
    pool = Pool(
        find_strategies()[strategy].start(settings), max_concurrent_turns=max_concurrent_turns
    )
    pool.update(map(account, names), now_unix_s=WALL_BEGAN_UNIX_S)
    return MemoryLender(
        sources=Sources(store=None, legacy=None),
        pool=pool,
        refresher=None,  # type: ignore[arg-type] - no token of theirs expires
        refresh_buffer_s=300.0,
        wall_clock=wall_clock,
    )
