"""A backend that plays scripts, and a lender of accounts that need no refresh: both in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from codexrelay.accounts.account import Account, Credentials
from codexrelay.backends.backend import Head, UpstreamRequest
from codexrelay.errors import AccountError, AllLimitedError, AllTriedError
from codexrelay.protocol.faults import Fault, FaultKind


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
        step = await self._next()
        assert isinstance(step, Head | Fault), step
        return step

    async def receive(self) -> bytes | Fault:
        step = await self._next()
        assert not isinstance(step, Head), step
        return b"" if step is None else step


@attrs.define(eq=False)
class ScriptedBackend:
    """Plays one script per attempt, in order."""

    scripts: list[Script]
    attempts: list[ScriptedAttempt] = attrs.field(factory=list)

    @asynccontextmanager
    async def attempt(
        self, request: UpstreamRequest, account: Account
    ) -> AsyncIterator[ScriptedAttempt]:
        attempt = ScriptedAttempt(list(self.scripts.pop(0)), request, account)
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

    def report(self, fault: Fault | None) -> None:
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

    @asynccontextmanager
    async def lease(
        self, *, rejected: frozenset[str] = frozenset(), prefer: str | None = None
    ) -> AsyncIterator[FakeLease]:
        await trio.sleep(self.wait_s)
        if self.raises is not None:
            raise self.raises
        free = [name for name in self.names if name not in rejected]
        if prefer in free:
            free.insert(0, prefer)
        if not free:
            limited = tuple(
                (name, 1000.0)
                for name, faults in self.reports.items()
                if any(f is not None and f.kind is FaultKind.LIMITED for f in faults)
            )
            if limited:
                raise AllLimitedError(resets=limited, now_unix_s=400.0)
            raise AllTriedError(told=self.names)
        lease = FakeLease(account(free[0]), self.reports.setdefault(free[0], []))
        self.lent += 1
        try:
            yield lease
        finally:
            self.lent -= 1
