"""What the backend says of an account's quota: headers, an event, and the usage endpoint.

All three tell of the same two windows, the short one (5 h) and the weekly one; on some plans the
weekly one stands in the first place. Beside them there may be credits, and limit families: models
with a quota of their own. What cannot be a value (no number, negative, a reset that has passed)
counts as not said. Nothing here raises: a limit is a hint, and no turn fails for a hint.

Source: wire notes 4.1 and 4.3.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.raw import get_list, get_object, is_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from codexrelay.protocol.raw import Json, JsonObject

_MAIN: Final = "codex"
_FULL_PERCENT: Final = 100.0
#: Windows last a week; a reset that is further away than this is no time at all.
_LONGEST_S: Final = 100 * 24 * 3600.0
#: A family exists if it says how full its first window is. `codex` itself is none.
_FAMILY: Final = re.compile(r"x-([a-z0-9]+(?:-[a-z0-9]+)*)-primary-used-percent")
_NUMBERS: Final = (str, int, float)
_USED: Final = "-used-percent"
#: Besides those that end so: without one of them headers say nothing of limits.
_TELLING: Final = frozenset({"x-codex-rate-limit-reached-type", "x-codex-credits-has-credits"})
#: How the headers of the backend's own begin. The first of them is another one with each answer.
_OURS: Final = "x-codex-"
_TURN_STATE: Final = "x-codex-turn-state"
_AFTER: Final = "-reset-after-seconds"
#: Of an answer that says nothing at all.
NO_HEADERS: Final[Mapping[str, str]] = {}
_FLAGS: Final[Mapping[str, bool]] = {"true": True, "1": True, "false": False, "0": False}


@attrs.frozen(kw_only=True)
class Window:
    """One window of a quota."""

    #: 0 or more; may be over 100.
    used_percent: float
    #: How long the window lasts; None: not said.
    length_s: float | None = None
    #: When it starts anew, Unix seconds; None: not said, or passed when it was said.
    resets_at_unix_s: float | None = None

    @property
    def is_full(self) -> bool:
        """Whether nothing is left of it."""
        return self.used_percent >= _FULL_PERCENT


@attrs.frozen(kw_only=True)
class Credits:
    """What the account may use once its windows are full."""

    has_credits: bool
    unlimited: bool = False
    #: In the backend's own words; None: not said.
    balance: str | None = None

    @property
    def can_pay(self) -> bool:
        """Whether turns go on although a window is full."""
        return self.has_credits or self.unlimited


@attrs.frozen(kw_only=True)
class Family:
    """A further limit of the account, which only some models count against."""

    #: As in header names: `codex-bengalfox`.
    id: str
    #: The model, as people call it; None: not said.
    name: str | None = None
    primary: Window | None = None
    secondary: Window | None = None


@attrs.frozen(kw_only=True)
class Limits:
    """One account's quota, as the backend told it once."""

    #: When it was told.
    observed_unix_s: float
    plan_type: str | None = None
    #: The short window (5 h); the only one of some plans, and then a weekly one.
    primary: Window | None = None
    #: The weekly window.
    secondary: Window | None = None
    #: Whether the backend itself calls the limit reached; None: it does not say.
    reached: bool | None = None
    #: Which limit it was, in the backend's code (`workspace_member_credits_depleted`).
    reached_type: str | None = None
    #: The id of the limit that the turn counted against (`codex`, `codex_bengalfox`).
    active_limit: str | None = None
    credits: Credits | None = None
    #: In the order of their ids.
    families: tuple[Family, ...] = ()

    @property
    def exhausted(self) -> bool:
        """Whether the next turn would be refused, as far as was told.

        The backend's own word counts more than a full window, whose percentage may be rounded up.
        With credits turns go on even where it says "reached" (observed, 2026-07).
        """
        if self.credits is not None and self.credits.can_pay:
            return False
        return bool(self._full) if self.reached is None else self.reached

    @property
    def resets_at_unix_s(self) -> float | None:
        """When the last of the full windows starts anew, Unix seconds; None: none is, or not said.

        The latest counts: the 5 h window may come back while the weekly one is still empty.
        """
        known = [window.resets_at_unix_s for window in self._full]
        return max((at for at in known if at is not None), default=None)

    @property
    def _full(self) -> list[Window]:
        windows = (self.primary, self.secondary)
        return [window for window in windows if window is not None and window.is_full]


