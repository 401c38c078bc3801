"""What is known of one account, and what each fault and each sign of life makes of it.

Values in, values out: nothing here waits, reads a clock or touches a file.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from codexrelay.accounts.account import Account, Attention, Status, UsageLimit
from codexrelay.protocol.faults import DEFAULT_COOL_DOWN_S, Fault, FaultKind
from codexrelay.protocol.limits import HeaderReader, Limits
from codexrelay.protocol.openai_errors import error_object

if TYPE_CHECKING:
    from collections.abc import Mapping

_T = TypeVar("_T")


class Effect(enum.Enum):
    """What a fault means for the account it was met on."""

    #: Not chosen until its quota is back.
    COOL_DOWN = enum.auto()
    #: Not chosen for the seconds that the backend stated: too fast, not too much.
    PAUSE = enum.auto()
    #: Not chosen for a long while: its plan or workspace has no Codex.
    SET_ASIDE = enum.auto()
    #: This access token is not sent again: the account needs a new one first. When new ones are
    #: rejected too, it is set aside.
    REJECT_TOKEN = enum.auto()
    #: Not chosen for this model for a while; for others it is as good as before.
    LEARN_MODEL = enum.auto()
    #: Says nothing about the account.
    NONE = enum.auto()


#: A blip of the network or a full backend must never cost an account its turn, nor a bad request.
EFFECTS: Final[Mapping[FaultKind, Effect]] = {
    FaultKind.UNAUTHORIZED: Effect.REJECT_TOKEN,
    FaultKind.FORBIDDEN: Effect.NONE,
    FaultKind.LIMITED: Effect.COOL_DOWN,
    FaultKind.UNUSABLE: Effect.SET_ASIDE,
    FaultKind.UNSUPPORTED: Effect.LEARN_MODEL,
    FaultKind.THROTTLED: Effect.PAUSE,
    FaultKind.OVERLOADED: Effect.NONE,
    FaultKind.BROKEN: Effect.NONE,
    FaultKind.SLOW: Effect.NONE,
    FaultKind.UNREADABLE: Effect.NONE,
    FaultKind.REFUSED: Effect.NONE,
}

#: A plan may be bought meanwhile, so an account without Codex is tried again after this long.
NO_CODEX_S: Final = 3600.0
#: So is an account for a model that the backend said its plan does not have.
NO_MODEL_S: Final = 3600.0
#: Clients may ask for any name, so only so many of them are remembered.
MAX_REFUSED_MODELS: Final = 100
#: Too fast, and the backend did not say for how long.
DEFAULT_PAUSE_S: Final = 5.0
#: "In 0 s" is no rest at all: a turn would spend its attempts within milliseconds.
MIN_PAUSE_S: Final = 0.5
#: No throttle of the short kind lasts longer; what states more is not believed.
LONGEST_PAUSE_S: Final = 120.0
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
#: Files keep milliseconds, and some resets are told as whole seconds from now: what differs by
#: less is the same.
_ROUNDING_S: Final = 1.0
#: The end of a cool-down is believed at once only this far; see `Standing.probes`.
PROBE_EVERY_S: Final = 1800.0


class Why(enum.Enum):
    """Why an account was passed over."""

    NEEDS_REAUTH = "needs_reauth"
    SET_ASIDE = "set_aside"
    #: Its plan does not offer the model.
    NO_MODEL = "no_model"
    COOLING = "cooling"
    PAUSED = "paused"
    #: A turn is finding out whether its quota is back.
    PROBED = "probed"
    #: It serves as many turns as it may.
    BUSY = "busy"
    #: The turn has tried it, or could not refresh it, and nothing else speaks against it.
    RULED_OUT = "ruled_out"


@attrs.frozen(kw_only=True)
class PassedOver:
    """An account that could not be chosen."""

    account: Account
    why: Why
    #: Why the owner must sign in again, or what the backend said: a code or words.
    reason: str | None = None
    #: Why it was set aside or paused.
    fault: Fault | None = None
    #: When it may be tried again, Unix seconds; None when time alone changes nothing.
    until_unix_s: float | None = None


@attrs.frozen(kw_only=True)
class SetAside:
    """Not chosen for a while, by what the backend said. Known to this process alone."""

    fault: Fault
    since_unix_s: float
    until_unix_s: float

    @property
    def for_its_tokens(self) -> bool:
        """Whether other tokens would be worth a try."""
        return EFFECTS[self.fault.kind] is Effect.REJECT_TOKEN


def plans_of(account: Account) -> tuple[str, ...]:
    """Return the plans that an account may have: what the backend said last, then the claim.

    A claim is as old as its token, and a word of the backend as old as its last answer: where they
    differ, either may be the stale one.
    """
    heard = None if account.limits is None else account.limits.plan_type
    return tuple(dict.fromkeys(plan for plan in (heard, account.plan_type) if plan is not None))


def plan_of(account: Account) -> str | None:
    """Return the plan by the backend's last word, else by the claim; None: not known."""
    return next(iter(plans_of(account)), None)


