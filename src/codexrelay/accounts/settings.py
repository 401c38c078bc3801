"""Settings of the account store and of the sign-in service."""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from codexrelay.setting import setting

DEFAULT_ISSUER: Final = "https://auth.openai.com"
DEFAULT_STORAGE_PATH: Final = "var/openai_codex_oauth_accounts"
StrategyName = Literal["round-robin", "random", "first-available", "session-affinity"]


def _are_per_cents(
    _instance: object, _field: attrs.Attribute[Any], value: tuple[float, ...]
) -> None:
    """Raises ValueError: one of them is no part of a whole."""
    if not all(0 < each < 100 for each in value):
        raise ValueError("must be numbers above 0 and below 100")


def _are_ids(
    _instance: object, _field: attrs.Attribute[Any], value: Literal["all"] | tuple[str, ...]
) -> None:
    """Raises ValueError: `all` stands among ids."""
    if value != "all" and "all" in value and set(value) != {"all"}:
        raise ValueError("must be all, or a list of ids without it")


def _all_alone(
    given: Literal["all"] | tuple[str, ...],
) -> Literal["all"] | tuple[str, ...]:
    """Return `all` for a list of it alone: whoever writes that means no account of this id."""
    return "all" if given != () and set(given) == {"all"} else given


def _falling(given: tuple[float, ...]) -> tuple[float, ...]:
    """Return each number once, the highest first: the order in which they are passed."""
    return tuple(sorted(set(given), reverse=True))


@attrs.frozen(kw_only=True)
class ManagedOAuthSettings:
    """`backends.openai_codex.extra.codex.managed_oauth`: accounts kept as one JSON file each."""

    enabled: bool = setting(
        True,
        "Use the accounts in storage_path; false: Codex CLI's auth.json only.",
        variables=("OPENAI_CODEX_MANAGED_OAUTH_ENABLED",),
    )
    storage_path: str = setting(
        DEFAULT_STORAGE_PATH,
        """
        Folder with one JSON file for each account. A relative path counts from this file's folder;
        from the environment or by default it counts from the working directory.
        """,
        path="folder",
        variables=("OPENAI_CODEX_MANAGED_OAUTH_STORAGE_PATH",),
    )
    accounts: Literal["all"] | tuple[str, ...] = setting(
        "all",
        "all, or a list of the ids that may be used (local id or ChatGPT account id).",
        check=_are_ids,
        converter=_all_alone,
        variables=("OPENAI_CODEX_MANAGED_OAUTH_ACCOUNTS",),
        live=True,
    )
    selection_strategy: StrategyName = setting(
        "round-robin",
        """
        How one of several usable accounts is chosen for a turn:
        - round-robin: the next one in order of ids; each gets an equal share of the turns.
        - random: any, drawn anew for every turn.
        - first-available: always the first one in order that has quota left.
        - session-affinity: the turns of a session stay with one account, whose cache knows them;
        new sessions go round. While that account cannot take a turn another one does, and the
        session returns to its own afterwards. It moves for good when its account must sign in again
        or is removed, and when the session was quiet for longer than the time below.
        """,
        variables=("OPENAI_CODEX_MANAGED_OAUTH_SELECTION_STRATEGY",),
        live=True,
    )
    refresh_buffer_seconds: int = setting(
        300,
        "An access token that expires within this many seconds is refreshed before it is used.",
        at_least=0,
        variables=("OPENAI_CODEX_MANAGED_OAUTH_REFRESH_BUFFER_SECONDS",),
        live=True,
    )
    session_affinity_ttl_seconds: int = setting(
        24 * 3600,
        """
        Seconds that a session stays bound to its account after its last turn; 0: not at all, which
        makes session-affinity plain round-robin.
        """,
        at_least=0,
        variables=("OPENAI_CODEX_MANAGED_OAUTH_SESSION_AFFINITY_TTL_SECONDS",),
        live=True,
    )
    session_affinity_max_entries: int = setting(
        10_000,
        """
        Sessions whose account is remembered at most; the one used longest ago goes first. 0: none,
        which makes session-affinity plain round-robin.
        """,
        at_least=0,
        variables=("OPENAI_CODEX_MANAGED_OAUTH_SESSION_AFFINITY_MAX_ENTRIES",),
        live=True,
    )
    max_concurrent_turns: int | None = setting(
        None,
        """
        Turns that one account may have running at once; null: any number. What comes beyond goes to
        another account, or waits in order of arrival.
        """,
        at_least=1,
        variables=("OPENAI_CODEX_MANAGED_OAUTH_MAX_CONCURRENT_TURNS",),
        live=True,
    )
    rate_limit_local_cooldown_cap_seconds: float = setting(
        1800.0,
        """
        Seconds after which an account at its usage limit is tried again by one turn, however late
        the backend says that the limit resets; 0: not before that reset.
        """,
        at_least=0,
        variables=("OPENAI_CODEX_MANAGED_OAUTH_RATE_LIMIT_LOCAL_COOLDOWN_CAP_SECONDS",),
        live=True,
    )
    max_rate_limit_wait_seconds: float = setting(
        0.0,
        """
        Seconds that a turn waits when every account is at its limit, if one of them resets within
        them; 0: it is told at once when to come back.
        """,
        at_least=0,
        variables=("OPENAI_CODEX_MANAGED_OAUTH_MAX_RATE_LIMIT_WAIT_SECONDS",),
        live=True,
    )
    allow_legacy_fallback: bool = setting(
        True,
        "Read Codex CLI's auth.json when no account file exists.",
        variables=("OPENAI_CODEX_MANAGED_OAUTH_ALLOW_LEGACY_FALLBACK",),
    )
    quota_remaining_alerts_enabled: bool = setting(
        True,
        "Log one line when an account's remaining quota falls below a threshold.",
        variables=("OPENAI_CODEX_QUOTA_REMAINING_ALERTS_ENABLED",),
        live=True,
    )
    quota_remaining_alert_thresholds_percent: tuple[float, ...] = setting(
        (25.0, 10.0),
        "These thresholds: per cent of the quota that remain, above 0 and below 100.",
        check=_are_per_cents,
        converter=_falling,
        variables=("OPENAI_CODEX_QUOTA_REMAINING_THRESHOLDS",),
        live=True,
    )
