from __future__ import annotations

import urllib.parse

import pytest

from codexrelay.accounts.login.authorize import authorize_url
from codexrelay.accounts.login.pkce import Pkce

PKCE = Pkce(verifier="v")


def parameters(*, login_hint: str | None = None) -> list[tuple[str, str]]:
    url = authorize_url(
        "https://issuer.invalid/", port=1455, pkce=PKCE, state="s", login_hint=login_hint
    )
    address, _, query = url.partition("?")
    assert address == "https://issuer.invalid/oauth/authorize"
    return urllib.parse.parse_qsl(query, strict_parsing=True)


def test_the_address_has_codex_cli_s_parameters_in_its_order() -> None:
    assert parameters() == [
        ("response_type", "code"),
        ("client_id", "app_EMoamEEZ73f0CkXaXp7hrann"),
        ("redirect_uri", "http://localhost:1455/auth/callback"),
        ("scope", "openid profile email offline_access"),
        ("code_challenge", PKCE.challenge),
        ("code_challenge_method", "S256"),
        ("id_token_add_organizations", "true"),
        ("codex_cli_simplified_flow", "true"),
        ("state", "s"),
        ("originator", "codex_cli_rs"),
    ]


@pytest.mark.parametrize("email", ["a@example.com", "a+b&c=d@example.com"])
def test_an_email_may_be_hinted_at(email: str) -> None:
    assert parameters(login_hint=email)[-1] == ("login_hint", email)
