"""The simulated accounts: who they are, what tokens say about them, and their files."""

from __future__ import annotations

import base64
import os
import re
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs
from attrs import validators as v

from codexrelay.protocol.raw import dump

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.protocol.raw import JsonObject

CLIENT_ID: Final = "app_EMoamEEZ73f0CkXaXp7hrann"
SCOPE: Final = "openid profile email offline_access"
_NAMESPACE: Final = uuid.UUID("6b5e0a52-2a5c-4f0e-9a55-51a1c0de0001")


@attrs.frozen
class SimulatedAccount:
    """One account of the simulated backend."""

    #: Local id: name of the account's file, and how tests and `/_sim` call it.
    name: str = attrs.field(validator=v.matches_re(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"))
    plan: str = attrs.field(default="plus", kw_only=True)
    #: Models that it is refused although the catalogue lists its plan for them.
    lacks: frozenset[str] = attrs.field(default=frozenset(), converter=frozenset, kw_only=True)
    #: Turns until its usage limit is reached; None means never.
    limit_after: int | None = attrs.field(default=None, kw_only=True, validator=v.optional(v.ge(0)))
    #: Life of an access token in seconds. Ten days is what the issuer gives.
    token_lifetime_s: float = attrs.field(default=864_000.0, kw_only=True)
    #: Its first access token is past its expiry from the start; the refresh token works.
    expired: bool = attrs.field(default=False, kw_only=True)

    @property
    def account_id(self) -> str:
        """The workspace id, as in `chatgpt-account-id`."""
        return str(uuid.uuid5(_NAMESPACE, self.name))

    @property
    def user_id(self) -> str:
        """The ChatGPT user id."""
        return f"user-{uuid.uuid5(_NAMESPACE, f'user of {self.name}').hex[:24]}"

    @property
    def email(self) -> str:
        """The address in its tokens."""
        return f"{re.sub(r'[^a-z0-9]+', '.', self.name.lower()).strip('.')}@example.com"


def some_accounts(count: int) -> tuple[SimulatedAccount, ...]:
    """Return `count` accounts named `sim-1`, `sim-2` and so on."""
    return tuple(SimulatedAccount(f"sim-{number}") for number in range(1, count + 1))


def access_token(
    account: SimulatedAccount, *, token_id: str, issued_unix_s: float, expires_unix_s: float
) -> str:
    """Return an access token in the issuer's shape; its signature is no signature.

    Source of the claims: wire notes 1.3.
    """
    return _jwt(
        {
            "aud": ["https://api.openai.com/v1"],
            "client_id": CLIENT_ID,
            "sub": f"auth0|{account.user_id}",
            "scp": list(SCOPE.split()),
            "iat": int(issued_unix_s),
            "nbf": int(issued_unix_s),
            "exp": int(expires_unix_s),
            "jti": token_id,
            "https://api.openai.com/auth": _auth_claim(account),
            "https://api.openai.com/profile": {"email": account.email, "email_verified": True},
        }
    )


def id_token(account: SimulatedAccount, *, token_id: str, issued_unix_s: float) -> str:
    """Return an id token in the issuer's shape, good for an hour."""
    return _jwt(
        {
            "aud": [CLIENT_ID],
            "sub": f"auth0|{account.user_id}",
            "email": account.email,
            "email_verified": True,
            "iat": int(issued_unix_s),
            "exp": int(issued_unix_s) + 3600,
            "jti": token_id,
            "https://api.openai.com/auth": _auth_claim(account)
            | {"chatgpt_account_is_fedramp": False, "groups": [], "organizations": []},
        }
    )


def write_account_file(
    folder: Path,
    account: SimulatedAccount,
    *,
    access_token: str,
    refresh_token: str,
    expires_unix_s: float,
    now_unix_s: float,
) -> Path:
    """Write `account` as a managed account file (mode 0600) and return its path."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = datetime.fromtimestamp(now_unix_s, UTC).isoformat()
    content: JsonObject = {
        "account_id": account.name,
        "email": account.email,
        "access_token": access_token,
        "refresh_token": refresh_token,
        "token_type": "Bearer",
        "scope": SCOPE,
        "expiry_date": int(expires_unix_s * 1000),
        "created_at": now,
        "updated_at": now,
        "last_used": None,
        "needs_reauth": False,
        "chatgpt_account_id": account.account_id,
        "rate_limited_until": None,
        "consecutive_auth_failures": 0,
        "last_codex_quota_headers": None,
        "last_codex_quota_observed_at": None,
        "last_codex_usage_limit": None,
    }
    path = folder / f"{account.name}.json"
    # Beside the file and then into its place: a relay may be reading the old one.
    fresh = folder / f".{account.name}.json.new"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(dump(content))
    fresh.replace(path)
    return path


def _auth_claim(account: SimulatedAccount) -> JsonObject:
    return {
        "chatgpt_account_id": account.account_id,
        "chatgpt_plan_type": account.plan,
        "chatgpt_user_id": account.user_id,
        "user_id": account.user_id,
        "chatgpt_account_user_id": f"{account.user_id}__{account.account_id}",
    }


def _jwt(claims: JsonObject) -> str:
    header: JsonObject = {"alg": "RS256", "typ": "JWT", "kid": "simulated"}
    return ".".join(_base64url(part) for part in (dump(header), dump(claims), b"no signature"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