def refusal_s(times: int) -> float:
    """Return how long an account is set aside whose tokens are refused, `times` in a row (from 1).

    60, 120, 240, 480, then 900 s.
    """
    return min(LONGEST_REFUSAL_S, FIRST_REFUSAL_S * 2.0 ** min(times - 1, 10))


class Saving(enum.IntEnum):
    """How soon what was learnt should be stored."""

    NO = 0
    #: Some time: the latest use and the latest figures.
    LATER = 1
    #: Now: another process, or the next start, would make a mistake without it.
    NOW = 2


def _nobody_is_told() -> None:
    """Do nothing with a change."""


def _told(standing: Standing, _attribute: attrs.Attribute[_T], value: _T) -> _T:
    """Tell of a change to what decides whether the account can be chosen."""
    standing.changed()
    return value


@attrs.define(eq=False, kw_only=True)
class Standing:
    """What is known of one account."""

    #: See `account`. What most turns bring, its latest use and figures that change nothing else,
    #: is kept beside it: to put it in makes a new account, and would be done for each turn.
    _account: Account
    _heard: Limits | None = attrs.field(default=None, init=False)
    _used_unix_s: float | None = attrs.field(default=None, init=False)
    #: As last read from its file, so that a change made there by others can be told.
    stored: Account
    #: With what the state file says of it, as far as this process knows.
    saved: Account
    #: Told of each change to what `obstacle` goes by, before it is made.
    changed: Callable[[], None] = _nobody_is_told
    #: Longest time for which the end of a cool-down is taken on trust.
    probe_every_s: float = attrs.field(default=PROBE_EVERY_S, on_setattr=_told)
    saving: Saving = Saving.NO
    #: The access token that the backend rejected last.
    rejected_token: str | None = attrs.field(default=None, repr=False, on_setattr=_told)
    #: Distinct access tokens rejected in a row, less those before the last trial.
    rejections: int = 0
    set_aside: SetAside | None = attrs.field(default=None, on_setattr=_told)
    #: How often in a row it was set aside for its tokens.
    refusals: int = 0
    #: When a usage limit was met last. While this is set, nothing has shown that it is over.
    limited_at_unix_s: float | None = attrs.field(default=None, init=False, on_setattr=_told)
    #: Turns that find out whether the quota is back.
    probes: int = attrs.field(default=0, on_setattr=_told)
    pause: PassedOver | None = attrs.field(default=None, on_setattr=_told)
    #: Model -> until when the account is not asked for it, Unix seconds.
    no_model: dict[str, float] = attrs.field(factory=dict)
    #: Turns that use it now.
    leases: int = 0
    #: Reads what its answers say of its quota.
    reader: HeaderReader = attrs.field(factory=HeaderReader, init=False, repr=False)

    @classmethod
    def of(
        cls,
        stored: Account,
        *,
        probe_every_s: float,
        now_unix_s: float,
        changed: Callable[[], None] = _nobody_is_told,
    ) -> Standing:
        """Return the standing of an account that was read for the first time."""
        standing = cls(
            account=stored,
            stored=stored,
            saved=stored,
            probe_every_s=probe_every_s,
            changed=changed,
        )
        if stored.rate_limited_until_unix_s is not None:
            standing.limited_at_unix_s = _limited_at(stored, otherwise=now_unix_s)
        standing._correct()
        standing._heed_attention(None, now_unix_s=now_unix_s)
        return standing

    @property
    def account(self) -> Account:
        """The account as it is used: the stored one with what this process has learnt since."""
        if self._heard is not None or self._used_unix_s is not None:
            self._account = attrs.evolve(
                self._account,
                limits=self._heard or self._account.limits,
                last_used_unix_s=self._used_unix_s or self._account.last_used_unix_s,
            )
            self._heard = self._used_unix_s = None
        return self._account

    @account.setter
    def account(self, account: Account) -> None:
        self.changed()
        self._account, self._heard, self._used_unix_s = account, None, None

    @property
    def bearer(self) -> Account:
        """The account as a request needs it: its latest use and figures may be missing."""
        return self._account

    # What comes from the files.

    def reread(self, stored: Account, *, now_unix_s: float) -> None:
        """Take over what others have changed in the file.

        Where the file says the same as before, memory stands; so does what is not stored yet.
        """
        before, self.stored = self.stored, stored
        saved, self.saved = self.saved, stored
        known = self.account
        if before.needs_reauth is not None and stored.needs_reauth is None:
            self.accept_token()  # somebody has signed in: the count begins anew
        if stored.credentials.access_token != before.credentials.access_token:
            self._forgive_old_token()
        if (stored.plan_type, stored.workspace_id) != (before.plan_type, before.workspace_id):
            self.set_aside = None
            self.no_model.clear()
        self.account = attrs.evolve(
            stored,
            rate_limited_until_unix_s=_merged(
                known.rate_limited_until_unix_s,
                saved.rate_limited_until_unix_s,
                stored.rate_limited_until_unix_s,
            ),
            limits=_newer(stored.limits, known.limits),
            last_used_unix_s=max(stored.last_used_unix_s or 0.0, known.last_used_unix_s or 0.0)
            or None,
            usage_limit=_merged(known.usage_limit, saved.usage_limit, stored.usage_limit),
            attention=_merged(known.attention, saved.attention, stored.attention),
        )
        self._note_limit_of_others(known, now_unix_s=now_unix_s)
        self._correct()
        if saved.attention is not None and stored.attention is None:
            self.set_aside = None  # the owner has looked at it
        self._heed_attention(known.attention, now_unix_s=now_unix_s)

    def _heed_attention(self, known: Attention | None, *, now_unix_s: float) -> None:
        """Set the account aside that another process was turned away with; `known` is old news."""
        told = self.account.attention
        if told is None or (known is not None and _is_same(told, known)):
            return
        since = min(told.since_unix_s, now_unix_s)  # the other process's clock may be ahead
        until, aside = since + NO_CODEX_S, self.set_aside
        if until <= now_unix_s or (aside is not None and aside.until_unix_s >= until):
            return
        fault = Fault(
            kind=FaultKind.UNUSABLE,
            status=403,
            error=error_object(told.message, type=told.code, code=told.code),
        )
        self.set_aside = SetAside(fault=fault, since_unix_s=since, until_unix_s=until)

    def _note_limit_of_others(self, known: Account, *, now_unix_s: float) -> None:
        """Take over when the usage limit was met, if the cool-down is another one than `known`."""
        until, until_known = self.account.rate_limited_until_unix_s, known.rate_limited_until_unix_s
        if until is None:  # lifted by hand, or by another process that found it lifted
            self.limited_at_unix_s = None
        elif self.account.usage_limit != known.usage_limit:
            met_at = _limited_at(self.account, otherwise=now_unix_s)
            self.limited_at_unix_s = max(met_at, self.limited_at_unix_s or met_at)
        elif until_known is None or abs(until - until_known) >= _ROUNDING_S:
            self.limited_at_unix_s = now_unix_s

    def take_unsaved(self) -> Account:
        """Return the account with its stored state, against which its present one is stored now."""
        self.saving = Saving.NO
        return self.saved

    def note_saved(self, account: Account) -> None:
        """Note what was stored; what could not be stays true in memory, whatever the file says."""
        self.saved = account

    # What speaks against it.

    def obstacle(
        self,
        *,
        now_unix_s: float,
        model: str | None = None,
        plans: frozenset[str] | None = None,
        lacking: frozenset[str] = frozenset(),
    ) -> PassedOver | None:
        """Return what keeps the account from taking a turn now, the gravest first.

        `plans` are those that offer the model, `lacking` those that are known not to; an account of
        an unknown plan is tried, and so is one that has another plan by its claim or by the
        backend's last word.
        """
        account, against = self._account, self._against
        status = account.status(now_unix_s=now_unix_s)
        if status is Status.NEEDS_REAUTH:
            return against(Why.NEEDS_REAUTH, reason=account.needs_reauth)
        if account.credentials.refresh_token is None and (
            status is Status.EXPIRED or self.is_rejected
        ):
            return against(Why.NEEDS_REAUTH, reason=NO_REFRESH_TOKEN_REASON)
        # Before all that passes with time: for this turn it would change nothing.
        mine = plans_of(account)
        if plans and mine and plans.isdisjoint(mine):
            return against(Why.NO_MODEL, reason=mine[0])
        if model is not None and self.lacks(model, now_unix_s=now_unix_s):
            return against(Why.NO_MODEL, until_unix_s=self.no_model[model])
        if mine and lacking.issuperset(mine):
            return against(Why.NO_MODEL, reason=mine[0])
        aside = self.set_aside
        if aside is not None and now_unix_s < aside.until_unix_s:
            return against(
                Why.SET_ASIDE,
                reason=_named(aside.fault),
                fault=aside.fault,
                until_unix_s=aside.until_unix_s,
            )
        if status is Status.RATE_LIMITED and not self._may_probe(now_unix_s):
            return against(Why.COOLING, until_unix_s=account.rate_limited_until_unix_s)
        if self.pause is not None and now_unix_s < (self.pause.until_unix_s or 0.0):
            return attrs.evolve(self.pause, account=account)
        return None

    def holds_until_unix_s(self, *, now_unix_s: float, model: str | None) -> float:
        """Return until when `obstacle` says the same if nothing changes, infinity for ever."""
        account, limited_at, no_model = self._account, self.limited_at_unix_s, self.no_model
        turns = (
            account.rate_limited_until_unix_s,
            account.credentials.expires_at_unix_s,
            None if model is None or not no_model else no_model.get(model),
            None if self.set_aside is None else self.set_aside.until_unix_s,
            None if self.pause is None else self.pause.until_unix_s,
            None if limited_at is None else limited_at + self.probe_every_s,
        )
        return min((at for at in turns if at is not None and at > now_unix_s), default=math.inf)

    def lacks(self, model: str, *, now_unix_s: float) -> bool:
        """Tell whether the backend has refused it the model a while ago."""
        return now_unix_s < self.no_model.get(model, -math.inf)

    def _against(
        self,
        why: Why,
        *,
        reason: str | None = None,
        fault: Fault | None = None,
        until_unix_s: float | None = None,
    ) -> PassedOver:
        return PassedOver(
            account=self._account, why=why, reason=reason, fault=fault, until_unix_s=until_unix_s
        )

    def _may_probe(self, now_unix_s: float) -> bool:
        """Tell whether one turn may ask although the reset has not come.

        A reset lies up to a week ahead, and quotas were seen to come back days before (a plan
        bought, a reset granted): it is not trusted for longer than `probe_every_s` at a time.
        """
        if self.probes or not self.probe_every_s or self.limited_at_unix_s is None:
            return False
        return now_unix_s - self.limited_at_unix_s >= self.probe_every_s

    @property
    def places(self) -> int:
        """How many places on it are taken and not given back."""
        return self.leases + self.probes

    @property
    def is_unproved(self) -> bool:
        """Whether a usage limit was met, and no turn was served since."""
        return self.limited_at_unix_s is not None

    @property
    def is_probed(self) -> bool:
        """Whether a turn is finding out whether its quota is back."""
        return self.is_unproved and self.probes > 0

    @property
    def is_rejected(self) -> bool:
        """Whether the backend has rejected the present access token."""
        return self.rejected_token == self._account.credentials.access_token

    # What attempts have found out.

    def accept(self, *, leased_at_unix_s: float, now_unix_s: float) -> None:
        """A turn that was leased at `leased_at_unix_s` is served.

        That disproves what was met before it was leased, and nothing that was met since.
        """
        if self.limited_at_unix_s is not None and self.limited_at_unix_s < leased_at_unix_s:
            self._lift()
        if self.set_aside is not None or self._account.attention is not None:
            self._end_refusal(leased_at_unix_s)
        self._used_unix_s = now_unix_s
        self._save_later()

    def _end_refusal(self, leased_at_unix_s: float) -> None:
        """Let the account count as usable, unless it was turned away after that instant."""
        aside, attention = self.set_aside, self.account.attention
        for_its_plan = aside is not None and not aside.for_its_tokens
        if aside is not None and for_its_plan and aside.since_unix_s >= leased_at_unix_s:
            return
        if attention is not None and attention.since_unix_s < leased_at_unix_s:
            self.account = attrs.evolve(self.account, attention=None)
            self.saving = Saving.NOW
        if for_its_plan:
            self.set_aside = None

    def accept_token(self) -> None:
        """The backend took the present token."""
        self._forgive_old_token()
        if self.rejected_token is not None:
            self.rejected_token = None
        if self.rejections or self.refusals:
            self.rejections = self.refusals = 0

    def observe(self, limits: Limits) -> None:
        """Take over what the backend says of the quota; a fresher word corrects a cool-down."""
        known = self._heard or self._account.limits
        if known is not None and limits.observed_unix_s < known.observed_unix_s:
            return
        self._save_later()
        claim, heard = self._account.plan_type, None if known is None else known.plan_type
        is_same_plan = (limits.plan_type or claim) == (heard or claim)  # see `plans_of`
        if is_same_plan and self._account.rate_limited_until_unix_s is None:
            self._heard = limits
        else:  # it decides about turns
            self.account = attrs.evolve(self.account, limits=limits)
            self._correct()

    def _save_later(self) -> None:
        if self.saving is Saving.NO:
            self.saving = Saving.LATER

    def _correct(self) -> None:
        """Lift or move the cool-down, if its quota was told of after the usage limit was met."""
        limits, limited_at = self.account.limits, self.limited_at_unix_s
        until = self.account.rate_limited_until_unix_s
        if limits is None or until is None or limited_at is None:
            return
        if limits.observed_unix_s <= limited_at:
            return
        if not limits.exhausted:
            self._lift()
        elif (at := limits.resets_at_unix_s) is not None and abs(at - until) >= _ROUNDING_S:
            self.account = attrs.evolve(self.account, rate_limited_until_unix_s=at)
            self.saving = Saving.NOW

    def suffer(
        self, fault: Fault, *, model: str | None, leased_at_unix_s: float, now_unix_s: float
    ) -> None:
        """Draw the consequences of `fault`, met by a turn that was leased at that instant."""
        match EFFECTS[fault.kind]:
            case Effect.COOL_DOWN:
                is_fresher = leased_at_unix_s > (self.limited_at_unix_s or -math.inf)
                self._cool_down(fault, is_fresher=is_fresher, now_unix_s=now_unix_s)
            case Effect.PAUSE:
                self._pause(fault, now_unix_s=now_unix_s)
            case Effect.SET_ASIDE:
                self._put_aside(fault, now_unix_s=now_unix_s)
            case Effect.REJECT_TOKEN:
                self._reject_token(fault, now_unix_s=now_unix_s)
            case Effect.LEARN_MODEL if model is not None:
                self._learn_model(model, now_unix_s=now_unix_s)
            case Effect.LEARN_MODEL | Effect.NONE:
                pass

    def _lift(self) -> None:
        self.limited_at_unix_s = None
        if self.account.rate_limited_until_unix_s is not None:
            self.account = attrs.evolve(self.account, rate_limited_until_unix_s=None)
            self.saving = Saving.NOW

    def _forgive_old_token(self) -> None:
        if self.set_aside is None or not self.set_aside.for_its_tokens:
            return
        self.set_aside = None
        # Nobody here refreshes what is set aside, so the other token is somebody else's and worth
        # one try. No refresh may follow, or two relays over one store would keep each other at it.
        self.rejections = MAX_REJECTED_TOKENS - 1

    def _cool_down(self, fault: Fault, *, is_fresher: bool, now_unix_s: float) -> None:
        until, known = fault.resets_at_unix_s, self.account.rate_limited_until_unix_s
        if until is None or until <= now_unix_s:
            until, is_fresher = now_unix_s + DEFAULT_COOL_DOWN_S, False
        if known is not None and not is_fresher:
            # Of two turns that met one limit, one may have been told less: the later end counts.
            until = max(until, known)
        self.account = attrs.evolve(
            self.account,
            rate_limited_until_unix_s=until,
            usage_limit=UsageLimit(
                error_type=fault.type,
                message=fault.message,
                plan_type=fault.plan_type,
                resets_at_unix_s=fault.resets_at_unix_s,
                observed_unix_s=now_unix_s,
            ),
        )
        self.limited_at_unix_s = now_unix_s
        self.saving = Saving.NOW

    def _pause(self, fault: Fault, *, now_unix_s: float) -> None:
        stated_s = DEFAULT_PAUSE_S if fault.retry_after_s is None else fault.retry_after_s
        until = now_unix_s + min(LONGEST_PAUSE_S, max(MIN_PAUSE_S, stated_s))
        if self.pause is None or until > (self.pause.until_unix_s or 0.0):
            self.pause = self._against(
                Why.PAUSED, reason=_named(fault), fault=fault, until_unix_s=until
            )

    def _learn_model(self, model: str, *, now_unix_s: float) -> None:
        self.changed()
        self.no_model.pop(model, None)  # the one learnt longest ago stands first
        self.no_model[model] = now_unix_s + NO_MODEL_S
        if len(self.no_model) > MAX_REFUSED_MODELS:
            del self.no_model[next(iter(self.no_model))]

    def _put_aside(self, fault: Fault, *, now_unix_s: float) -> None:
        self.set_aside = SetAside(
            fault=fault, since_unix_s=now_unix_s, until_unix_s=now_unix_s + NO_CODEX_S
        )
        code = fault.code or fault.type
        attention = self.account.attention
        if attention is None or attention.code != code:
            told = Attention(code=code, message=fault.message, since_unix_s=now_unix_s)
            self.account = attrs.evolve(self.account, attention=told)
            self.saving = Saving.NOW

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
        self.set_aside = SetAside(
            fault=fault,
            since_unix_s=now_unix_s,
            until_unix_s=now_unix_s + refusal_s(self.refusals),
        )
        self.rejected_token = None  # sent as it is, come the trial
        self.rejections = MAX_REJECTED_TOKENS - _TOKENS_PER_TRIAL


def _named(fault: Fault) -> str:
    """Return the status of a fault and its name, which stands in `code` or only in `type`."""
    return f"{fault.status} {fault.code or fault.type}"


def _is_same(told: Attention, known: Attention) -> bool:
    return told.code == known.code and abs(told.since_unix_s - known.since_unix_s) < _ROUNDING_S


def _limited_at(stored: Account, *, otherwise: float) -> float:
    """Return when the stored usage limit was met; `otherwise` where that is not told."""
    limit = stored.usage_limit
    if limit is None or limit.observed_unix_s is None:
        return otherwise
    return limit.observed_unix_s


def _merged(known: _T, saved: _T, stored: _T) -> _T:
    """Return what holds, of what memory knows and what stands in the file.

    Args:
        known: what memory knows.
        saved: what of it this process knows to have been in the file.
        stored: what the file says now. Where that is something else, others have changed it.
    """
    return known if known != saved or stored == saved else stored


def _newer(one: Limits | None, other: Limits | None) -> Limits | None:
    known = [limits for limits in (one, other) if limits is not None]
    return max(known, key=lambda limits: limits.observed_unix_s, default=None)
