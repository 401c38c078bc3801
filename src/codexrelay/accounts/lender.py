"""What turns ask for an account.

The pool decides; around it the lender looks for changed files, waits for refreshes, and stores what
the pool has learnt. It owns the tasks that do so, and no turn does.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, assert_never

import attrs
import structlog
import trio

from codexrelay.accounts.account import Account, Loaded
from codexrelay.accounts.files import Fingerprint
from codexrelay.accounts.issuer import Issuer
from codexrelay.accounts.pool import NO_REFRESH_TOKEN_REASON, Pool, Why
from codexrelay.accounts.refresh import CLOSING_S, Outcome, Refresher, RefreshResult
from codexrelay.accounts.sources import Sources
from codexrelay.accounts.strategies import find_strategies
from codexrelay.errors import (
    AllLimitedError,
    AllTriedError,
    NeedsReauthError,
    NoAccountError,
    RefreshUnavailableError,
    TurnedAwayError,
    UnusableFilesError,
    in_words,
)
from codexrelay.protocol.faults import Fault
from codexrelay.protocol.raw import get_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import httpx

    from codexrelay.accounts.issuer import RefreshReason
    from codexrelay.accounts.pool import Choice, PassedOver
    from codexrelay.accounts.settings import ManagedOAuthSettings
    from codexrelay.errors import AccountError, Problem

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

#: Files are looked at this often at most, while there is an account to choose.
RESCAN_S: Final = 1.0
#: Codex CLI refreshes its own file when the token has expired; the relay must not be first by much.
LEGACY_BUFFER_S: Final = 30.0
#: How long a turn waits for a new token while the old one is still good.
PATIENCE_S: Final = 10.0
#: A second flight follows when the first one brought a pair that is old itself.
_FLIGHTS_PER_LEASE: Final = 2


@attrs.frozen
class Lease:
    """The right of one attempt to use one account."""

    #: Bearer and workspace id of the attempt, as one value.
    account: Account
    _tell: Callable[[Account, Fault | None], None] = attrs.field(repr=False)

    def report(self, fault: Fault | None) -> None:
        """Say how the attempt went; None: the backend served it."""
        self._tell(self.account, fault)


@contextlib.asynccontextmanager
async def open_lender(
    sources: Sources,
    settings: ManagedOAuthSettings,
    *,
    issuer_url: str,
    transport: httpx.AsyncBaseTransport,
    wall_clock: Callable[[], float],
) -> AsyncIterator[Lender]:
    """Read the accounts and lend them until the block ends.

    Having no account is no error here: each lease says so, until one appears. On the way out the
    calls to the issuer that are under way get a few seconds, as their tokens would be lost, and
    what the pool has learnt is stored. Then nothing of the lender is left.
    """
    async with trio.open_nursery() as nursery:
        refresher = Refresher(
            nursery=nursery,
            issuer=Issuer(url=issuer_url, transport=transport),
            files=sources.token_files,
            wall_clock=wall_clock,
        )
        lender = Lender(
            sources=sources,
            pool=Pool(find_strategies()[settings.selection_strategy].start()),
            refresher=refresher,
            refresh_buffer_s=float(settings.refresh_buffer_seconds),
            wall_clock=wall_clock,
        )
        await lender.rescan()
        nursery.start_soon(lender.keep_saving)
        try:
            yield lender
        finally:
            refresher.close()
            with trio.move_on_after(CLOSING_S, shield=True):
                await lender.save()
            nursery.cancel_scope.cancel()


@attrs.define(eq=False, kw_only=True)
class Lender:
    """Lends accounts to turns."""

    sources: Sources
    pool: Pool
    refresher: Refresher
    refresh_buffer_s: float
    wall_clock: Callable[[], float]
    #: Leases that are held now.
    leased: int = attrs.field(default=0, init=False)
    _loaded: Loaded = attrs.field(factory=Loaded, init=False)
    #: Of the files as they were when `_loaded` was read.
    _fingerprint: Fingerprint | None = attrs.field(default=None, init=False)
    #: When the last scan that came to its end began.
    _scanned_unix_s: float = attrs.field(default=-math.inf, init=False)
    #: How often a scan was asked for, and the last of these asks that a scan has answered.
    _asks: int = attrs.field(default=0, init=False)
    _answered: int = attrs.field(default=0, init=False)
    #: Held while files are read or marks written: a file read before a mark was written would
    #: otherwise undo in memory what the mark says.
    _disk: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    #: Set when the pool has learnt something.
    _learnt: trio.Event = attrs.field(factory=trio.Event, init=False)

    def accounts(self) -> tuple[Account, ...]:
        """Return the accounts that may be used, usable or not, as they stand."""
        return self.pool.accounts

    def problems(self) -> tuple[Problem, ...]:
        """Return what was wrong with the account files when they were last read."""
        return self._loaded.problems

    def nothing_to_lend(self) -> AccountError:
        """Return the error that says why `accounts` is empty, when it is."""
        if self._loaded.found and self._loaded.problems:
            return UnusableFilesError(problems=self._loaded.problems)
        return NoAccountError(looked_in=self.sources.in_words())

    @contextlib.asynccontextmanager
    async def lease(
        self, *, rejected: frozenset[str] = frozenset(), prefer: str | None = None
    ) -> AsyncIterator[Lease]:
        """Lend an account for one attempt, with a token that is good as far as can be known.

        Waits for a refresh if the account needs one; an account that cannot be refreshed falls
        through to the next. Cancelled while it waits, it leaves nothing behind: a refresh under
        way goes on for the next one who asks.

        Args:
            rejected: ids that the turn has tried and must not be given again.
            prefer: the id to lend if it is usable.

        Raises:
            AllLimitedError: those that are usable wait for their quota. No call was made.
            NeedsReauthError: the owner must sign in.
            RefreshUnavailableError: no token is good, and the sign-in service gives no new one at
                the moment.
            TurnedAwayError: the backend has turned them away, and is not asked again yet.
            AllTriedError: none is left that is not in `rejected`.
            UnusableFilesError: there are files, and none can be used.
            NoAccountError: there is none.
        """
        account = await self._obtain(rejected, prefer)
        self.leased += 1  # no checkpoint between getting and counting it
        try:
            yield Lease(account, self._report)
        finally:
            self.leased -= 1

    async def rescan(self) -> None:
        """Take over what has changed in the account files."""
        self._asks += 1
        ask = self._asks
        async with self._disk:
            if self._answered >= ask:
                return  # a scan that began after this was asked for has just ended
            asked, began_unix_s = self._asks, self.wall_clock()
            scanned = await trio.to_thread.run_sync(_scan, self.sources, self._fingerprint)
            # Behind the thread: a scan that was cancelled before it ran has answered nobody.
            self._answered, self._scanned_unix_s = asked, began_unix_s
            if scanned is not None:
                first, before = self._fingerprint is None, self._loaded.problems
                self._fingerprint, self._loaded = scanned
                self.pool.update(self._loaded.accounts)
                if not first:  # those are told by whoever starts the relay, in their place
                    _tell(before, self._loaded.problems)

    async def keep_saving(self) -> None:
        """Store what the pool learns, soon after. Runs until cancelled."""
        while True:
            await self._learnt.wait()
            await self.save()

    async def save(self) -> None:
        """Store what the pool has learnt."""
        async with self._disk:
            self._learnt = trio.Event()
            marked = self.pool.take_unsaved()
            if not marked:
                return
            now_unix_s = self.wall_clock()
            # Shielded from the taking to the thread, which cannot be cancelled itself.
            with trio.move_on_after(CLOSING_S, shield=True):
                problems = await trio.to_thread.run_sync(
                    lambda: self.sources.save_limits(marked, now_unix_s=now_unix_s)
                )
                for problem in problems:
                    log.warning("account's state not saved", problem=str(problem))

    async def _obtain(self, rejected: frozenset[str], prefer: str | None) -> Account:
        await trio.lowlevel.checkpoint()  # an attempt begins only while its client is there
        if not 0 <= self.wall_clock() - self._scanned_unix_s < RESCAN_S:
            await self.rescan()
        rescanned = False
        stuck: dict[str, str] = {}
        while True:
            choice = self.pool.choose(
                now_unix_s=self.wall_clock(), rejected=rejected | stuck.keys(), prefer=prefer
            )
            if choice.account is None:
                if rescanned:
                    raise error_of(
                        choice,
                        stuck,
                        nothing=self.nothing_to_lend(),
                        now_unix_s=self.wall_clock(),
                    )
                rescanned = True
                await self.rescan()
                continue
            ready = await self._ready(choice.account)
            if isinstance(ready, Account):
                return ready
            stuck[choice.account.id] = ready

    async def _ready(self, account: Account) -> Account | str:
        """Return the account with a token that can be sent, or why it has none."""
        for _ in range(_FLIGHTS_PER_LEASE):
            reason = self._need(account)
            if reason is None:
                return account
            result = await self._refresh(account, reason)
            if result.outcome is Outcome.POSTPONED:
                return account if self._is_presentable(account) else result.why
            renewed = self.pool.replace(result.account)
            if result.outcome in (Outcome.NEEDS_REAUTH, Outcome.GONE) or renewed is None:
                return result.why
            account = renewed
        if self._is_presentable(account):
            return account
        return "its new tokens are no better than the old ones"

    async def _refresh(self, account: Account, reason: RefreshReason) -> RefreshResult:
        """Wait for a refresh; not for long while the present token is good. The flight goes on."""
        patience_s = PATIENCE_S if self._is_presentable(account) else math.inf
        with trio.move_on_after(patience_s):
            return await self.refresher.refresh(account, reason=reason)
        return RefreshResult(
            outcome=Outcome.POSTPONED, account=account, why="the sign-in service is slow"
        )

    def _need(self, account: Account) -> RefreshReason | None:
        """Say why `account` should be refreshed before it is used, None if it should not."""
        if self.pool.is_rejected(account):
            return "unauthorized_recovery"
        buffer_s = self.refresh_buffer_s
        if account.origin == "legacy":
            buffer_s = min(buffer_s, LEGACY_BUFFER_S)
        tokens = account.credentials
        if tokens.refresh_token is not None and tokens.expires_within(
            buffer_s, now_unix_s=self.wall_clock()
        ):
            return "proactive_expiry"
        return None

    def _is_presentable(self, account: Account) -> bool:
        """Tell whether the access token may be sent: unexpired, and not rejected."""
        return not self.pool.is_rejected(account) and not account.credentials.expires_within(
            0, now_unix_s=self.wall_clock()
        )

    def _report(self, account: Account, fault: Fault | None) -> None:
        now_unix_s = self.wall_clock()
        aside = self.pool.report(account, fault, now_unix_s=now_unix_s)
        if aside is not None:
            log.warning(
                "account set aside",
                account=account.id,
                status=aside.fault.status,
                code=aside.fault.code,
                tried_again_in_s=round(aside.until_unix_s - now_unix_s),
            )
        if self.pool.has_unsaved:
            self._learnt.set()


def error_of(
    choice: Choice, stuck: Mapping[str, str], *, nothing: AccountError, now_unix_s: float
) -> AccountError:
    """Return the error for a choice of nobody; `nothing` if there was nobody to choose from.

    `stuck` are the accounts whose tokens could not be refreshed, and why: while there is one, time
    or the owner's network may help sooner than a quota's reset, so quota is not blamed; neither is
    it while an account that was turned away is tried again sooner.
    """
    passed = {why: [p for p in choice.passed_over if p.why is why] for why in Why}
    cooling, dead, aside = passed[Why.COOLING], passed[Why.NEEDS_REAUTH], passed[Why.SET_ASIDE]
    aside.sort(key=lambda p: p.until_unix_s or now_unix_s)
    if cooling and not stuck and not _ends_before(aside[:1], cooling):
        return AllLimitedError(
            resets=tuple((p.account.id, p.until_unix_s or now_unix_s) for p in cooling),
            now_unix_s=now_unix_s,
            plan_type=cooling[0].account.plan_type,
        )
    if not choice.passed_over:
        return nothing
    if len(dead) == len(choice.passed_over):
        return NeedsReauthError(reasons=tuple((p.account.id, p.reason or "") for p in dead))
    told = tuple(
        _in_words(p, stuck.get(p.account.id), now_unix_s=now_unix_s) for p in choice.passed_over
    )
    if stuck:
        return RefreshUnavailableError(told=told)
    heard = [p.fault for p in aside if p.fault is not None]
    if heard and not passed[Why.RULED_OUT]:
        return _turned_away(heard[0], told)
    return AllTriedError(told=told)


def _ends_before(these: Sequence[PassedOver], those: Sequence[PassedOver]) -> bool:
    """Whether one of `these` is tried again before all of `those`."""
    ends = [[p.until_unix_s or 0.0 for p in passed] for passed in (these, those)]
    return bool(ends[0]) and min(ends[0]) < min(ends[1])


def _turned_away(fault: Fault, told: tuple[str, ...]) -> TurnedAwayError:
    return TurnedAwayError(
        status=fault.status,
        message=fault.message,
        type=get_text(fault.error, "type") or fault.kind.value,
        code=fault.code,
        told=told,
    )


def _in_words(passed: PassedOver, stuck: str | None, *, now_unix_s: float) -> str:
    name = f"account {passed.account.id}"
    wait_s = (passed.until_unix_s or now_unix_s) - now_unix_s
    match passed.why:
        case Why.NEEDS_REAUTH:
            return f"{name} must sign in again ({passed.reason})"
        case Why.SET_ASIDE:
            renewable = passed.account.credentials.refresh_token is not None
            hint = "" if renewable else f" ({NO_REFRESH_TOKEN_REASON})"
            again = f"is tried again in {in_words(wait_s)}"
            return f"{name} was turned away with {passed.reason} and {again}{hint}"
        case Why.COOLING:
            return f"{name} waits {in_words(wait_s)} for its quota"
        case Why.RULED_OUT if stuck is not None:
            return f"{name} cannot be refreshed at the moment ({stuck})"
        case Why.RULED_OUT:
            return f"{name} was tried"
        case _:
            assert_never(passed.why)


def _tell(before: Sequence[Problem], now: Sequence[Problem]) -> None:
    """Log each problem of the files when it comes, and when it goes."""
    for problem in now:
        if problem not in before:
            log.warning("an account file has a problem", problem=str(problem))
    for problem in before:
        if problem not in now:
            log.info("an account file's problem is gone", problem=str(problem))


def _scan(sources: Sources, known: Fingerprint | None) -> tuple[Fingerprint, Loaded] | None:
    """Read the accounts if their files have changed; None if not. Blocks."""
    # Taken first: what changes while the files are read is read again by the next scan.
    fingerprint = sources.fingerprint()
    return None if fingerprint == known else (fingerprint, sources.load())
