"""Refreshing tokens that are good for one use only.

A refresh token is spent by the call that renews it, and an issuer that sees it twice may sign its
owner out everywhere. Hence, in this order:

1. *One flight per account.* A flight is a task of the lender's nursery; turns wait for it and may
   leave. It holds the account's file lock, so that no other process is in the same place.
2. *Look before asking.* Under the lock the file is read again; if somebody has stored another pair,
   that one is adopted and no call is made.
3. *One account at a time*, in all processes together: `turnstile`. Nobody waits for the others
   longer than `QUEUE_S`; who has waited in vain makes no call, keeps what it has and may ask again
   at once, and the turn goes to another account if this one's token is of no use any more.
4. *Disk before use.* From the call to the rename nothing can cancel the flight. The new pair is
   stored, and only then does anybody hear of it. Room for it on the disk is kept before the token
   leaves. A pair that cannot be stored all the same is kept, and the next flight stores it and
   makes no call; so does the end of the relay, for the last time.
5. *A lost answer is not asked for again.* When the call broke off after it was sent, the token may
   be spent; it is not when the transport says that no byte had left, as where a proxy hangs. While
   the access token is good, the account lives on it; the refresh token is sent again only once
   nothing is left to lose: the access token is about to expire, or the backend rejects it. A
   refusal then means that the answer was lost. All processes keep to this, and those that come
   after one that was killed, because the token is marked as sent on disk before it leaves
   (`sent_mark`). A process that is killed between the issuer's decision and the rename loses the
   pair; there is no order of steps without such a gap.
6. *Blame the exact token.* A refusal marks the account only if the file still holds the token that
   was refused; else somebody was faster, and theirs is adopted.

Failures that say nothing about the token are followed by a back-off: 1 s, doubled up to 60 s,
during which flights read the file but make no call. A refusal with a code that nobody knows is such
a failure too, with a back-off that grows to five minutes: what stands behind it may be the place
the call comes from. The token is given up only when such codes have come often, for a good while,
and once more when the access token was of no use any more.
"""

from __future__ import annotations

import contextlib
import enum
import math
from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Final, Protocol, assert_never

import attrs
import structlog
import trio

from codexrelay.accounts.account import Account, Credentials, Origin
from codexrelay.accounts.files import BrokenFileError
from codexrelay.accounts.issuer import (
    CANNOT_BE_REACHED,
    WHAT_TO_CHECK,
    Issuer,
    Lost,
    RefreshReason,
    Refused,
    Renewed,
    Unavailable,
)
from codexrelay.accounts.sent_mark import SentMark
from codexrelay.accounts.turnstile import Turnstile, held
from codexrelay.protocol.claims import read_claims
from codexrelay.protocol.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.accounts.files import Locks

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

#: For the call to the issuer, and before it once more for the other processes' flights.
REFRESH_BUDGET_S: Final = 30.0
#: Between the two, for the calls of other accounts.
QUEUE_S: Final = 10.0
#: What is left of that for a call under way when the relay is being stopped.
CLOSING_S: Final = 5.0
#: An access token with less to live than this is worth nothing: see rule 5.
LAST_MOMENT_S: Final = 60.0
#: A token is given up after so many codes that nobody knows, over this time at least.
MIN_UNKNOWN_REFUSALS: Final = 5
MIN_UNKNOWN_S: Final = 900.0
MAX_BACK_OFF_S: Final = 60.0
#: The same after a code that nobody knows.
MAX_UNKNOWN_BACK_OFF_S: Final = 300.0
LOST_ANSWER_REASON: Final = "answer lost"


class Outcome(enum.Enum):
    """How a flight ended."""

    #: A new pair came from the issuer and is stored.
    RENEWED = "renewed"
    #: Somebody else had stored another pair.
    ADOPTED = "adopted"
    #: The owner must sign in again.
    NEEDS_REAUTH = "needs_reauth"
    #: Not now; the tokens are as they were.
    POSTPONED = "postponed"
    #: The account's file was removed.
    GONE = "gone"


@attrs.frozen(kw_only=True)
class RefreshResult:
    """What a flight found out."""

    outcome: Outcome
    #: The account as it is stored now; as it was asked for when nothing could be read.
    account: Account
    #: What a person should know; empty when all is well.
    why: str = ""


