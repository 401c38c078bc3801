"""Settings of the account store and of the sign-in service."""

from __future__ import annotations

from typing import Final, Literal

import attrs
from attrs import validators as v

DEFAULT_ISSUER: Final = "https://auth.openai.com"
DEFAULT_STORAGE_PATH: Final = "var/openai_codex_oauth_accounts"
StrategyName = Literal["round-robin"]


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
    #: How one of several usable accounts is chosen for a turn.
    selection_strategy: StrategyName = "round-robin"
    #: An access token that expires within this many seconds is refreshed before it is used.
    refresh_buffer_seconds: int = attrs.field(default=300, validator=v.ge(0))
    #: Read Codex CLI's `auth.json` when no managed account file exists.
    allow_legacy_fallback: bool = True
