"""What a token says about its owner. Nobody verifies signatures here: the backend does.

The claims and their aliases: wire notes 1.3.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.raw import (
    get_list,
    get_number,
    get_object,
    get_text,
    is_object,
    parse_object,
)

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

_AUTH: Final = "https://api.openai.com/auth"
_PROFILE: Final = "https://api.openai.com/profile"
#: Further names of the workspace id, seen in tokens of other issuers' versions (codex-lb).
#: The end of the year 9999: no calendar can write what lies behind it.
_LAST_UNIX_S: Final = 253_402_300_800.0
_WORKSPACE_ALIASES: Final = ("workspace_id", "organization_id", "org_id", "tenant_id")


@attrs.frozen(kw_only=True)
class Claims:
    """The claims the relay acts on; None where the token does not say."""

    #: The ChatGPT account (workspace) the token is for: `chatgpt-account-id` on the wire.
    workspace_id: str | None = None
    #: The person: one user may have several workspaces, and a workspace several users.
    user_id: str | None = None
    plan_type: str | None = None
    email: str | None = None
    expires_at_unix_s: float | None = None
    #: The workspace is FedRAMP's: its requests carry a header of their own.
    fedramp: bool = False


def read_claims(token: str | None) -> Claims:
    """Return what `token` says. A token that is no JWT says nothing: never raises."""
    claims = _payload_of(token or "")
    auth = get_object(claims, _AUTH)
    return Claims(
        workspace_id=_workspace_id(claims, auth),
        user_id=_filled(auth, "chatgpt_user_id") or _filled(auth, "user_id"),
        plan_type=_filled(auth, "chatgpt_plan_type"),
        email=_filled(claims, "email") or _filled(get_object(claims, _PROFILE), "email"),
        expires_at_unix_s=_instant(claims, "exp"),
        fedramp=auth.get("chatgpt_account_is_fedramp") is True,
    )


def _payload_of(token: str) -> JsonObject:
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    payload = parts[1]
    try:
        return parse_object(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, binascii.Error):
        return {}


def _workspace_id(claims: JsonObject, auth: JsonObject) -> str | None:
    if found := _filled(auth, "chatgpt_account_id") or _filled(claims, "chatgpt_account_id"):
        return found
    for name in _WORKSPACE_ALIASES:
        if found := _filled(auth, name) or _filled(claims, name):
            return found
    for organization in get_list(claims, "organizations"):
        if is_object(organization) and (found := _filled(organization, "id")):
            return found
    return None


def _filled(value: JsonObject, key: str) -> str | None:
    return get_text(value, key) or None


def _instant(value: JsonObject, key: str) -> float | None:
    at = get_number(value, key)
    return at if at is not None and 0 < at < _LAST_UNIX_S else None
