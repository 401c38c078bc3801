"""Settings of the account store and of the sign-in service."""

from __future__ import annotations

from typing import Final, Literal

import attrs
from attrs import validators as v

DEFAULT_ISSUER: Final = "https://auth.openai.com"
DEFAULT_STORAGE_PATH: Final = "var/openai_codex_oauth_accounts"
StrategyName = Literal["round-robin", "random", "first-available", "session-affinity"]


@attrs.frozen(kw_only=True)
class ManagedOAuthSettings:
    """`backends.openai_codex.extra.codex.managed_oauth`: accounts kept as one JSON file each."""

    #: Use the managed store at all; off means legacy `auth.json` only.
    enabled: bool = True
    #: Folder of the account files. A relative path counts from the folder of the YAML file that
    #: names it, otherwise from the working directory.
    storage_path: str = DEFAULT_STORAGE_PATH
    #: `all`, or the ids that may be used; an entry matches the local id or the ChatGPT account id.
    accounts: Literal["all"] | tuple[str, ...] = "all"
    #: How one of several usable accounts is chosen for a turn; see `accounts/strategies`.
    selection_strategy: StrategyName = "round-robin"
    #: An access token that expires within this many seconds is refreshed before it is used.
    refresh_buffer_seconds: int = attrs.field(default=300, validator=v.ge(0))
    #: `session-affinity`: for how long a session stays bound to its account after its last turn;
    #: 0 binds nothing, which is plain round-robin.
    session_affinity_ttl_seconds: int = attrs.field(default=24 * 3600, validator=v.ge(0))
    #: `session-affinity`: for how many sessions at most the account is remembered; the one used
    #: longest ago is forgotten first. 0 binds nothing.
    session_affinity_max_entries: int = attrs.field(default=10_000, validator=v.ge(0))
    #: Turns that one account may have running at the same time; `null` sets no limit. What comes
    #: beyond it goes to another account, or waits in order of arrival.
    max_concurrent_turns: int | None = attrs.field(default=None, validator=v.optional(v.ge(1)))
    #: Seconds after which an account at its usage limit is tried again, by one turn, however late
    #: the backend says that the limit resets; 0: not before that reset.
    rate_limit_local_cooldown_cap_seconds: float = attrs.field(default=1800.0, validator=v.ge(0))
    #: Seconds that a turn waits when every account is at its usage limit, if one of them resets
    #: within them; 0: it never waits, but is told at once when to come back.
    max_rate_limit_wait_seconds: float = attrs.field(default=0.0, validator=v.ge(0))
    #: Read Codex CLI's `auth.json` when no managed account file exists.
    allow_legacy_fallback: bool = True
