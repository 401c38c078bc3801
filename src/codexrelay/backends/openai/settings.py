"""Settings of one backend that speaks the OpenAI API: `backends.<name>` with `type: openai`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from codexrelay.backends.settings import BudgetSettings, is_base_url, is_proxy
from codexrelay.setting import section, setting


@attrs.frozen(kw_only=True)
class OpenAIBackendSettings:
    """`backends.<name>`, of type `openai`."""

    type: Literal["openai"] = setting("openai", "The kind of backend.")
    api_base_url: str = setting(
        "",
        "Where the API is, with its `/v1`. Must be given.",
        needed="http://127.0.0.1:8000/v1",
        check=is_base_url,
        url=True,
    )
    wire: Literal["chat", "responses"] = setting(
        "chat",
        """
        What it speaks: /chat/completions or /responses. Clients of the other protocol are
        translated.
        """,
    )
    api_key_env: str | None = setting(
        None, "Environment variable that holds its API key. Without a key none is sent."
    )
    api_key_file: str | None = setting(
        None, "File that holds its API key; read again when it changes.", path="file"
    )
    headers: Mapping[str, str] = setting(
        {},
        """
        Further headers of every request to it, by name. Their values are never shown. For example
        {x-team: blue}.
        """,
        secret=True,
    )
    models: tuple[str, ...] = setting(
        (),
        """
        Names of its models. A client that says one of these without a backend before it gets it
        here, where Codex has no such model. None: /v1/models asks it for them.
        """,
        one_will_do=True,
        live=True,
    )
    timeout: float = setting(
        120.0,
        "Seconds without a byte after which a running stream is given up.",
        above=0,
        live=True,
    )
    proxy: str | None = setting(
        None,
        "The proxy to use; null: what the environment says, none: no proxy.",
        check=is_proxy,
        url=True,
    )
    ca_file: str | None = setting(
        None, "PEM file with certificates to trust besides those of the system.", path="file"
    )
    transport: Literal["direct", "httpx"] = setting(
        "direct", "`direct` is the fast one; `httpx` the stock one."
    )
    budgets: BudgetSettings = section(BudgetSettings, "Seconds allowed to each phase of a turn.")
