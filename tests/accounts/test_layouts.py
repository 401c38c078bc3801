from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.accounts.layouts import LAYOUTS, layout_of, why_no_tokens

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

CODEX: JsonObject = {"tokens": {"access_token": "a", "refresh_token": "r", "account_id": "w"}}
CODEX_LB: JsonObject = {"tokens": {"accessToken": "a", "refreshToken": "r", "accountId": "w"}}
CLI_PROXY_API: JsonObject = {"access_token": "a", "refresh_token": "r", "account_id": "w"}


@pytest.mark.parametrize(
    ("raw", "number"), [(CODEX, 0), (CODEX_LB, 1), (CLI_PROXY_API, 2), ({}, 0)]
)
def test_the_layout_is_the_one_that_has_an_access_token(raw: JsonObject, number: int) -> None:
    layout = layout_of(raw)
    assert layout == LAYOUTS[number]
    if raw:
        assert layout.token(raw, layout.refresh) == "r"
        assert next(text for _, text in layout.workspace_ids(raw)) == "w"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ({"OPENAI_API_KEY": "sk-1"}, "API key"),
        ({"auth_mode": "apikey", "OPENAI_API_KEY": "sk-1"}, "API key"),
        (CODEX | {"auth_mode": "apikey"}, "API key"),
        (CODEX | {"auth_mode": "agentIdentity"}, "agent identity"),
        ({"auth_mode": "personalAccessToken"}, "personal access token"),
        ({"auth_mode": "bedrockAccessKeys"}, "Amazon Bedrock"),
        ({"auth_mode": "chatgptAuthTokens"}, "this kind"),
        ({"auth_mode": "chatgpt", "tokens": None}, "no access token"),
        ({}, "no access token"),
    ],
)
def test_a_file_without_tokens_says_why(raw: JsonObject, why: str) -> None:
    assert why in (why_no_tokens(raw) or "")


@pytest.mark.parametrize(
    "raw",
    [CODEX, CODEX_LB, CLI_PROXY_API, CODEX | {"OPENAI_API_KEY": "k"}, CODEX | {"auth_mode": "new"}],
)
def test_a_file_with_tokens_has_them(raw: JsonObject) -> None:
    assert why_no_tokens(raw) is None
