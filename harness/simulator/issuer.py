"""The sign-in service: who holds which token, and what refreshing and revoking do to it.

Refresh tokens are single-use; a second use revokes the family (wire notes 1.2). Access tokens stay
good until they expire, also after a refresh, unless they are expired or revoked on demand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.openai_errors import error_object
from codexrelay.protocol.raw import get_text
from harness.simulator.accounts import (
    CLIENT_ID,
    SCOPE,
    SimulatedAccount,
    access_token,
    id_token,
)
from harness.simulator.arrival import RefusedError
from harness.simulator.ids import Ids
from harness.simulator.sign_in import SignIns
from harness.simulator.steps import Answer, reply

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject


@attrs.define(eq=False)
class _Access:
    """An access token that was handed out."""

    account: SimulatedAccount
    expires_unix_s: float
    #: Taken for expired on demand, whatever its claims say.
    expired: bool = False
    #: Withdrawn on demand although it has not expired.
    revoked: bool = False


@attrs.define(eq=False, repr=False)
class _Family:
    """The refresh tokens that follow from one sign-in; one of them is good at a time."""

    account: SimulatedAccount
    current: str
    revoked: bool = False


@attrs.frozen(kw_only=True)
class TokenPair:
    """What a sign-in or a refresh gives."""

    access_token: str = attrs.field(repr=False)
    refresh_token: str = attrs.field(repr=False)
    expires_unix_s: float


# The three forms of a 401 (wire notes 2.4, recorded streams, observed bodies).
EXPIRED_401: Final[JsonObject] = {
    "error": {
        "message": "Provided authentication token is expired. Please try signing in again.",
        "type": None,
        "code": "token_expired",
        "param": None,
    },
    "status": 401,
}
_REVOKED_401: Final[JsonObject] = {
    "error": error_object(
        "Your authentication token has been invalidated. Please try signing in again.",
        type="invalid_request_error",
        code="token_invalidated",
    ),
    "status": 401,
}
_UNKNOWN_401: Final[JsonObject] = {
    "detail": "Could not parse your authentication token. Please try signing in again."
}
_MISSING_401: Final[JsonObject] = {"detail": "Unauthorized"}


@attrs.define(eq=False, repr=False)
class Issuer:
    """Owns the tokens of all accounts."""

    _ids: Ids
    _access: dict[str, _Access] = attrs.field(factory=dict, init=False)
    #: Every refresh token that was ever handed out -> its family.
    _refresh: dict[str, _Family] = attrs.field(factory=dict, init=False)
    #: Sign-ins under way, by the page and by devices.
    sign_ins: SignIns = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.sign_ins = SignIns(self._ids)

    def sign_in(self, account: SimulatedAccount, *, now_unix_s: float) -> TokenPair:
        """Return the tokens of a new sign-in of `account`, which starts a family of its own."""
        lifetime_s = -60.0 if account.expired else account.token_lifetime_s
        family = _Family(account, current="")
        return self._issue(family, now_unix_s=now_unix_s, lifetime_s=lifetime_s)

    def account_of(self, bearer: str | None, *, now_unix_s: float) -> SimulatedAccount:
        """Return whose access token `bearer` is.

        Raises:
            RefusedError: there is none, or it is unknown, expired or revoked.
        """
        if bearer is None:
            raise RefusedError(401, _MISSING_401)
        access = self._access.get(bearer)
        if access is None:
            raise RefusedError(401, _UNKNOWN_401)
        if access.revoked:
            raise RefusedError(401, _REVOKED_401)
        if access.expired or access.expires_unix_s <= now_unix_s:
            raise RefusedError(401, EXPIRED_401)
        return access.account

    def expire(self, account: SimulatedAccount) -> None:
        """Refuse the account's access tokens from now on, whatever their claims say."""
        for access in self._access.values():
            if access.account == account:
                access.expired = True

    def unexpire(self) -> None:
        """Take all access tokens again for as long as their claims say."""
        for access in self._access.values():
            access.expired = False

    def revoke(self, account: SimulatedAccount) -> None:
        """Withdraw every token of the account: it must sign in again."""
        for access in self._access.values():
            access.revoked = access.revoked or access.account == account
        for family in self._refresh.values():
            family.revoked = family.revoked or family.account == account

    def token(self, form: Json, *, now_unix_s: float) -> Answer:
        """Answer `POST /oauth/token` for a parsed body.

        Raises:
            RefusedError: a code is refused.
        """
        fields = form if isinstance(form, dict) else {}
        grant = get_text(fields, "grant_type")
        if grant not in ("refresh_token", "authorization_code"):
            return reply(400, {"error": "unsupported_grant_type"})
        if get_text(fields, "client_id") != CLIENT_ID:
            return reply(401, {"error": "invalid_client"})
        if grant == "authorization_code":
            account = self.sign_ins.redeem(fields, now_unix_s=now_unix_s)
            return self._answered(_Family(account, current=""), now_unix_s=now_unix_s)
        token = get_text(fields, "refresh_token") or ""
        family = self._refresh.get(token)
        if family is None:
            return reply(
                400, {"error": "invalid_grant", "error_description": "Unknown refresh token."}
            )
        if family.revoked:
            return _refused("refresh_token_invalidated", "Your refresh token has been invalidated.")
        if token != family.current:
            family.revoked = True
            return _refused(
                "refresh_token_reused",
                "Your refresh token has already been used to generate a new access token.",
            )
        return self._answered(family, now_unix_s=now_unix_s)

    def revoke_token(self, form: Json) -> Answer:
        """Answer `POST /oauth/revoke`: the family ends; an unknown token is no error."""
        token = get_text(form, "token") if isinstance(form, dict) else None
        if family := self._refresh.get(token or ""):
            family.revoked = True
        return reply(200, {})

    def _answered(self, family: _Family, *, now_unix_s: float) -> Answer:
        lifetime_s = family.account.token_lifetime_s
        pair = self._issue(family, now_unix_s=now_unix_s, lifetime_s=lifetime_s)
        return reply(
            200,
            {
                "access_token": pair.access_token,
                "id_token": id_token(
                    family.account, token_id=self._ids.uuid(), issued_unix_s=now_unix_s
                ),
                "refresh_token": pair.refresh_token,
                "token_type": "bearer",
                "expires_in": int(lifetime_s),
                "scope": SCOPE,
            },
        )

    def _issue(self, family: _Family, *, now_unix_s: float, lifetime_s: float) -> TokenPair:
        expires_unix_s = now_unix_s + lifetime_s
        access = access_token(
            family.account,
            token_id=self._ids.uuid(),
            issued_unix_s=min(now_unix_s, expires_unix_s),
            expires_unix_s=expires_unix_s,
        )
        self._access[access] = _Access(family.account, expires_unix_s)
        family.current = f"rt_{self._ids.text(60)}"
        self._refresh[family.current] = family
        return TokenPair(
            access_token=access,
            refresh_token=family.current,
            expires_unix_s=expires_unix_s,
        )


def _refused(code: str, message: str) -> Answer:
    error = error_object(
        f"{message} Please try signing in again.", type="invalid_request_error", code=code
    )
    return reply(401, {"error": error})