class TokenFiles(Protocol):
    """What a refresh needs of a kind of account files. All of it blocks."""

    def read(self, account_id: str) -> Account | None:
        """Read one account, None if it has no file."""

    def save_credentials(
        self,
        account_id: str,
        credentials: Credentials,
        *,
        expected_refresh_token: str,
        now_unix_s: float,
    ) -> Account:
        """Store the pair unless another one was stored meanwhile; return what is stored now."""

    def mark_needs_reauth(self, account_id: str, reason: str, *, refresh_token: str) -> Account:
        """Mark the account if the token is still the stored one; return what is stored now."""

    def flight_lock(self, account_id: str) -> Locks:
        """Return the lock that a flight holds against those of other processes."""

    def size_bytes(self, account_id: str) -> int:
        """Return the size of the file that the pair will be stored in, about."""


@attrs.define
class Memory:
    """What is remembered of one refresh token between flights."""

    refresh_token: str = attrs.field(repr=False)
    #: Whose files it came from.
    origin: Origin = "managed"
    #: It was sent and no answer came, now or by the call before the present one.
    unanswered: bool = False
    lost_earlier: bool = False
    #: The pair it was renewed to, as long as that is not on disk.
    renewed: Credentials | None = None
    #: Flights in a row that said nothing about the token.
    failures: int = 0
    #: Refusals with a code nobody knows, and when the first came, by trio's clock.
    unknown_refusals: int = 0
    first_unknown_at_s: float = math.inf
    #: No call before this instant of trio's clock.
    not_before_at_s: float = -math.inf
    last_why: str = "an earlier call was not answered"

    def begin(self) -> None:
        """A call begins; the token is not sent yet."""
        self.lost_earlier = self.unanswered

    def send(self) -> None:
        """The token is about to be sent: whatever cuts the call short, it may be spent."""
        self.unanswered = True

    def hear(self) -> None:
        """The call was answered, or not made: the token is as good as it was before."""
        self.unanswered = self.lost_earlier

    def postponement(
        self, credentials: Credentials, *, reason: RefreshReason, now_unix_s: float, now_at_s: float
    ) -> str | None:
        """Say why the token must not be sent now, None if it may."""
        if now_at_s < self.not_before_at_s:
            return self.told(now_at_s=now_at_s)
        if self.unanswered and is_worth_keeping(credentials, reason=reason, now_unix_s=now_unix_s):
            return f"{self.last_why}; tried again when the access token is about to expire"
        return None

    def told(self, *, now_at_s: float) -> str:
        """Say what went wrong last and when the token may be sent again."""
        return f"{self.last_why}; tried again in {self.not_before_at_s - now_at_s:.0f} s"

    def fail(
        self, why: str, *, now_at_s: float, longest_back_off_s: float = MAX_BACK_OFF_S
    ) -> None:
        """Note a flight that said nothing about the token."""
        self.failures += 1
        self.not_before_at_s = now_at_s + back_off_s(self.failures, longest_s=longest_back_off_s)
        self.last_why = why

    def refuse(self, *, now_at_s: float) -> None:
        """Note a refusal with a code that nobody knows."""
        self.unknown_refusals += 1
        self.first_unknown_at_s = min(self.first_unknown_at_s, now_at_s)

    def is_given_up(
        self, credentials: Credentials, *, reason: RefreshReason, now_unix_s: float, now_at_s: float
    ) -> bool:
        """Tell whether such refusals have come often and long enough, and nothing is left to lose.

        The backend's word that the access token is void counts as much as its end.
        """
        return (
            self.unknown_refusals >= MIN_UNKNOWN_REFUSALS
            and now_at_s - self.first_unknown_at_s >= MIN_UNKNOWN_S
            and (
                reason == "unauthorized_recovery"
                or credentials.expires_within(0, now_unix_s=now_unix_s)
            )
        )


def is_worth_keeping(credentials: Credentials, *, reason: RefreshReason, now_unix_s: float) -> bool:
    """Tell whether the account can live on its access token for a while: nobody rejects it."""
    return reason != "unauthorized_recovery" and not credentials.expires_within(
        LAST_MOMENT_S, now_unix_s=now_unix_s
    )


def back_off_s(failures: int, *, longest_s: float = MAX_BACK_OFF_S) -> float:
    """Return the wait after so many failures in a row (from 1): 1, 2, 4, … `longest_s`."""
    return min(longest_s, 2.0 ** min(failures - 1, 10))


@attrs.define(eq=False)
class _Flight:
    """One refresh under way. Whoever waits holds this, so it outlives its task."""

    account: Account
    reason: RefreshReason
    done: trio.Event = attrs.field(factory=trio.Event, init=False)
    result: RefreshResult = attrs.field(init=False)
    #: Around the wait for the calls of other accounts, and around the call to the issuer.
    queueing: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    budget: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    def __attrs_post_init__(self) -> None:
        # Stands if the flight is cancelled, which only the end of the relay does.
        self.result = self.postponed("the relay is being stopped")

    def postponed(self, why: str, account: Account | None = None) -> RefreshResult:
        return RefreshResult(outcome=Outcome.POSTPONED, account=account or self.account, why=why)


