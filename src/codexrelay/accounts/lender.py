"""What turns ask for an account.

The pool decides; around it the lender looks for changed files, waits for refreshes, and stores what
the pool has learnt. It owns the tasks that do so, and no turn does.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import structlog
import trio

from codexrelay.accounts.account import Account, Loaded
from codexrelay.accounts.files import Fingerprint
from codexrelay.accounts.issuer import Issuer
from codexrelay.accounts.pool import Ask, By, Census, Choice, Place, Pool
from codexrelay.accounts.quota_alerts import QuotaAlerts
from codexrelay.accounts.record import iso
from codexrelay.accounts.refresh import CLOSING_S, Outcome, Refresher, RefreshResult
from codexrelay.accounts.refusal import refusal_of
from codexrelay.accounts.settings import ManagedOAuthSettings
from codexrelay.accounts.sources import Sources
from codexrelay.accounts.standing import EFFECTS, Effect, PassedOver, Saving
from codexrelay.accounts.strategies import find_strategies
from codexrelay.accounts.strategies.strategy import StrategySettings
from codexrelay.accounts.turnstile import Turnstile
from codexrelay.accounts.waiting import Granted, Patience, Queue, nobody_is_told
from codexrelay.errors import NoAccountError, UnusableFilesError, in_words
from codexrelay.protocol import limits
from codexrelay.protocol.faults import FaultKind
from codexrelay.protocol.limits import NO_HEADERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    import httpx

    from codexrelay.accounts.issuer import RefreshReason
    from codexrelay.accounts.strategies.strategy import Selector
    from codexrelay.errors import AccountError, Problem
    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.limits import Limits

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

#: Files are looked at this often at most, while there is an account to choose.
RESCAN_S: Final = 1.0
#: Codex CLI refreshes its own file when the token has expired; the relay must not be first by much.
LEGACY_BUFFER_S: Final = 30.0
#: How long a turn waits for a new token while the old one is still good.
PATIENCE_S: Final = 10.0
#: The latest use and the latest figures of an account are stored this late.
SAVE_LATER_S: Final = 60.0
#: A second flight follows when the first one brought a pair that is old itself.
_FLIGHTS_PER_LEASE: Final = 2


_PATIENCE: Final = Patience()


@attrs.define(kw_only=True, eq=False)
class Lease:
    """The right to use one account, for the attempts that a turn makes on it in a row."""

    #: Bearer and workspace id of the attempt, as one value.
    account: Account
    #: What decided that it is this one, among which it was chosen, and who could not be.
    by: By
    candidates: tuple[str, ...]
    passed_over: tuple[PassedOver, ...]
    #: The account that the session is bound to, if it is to one.
    bound: str | None
    #: Its token was refreshed for this attempt.
    refreshed: bool
    #: How long the turn waited for it, and how much of that until an account had rested.
    waited_s: float
    rested_s: float
    leased_at_unix_s: float
    _lender: Lender = attrs.field(repr=False)
    #: What it was asked for.
    _ask: Ask = attrs.field(repr=False)

    def accept(self, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Say that the backend serves the turn: told with the first output, not at the end.

        `headers` are those of its answer. What they tell of the quota is not fresher than the
        lease: another turn, which came after this one, may have met the limit before this one's
        answer was read.
        """
        self._lender.accept(self, headers, aside=self._ask.aside)

    def observe(self, seen: Limits | None) -> None:
        """Say what the backend told of the account's quota, if it told something."""
        if seen is not None:
            self._lender.observe(self, seen)

    def report(self, fault: Fault) -> None:
        """Say what the attempt has met.

        Of a question of the relay's own nothing is learnt, or what is asked behind the scenes would
        cost turns their accounts: only that a token is refused which the owner wants renewed.
        """
        ask = self._ask
        if not ask.aside or (ask.insists and fault.kind is FaultKind.UNAUTHORIZED):
            self._lender.report(self, fault, model=ask.model)

    async def renew(self) -> bool:
        """Make it good for another attempt on the same account, with a token that is good.

        Returns False if the account cannot be used again now. Either way the place is kept.
        """
        return await self._lender.renew(self, self._ask)


