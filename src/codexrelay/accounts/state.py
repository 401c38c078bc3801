"""What turns learn of an account, and how it stands in `<id>.state.json`.

Kept out of the file that holds the tokens, so that a note about quota can never lose a token. Older
stores keep the same keys in the account file itself: what the state file does not have is read
there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from codexrelay.accounts.account import Attention, UsageLimit
from codexrelay.accounts.files import BrokenFileError
from codexrelay.accounts.record import Record, iso, read_iso
from codexrelay.errors import Problem
from codexrelay.protocol.limits import Limits, from_headers, to_headers
from codexrelay.protocol.raw import get_number, get_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.accounts.account import Account
    from codexrelay.protocol.raw import JsonObject

_LIMITED_UNTIL: Final = "rate_limited_until"
_LAST_USED: Final = "last_used"
_QUOTA: Final = "last_codex_quota_headers"
_QUOTA_AT: Final = "last_codex_quota_observed_at"
#: What the headers of the quota cannot say: whether the backend itself called it reached.
_REACHED: Final = "last_codex_limit_reached"
_USAGE_LIMIT: Final = "last_codex_usage_limit"
_ATTENTION: Final = "attention"

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class AccountState:
    """What turns learn of an account; None: nothing."""

    #: End of the cool-down, Unix seconds; may lie in the past.
    rate_limited_until_unix_s: float | None = None
    limits: Limits | None = None
    usage_limit: UsageLimit | None = None
    last_used_unix_s: float | None = None
    attention: Attention | None = None


def state_of(account: Account) -> AccountState:
    """Return what is known of the account beside its identity and tokens."""
    return AccountState(
        rate_limited_until_unix_s=account.rate_limited_until_unix_s,
        limits=account.limits,
        usage_limit=account.usage_limit,
        last_used_unix_s=account.last_used_unix_s,
        attention=account.attention,
    )


def with_state(account: Account, state: AccountState) -> Account:
    """Return the account with all of `state`, and nothing of the state it had."""
    return attrs.evolve(
        account,
        rate_limited_until_unix_s=state.rate_limited_until_unix_s,
        limits=state.limits,
        usage_limit=state.usage_limit,
        last_used_unix_s=state.last_used_unix_s,
        attention=state.attention,
    )


def read_state(own: Record | None, older: Record) -> tuple[AccountState, tuple[Problem, ...]]:
    """Return the state, and what of it could not be read and so counts as not known.

    Args:
        own: the state file; None: there is none.
        older: the account file, asked for what the state file has no key for.
    """
    reader = _Reader(own=own, older=older)
    state = AccountState(
        rate_limited_until_unix_s=reader.get(_LIMITED_UNTIL, _limited_until),
        limits=reader.get(_QUOTA, _limits),
        usage_limit=reader.get(_USAGE_LIMIT, _usage_limit),
        last_used_unix_s=reader.get(_LAST_USED, _last_used),
        attention=reader.get(_ATTENTION, _attention),
    )
    return state, tuple(reader.problems)


def state_changes(state: AccountState, *, before: AccountState) -> JsonObject:
    """Return the keys of the state file that must be written to get from `before` to `state`."""
    changes: JsonObject = {}
    if state.rate_limited_until_unix_s != before.rate_limited_until_unix_s:
        until = state.rate_limited_until_unix_s
        changes[_LIMITED_UNTIL] = None if until is None else round(until * 1000)
    if state.limits != before.limits:
        limits = state.limits
        changes[_QUOTA] = None if limits is None else {**to_headers(limits)}
        changes[_QUOTA_AT] = None if limits is None else iso(limits.observed_unix_s)
        changes[_REACHED] = None if limits is None else limits.reached
    if state.usage_limit != before.usage_limit:
        limit = state.usage_limit
        changes[_USAGE_LIMIT] = None if limit is None else _usage_limit_object(limit)
    if state.last_used_unix_s != before.last_used_unix_s:
        changes[_LAST_USED] = _iso_or_null(state.last_used_unix_s)
    if state.attention != before.attention:
        about = state.attention
        changes[_ATTENTION] = None if about is None else _attention_object(about)
    return changes


@attrs.define(eq=False, kw_only=True)
class _Reader:
    """Reads each key from the file that has it; a broken one is a problem and nothing more."""

    own: Record | None
    older: Record
    problems: list[Problem] = attrs.field(factory=list)

    def get(self, key: str, read: Callable[[Record], _T | None]) -> _T | None:
        """Return what `read` finds in the record that has `key`."""
        record = self.own if self.own is not None and key in self.own.raw else self.older
        try:
            return read(record)
        except BrokenFileError as error:
            self.problems.append(error.problem)
            return None


def _limited_until(record: Record) -> float | None:
    return record.instant(_LIMITED_UNTIL)


def _last_used(record: Record) -> float | None:
    return record.time(_LAST_USED)


def _limits(record: Record) -> Limits | None:
    """Return the stored limits. Of unknown age they tell nothing, so they count as none."""
    stored = record.object(_QUOTA)
    observed_unix_s = record.time(_QUOTA_AT)
    if stored is None or observed_unix_s is None:
        return None
    headers = {name.lower(): value for name, value in stored.items() if isinstance(value, str)}
    limits = from_headers(headers, now_unix_s=observed_unix_s)
    reached = record.raw.get(_REACHED)
    if limits is None or not isinstance(reached, bool):
        return limits
    return attrs.evolve(limits, reached=reached)


def _usage_limit(record: Record) -> UsageLimit | None:
    """Return the stored snapshot; what is odd in it counts as not said, as it is for showing."""
    stored = record.object(_USAGE_LIMIT)
    if stored is None:
        return None
    observed_unix_s = read_iso(get_text(stored, "observed_at") or "")
    resets_at = get_number(stored, "resets_at_unix")
    resets_in = get_number(stored, "resets_in_seconds")
    if resets_at is None and resets_in is not None and observed_unix_s is not None:
        resets_at = observed_unix_s + resets_in
    return UsageLimit(
        error_type=get_text(stored, "error_type") or None,
        message=get_text(stored, "message") or None,
        plan_type=get_text(stored, "plan_type") or None,
        resets_at_unix_s=resets_at if resets_at is not None and math.isfinite(resets_at) else None,
        observed_unix_s=observed_unix_s,
    )


def _usage_limit_object(limit: UsageLimit) -> JsonObject:
    resets_at, observed = limit.resets_at_unix_s, limit.observed_unix_s
    resets_in = None
    if resets_at is not None and observed is not None:
        resets_in = max(0, round(resets_at - observed))
    return {
        "error_type": limit.error_type,
        "plan_type": limit.plan_type,
        "resets_in_seconds": resets_in,
        "resets_at_unix": None if resets_at is None else round(resets_at),
        "message": limit.message,
        "observed_at": _iso_or_null(limit.observed_unix_s),
    }


def _attention(record: Record) -> Attention | None:
    """Return what the owner must look at; half a note is one too."""
    stored = record.object(_ATTENTION)
    if not stored:
        return None
    return Attention(
        code=get_text(stored, "code") or "unknown",
        message=get_text(stored, "message") or "",
        since_unix_s=read_iso(get_text(stored, "since") or "") or 0.0,
    )


def _attention_object(about: Attention) -> JsonObject:
    return {"code": about.code, "message": about.message, "since": iso(about.since_unix_s)}


def _iso_or_null(at_unix_s: float | None) -> str | None:
    return None if at_unix_s is None else iso(at_unix_s)
