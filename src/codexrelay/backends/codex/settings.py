"""Settings of one Codex backend: `backends.openai_codex`, `backends.openai_codex.2` and so on."""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import urlsplit

import attrs
from attrs import validators as v

from codexrelay.accounts.settings import DEFAULT_ISSUER, ManagedOAuthSettings

DEFAULT_API_BASE_URL: Final = "https://chatgpt.com/backend-api/codex"


def _is_base_url(_instance: object, _field: attrs.Attribute[str], value: str) -> None:
    """Raises ValueError: it is no http or https URL to which a path can be appended."""
    try:
        url = urlsplit(value)
        named = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        usable = named and not url.query and not url.fragment
    except ValueError:  # a host or a port that is none
        usable = False
    if not usable:
        raise ValueError("must be an http or https URL without query, such as https://host/path")


@attrs.frozen(kw_only=True)
class BudgetSettings:
    """`budgets`: seconds allowed to each phase of a turn; `null` keeps the default.

    What each one means stands in `relay/budgets.py`.
    """

    connect_s: float = attrs.field(default=10.0, validator=v.gt(0))
    headers_s: float = attrs.field(default=120.0, validator=v.gt(0))
    first_event_s: float = attrs.field(default=120.0, validator=v.gt(0))
    #: Default: the block's `timeout`.
    silence_s: float | None = attrs.field(default=None, validator=v.optional(v.gt(0)))
    turn_s: float = attrs.field(default=3600.0, validator=v.gt(0))


@attrs.frozen(kw_only=True)
class CodexSettings:
    """`extra.codex`: what belongs to Codex alone."""

    #: The sign-in service; tokens are refreshed at `{oauth_issuer}/oauth/token`.
    oauth_issuer: str = attrs.field(default=DEFAULT_ISSUER, validator=_is_base_url)
    managed_oauth: ManagedOAuthSettings = attrs.field(factory=ManagedOAuthSettings)


@attrs.frozen(kw_only=True)
class ExtraSettings:
    """`extra`."""

    codex: CodexSettings = attrs.field(factory=CodexSettings)


@attrs.frozen(kw_only=True)
class CodexBackendSettings:
    """`backends.openai_codex`, and each further instance of it."""

    type: Literal["openai-codex"] = "openai-codex"
    #: `/responses`, `/responses/compact` and `/models` are appended.
    api_base_url: str = attrs.field(default=DEFAULT_API_BASE_URL, validator=_is_base_url)
    #: Seconds of upstream silence that end a turn; `budgets.silence_s` overrides it.
    timeout: float = attrs.field(default=120.0, validator=v.gt(0))
    #: Folder that holds Codex CLI's `auth.json`; unset means `CODEX_HOME`, then `~/.codex`.
    auth_path: str | None = None
    #: How bytes reach the backend: `direct` is the relay's own, the fastest; `httpx` is httpx's
    #: stock one, which honours the proxy variables of the environment.
    transport: Literal["direct", "httpx"] = "direct"
    #: Share of the turns that name no instance, relative to the other instances' weights; 0: only
    #: turns that ask for this instance by its name.
    weight: int = attrs.field(default=1, validator=v.ge(0))
    budgets: BudgetSettings = attrs.field(factory=BudgetSettings)
    extra: ExtraSettings = attrs.field(factory=ExtraSettings)
