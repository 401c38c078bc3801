"""When the owner is told that an account's quota runs low: once for each threshold that it passes.

A threshold is passed when less than so many per cent of a window remain. It is told once (it is
latched) until the window has recovered: a new window has begun, or clearly more remains again than
the threshold says. Where one observation passes several, only the tightest is told.

Source: behaviour c.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from codexrelay.protocol.limits import Window

if TYPE_CHECKING:
    from codexrelay.protocol.limits import Limits

WindowName: TypeAlias = Literal["primary", "secondary"]

_FULL_PERCENT: Final = 100.0
#: By so much more must remain before a threshold is told again within one window. Turns that run at
#: once tell their percentages in any order, and a window that slides gives back a point or two: a
#: quota that wavers about a threshold is no news.
_CLEARLY_PERCENT: Final = 5.0


@attrs.frozen(kw_only=True)
class Alert:
    """A threshold that was passed, to be told now."""

    window_name: WindowName
    window: Window
    #: Never below 0.
    remaining_percent: float
    threshold_percent: float


@attrs.define(kw_only=True)
class _Seen:
    """One window, as it was seen last."""

    observed_unix_s: float
    window: Window
    #: The thresholds that it was judged by.
    thresholds: Sequence[float]
    #: The thresholds that are latched: those that were passed and have not recovered.
    latched: frozenset[float] = frozenset()

    def has_ended(self, now_unix_s: float) -> bool:
        """Tell whether another window must have begun since."""
        ends = self.window.resets_at_unix_s
        return ends is not None and now_unix_s >= ends

    def says_the_same(
        self, window: Window, observed_unix_s: float, thresholds: Sequence[float]
    ) -> bool:
        """Tell whether there is nothing new in an observation: most turns bring none."""
        return (
            (window is self.window or window == self.window)
            and thresholds == self.thresholds
            and not self.has_ended(observed_unix_s)
        )


@attrs.define(eq=False)
class QuotaAlerts:
    """Remembers what was told of each window of each account."""

    _seen: dict[tuple[str, WindowName], _Seen] = attrs.field(factory=dict, init=False)

    def observe(
        self, account_id: str, limits: Limits, *, thresholds: Sequence[float]
    ) -> tuple[Alert, ...]:
        """Take note of what the backend says of a quota; return what is to be told of it.

        `thresholds` are per cent that remain, in any order; none means that nothing is told. What
        is older than what was seen already is ignored: turns that run at once bring their
        observations in any order. A window of which nothing is said stays as it was.
        """
        if not thresholds:
            return ()
        windows: tuple[tuple[WindowName, Window | None], ...] = (
            ("primary", limits.primary),
            ("secondary", limits.secondary),
        )
        found: tuple[Alert, ...] = ()
        for name, window in windows:
            if window is not None:
                alert = self._of_window(
                    account_id, name, window, limits.observed_unix_s, thresholds
                )
                if alert is not None:
                    found = (*found, alert)
        return found

    def _of_window(
        self,
        account_id: str,
        name: WindowName,
        window: Window,
        observed_unix_s: float,
        thresholds: Sequence[float],
    ) -> Alert | None:
        before = self._seen.get((account_id, name))
        if before is not None and observed_unix_s < before.observed_unix_s:
            return None
        if before is not None and before.says_the_same(window, observed_unix_s, thresholds):
            before.observed_unix_s = observed_unix_s
            return None
        remaining = max(0.0, _FULL_PERCENT - window.used_percent)
        passed = frozenset(t for t in thresholds if remaining < t)
        latched = frozenset[float]() if before is None else _still_latched(before, observed_unix_s)
        wavering = frozenset(t for t in latched if remaining < _recovered_percent(t))
        self._seen[account_id, name] = _Seen(
            observed_unix_s=observed_unix_s,
            window=window,
            thresholds=thresholds,
            latched=passed | wavering,
        )
        if not passed - latched:
            return None
        return Alert(
            window_name=name,
            window=window,
            remaining_percent=remaining,
            threshold_percent=min(passed - latched),
        )


def _recovered_percent(threshold: float) -> float:
    """Return what must remain for a threshold to have recovered; a full window always has."""
    return min(threshold + _CLEARLY_PERCENT, _FULL_PERCENT)


def _still_latched(before: _Seen, now_unix_s: float) -> frozenset[float]:
    """Return what is latched; nothing if the window that was seen has ended since."""
    return frozenset() if before.has_ended(now_unix_s) else before.latched
