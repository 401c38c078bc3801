"""What an account has used, as the backend tells it: headers, 429 bodies, the usage endpoint."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject
    from harness.simulator.steps import Headers

PRIMARY_S: Final = 5 * 3600
SECONDARY_S: Final = 7 * 24 * 3600
DEFAULT_RESET_S: Final = 3600.0


@attrs.define(eq=False, kw_only=True)
class Quota:
    """The two windows of one account. Only the primary one ever fills up here."""

    plan: str
    #: Turns the primary window allows; None means it never fills up.
    limit_after: int | None
    #: When the primary window starts anew, Unix seconds.
    resets_at_unix_s: float
    weekly_resets_at_unix_s: float
    #: Turns served in the primary window.
    turns: int = 0

    @classmethod
    def starting(cls, *, plan: str, limit_after: int | None, now_unix_s: float) -> Quota:
        """Return a quota whose windows are partly over, as one usually finds them."""
        return cls(
            plan=plan,
            limit_after=limit_after,
            resets_at_unix_s=now_unix_s + DEFAULT_RESET_S,
            weekly_resets_at_unix_s=now_unix_s + SECONDARY_S / 2,
        )

    def reached(self, *, now_unix_s: float) -> bool:
        """Tell whether the next turn would be refused; starts a new window when it is time."""
        if now_unix_s >= self.resets_at_unix_s:
            self.turns = 0
            self.resets_at_unix_s = now_unix_s + PRIMARY_S
        return self.limit_after is not None and self.turns >= self.limit_after

    def limit(self, *, after: int, resets_in_s: float, now_unix_s: float) -> None:
        """Allow `after` more turns until `resets_in_s` from now, and as many in later windows."""
        self.turns = 0
        self.limit_after = after
        self.resets_at_unix_s = now_unix_s + resets_in_s

    def unlimit(self) -> None:
        """Allow any number of turns."""
        self.limit_after = None

    @property
    def used_percent(self) -> int:
        """How full the primary window is, 0 to 100."""
        if self.limit_after is None:
            return min(99, self.turns)
        return min(100, 100 * self.turns // self.limit_after) if self.limit_after else 100

    def headers(self, *, now_unix_s: float, used_percent: int | None = None) -> Headers:
        """Return the 14 `x-codex-*` headers of every answer to a model request."""
        resets_in_s = _whole(self.resets_at_unix_s - now_unix_s)
        weekly_in_s = _whole(self.weekly_resets_at_unix_s - now_unix_s)
        used = self.used_percent if used_percent is None else used_percent
        return (
            ("x-codex-active-limit", "codex"),
            ("x-codex-plan-type", self.plan),
            ("x-codex-primary-used-percent", str(used)),
            ("x-codex-secondary-used-percent", "41"),
            ("x-codex-primary-window-minutes", str(PRIMARY_S // 60)),
            ("x-codex-primary-over-secondary-limit-percent", "0"),
            ("x-codex-secondary-window-minutes", str(SECONDARY_S // 60)),
            ("x-codex-primary-reset-after-seconds", str(resets_in_s)),
            ("x-codex-secondary-reset-after-seconds", str(weekly_in_s)),
            ("x-codex-primary-reset-at", str(int(self.resets_at_unix_s))),
            ("x-codex-secondary-reset-at", str(int(self.weekly_resets_at_unix_s))),
            ("x-codex-credits-has-credits", "False"),
            ("x-codex-credits-balance", ""),
            ("x-codex-credits-unlimited", "False"),
        )

    def event(self, *, now_unix_s: float) -> JsonObject:
        """Return the event with which a WebSocket tells what the headers tell over HTTP."""
        return {
            "type": "codex.rate_limits",
            "plan_type": self.plan,
            "rate_limits": {
                "allowed": True,
                "limit_reached": False,
                "primary": _told(self.used_percent, PRIMARY_S, self.resets_at_unix_s, now_unix_s),
                "secondary": _told(41, SECONDARY_S, self.weekly_resets_at_unix_s, now_unix_s),
            },
            "code_review_rate_limits": None,
            "credits": {"has_credits": False, "unlimited": False, "balance": None},
            "promo": None,
        }

    def limit_error(self, *, now_unix_s: float) -> JsonObject:
        """Return the error object of a 429 for a spent window (wire notes 4.2)."""
        return {
            "type": "usage_limit_reached",
            "message": "The usage limit has been reached",
            "plan_type": self.plan,
            "resets_at": int(self.resets_at_unix_s),
            "eligible_promo": None,
            "resets_in_seconds": _whole(self.resets_at_unix_s - now_unix_s),
        }

    def usage(self, *, now_unix_s: float) -> JsonObject:
        """Return the body of `GET /wham/usage` (wire notes 4.3)."""
        reached = self.reached(now_unix_s=now_unix_s)
        return {
            "plan_type": self.plan,
            "rate_limit": {
                "allowed": not reached,
                "limit_reached": reached,
                "primary_window": _window(
                    self.used_percent, PRIMARY_S, self.resets_at_unix_s, now_unix_s
                ),
                "secondary_window": _window(
                    41, SECONDARY_S, self.weekly_resets_at_unix_s, now_unix_s
                ),
            },
            "credits": {"has_credits": False, "unlimited": False, "balance": "0"},
            "rate_limit_reset_credits": {"available_count": 0},
            "additional_rate_limits": [],
        }


def _window(
    used_percent: int, length_s: int, resets_at_unix_s: float, now_unix_s: float
) -> JsonObject:
    return {
        "used_percent": used_percent,
        "limit_window_seconds": length_s,
        "reset_after_seconds": _whole(resets_at_unix_s - now_unix_s),
        "reset_at": int(resets_at_unix_s),
    }


def _told(
    used_percent: int, length_s: int, resets_at_unix_s: float, now_unix_s: float
) -> JsonObject:
    return {
        "used_percent": used_percent,
        "window_minutes": length_s // 60,
        "reset_after_seconds": _whole(resets_at_unix_s - now_unix_s),
        "reset_at": int(resets_at_unix_s),
    }


def _whole(seconds: float) -> int:
    return max(0, math.ceil(seconds))