def from_headers(headers: Mapping[str, str], *, now_unix_s: float) -> Limits | None:
    """Read the `x-codex-*` headers of an answer; None if they say nothing of limits.

    `headers` has lower-case names. `now_unix_s` is when the answer came.
    """
    # Every answer is looked at, and few backends but Codex say anything.
    telling = [name for name in headers if name.endswith(_USED) or name in _TELLING]
    if not telling:
        return None
    values: JsonObject = dict(headers)
    families = tuple(_families_in(values, telling, now_unix_s))
    active_limit = _filled(values, "x-codex-active-limit")
    reached_type = _filled(values, "x-codex-rate-limit-reached-type")
    # A model's own limit may be reached while the account serves every other model.
    of_a_family = bool(families) and (
        _id_of(active_limit or _MAIN) in {family.id for family in families}
    )
    return _if_telling(
        Limits(
            observed_unix_s=now_unix_s,
            plan_type=_filled(values, "x-codex-plan-type"),
            primary=_window_in(values, f"x-{_MAIN}-primary", now_unix_s),
            secondary=_window_in(values, f"x-{_MAIN}-secondary", now_unix_s),
            reached=True if reached_type is not None and not of_a_family else None,
            reached_type=reached_type,
            active_limit=active_limit,
            credits=_credits(values, "x-codex-credits-", "-"),
            families=families,
        )
    )


@attrs.define
class HeaderReader:
    """Reads the headers of one account's answers as `from_headers` does.

    Most answers say of the quota what the one before has said; that is seen by a comparison.
    """

    #: What the last answer has said, and what that means.
    _said: list[tuple[str, str]] = attrs.field(factory=list, init=False)
    _meant: Limits | None = attrs.field(default=None, init=False)
    #: In between it means the same, Unix seconds.
    _since_unix_s: float = attrs.field(default=0.0, init=False)
    _until_unix_s: float = attrs.field(default=0.0, init=False)
    #: Headers that differ from answer to answer and, as things stand, do not count.
    _idle: frozenset[str] = attrs.field(default=frozenset({_TURN_STATE}), init=False)

    def read(self, headers: Mapping[str, str], *, now_unix_s: float) -> Limits | None:
        """Return what the headers of an answer that came at that instant say; see `from_headers`.

        Windows of which nothing new is said are the very same objects as before.
        """
        idle, before = self._idle, self._meant
        # A part of each name, because that costs less than a call for each.
        said = [told for told in headers.items() if told[0][:8] == _OURS and told[0] not in idle]
        if said == self._said and self._since_unix_s <= now_unix_s < self._until_unix_s:
            return None if before is None else _told_again(before, now_unix_s)
        self._meant = from_headers(headers, now_unix_s=now_unix_s)
        self._since_unix_s = now_unix_s
        self._until_unix_s, self._idle = _holds_until(headers, now_unix_s)
        self._said = [
            told for told in headers.items() if told[0][:8] == _OURS and told[0] not in self._idle
        ]
        return self._meant


def _told_again(limits: Limits, now_unix_s: float) -> Limits:
    return Limits(
        observed_unix_s=now_unix_s,
        plan_type=limits.plan_type,
        primary=limits.primary,
        secondary=limits.secondary,
        reached=limits.reached,
        reached_type=limits.reached_type,
        active_limit=limits.active_limit,
        credits=limits.credits,
        families=limits.families,
    )


def _holds_until(headers: Mapping[str, str], now_unix_s: float) -> tuple[float, frozenset[str]]:
    """Return until when such headers of ours mean the same, and which of them do not count."""
    values: JsonObject = dict(headers)
    until, idle = math.inf, {_TURN_STATE}
    for name in headers:
        stem = name.removesuffix("-reset-at")
        at = _number(values, name) if stem != name else None
        if at is not None and 0.0 < at - now_unix_s < _LONGEST_S:
            until = min(until, at)
            idle.add(f"{stem}{_AFTER}")  # counts only where there is no such instant
    for name in headers:
        if name.endswith(_AFTER) and name not in idle:
            seconds = _number(values, name) or 0.0
            until = min(until, math.ceil(now_unix_s + seconds) - seconds)  # see `_reset`
        elif name.endswith(_USED) and not name.startswith(_OURS):
            until = now_unix_s  # a family by another name: it would not be compared
    return until, frozenset(idle)