@attrs.define(eq=False, kw_only=True)
class Refresher:
    """Refreshes accounts, each in one flight at a time."""

    #: Flights live here, so that no turn owns one.
    nursery: trio.Nursery
    issuer: Issuer
    files: Mapping[Origin, TokenFiles]
    wall_clock: Callable[[], float]
    #: Draws the pauses between the calls for different accounts.
    rng: Random = attrs.field(factory=Random)
    #: Refreshers of other folders in the same process share it; the default is one for this one.
    turnstile: Turnstile = attrs.field()
    _flights: dict[str, _Flight] = attrs.field(factory=dict, init=False)
    _memories: dict[str, Memory] = attrs.field(factory=dict, init=False)
    _closed: bool = attrs.field(default=False, init=False)

    @turnstile.default
    def _own_turnstile(self) -> Turnstile:
        return Turnstile(wall_clock=self.wall_clock, rng=self.rng)

    async def refresh(self, account: Account, *, reason: RefreshReason) -> RefreshResult:
        """Bring `account` to another pair of tokens than it has, unless it cannot be done now.

        Joins the flight that is under way for this account, else starts one. The clock is not asked
        whether it is needed: who calls this wants another token. Cancelling a caller leaves the
        flight alone.
        """
        flight = self._flights.get(account.id)
        if flight is None:
            flight = self._flights[account.id] = _Flight(account, reason)
            self.nursery.start_soon(self._fly, flight)
        await flight.done.wait()
        return flight.result

    def close(self) -> None:
        """Start no more calls, and give those under way `CLOSING_S`.

        A pair that is still not on disk gets a last attempt, in the nursery, whose cancelling does
        not cut it short.
        """
        self._closed = True
        for account_id, memory in self._memories.items():
            if memory.renewed is not None and account_id not in self._flights:
                self.nursery.start_soon(self._store_at_last, account_id, memory)
        for flight in self._flights.values():
            flight.queueing.cancel()
            latest_at_s = trio.current_time() + CLOSING_S
            flight.budget.deadline = min(flight.budget.deadline, latest_at_s)

    async def _fly(self, flight: _Flight) -> None:
        account_id = flight.account.id
        try:
            flight.result = await self._run(flight)
        except (BrokenFileError, OSError) as error:
            log.warning("account's file cannot be used", account=account_id, reason=str(error))
            flight.result = flight.postponed(f"its file cannot be used: {error}")
        except Exception:  # task border: a flight dies alone, and its waiters are told
            log.exception("refresh failed unexpectedly", account=account_id)
            flight.result = flight.postponed("an error in the relay; its log has the details")
        finally:
            del self._flights[account_id]
            flight.done.set()
            memory = self._memories.get(account_id)
            if self._closed and memory is not None and memory.renewed is not None:
                await self._store_at_last(account_id, memory)
        _tell(flight.result)

    async def _store_at_last(self, account_id: str, memory: Memory) -> None:
        """Store a pair that could not be stored before, or say that it is lost."""
        files, renewed, why = self.files[memory.origin], memory.renewed, "its file is locked"
        if renewed is None:
            return
        lock = files.flight_lock(account_id)
        try:
            with trio.move_on_after(CLOSING_S, shield=True):
                async with held(lock):
                    with trio.CancelScope(shield=True):
                        stored = await trio.to_thread.run_sync(files.read, account_id)
                        mark = SentMark.beside(lock)
                        if stored is not None:
                            await self._store(stored, files, memory, mark, renewed)
                        return  # stored, or its account was removed
        except (BrokenFileError, OSError) as error:
            why = str(error)
        log.error(
            "an account's new tokens cannot be stored and are lost",
            account=account_id,
            reason=why,
            to_do="see to the disk and the file, then sign this account in again",
        )

    async def _run(self, flight: _Flight) -> RefreshResult:
        files = self.files[flight.account.origin]
        lock = files.flight_lock(flight.account.id)
        with trio.move_on_after(REFRESH_BUDGET_S):
            async with held(lock):
                # From here to the disk. Not a hang in waiting: queue and call have their budgets,
                # and all else is file work in threads, which cannot be cancelled anyway.
                with trio.CancelScope(shield=True):
                    return await self._exchange(flight, files, lock)
        return flight.postponed("another process has been refreshing it for too long")

    async def _exchange(self, flight: _Flight, files: TokenFiles, lock: Locks) -> RefreshResult:
        stored = await trio.to_thread.run_sync(files.read, flight.account.id)
        if stored is None:
            self._memories.pop(flight.account.id, None)
            return RefreshResult(
                outcome=Outcome.GONE, account=flight.account, why="its file is gone"
            )
        if (settled := _look(flight, stored)) is not None:
            return settled
        memory, mark = self._memory_of(stored), SentMark.beside(lock)
        renewed = memory.renewed
        if renewed is None:
            if await trio.to_thread.run_sync(mark.is_of, memory.refresh_token):
                memory.unanswered = True
            if (why := self._postponement(flight, stored, memory)) is not None:
                return flight.postponed(why, stored)
            answer = await self._call(flight, stored, files, memory, mark)
            if isinstance(answer, str):
                return flight.postponed(answer, stored)
            if not isinstance(answer, Credentials):
                return await self._settle(flight, stored, files, memory, mark, answer)
            renewed = answer
        return await self._store(stored, files, memory, mark, renewed)

    def _postponement(self, flight: _Flight, stored: Account, memory: Memory) -> str | None:
        if self._closed:
            return "the relay is being stopped"
        return memory.postponement(
            stored.credentials,
            reason=flight.reason,
            now_unix_s=self.wall_clock(),
            now_at_s=trio.current_time(),
        )

    async def _call(
        self,
        flight: _Flight,
        stored: Account,
        files: TokenFiles,
        memory: Memory,
        mark: SentMark,
    ) -> Credentials | Refused | Unavailable | Lost | str:
        """Return the new pair, which `memory` has by then, or the answer, or why none was asked."""
        async with contextlib.AsyncExitStack() as stack:
            flight.queueing.deadline = trio.current_time() + QUEUE_S
            with flight.queueing:
                await stack.enter_async_context(
                    self.turnstile.passing(flight.account.id, folder=_meeting_place(flight, mark))
                )
            if self._closed:
                return "the relay is being stopped"
            if flight.queueing.cancelled_caught:
                return "the refreshes of other accounts take too long"
            # Also if there is one: it may keep no room any more.
            await trio.to_thread.run_sync(_make_mark, mark, memory, files, stored.id)
            memory.begin()
            progress = Progress()
            flight.budget.deadline = trio.current_time() + self._budget_s()
            with flight.budget:
                memory.send()
                answer = await self.issuer.renew(
                    memory.refresh_token, reason=flight.reason, progress=progress
                )
                if not isinstance(answer, Renewed):
                    return answer
                # Nothing between answer and memory: what was answered cannot be forgotten.
                now_unix_s = self.wall_clock()
                memory.renewed = _merge(stored.credentials, answer, now_unix_s=now_unix_s)
                return memory.renewed
            if progress.is_unsent:
                return Unavailable(why=f"{CANNOT_BE_REACHED} in time")
        return Lost(why="the sign-in service did not answer in time")

    def _budget_s(self) -> float:
        return CLOSING_S if self._closed else REFRESH_BUDGET_S

    async def _store(
        self,
        stored: Account,
        files: TokenFiles,
        memory: Memory,
        mark: SentMark,
        renewed: Credentials,
    ) -> RefreshResult:
        now_unix_s = self.wall_clock()

        def save() -> Account:
            mark.give_room()
            return files.save_credentials(
                stored.id,
                renewed,
                expected_refresh_token=memory.refresh_token,
                now_unix_s=now_unix_s,
            )

        saved = await trio.to_thread.run_sync(save)
        self._memories.pop(stored.id, None)
        await trio.to_thread.run_sync(mark.remove)
        ours = saved.credentials.access_token == renewed.access_token
        return RefreshResult(outcome=Outcome.RENEWED if ours else Outcome.ADOPTED, account=saved)

    async def _settle(
        self,
        flight: _Flight,
        stored: Account,
        files: TokenFiles,
        memory: Memory,
        mark: SentMark,
        answer: Refused | Unavailable | Lost,
    ) -> RefreshResult:
        """Draw the consequences of an answer without tokens."""
        dead: str | None = None
        longest_back_off_s, now_at_s = MAX_BACK_OFF_S, trio.current_time()
        match answer:
            case Lost(why=why):
                pass
            case Unavailable(why=why):
                memory.hear()
            case Refused(code=code):
                memory.hear()
                why = (
                    f"the sign-in service refused it with an unknown code ({code}); {WHAT_TO_CHECK}"
                )
                longest_back_off_s = MAX_UNKNOWN_BACK_OFF_S
                if not answer.is_terminal:
                    memory.refuse(now_at_s=now_at_s)
                if answer.is_terminal or memory.is_given_up(
                    stored.credentials,
                    reason=flight.reason,
                    now_unix_s=self.wall_clock(),
                    now_at_s=now_at_s,
                ):
                    dead = f"{LOST_ANSWER_REASON}, then {code}" if memory.lost_earlier else code
            case _:
                assert_never(answer)
        if dead is not None:
            result = await self._give_up(stored, files, memory, dead)
            await trio.to_thread.run_sync(mark.remove)
            return result
        if not memory.unanswered:
            await trio.to_thread.run_sync(mark.remove)
        memory.fail(why, now_at_s=now_at_s, longest_back_off_s=longest_back_off_s)
        told = why if memory.unanswered else memory.told(now_at_s=now_at_s)
        log.warning("account not refreshed", account=stored.id, reason=told)
        return flight.postponed(told, stored)

    async def _give_up(
        self, stored: Account, files: TokenFiles, memory: Memory, reason: str
    ) -> RefreshResult:
        """Mark the account, unless the dead token is no longer the stored one."""

        def mark() -> Account:
            return files.mark_needs_reauth(stored.id, reason, refresh_token=memory.refresh_token)

        memory.fail(reason, now_at_s=trio.current_time())  # counts if it cannot be stored
        marked = await trio.to_thread.run_sync(mark)
        self._memories.pop(stored.id, None)
        if marked.needs_reauth is None:
            return RefreshResult(outcome=Outcome.ADOPTED, account=marked)
        return _needs_reauth(marked)

    def _memory_of(self, stored: Account) -> Memory:
        """Return what is remembered of the stored refresh token."""
        refresh_token = stored.credentials.refresh_token or ""
        memory = self._memories.get(stored.id)
        if memory is None or memory.refresh_token != refresh_token:
            memory = self._memories[stored.id] = Memory(refresh_token, stored.origin)
        return memory


