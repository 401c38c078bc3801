"""What the client is told when no account can take its turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.errors import (
    AccountError,
    AllLimitedError,
    AllTriedError,
    BackendRestsError,
    KeyUnusableError,
    ModelNotOfferedError,
    NeedsReauthError,
    RefreshUnavailableError,
    ThrottledError,
    TurnedAwayError,
    Waiting,
)
from codexrelay.protocol.faults import Fault, FaultKind, not_offered
from codexrelay.protocol.openai_errors import error_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.protocol.raw import Json
    from codexrelay.relay.lending import Target

#: The sign-in service is asked again after a few seconds at the earliest.
RETRY_AFTER_REFRESH_S: Final = 5.0
#: Faults after which the pool has more to say than the last account.
_OF_THE_POOL: Final = frozenset({FaultKind.LIMITED, FaultKind.UNAUTHORIZED, FaultKind.UNSUPPORTED})
#: So does a pool that time mends, after a word that was only that one account's.
_OF_ONE_ACCOUNT: Final = frozenset({FaultKind.UNUSABLE})
#: Of several instances that have no account, the one is told that holds out the most: first the
#: errors that time mends, then those that the owner must.
_HOPE: Final = (
    ThrottledError,
    BackendRestsError,
    AllLimitedError,
    RefreshUnavailableError,
    TurnedAwayError,
    AllTriedError,
    ModelNotOfferedError,
    NeedsReauthError,
)


def fault_of(
    errors: Sequence[AccountError], *, after: Fault | None, available: Sequence[str] = ()
) -> Fault:
    """Return the fault the client sees; `after` was the turn's last one, if there was any.

    `available` are the models that can be had, for a turn whose model cannot.

    `errors` are what each instance said that the turn was offered, one at least. A pool that ran
    dry in the middle of a turn answers with what upstream said, unless that was only one account's
    word and the pool knows more than that it was tried: then the state of all of them is the honest
    answer.
    """
    error = _most_hopeful(errors)
    if after is not None and not _says_more(error, after.kind):
        return after
    match error:
        case AllLimitedError():
            return _limited(error)
        case ThrottledError():
            return Fault(
                kind=FaultKind.THROTTLED,
                status=429,
                error=error_object(str(error), type="rate_limit_error", code="rate_limit_exceeded"),
                retry_after_s=error.retry_after_s,
            )
        case ModelNotOfferedError():
            refused = after is not None and after.kind is FaultKind.UNSUPPORTED
            heard = after.message if after is not None and refused else ""
            told = _of_the_model(error, available)
            return not_offered(told, heard=heard, plans=error.plans, available=available)
        case RefreshUnavailableError():
            return Fault(
                kind=FaultKind.OVERLOADED,
                status=503,
                error=error_object(
                    str(error), type="server_error", code="token_refresh_unavailable"
                ),
                retry_after_s=RETRY_AFTER_REFRESH_S,
            )
        case BackendRestsError():
            return Fault(
                kind=FaultKind.LIMITED if error.is_limit else FaultKind.THROTTLED,
                status=429,
                error=error_object(str(error), type=error.type, code=error.code),
                retry_after_s=error.retry_after_s,
            )
        case KeyUnusableError():
            return Fault(
                kind=FaultKind.UNAUTHORIZED,
                status=401,
                error=error_object(
                    str(error), type="authentication_error", code="no_usable_api_key"
                ),
            )
        case TurnedAwayError():
            kind = FaultKind.UNAUTHORIZED if error.status == 401 else FaultKind.UNUSABLE
            body = error_object(str(error), type=error.type, code=error.code)
            return Fault(kind=kind, status=error.status, error=body)
        case _:
            # 401 is terminal for every client but Codex CLI (measured): right, only the owner can
            # help.
            return Fault(
                kind=FaultKind.UNAUTHORIZED,
                status=401,
                error=error_object(
                    str(error), type="authentication_error", code="no_usable_account"
                ),
            )


def _of_the_model(error: ModelNotOfferedError, available: Sequence[str]) -> str:
    """Say that a model cannot be had; of one that is in no list, nothing about plans."""
    if error.is_unknown:
        told = f"The backend's catalogue has no model '{error.model}'"
    elif not error.plans and error.model not in available:
        told = f"The backend gives no account the model '{error.model}'"
    else:
        return str(error)
    return f"{told}; `GET /v1/models` lists the models"


def qualified(error: AccountError, instance: Target) -> AccountError:
    """Return the error with the ids under which the client knows the accounts of `instance`."""
    if instance.is_first:
        return error
    match error:
        case AllLimitedError():
            waiting, told = _waiting(error.waiting, instance), _told(error.told, instance)
            return attrs.evolve(error, waiting=waiting, told=told)
        case ThrottledError():
            return attrs.evolve(error, waiting=_waiting(error.waiting, instance))
        case ModelNotOfferedError():
            plans = tuple((instance.qualified(name), plan) for name, plan in error.accounts)
            return attrs.evolve(error, accounts=plans)
        case TurnedAwayError():
            return attrs.evolve(error, told=_told(error.told, instance), instance=instance.name)
        case AllTriedError() | RefreshUnavailableError():
            return attrs.evolve(error, told=_told(error.told, instance))
        case NeedsReauthError():  # its commands take the ids that the instance's own folder knows
            return attrs.evolve(error, instance=instance.name)
        case _:
            return error


def _waiting(waiting: Sequence[Waiting], instance: Target) -> tuple[Waiting, ...]:
    return tuple(attrs.evolve(w, account_id=instance.qualified(w.account_id)) for w in waiting)


def _told(told: Sequence[str], instance: Target) -> tuple[str, ...]:
    return tuple(f"{instance.name}: {words}" for words in told)


def _says_more(error: AccountError, than: FaultKind) -> bool:
    """Tell whether the pool's state is a better answer than an account's fault of this kind."""
    if isinstance(error, BackendRestsError):
        return False  # it knows no more than the fault that it comes of
    if than in _OF_ONE_ACCOUNT:
        return isinstance(error, AllLimitedError | ThrottledError)
    return than in _OF_THE_POOL and not isinstance(error, AllTriedError)


def _limited(error: AllLimitedError) -> Fault:
    """Return the 429 in the shape Codex CLI knows and stops at (wire notes 4.2)."""
    accounts: list[Json] = [
        {"id": waiting.account_id, "resets_at": round(waiting.until_unix_s)}
        for waiting in error.waiting
    ]
    return Fault(
        kind=FaultKind.LIMITED,
        status=429,
        error=error_object(
            str(error),
            type="usage_limit_reached",
            code="usage_limit_reached",
            plan_type=error.first.plan_type,
            resets_at=round(error.first.until_unix_s),
            resets_in_seconds=error.resets_in_s,
            accounts=accounts,
            reasons=list(error.told),
        ),
        resets_at_unix_s=error.first.until_unix_s,
        retry_after_s=error.resets_in_s,
    )


def _most_hopeful(errors: Sequence[AccountError]) -> AccountError:
    limited = [error for error in errors if isinstance(error, AllLimitedError)]
    if len(limited) > 1:
        merged = AllLimitedError(
            waiting=tuple(waiting for error in limited for waiting in error.waiting),
            now_unix_s=limited[0].now_unix_s,
            told=tuple(told for error in limited for told in error.told),
        )
        errors = [merged, *(error for error in errors if error not in limited)]
    for kind in _HOPE:
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]