def from_event(event: JsonObject, *, now_unix_s: float) -> Limits | None:
    """Read a `codex.rate_limits` event; None if it says nothing of limits."""
    return _from_body(event, get_object(event, "rate_limits"), now_unix_s)


def from_usage(body: JsonObject, *, now_unix_s: float) -> Limits | None:
    """Read the answer of `GET wham/usage`; None if it says nothing of limits."""
    return _from_body(body, get_object(body, "rate_limit"), now_unix_s)


def to_headers(limits: Limits) -> dict[str, str]:
    """Return the headers from which `from_headers` reads the same, as far as headers can say it.

    They cannot say "not reached", and "reached" only by its type.
    """
    told: dict[str, str | None] = {
        "x-codex-plan-type": limits.plan_type,
        "x-codex-active-limit": limits.active_limit,
        **_window_headers(f"x-{_MAIN}-primary", limits.primary),
        **_window_headers(f"x-{_MAIN}-secondary", limits.secondary),
        "x-codex-rate-limit-reached-type": limits.reached_type,
    }
    if limits.credits is not None:
        told["x-codex-credits-has-credits"] = str(limits.credits.has_credits)
        told["x-codex-credits-unlimited"] = str(limits.credits.unlimited)
        told["x-codex-credits-balance"] = limits.credits.balance
    for family in limits.families:
        # Without it there would be no family, and an empty window counts as none.
        told[f"x-{family.id}-primary-used-percent"] = "0"
        told |= _window_headers(f"x-{family.id}-primary", family.primary)
        told |= _window_headers(f"x-{family.id}-secondary", family.secondary)
        told[f"x-{family.id}-limit-name"] = family.name
    return {name: value for name, value in told.items() if value}


def _if_telling(limits: Limits) -> Limits | None:
    """Return None for limits that hold no more than a plan's name."""
    told = (limits.primary, limits.secondary, limits.reached, limits.reached_type, limits.credits)
    return limits if limits.families or told.count(None) < len(told) else None


def _families_in(
    headers: JsonObject, telling: Iterable[str], now_unix_s: float
) -> Iterator[Family]:
    for name in sorted(telling):
        match = _FAMILY.fullmatch(name)
        if match is None or match[1] == _MAIN:
            continue
        primary = _window_in(headers, f"x-{match[1]}-primary", now_unix_s)
        secondary = _window_in(headers, f"x-{match[1]}-secondary", now_unix_s)
        if primary is not None or secondary is not None:
            yield Family(
                id=match[1],
                name=_filled(headers, f"x-{match[1]}-limit-name"),
                primary=primary,
                secondary=secondary,
            )


def _window_in(headers: JsonObject, prefix: str, now_unix_s: float) -> Window | None:
    if (used_percent := _number(headers, prefix + _USED)) is None:
        return None
    minutes = _number(headers, f"{prefix}-window-minutes")
    return _window(
        used_percent,
        minutes and minutes * 60.0,
        _reset(headers, f"{prefix}-reset-at", f"{prefix}-reset-after-seconds", now_unix_s),
    )


def _window_headers(prefix: str, window: Window | None) -> dict[str, str | None]:
    if window is None:
        return {}
    minutes = window.length_s and window.length_s / 60.0
    return {
        f"{prefix}-used-percent": _plain(window.used_percent),
        f"{prefix}-window-minutes": _plain(minutes),
        f"{prefix}-reset-at": _plain(window.resets_at_unix_s),
    }


def _from_body(body: JsonObject, main: JsonObject, now_unix_s: float) -> Limits | None:
    primary, secondary = _windows_of(main, now_unix_s)
    families = (_family_of(entry, now_unix_s) for entry in _additional(body))
    by_id = {family.id: family for family in families if family is not None}
    return _if_telling(
        Limits(
            observed_unix_s=now_unix_s,
            plan_type=_filled(body, "plan_type"),
            primary=primary,
            secondary=secondary,
            reached=_reached(main),
            credits=_credits(get_object(body, "credits"), "", "_"),
            families=tuple(by_id[family_id] for family_id in sorted(by_id)),
        )
    )