def _make_mark(mark: SentMark, memory: Memory, files: TokenFiles, account_id: str) -> None:
    mark.make(memory.refresh_token, room_bytes=files.size_bytes(account_id))


def _meeting_place(flight: _Flight, mark: SentMark) -> Path | None:
    """Return the folder in which processes meet before a call, None if none is needed.

    Codex CLI's account has no siblings, and nothing to look for in Codex CLI's folder.
    """
    return mark.path.parent if flight.account.origin == "managed" else None


def _look(flight: _Flight, stored: Account) -> RefreshResult | None:
    """Return the result if what is stored settles the matter without a call."""
    if stored.needs_reauth is not None:
        return _needs_reauth(stored)
    if _is_another_pair(stored.credentials, flight.account.credentials):
        return RefreshResult(outcome=Outcome.ADOPTED, account=stored)
    if stored.credentials.refresh_token is None:
        return flight.postponed("there is no refresh token", stored)
    return None


def _is_another_pair(stored: Credentials, known: Credentials) -> bool:
    return (stored.access_token, stored.refresh_token) != (
        known.access_token,
        known.refresh_token,
    )


def _merge(old: Credentials, new: Renewed, *, now_unix_s: float) -> Credentials:
    """Return the pair to store: what the issuer left out stays as it was."""
    if new.access_token is None:
        return attrs.evolve(
            old,
            refresh_token=new.refresh_token or old.refresh_token,
            id_token=new.id_token or old.id_token,
        )
    expires = read_claims(new.access_token).expires_at_unix_s
    if expires is None and new.expires_in_s is not None:
        expires = now_unix_s + new.expires_in_s
    return Credentials(
        access_token=new.access_token,
        refresh_token=new.refresh_token or old.refresh_token,
        id_token=new.id_token or old.id_token,
        expires_at_unix_s=expires,
    )


def _needs_reauth(account: Account) -> RefreshResult:
    return RefreshResult(
        outcome=Outcome.NEEDS_REAUTH, account=account, why=account.needs_reauth or ""
    )


def _tell(result: RefreshResult) -> None:
    account = result.account.id
    match result.outcome:
        case Outcome.RENEWED:
            log.info("account refreshed", account=account)
        case Outcome.ADOPTED:
            log.info("account's newer tokens adopted", account=account)
        case Outcome.NEEDS_REAUTH:
            log.warning("account must sign in again", account=account, reason=result.why)
        case Outcome.POSTPONED | Outcome.GONE:
            # Every turn asks again: what there was to say was said where it happened.
            log.debug("account not refreshed", account=account, reason=result.why)
        case _:
            assert_never(result.outcome)
