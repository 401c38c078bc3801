"""Which account takes a turn, decided at once from all that is known of all accounts.

Nothing here waits, reads a clock or touches a file: each call sees the whole state and leaves a
whole state behind. Refreshing, reading and storing happen around it, in `lender`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.account import Account, Status
from codexrelay.accounts.strategies.strategy import Candidates, Selector
from codexrelay.protocol.faults import DEFAULT_COOL_DOWN_S, Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Effect(enum.Enum):
    """What a fault means for the account it was met on."""

    #: Not chosen until its quota is back.
    COOL_DOWN = enum.auto()
    #: Not chosen for a long while: its plan or workspace has no Codex.
    SET_ASIDE = enum.auto()
    #: This access token is not sent again: the account needs a new one first. When new ones are
    #: rejected too, it is set aside.
    REJECT_TOKEN = enum.auto()
    #: Says nothing about the account.
    NONE = enum.auto()


#: A blip of the network or a full backend must never cost an account its turn, nor a bad request.
EFFECTS: Final[Mapping[FaultKind, Effect]] = {
    FaultKind.UNAUTHORIZED: Effect.REJECT_TOKEN,
    FaultKind.FORBIDDEN: Effect.NONE,
    FaultKind.LIMITED: Effect.COOL_DOWN,
    FaultKind.UNUSABLE: Effect.SET_ASIDE,
    FaultKind.THROTTLED: Effect.NONE,
    FaultKind.OVERLOADED: Effect.NONE,
    FaultKind.BROKEN: Effect.NONE,
    FaultKind.SLOW: Effect.NONE,
    FaultKind.UNREADABLE: Effect.NONE,
    FaultKind.REFUSED: Effect.NONE,
}

#: A plan may be bought meanwhile, so an account without Codex is tried again after this long.
NO_CODEX_S: Final = 3600.0
#: So many access tokens in a row, each fresh from the issuer but the first, and the backend takes
#: none: another refresh would not help, so the account is set aside. Never for good: only the
#: issuer knows whether a sign-in is over, and a backend in trouble rejects what is good.
MAX_REJECTED_TOKENS: Final = 3
#: How long for, the first time and at most; doubled from one time to the next.
FIRST_REFUSAL_S: Final = 60.0
LONGEST_REFUSAL_S: Final = 900.0
#: Tried after that: the token as it is, then a fresh one. An outage costs one refresh per trial.
_TOKENS_PER_TRIAL: Final = 2
NO_REFRESH_TOKEN_REASON: Final = "there is no refresh token"


class Why(enum.Enum):
    """Why an account was passed over."""

    NEEDS_REAUTH = "needs_reauth"
    SET_ASIDE = "set_aside"
    COOLING = "cooling"
    #: The caller ruled it out, and nothing else speaks against it.
    RULED_OUT = "ruled_out"


@attrs.frozen(kw_only=True)
class PassedOver:
    """An account that could not be chosen."""

    account: Account
    why: Why
    #: Why the owner must sign in again, or what the backend said: a code or words.
    reason: str | None = None
    #: Why it was set aside.
    fault: Fault | None = None
    #: When it may be tried again, Unix seconds; None when time alone changes nothing.
    until_unix_s: float | None = None


@attrs.frozen(kw_only=True)
class Choice:
    """The chosen account, or None, and every account that could not be chosen."""

    account: Account | None
    passed_over: tuple[PassedOver, ...] = ()


@attrs.frozen(kw_only=True)
class SetAside:
    """Not chosen for a while, by what the backend said. Known to this process alone."""

    fault: Fault
    until_unix_s: float

    @property
    def for_its_tokens(self) -> bool:
        """Whether other tokens would be worth a try."""
        return EFFECTS[self.fault.kind] is Effect.REJECT_TOKEN


def refusal_s(times: int) -> float:
    """Return how long an account is set aside whose tokens are refused, `times` in a row (from 1).

    60, 120, 240, 480, then 900 s.
    """
    return min(LONGEST_REFUSAL_S, FIRST_REFUSAL_S * 2.0 ** min(times - 1, 10))


@attrs.define(eq=False)
class _Standing:
    """What is known of one account."""

    #: As it is used: the stored account with what this process has learnt since.
    account: Account
    #: As last read from its file, so that a change made there by others can be told.
    stored: Account
    #: The pool has learnt something that is not on disk yet.
    unsaved: bool = False
    #: The access token that the backend rejected last.
    rejected_token: str | None = attrs.field(default=None, repr=False)
    #: Distinct access tokens rejected in a row, less those before the last trial.
    rejections: int = 0
    set_aside: SetAside | None = None
    #: How often in a row it was set aside for its tokens.
    refusals: int = 0

    def reread(self, stored: Account) -> None:
        """Take over what the file says now; where it says the same as before, memory stands."""
        before, self.stored = self.stored, stored
        limit = stored.rate_limited_until_unix_s
        if self.unsaved or limit == before.rate_limited_until_unix_s:
            limit = self.account.rate_limited_until_unix_s
        if before.needs_reauth is not None and stored.needs_reauth is None:
            self.accept()  # somebody has signed in: the count begins anew
        if stored.credentials.access_token != before.credentials.access_token:
            self._forgive_old_token()
        if (stored.plan_type, stored.workspace_id) != (before.plan_type, before.workspace_id):
            self.set_aside = None
        self.account = attrs.evolve(stored, rate_limited_until_unix_s=limit)

    def obstacle(self, *, now_unix_s: float) -> PassedOver | None:
        """Return what keeps the account from taking a turn now, the gravest first."""
        account = self.account
        status = account.status(now_unix_s=now_unix_s)
        if status is Status.NEEDS_REAUTH:
            return PassedOver(account=account, why=Why.NEEDS_REAUTH, reason=account.needs_reauth)
        if account.credentials.refresh_token is None and (
            status is Status.EXPIRED or self.is_rejected
        ):
            return PassedOver(account=account, why=Why.NEEDS_REAUTH, reason=NO_REFRESH_TOKEN_REASON)
        aside = self.set_aside
        if aside is not None and now_unix_s < aside.until_unix_s:
            return PassedOver(
                account=account,
                why=Why.SET_ASIDE,
                reason=f"{aside.fault.status} {aside.fault.code or ''}".rstrip(),
                fault=aside.fault,
                until_unix_s=aside.until_unix_s,
            )
        if status is Status.RATE_LIMITED:
            return PassedOver(
                account=account,
                why=Why.COOLING,
                until_unix_s=account.rate_limited_until_unix_s,
            )
        return None

    @property
    def is_rejected(self) -> bool:
        """Whether the backend has rejected the present access token."""
        return self.rejected_token == self.account.credentials.access_token

    def accept(self) -> None:
        """The backend took the present token."""
        self._forgive_old_token()
        self.rejected_token, self.rejections, self.refusals = None, 0, 0

    def suffer(self, fault: Fault, *, now_unix_s: float) -> None:
        """Draw the consequences of `fault`."""
        match EFFECTS[fault.kind]:
            case Effect.COOL_DOWN:
                self._cool_down(fault.resets_at_unix_s, now_unix_s=now_unix_s)
            case Effect.SET_ASIDE:
                self.set_aside = SetAside(fault=fault, until_unix_s=now_unix_s + NO_CODEX_S)
            case Effect.REJECT_TOKEN:
                self._reject_token(fault, now_unix_s=now_unix_s)
            case Effect.NONE:
                pass

    def _forgive_old_token(self) -> None:
        if self.set_aside is None or not self.set_aside.for_its_tokens:
            return
        self.set_aside = None
        # Nobody here refreshes what is set aside, so the other token is somebody else's and worth
        # one try. No refresh may follow, or two relays over one store would keep each other at it.
        self.rejections = MAX_REJECTED_TOKENS - 1

    def _cool_down(self, resets_at_unix_s: float | None, *, now_unix_s: float) -> None:
        until = resets_at_unix_s
        if until is None or until <= now_unix_s:
            until = now_unix_s + DEFAULT_COOL_DOWN_S
        # Of two turns that met the limit, one may have been told less: the later end counts.
        known = self.account.rate_limited_until_unix_s
        self.account = attrs.evolve(
            self.account, rate_limited_until_unix_s=max(until, known or until)
        )
        self.unsaved = True

    def _reject_token(self, fault: Fault, *, now_unix_s: float) -> None:
        aside = self.set_aside
        if self.is_rejected or (aside is not None and now_unix_s < aside.until_unix_s):
            return  # another turn with the same token
        self.rejected_token = self.account.credentials.access_token
        self.rejections += 1
        renewable = self.account.credentials.refresh_token is not None
        if renewable and self.rejections < MAX_REJECTED_TOKENS:
            return
        self.refusals += 1
        self.set_aside = SetAside(fault=fault, until_unix_s=now_unix_s + refusal_s(self.refusals))
        self.rejected_token = None  # sent as it is, come the trial
        self.rejections = MAX_REJECTED_TOKENS - _TOKENS_PER_TRIAL


@attrs.define(eq=False)
class Pool:
    """All accounts, in byte order of their ids, and who is next."""

    _selector: Selector
    _standings: dict[str, _Standing] = attrs.field(factory=dict, init=False)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The accounts as they stand, in order."""
        return tuple(standing.account for standing in self._standings.values())

    def update(self, accounts: Iterable[Account]) -> None:
        """Replace the accounts by what was read from their files; what is known of them stays."""
        before, self._standings = self._standings, {}
        for account in sorted(accounts, key=lambda account: account.id.encode()):
            standing = before.get(account.id) or _Standing(account=account, stored=account)
            standing.reread(account)
            self._standings[account.id] = standing

    def replace(self, account: Account) -> Account | None:
        """Take over one account as it is stored; return it as it stands, None if it is gone."""
        standing = self._standings.get(account.id)
        if standing is None:
            return None
        standing.reread(account)
        return standing.account

    def choose(
        self,
        *,
        now_unix_s: float,
        rejected: frozenset[str] = frozenset(),
        prefer: str | None = None,
    ) -> Choice:
        """Choose the account for one attempt.

        Args:
            now_unix_s: wall clock.
            rejected: ids that this turn must not be given.
            prefer: the id to choose if it can be chosen. Such a choice is none of the strategy's,
                and leaves its order as it is.
        """
        passed_over: list[PassedOver] = []
        eligible: set[str] = set()
        for account_id, standing in self._standings.items():
            obstacle = standing.obstacle(now_unix_s=now_unix_s)
            if obstacle is None and account_id in rejected:
                obstacle = PassedOver(account=standing.account, why=Why.RULED_OUT)
            if obstacle is None:
                eligible.add(account_id)
            else:
                passed_over.append(obstacle)
        if not eligible:
            return Choice(account=None, passed_over=tuple(passed_over))
        if prefer is not None and prefer in eligible:
            chosen = prefer
        else:
            chosen = self._selector.choose(
                Candidates(order=tuple(self._standings), eligible=frozenset(eligible))
            )
        return Choice(account=self._standings[chosen].account, passed_over=tuple(passed_over))

    def report(
        self, account: Account, fault: Fault | None, *, now_unix_s: float
    ) -> SetAside | None:
        """Note how an attempt on `account` went; None: the backend served it.

        `account` is the one that was used. What is heard of a token that has been replaced since
        says nothing of the present one. Returns for how long the account is set aside, if that is
        what this report has led to.
        """
        standing = self._standings.get(account.id)
        if standing is None:
            return None  # its file was removed meanwhile
        before = standing.set_aside
        used, present = account.credentials, standing.account.credentials
        of_present_token = used.access_token == present.access_token
        if fault is None:
            if of_present_token:
                standing.accept()
        elif of_present_token or EFFECTS[fault.kind] is not Effect.REJECT_TOKEN:
            standing.suffer(fault, now_unix_s=now_unix_s)
        return standing.set_aside if standing.set_aside is not before else None

    def state_of(self, account: Account, *, now_unix_s: float) -> str:
        """Return the word for how `account` stands: its status, or `set_aside`."""
        standing = self._standings.get(account.id)
        obstacle = standing.obstacle(now_unix_s=now_unix_s) if standing is not None else None
        word: str = account.status(now_unix_s=now_unix_s).value
        if obstacle is not None and obstacle.why is Why.SET_ASIDE:
            word = obstacle.why.value
        return word

    def is_rejected(self, account: Account) -> bool:
        """Tell whether the backend has rejected the access token of `account`."""
        standing = self._standings.get(account.id)
        return standing is not None and standing.rejected_token == account.credentials.access_token

    @property
    def has_unsaved(self) -> bool:
        """Whether `take_unsaved` would return something."""
        return any(standing.unsaved for standing in self._standings.values())

    def take_unsaved(self) -> tuple[Account, ...]:
        """Return the accounts of which something was learnt since the last call, to be stored."""
        taken = [standing for standing in self._standings.values() if standing.unsaved]
        for standing in taken:
            standing.unsaved = False
        return tuple(standing.account for standing in taken)
