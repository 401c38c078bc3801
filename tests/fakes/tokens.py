"""Tokens and account files for tests; nothing in them is real."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import attrs
import orjson

from codexrelay.accounts.account import Account, Credentials, make_account

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.accounts.account import Origin
    from codexrelay.protocol.raw import Json, JsonObject


def jwt(claims: JsonObject) -> str:
    """Return a token that says `claims`; its signature is none."""
    parts = (orjson.dumps({"alg": "none"}), orjson.dumps(claims), b"signature")
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def access_token(workspace_id: str, *, expires_at_unix_s: float, serial: int = 0) -> str:
    """Return an access token; `serial` tells it from others of the same account."""
    auth: JsonObject = {"chatgpt_account_id": workspace_id, "chatgpt_plan_type": "plus"}
    return jwt(
        {"jti": serial, "exp": expires_at_unix_s, "https://api.openai.com/auth": auth},
    )


def an_account(
    account_id: str = "work",
    *,
    token: str = "access-1",
    refresh_token: str | None = "refresh-1",
    expires_at_unix_s: float | None = None,
    limited_until_unix_s: float | None = None,
    needs_reauth: str | None = None,
    plan_type: str | None = None,
    origin: Origin = "managed",
) -> Account:
    """Return an account for the pure parts, whose tokens say nothing."""
    account = make_account(
        account_id,
        Credentials(
            access_token=token, refresh_token=refresh_token, expires_at_unix_s=expires_at_unix_s
        ),
        origin=origin,
        workspace_id=f"workspace-of-{account_id}",
        needs_reauth=needs_reauth,
        rate_limited_until_unix_s=limited_until_unix_s,
    )
    return attrs.evolve(account, plan_type=plan_type)


def write_account(folder: Path, account_id: str, credentials: Credentials, **more: Json) -> Path:
    """Write an account file as other programs write it, and return its path."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    expires = credentials.expires_at_unix_s
    record: JsonObject = {
        "account_id": account_id,
        "email": None,
        "access_token": credentials.access_token,
        "refresh_token": credentials.refresh_token,
        "token_type": "Bearer",
        "scope": "openid profile email",
        "expiry_date": None if expires is None else round(expires * 1000),
        **more,
    }
    path = folder / f"{account_id}.json"
    path.write_bytes(orjson.dumps(record))
    path.chmod(0o600)
    return path