@contextlib.asynccontextmanager
async def open_lender(
    sources: Sources,
    settings: ManagedOAuthSettings,
    *,
    issuer_url: str,
    transport: httpx.AsyncBaseTransport,
    wall_clock: Callable[[], float],
    rng: random.Random | None = None,
    turnstile: Turnstile | None = None,
) -> AsyncIterator[Lender]:
    """Read the accounts and lend them until the block ends.

    Having no account is no error here: each lease says so, until one appears. On the way out the
    calls to the issuer that are under way get a few seconds, as their tokens would be lost, and
    what the pool has learnt is stored. Then nothing of the lender is left.

    `rng` is what the strategy `random` and the pauses between refreshes draw from; `turnstile` is
    shared by the lenders of one process, so that their refreshes keep out of each other's way.
    """
    rng = rng or random.Random()
    async with trio.open_nursery() as nursery:
        refresher = Refresher(
            nursery=nursery,
            issuer=Issuer(url=issuer_url, transport=transport),
            files=sources.token_files,
            wall_clock=wall_clock,
            turnstile=turnstile or Turnstile(wall_clock=wall_clock, rng=rng),
        )
        lender = Lender(
            sources=sources,
            pool=Pool(
                _selector(settings, rng),
                max_concurrent_turns=settings.max_concurrent_turns,
                probe_every_s=settings.rate_limit_local_cooldown_cap_seconds,
            ),
            refresher=refresher,
            refresh_buffer_s=float(settings.refresh_buffer_seconds),
            wall_clock=wall_clock,
            settings=settings,
            rng=rng,
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


def _selector(settings: ManagedOAuthSettings, rng: random.Random) -> Selector:
    return find_strategies()[settings.selection_strategy].start(_strategy_settings(settings, rng))


def _strategy_settings(settings: ManagedOAuthSettings, rng: random.Random) -> StrategySettings:
    return StrategySettings(
        session_affinity_ttl_s=float(settings.session_affinity_ttl_seconds),
        session_affinity_max_entries=settings.session_affinity_max_entries,
        rng=rng,
    )


@attrs.define(eq=False)
class _Loan:
    """The block in which a turn has an account: see `Lender.lease`."""

    _lender: Lender
    _ask: Ask
    _patience: Patience
    _place: Place | None = attrs.field(default=None, init=False)

    async def __aenter__(self) -> Lease:
        self._place, lease = await self._lender.obtain(self._ask, self._patience)
        del self._ask, self._patience  # a stream may last for long
        self._lender.leased += 1  # no checkpoint between getting and counting it
        return lease

    async def __aexit__(self, *_raised: object) -> None:
        assert self._place is not None
        self._lender.leased -= 1
        self._lender.give_back(self._place)


@attrs.define(eq=False, kw_only=True)
class Lender:
    """Lends accounts to turns."""

    sources: Sources
    pool: Pool
    refresher: Refresher
    refresh_buffer_s: float
    wall_clock: Callable[[], float]
    #: As they are now; see `change`.
    settings: ManagedOAuthSettings = attrs.field(factory=ManagedOAuthSettings)
    rng: random.Random = attrs.field(factory=random.Random)
    queue: Queue = attrs.field(init=False)
    _alerts: QuotaAlerts = attrs.field(factory=QuotaAlerts, init=False)
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
    #: Set when the pool has learnt something, and when that must be stored at once.
    _learnt: trio.Event = attrs.field(factory=trio.Event, init=False)
    _urgent: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self.queue = Queue(pool=self.pool, wall_clock=self.wall_clock, rescan=self.rescan)

    def accounts(self) -> tuple[Account, ...]:
        """Return the accounts that may be used, usable or not, as they stand."""
        return self.pool.accounts

    @property
    def census(self) -> Census:
        """What these accounts are, at the same cost however many there are."""
        return self.pool.census

    def problems(self) -> tuple[Problem, ...]:
        """Return what was wrong with the account files when they were last read."""
        return self._loaded.problems

    def nothing_to_lend(self) -> AccountError:
        """Return the error that says why `accounts` is empty, when it is."""
        if self._loaded.found and self._loaded.problems:
            managed = self.sources.store is not None
            return UnusableFilesError(problems=self._loaded.problems, managed=managed)
        sources = self.sources
        return NoAccountError(
            looked_in=sources.in_words(),
            managed=sources.store is not None,
            legacy=sources.legacy is not None,
            every=sources.allowed == "all",
        )

    def lease(self, ask: Ask, patience: Patience = _PATIENCE) -> AbstractAsyncContextManager[Lease]:
        """Lend an account for one attempt, with a token that is good as far as can be known.

        At once, where one is free whose token is good: no checkpoint then, but for who is cancelled
        and for a look at the files, now and then.
        Waits for a refresh if the account needs one; an account that cannot be refreshed falls
        through to the next. Waits in line while every account that could be chosen serves as many
        turns as it may, and as long as `patience` says for one that rests. Cancelled while it
        waits, it leaves nothing behind: a refresh under way goes on for the next one who asks.

        Raises:
            AllLimitedError: those that are usable wait for their quota. No call was made.
            ThrottledError: those that are usable were asked too fast. No call was made.
            ModelNotOfferedError: none has a plan that offers the model.
            NeedsReauthError: the owner must sign in.
            RefreshUnavailableError: no token is good, and the sign-in service gives no new one at
                the moment.
            TurnedAwayError: the backend has turned them away, and is not asked again yet.
            AllTriedError: none is left that the turn has not tried.
            UnusableFilesError: there are files, and none can be used.
            NoAccountError: there is none.
        """
        return _Loan(self, ask, patience)

    def can_take(self, ask: Ask) -> bool:
        """Tell whether there is an account for an attempt at this moment."""
        return self.pool.can_take(ask, now_unix_s=self.wall_clock())

    async def renew(self, lease: Lease, ask: Ask) -> bool:
        """See `Lease.renew`."""
        await trio.lowlevel.checkpoint()  # an attempt begins only while its client is there
        present = self.pool.at_hand(lease.account, ask, now_unix_s=self.wall_clock())
        ready = None if present is None else await self._ready(present, ask)
        if not isinstance(ready, Account):
            return False
        lease.refreshed = ready.credentials != lease.account.credentials
        lease.account, lease.leased_at_unix_s = ready, self.wall_clock()
        lease.by, lease.candidates, lease.passed_over = By.AGAIN, (ready.id,), ()
        lease.waited_s = lease.rested_s = 0.0
        return True

    def bound(self, session: str) -> str | None:
        """Return the account that a session is bound to, None if it is to none."""
        if not self.pool.binds:
            return None
        return self.pool.bound(session, now_unix_s=self.wall_clock())

    @property
    def binds(self) -> bool:
        """Whether sessions are bound to accounts at present."""
        return self.pool.binds

    def restore(self, session: str, account_id: str) -> None:
        """Bind a session to its account of before a restart; see `Pool.restore`.

        Args:
            session: as in `Ask.session`.
            account_id: the account's id among those of this lender.
        """
        self.pool.restore(session, account_id, now_unix_s=self.wall_clock())

    def accept(self, lease: Lease, headers: Mapping[str, str], *, aside: bool) -> None:
        """See `Lease.accept`."""
        account, leased_at_unix_s = lease.account, lease.leased_at_unix_s
        self.pool.accept(
            account,
            leased_at_unix_s=leased_at_unix_s,
            now_unix_s=self.wall_clock(),
            aside=aside,
        )
        seen = self.pool.hear(account, headers, now_unix_s=leased_at_unix_s)
        self.queue.serve()
        if seen is not None:
            self._alert(account, seen)
        self._after_learning()

    def observe(self, lease: Lease, seen: Limits) -> None:
        """See `Lease.observe`."""
        self.pool.observe(lease.account, seen)
        self.queue.serve()
        self._alert(lease.account, seen)
        self._after_learning()

    def report(self, lease: Lease, fault: Fault, *, model: str | None) -> None:
        """See `Lease.report`."""
        now_unix_s = self.wall_clock()
        aside = self.pool.report(
            lease.account,
            fault,
            model=model,
            leased_at_unix_s=lease.leased_at_unix_s,
            now_unix_s=now_unix_s,
        )
        if aside is not None:
            log.warning(
                "account set aside",
                account=lease.account.id,
                status=aside.fault.status,
                code=aside.fault.code,
                tried_again_in_s=round(aside.until_unix_s - now_unix_s),
            )
        if EFFECTS[fault.kind] is not Effect.NONE:
            self.queue.look_again()
        if (seen := limits.from_headers(fault.headers, now_unix_s=now_unix_s)) is not None:
            self._alert(lease.account, seen)
        self._after_learning()

    async def look(self) -> None:
        """Take over what has changed in the account files, unless they were just looked at."""
        if not self._has_just_looked(self.wall_clock()):
            await self.rescan()

    def _has_just_looked(self, now_unix_s: float) -> bool:
        return 0 <= now_unix_s - self._scanned_unix_s < RESCAN_S

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
                self._take_over(*scanned)

    @contextlib.asynccontextmanager
    async def change(self, settings: ManagedOAuthSettings) -> AsyncIterator[Callable[[], None]]:
        """Get ready for other settings; calling what this gives lets them act, without waiting.

        The account files are looked at first. Until the block ends nobody else reads them or writes
        marks, so that nothing is taken over that has been overtaken. A lease that is held stays.
        Only some of the settings can change: see the keys that can while the relay runs.
        """
        sources = attrs.evolve(self.sources, allowed=settings.accounts)
        async with self._disk:
            known = self._fingerprint if settings.accounts == self.sources.allowed else None
            scanned = await trio.to_thread.run_sync(_scan, sources, known)
            yield partial(self._change, settings, sources, scanned)

    def _change(
        self,
        settings: ManagedOAuthSettings,
        sources: Sources,
        scanned: tuple[Fingerprint, Loaded] | None,
    ) -> None:
        self.pool.change(
            max_concurrent_turns=settings.max_concurrent_turns,
            probe_every_s=settings.rate_limit_local_cooldown_cap_seconds,
            selector=self._other_selector(settings),
        )
        self.refresh_buffer_s = float(settings.refresh_buffer_seconds)
        self.settings, self.sources = settings, sources
        if scanned is not None:
            self._take_over(*scanned)
        self.queue.serve()
        self.queue.wake()

    def _other_selector(self, settings: ManagedOAuthSettings) -> Selector | None:
        """Return the selector that goes by `settings`, None if the present one does.

        A strategy that stays keeps what it remembers, session-affinity its bindings.
        """
        wanted = _strategy_settings(settings, self.rng)
        if settings.selection_strategy != self.settings.selection_strategy:
            return _selector(settings, self.rng)
        if wanted == _strategy_settings(self.settings, self.rng) or self.pool.adapt(wanted):
            return None
        return _selector(settings, self.rng)

    def _take_over(self, fingerprint: Fingerprint, loaded: Loaded) -> None:
        """Let what was read from the account files act."""
        first, before = self._fingerprint is None, self._loaded.problems
        self._fingerprint, self._loaded = fingerprint, loaded
        self.pool.update(loaded.accounts, now_unix_s=self.wall_clock())
        self.queue.look_again()
        if not first:  # those are told by whoever starts the relay, in their place
            _tell(before, loaded.problems)

    async def keep_saving(self) -> None:
        """Store what the pool learns: what others would miss soon after, the rest some time.

        Runs until cancelled.
        """
        while True:
            await self._learnt.wait()
            with trio.move_on_after(SAVE_LATER_S):
                await self._urgent.wait()
            await self.save()

    async def save(self) -> None:
        """Store what the pool has learnt."""
        async with self._disk:
            # One that is not set is kept: `keep_saving` may be waiting for it.
            self._learnt, self._urgent = (
                trio.Event() if event.is_set() else event for event in (self._learnt, self._urgent)
            )
            learnt = self.pool.take_unsaved()
            if not learnt:
                return
            now_unix_s = self.wall_clock()
            # Shielded from the taking to the thread, which cannot be cancelled itself.
            with trio.move_on_after(CLOSING_S, shield=True):
                saved = await trio.to_thread.run_sync(
                    lambda: self.sources.save_states(learnt, now_unix_s=now_unix_s)
                )
                for stored in saved.learnt:
                    self.pool.note_saved(stored)
                for problem in saved.problems:
                    log.warning("account's state not saved", problem=str(problem))

    async def obtain(self, ask: Ask, patience: Patience) -> tuple[Place, Lease]:
        """Return an account and the place on it, which must go to `give_back`; see `lease`."""
        # An attempt begins only while its client is there.
        await trio.lowlevel.checkpoint_if_cancelled()
        now_unix_s = self.wall_clock()
        if not self._has_just_looked(now_unix_s):
            await self.rescan()
            now_unix_s = self.wall_clock()
        if ask.aside:
            ask = attrs.evolve(ask, avoid=(*ask.avoid, *self._without_good_token()))
        stuck: dict[str, str] = {}
        waited_s = rested_s = 0.0
        while True:
            wanted = attrs.evolve(ask, rejected=ask.rejected.union(stuck)) if stuck else ask
            granted = self._choose(wanted, now_unix_s)
            if granted is None:
                late = await self.queue.wait(wanted, patience)
                if isinstance(late, Choice):
                    patience.refused(late)
                    raise self._refusal(late, wanted, stuck)
                waited_s, rested_s = waited_s + late.waited_s, rested_s + late.rested_s
                patience = attrs.evolve(patience, rested_s=rested_s, told=nobody_is_told)
                granted, now_unix_s = late, self.wall_clock()
            account = granted.choice.account
            assert account is not None
            ready: Account | str = account
            if ask.aside or self._need(account, now_unix_s) is not None:
                with contextlib.ExitStack() as undo:
                    undo.callback(self.give_back, granted.place)
                    ready = await self._ready(account, ask)
                    if isinstance(ready, Account):
                        undo.pop_all()
                now_unix_s = self.wall_clock()
            if isinstance(ready, Account):
                return granted.place, Lease(
                    account=ready,
                    by=granted.choice.by,
                    candidates=granted.choice.candidates,
                    passed_over=granted.choice.passed_over,
                    bound=granted.choice.bound,
                    refreshed=ready is not account and ready.credentials != account.credentials,
                    waited_s=waited_s,
                    rested_s=rested_s,
                    leased_at_unix_s=now_unix_s,
                    lender=self,
                    ask=ask,
                )
            stuck[account.id] = ready

    def _choose(self, ask: Ask, now_unix_s: float) -> Granted | None:
        """Choose and take a place, behind those who wait; None if there is none."""
        if len(self.queue):
            self.queue.serve()  # what time alone has freed belongs to them
        choice = self.pool.choose(ask, now_unix_s=now_unix_s)
        return None if choice.account is None else Granted(choice, self.pool.take(choice, ask))

    def _refusal(self, choice: Choice, ask: Ask, stuck: dict[str, str]) -> AccountError:
        return refusal_of(
            choice.passed_over,
            stuck,
            ask=ask,
            nothing=self.nothing_to_lend(),
            now_unix_s=self.wall_clock(),
        )

    def give_back(self, place: Place) -> None:
        """End the use of an account."""
        self.pool.give_back(place)
        self.queue.serve()

    def _alert(self, account: Account, seen: Limits) -> None:
        """Tell the owner where little of the quota is left, once."""
        if not self.settings.quota_remaining_alerts_enabled:
            return
        thresholds = self.settings.quota_remaining_alert_thresholds_percent
        for alert in self._alerts.observe(account.id, seen, thresholds=thresholds):
            length_s, resets_at = alert.window.length_s, alert.window.resets_at_unix_s
            log.warning(
                "account's quota runs low",
                account=account.id,
                window=alert.window_name if length_s is None else in_words(length_s),
                remaining_percent=round(alert.remaining_percent, 2),
                below_percent=alert.threshold_percent,
                resets_at=None if resets_at is None else iso(resets_at),
            )

    def _after_learning(self) -> None:
        if self.pool.saving is Saving.NO:
            return
        if not self._learnt.is_set():
            self._learnt.set()
        if self.pool.saving is Saving.NOW:
            self._urgent.set()

    async def _ready(self, account: Account, ask: Ask) -> Account | str:
        """Return the account with a token that can be sent, or why it has none."""
        if ask.aside:
            if self._is_presentable(account):
                return account
            if (why := self._why_left_alone(account, ask)) is not None:
                return why
        for _ in range(_FLIGHTS_PER_LEASE):
            reason = self._need(account, self.wall_clock())
            if reason is None:
                return account
            result = await self._refresh(account, reason)
            if result.outcome is Outcome.POSTPONED:
                return account if self._is_presentable(account) else result.why
            renewed = self.pool.replace(result.account, now_unix_s=self.wall_clock())
            self.queue.look_again()
            if result.outcome in (Outcome.NEEDS_REAUTH, Outcome.GONE) or renewed is None:
                return result.why
            account = renewed
        if self._is_presentable(account):
            return account
        return "its new tokens are no better than the old ones"

    def _why_left_alone(self, account: Account, ask: Ask) -> str | None:
        """Say why a question of the relay's own is no reason to renew a token, None if it is."""
        if account.origin == "legacy":
            return "Codex CLI's own token is renewed for turns only"
        if self.pool.is_rejected(account) and not ask.insists:
            return "the backend has refused its token; the next turn renews it"
        return None

    def _without_good_token(self) -> tuple[str, ...]:
        return tuple(a.id for a in self.pool.accounts if not self._is_presentable(a))

    async def _refresh(self, account: Account, reason: RefreshReason) -> RefreshResult:
        """Wait for a refresh; not for long while the present token is good. The flight goes on."""
        patience_s = PATIENCE_S if self._is_presentable(account) else math.inf
        with trio.move_on_after(patience_s):
            return await self.refresher.refresh(account, reason=reason)
        return RefreshResult(
            outcome=Outcome.POSTPONED, account=account, why="the sign-in service is slow"
        )

    def _need(self, account: Account, now_unix_s: float) -> RefreshReason | None:
        """Say why `account` should be refreshed before it is used, None if it should not."""
        if self.pool.is_rejected(account):
            return "unauthorized_recovery"
        buffer_s = self.refresh_buffer_s
        if account.origin == "legacy":
            buffer_s = min(buffer_s, LEGACY_BUFFER_S)
        tokens = account.credentials
        if tokens.refresh_token is not None and tokens.expires_within(
            buffer_s, now_unix_s=now_unix_s
        ):
            return "proactive_expiry"
        return None

    def _is_presentable(self, account: Account) -> bool:
        """Tell whether the access token may be sent: unexpired, and not rejected."""
        return not self.pool.is_rejected(account) and not account.credentials.expires_within(
            0, now_unix_s=self.wall_clock()
        )


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
