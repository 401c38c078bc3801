"""Instants, plans and other people's texts, as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Final

from codexrelay.errors import in_words

if TYPE_CHECKING:
    from codexrelay.accounts.account import Account
    from codexrelay.protocol.limits import Window

_WEEK_S: Final = 7 * 24 * 3600.0
#: The last day that every calendar can write, less one for the zones. Files hold what they like.
_LAST_UNIX_S: Final = 253_402_128_000.0


def from_now(at_unix_s: float, *, now_unix_s: float) -> str:
    """Return `in 2 h 5 min`, `3 min ago`, or `now`."""
    ahead_s = at_unix_s - now_unix_s
    if abs(ahead_s) < 1:
        return "now"
    return f"in {in_words(ahead_s)}" if ahead_s > 0 else f"{in_words(-ahead_s)} ago"


def local(at_unix_s: float, *, zone: tzinfo | None) -> str:
    """Return `2026-11-28 09:12 +01:00`."""
    at = _at(at_unix_s).astimezone(zone)
    return f"{at:%Y-%m-%d %H:%M} {at.isoformat()[-6:]}"


def moment(at_unix_s: float, *, now_unix_s: float, zone: tzinfo | None) -> str:
    """Return `in 2 h 5 min (2026-11-28 09:12 +01:00)`."""
    told = from_now(at_unix_s, now_unix_s=now_unix_s)
    return f"{told} ({local(at_unix_s, zone=zone)})"


def iso(at_unix_s: float) -> str:
    """Return `2026-11-28T08:12:00+00:00`."""
    return _at(at_unix_s).isoformat(timespec="seconds")


def length_of(window: Window, *, otherwise: str) -> str:
    """Return how long a window is (`5 h`, `week`); what to call it where that is not known."""
    if window.length_s is None:
        return otherwise
    return "week" if window.length_s == _WEEK_S else in_words(window.length_s)


def visible(text: str) -> str:
    """Return the text with what a terminal would obey written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def named(account: Account) -> str:
    """Return `work (me@example.com, plus)`, as far as it is known."""
    known = [visible(text) for text in (account.email, account.plan_type) if text]
    return f"{account.id} ({', '.join(known)})" if known else account.id


def _at(at_unix_s: float) -> datetime:
    return datetime.fromtimestamp(min(max(at_unix_s, 0.0), _LAST_UNIX_S), tz=UTC)
