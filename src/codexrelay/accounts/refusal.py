"""Why no account could be chosen, as the error that says what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from codexrelay.accounts.standing import (
    EFFECTS,
    NO_REFRESH_TOKEN_REASON,
    Effect,
    Why,
    plan_of,
    plans_of,
)
from codexrelay.errors import (
    AllLimitedError,
    AllTriedError,
    ModelNotOfferedError,
    NeedsReauthError,
    RefreshUnavailableError,
    ThrottledError,
    TurnedAwayError,
    Waiting,
    in_words,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from codexrelay.accounts.pool import Ask
    from codexrelay.accounts.standing import PassedOver
    from codexrelay.errors import AccountError


def refusal_of(
    passed_over: Sequence[PassedOver],
    stuck: Mapping[str, str],
    *,
    ask: Ask,
    nothing: AccountError,
    now_unix_s: float,
) -> AccountError:
    """Return the error for a choice of nobody; `nothing` if there was nobody to choose from.

    `stuck` are the accounts whose tokens could not be refreshed, and why: while there is one, time
    or the owner's network may help sooner than a quota's reset, so quota is not blamed; neither is
    it while an account that was turned away is tried again sooner.
    """
    if not passed_over:
        return nothing
    passed = {why: [p for p in passed_over if p.why is why] for why in Why}
    # Those that could serve the model are what the turn waits for; the others only when there are
    # no such accounts, and a sign-in would not change that. Of a model that is in no catalogue, one
    # account's word is enough.
    able = [p for p in passed_over if p.why is not Why.NO_MODEL]
    unknown = ask.plans is not None and not ask.plans
    if passed[Why.NO_MODEL] and (unknown or len(able) == len(passed[Why.NEEDS_REAUTH])):
        return ModelNotOfferedError(
            model=ask.model or "",
            plans=_offering(ask.plans or frozenset(), passed[Why.NO_MODEL]),
            is_unknown=unknown,
            accounts=tuple((p.account.id, plan_of(p.account)) for p in passed_over),
        )
    told = tuple(
        in_words_of(p, stuck.get(p.account.id), now_unix_s=now_unix_s) for p in passed_over
    )
    legacy = all(p.account.origin == "legacy" for p in passed_over)
    cooling, dead = passed[Why.COOLING], passed[Why.NEEDS_REAUTH]
    # Those that were given up for good in the attempt count among the dead, or those set aside.
    waits_for_issuer = any(p.account.id in stuck for p in passed[Why.RULED_OUT])
    aside = sorted(passed[Why.SET_ASIDE], key=lambda p: p.until_unix_s or now_unix_s)
    paused = passed[Why.PAUSED]
    if paused and not waits_for_issuer:
        first = min(paused, key=lambda p: p.until_unix_s or now_unix_s)
        return ThrottledError(
            waiting=_waiting(paused, now_unix_s=now_unix_s),
            now_unix_s=now_unix_s,
            message=first.fault.message if first.fault is not None else "Rate limit reached",
        )
    if cooling and not waits_for_issuer and not _ends_before(aside[:1], cooling):
        return AllLimitedError(
            waiting=_waiting(cooling, now_unix_s=now_unix_s),
            now_unix_s=now_unix_s,
            told=told,
            legacy=legacy,
        )
    if len(dead) == len(able):
        reasons = tuple((p.account.id, p.reason or "") for p in dead)
        return NeedsReauthError(reasons=reasons, legacy=legacy)
    if waits_for_issuer:
        return RefreshUnavailableError(told=told)
    if any(p.fault is not None for p in aside) and not passed[Why.RULED_OUT]:
        return _turned_away(aside, told, legacy=legacy)
    return AllTriedError(told=told)


def in_words_of(passed: PassedOver, stuck: str | None = None, *, now_unix_s: float) -> str:
    """Say in words why an account was passed over."""
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
        case Why.NO_MODEL:
            plan = plan_of(passed.account)
            return f"{name}'s plan{f' ({plan})' if plan else ''} does not offer the model"
        case Why.COOLING:
            return f"{name} waits {in_words(wait_s)} for its quota"
        case Why.PAUSED:
            return f"{name} was asked too fast and rests for {in_words(wait_s)}"
        case Why.PROBED:
            return f"{name} is being asked by another turn whether its quota is back"
        case Why.BUSY:
            return f"{name} serves as many turns as it may"
        case Why.RULED_OUT if stuck is not None:
            return f"{name} cannot be refreshed at the moment ({stuck})"
        case Why.RULED_OUT:
            return f"{name} was tried"
        case _:
            assert_never(passed.why)


def _waiting(passed: Sequence[PassedOver], *, now_unix_s: float) -> tuple[Waiting, ...]:
    return tuple(
        Waiting(
            account_id=p.account.id,
            until_unix_s=p.until_unix_s or now_unix_s,
            plan_type=plan_of(p.account),
        )
        for p in passed
    )


def _ends_before(these: Sequence[PassedOver], those: Sequence[PassedOver]) -> bool:
    """Whether one of `these` is tried again before all of `those`."""
    ends = [[p.until_unix_s or 0.0 for p in passed] for passed in (these, those)]
    return bool(ends[0]) and min(ends[0]) < min(ends[1])


def _offering(plans: frozenset[str], refused: Sequence[PassedOver]) -> tuple[str, ...]:
    """Return the plans that offer a model, less those whose accounts the backend refused it."""
    taught = (plans_of(p.account) for p in refused if p.until_unix_s is not None)
    return tuple(sorted(plans.difference(*taught)))


def _turned_away(
    aside: Sequence[PassedOver], told: tuple[str, ...], *, legacy: bool
) -> TurnedAwayError:
    heard = [(p.account.id, p.fault) for p in aside if p.fault is not None]
    fault, refused = heard[0][1], Effect.REJECT_TOKEN
    return TurnedAwayError(
        status=fault.status,
        message=fault.message,
        type=fault.type,
        code=fault.code,
        told=told,
        without_codex=tuple(name for name, f in heard if EFFECTS[f.kind] is not refused),
        refused=tuple(name for name, f in heard if EFFECTS[f.kind] is refused),
        legacy=legacy,
    )
