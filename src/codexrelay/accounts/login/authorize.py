"""The address at which the owner signs in."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, Final

from codexrelay.accounts.issuer import CLIENT_ID

if TYPE_CHECKING:
    from codexrelay.accounts.login.pkce import Pkce

#: What every client of the wire notes asks for; Codex CLI 0.169 adds connectors, unused here.
SCOPE: Final = "openid profile email offline_access"
CALLBACK_PATH: Final = "/auth/callback"
_ORIGINATOR: Final = "codex_cli_rs"


def redirect_uri(port: int) -> str:
    """Return where the issuer sends the browser; the real one knows port 1455 only."""
    return f"http://localhost:{port}{CALLBACK_PATH}"


def authorize_url(
    issuer_url: str, *, port: int, pkce: Pkce, state: str, login_hint: str | None
) -> str:
    """Return the address to open, with the parameters in Codex CLI's order (wire notes 1.1).

    `login_hint` is the e-mail that the issuer's page begins with; None lets the owner choose.
    """
    parameters = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": redirect_uri(port),
        "scope": SCOPE,
        "code_challenge": pkce.challenge,
        "code_challenge_method": "S256",
        "id_token_add_organizations": "true",
        "codex_cli_simplified_flow": "true",
        "state": state,
        "originator": _ORIGINATOR,
    }
    if login_hint is not None:
        parameters["login_hint"] = login_hint
    query = urllib.parse.urlencode(parameters, quote_via=urllib.parse.quote)
    return f"{issuer_url.rstrip('/')}/oauth/authorize?{query}"
