"""What the client is told when no account can take its turn."""

from __future__ import annotations

from typing import Final

from codexrelay.errors import (
    AccountError,
    AllLimitedError,
    AllTriedError,
    RefreshUnavailableError,
    TurnedAwayError,
)
from codexrelay.protocol.faults import Fault, FaultKind
from codexrelay.protocol.openai_errors import error_object

#: The sign-in service is asked again after a few seconds at the earliest.
RETRY_AFTER_REFRESH_S: Final = 5.0
#: Faults after which the pool has more to say than the last account.
_OF_THE_POOL: Final = frozenset({FaultKind.LIMITED, FaultKind.UNAUTHORIZED})


def fault_of(error: AccountError, *, after: Fault | None) -> Fault:
    """Return the fault the client sees for `error`; `after` was the turn's last fault, if any.

    A pool that ran dry in the middle of a turn answers with what upstream said, unless that was
    only one account's word and the pool knows more than that it was tried: then the state of all
    of them is the honest answer.
    """
    if after is not None and (after.kind not in _OF_THE_POOL or isinstance(error, AllTriedError)):
        return after
    if isinstance(error, AllLimitedError):
        # The shape Codex CLI knows and stops at (wire notes 4.2).
        return Fault(
            kind=FaultKind.LIMITED,
            status=429,
            error=error_object(
                str(error),
                type="usage_limit_reached",
                code="usage_limit_reached",
                plan_type=error.plan_type,
                resets_at=round(error.resets_at_unix_s),
                resets_in_seconds=error.resets_in_s,
            ),
            resets_at_unix_s=error.resets_at_unix_s,
            retry_after_s=error.resets_in_s,
        )
    if isinstance(error, RefreshUnavailableError):
        return Fault(
            kind=FaultKind.OVERLOADED,
            status=503,
            error=error_object(str(error), type="server_error", code="token_refresh_unavailable"),
            retry_after_s=RETRY_AFTER_REFRESH_S,
        )
    if isinstance(error, TurnedAwayError):
        kind = FaultKind.UNAUTHORIZED if error.status == 401 else FaultKind.UNUSABLE
        return Fault(
            kind=kind,
            status=error.status,
            error=error_object(str(error), type=error.type, code=error.code),
        )
    # 401 is terminal for every client but Codex CLI (measured): right, only the owner can help.
    return Fault(
        kind=FaultKind.UNAUTHORIZED,
        status=401,
        error=error_object(str(error), type="authentication_error", code="no_usable_account"),
    )