def _reached(main: JsonObject) -> bool | None:
    reached = _flag(main, "limit_reached")
    allowed = _flag(main, "allowed")
    return reached if reached is not None or allowed is None else not allowed


def _additional(body: JsonObject) -> Iterator[JsonObject]:
    for entry in get_list(body, "additional_rate_limits"):
        if is_object(entry):
            yield entry


def _family_of(entry: JsonObject, now_unix_s: float) -> Family | None:
    name = _filled(entry, "limit_name")
    family_id = _id_of(_filled(entry, "metered_feature") or name or "")
    primary, secondary = _windows_of(get_object(entry, "rate_limit"), now_unix_s)
    is_named = _FAMILY.fullmatch(f"x-{family_id}-primary-used-percent") is not None
    if not is_named or family_id == _MAIN or (primary is None and secondary is None):
        return None
    return Family(id=family_id, name=name, primary=primary, secondary=secondary)


def _windows_of(limit: JsonObject, now_unix_s: float) -> tuple[Window | None, Window | None]:
    """Return both windows of an object, under the event's names or those of the usage endpoint."""
    primary = get_object(limit, "primary") or get_object(limit, "primary_window")
    secondary = get_object(limit, "secondary") or get_object(limit, "secondary_window")
    return _window_of(primary, now_unix_s), _window_of(secondary, now_unix_s)


def _window_of(window: JsonObject, now_unix_s: float) -> Window | None:
    minutes = _number(window, "window_minutes")
    return _window(
        _number(window, "used_percent"),
        minutes * 60.0 if minutes else _number(window, "limit_window_seconds"),
        _reset(window, "reset_at", "reset_after_seconds", now_unix_s),
    )


def _window(
    used_percent: float | None, length_s: float | None, resets_at_unix_s: float | None
) -> Window | None:
    """Return the window, None if it is not there: plans without one send zeros for it."""
    if used_percent is None or not (used_percent or length_s or resets_at_unix_s):
        return None
    return Window(
        used_percent=used_percent, length_s=length_s or None, resets_at_unix_s=resets_at_unix_s
    )


def _reset(values: JsonObject, at: str, after: str, now_unix_s: float) -> float | None:
    """Return the instant that `values` names: absolutely, else from now. None if it has passed."""
    instant = _number(values, at)
    if instant is not None and 0.0 < instant - now_unix_s < _LONGEST_S:
        return instant
    seconds = _number(values, after)
    if seconds is not None and 0.0 < seconds < _LONGEST_S:
        return float(math.ceil(now_unix_s + seconds))  # whole seconds, as the backend counts
    return None


def _credits(values: JsonObject, prefix: str, joint: str) -> Credits | None:
    has_credits = _flag(values, f"{prefix}has{joint}credits")
    if has_credits is None:
        return None
    return Credits(
        has_credits=has_credits,
        unlimited=_flag(values, f"{prefix}unlimited") or False,
        balance=_words(values.get(f"{prefix}balance")),
    )


def _number(values: JsonObject, key: str) -> float | None:
    """Return the number at `key` (a numeric text counts), None if a quota can have no such."""
    value = values.get(key)
    if not isinstance(value, _NUMBERS) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):  # an integer of hundreds of digits
        return None
    return number if 0.0 <= number < math.inf else None


def _flag(values: JsonObject, key: str) -> bool | None:
    """Return the boolean at `key`; headers spell it `True`, `false` or `1`."""
    value = values.get(key)
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _words(value: Json) -> str | None:
    """Return a balance, which is a text, or a number in the words of older backends."""
    if isinstance(value, str):
        return value.strip() or None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _filled(values: JsonObject, key: str) -> str | None:
    value = values.get(key)
    return value.strip() or None if isinstance(value, str) else None


def _id_of(limit: str) -> str:
    """Return a limit's id as it stands in header names."""
    return limit.lower().replace("_", "-")


def _plain(number: float | None) -> str | None:
    """Write a number as the backend does: without a fraction where there is none."""
    if number is None:
        return None
    return str(int(number)) if number == int(number) else repr(number)
