"""A code for tokens: the last step of either way to sign in (wire notes 1.1, 1.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.accounts.account import Credentials, can_be_sent
from codexrelay.accounts.issuer import CLIENT_ID
from codexrelay.accounts.login.authorize import SCOPE
from codexrelay.accounts.login.call import post_form
from codexrelay.accounts.login.errors import LoginError
from codexrelay.accounts.login.signed_in import read_signed_in
from codexrelay.protocol.claims import read_claims
from codexrelay.protocol.raw import get_number, get_text

if TYPE_CHECKING:
    import httpx

    from codexrelay.accounts.login.call import Reply
    from codexrelay.accounts.login.signed_in import SignedIn

_AGAIN: Final = "Run the command again"
#: Codes of a refusal (OAuth's, RFC 6749 5.2) -> what they mean here.
_MEANINGS: Final = {
    "invalid_grant": (
        "the code was used before, has run out, or belongs to another sign-in. " + _AGAIN
    ),
    "invalid_client": "it does not know this client. Is `oauth_issuer` the right one?",
    "unauthorized_client": "it does not let this client sign in. Is `oauth_issuer` the right one?",
    "unsupported_grant_type": "it takes no codes. Is `oauth_issuer` the right one?",
}
#: Statuses of a refusal whose code says nothing -> what they mean.
_BY_STATUS: Final = {
    403: (
        "either the redirect address is not the registered one (only port 1455 is), or this "
        f"network is turned away. {_AGAIN} with the default port, or with `--device`"
    ),
    404: "there is no such sign-in service at this address. Is `oauth_issuer` the right one?",
    429: "it has had too many sign-ins. Wait a few minutes, then run the command again",
}


@attrs.frozen(kw_only=True)
class Exchange:
    """One code and what must be shown with it."""

    code: str = attrs.field(repr=False)
    verifier: str = attrs.field(repr=False)
    #: The same as when the code was asked for; nobody is sent there.
    redirect_uri: str

    async def perform(
        self, transport: httpx.AsyncBaseTransport, issuer_url: str, *, now_unix_s: float
    ) -> SignedIn | LoginError:
        """Return the tokens, or why there are none. The code is spent in either case."""
        reply = await post_form(
            transport,
            f"{issuer_url.rstrip('/')}/oauth/token",
            {
                "grant_type": "authorization_code",
                "client_id": CLIENT_ID,
                "code": self.code,
                "redirect_uri": self.redirect_uri,
                "code_verifier": self.verifier,
            },
        )
        if isinstance(reply, LoginError):
            return reply
        if not reply.is_success:
            return self._refused(reply)
        return _signed_in(reply, now_unix_s=now_unix_s)

    def _refused(self, reply: Reply) -> LoginError:
        secrets = (self.code, self.verifier)
        code = "" if any(secret in reply.code for secret in secrets) else reply.code
        words = reply.words(secrets=secrets)
        told = f" ({', '.join(part for part in (str(reply.status), code, words) if part)})"
        if reply.status >= 500:
            return LoginError(f"the sign-in service is in trouble{told}. {_AGAIN} in a while")
        meaning = _MEANINGS.get(code) or _BY_STATUS.get(reply.status) or _AGAIN
        return LoginError(f"the sign-in service has refused the code{told}: {meaning}")


def _signed_in(reply: Reply, *, now_unix_s: float) -> SignedIn | LoginError:
    tokens = {name: get_text(reply.body, name) or None for name in _TOKENS}
    access, refresh, identity = tokens.values()
    if access is None or refresh is None:
        missing = "access token" if access is None else "refresh token"
        return LoginError(f"the sign-in service's answer holds no {missing}. {_AGAIN}")
    if not all(can_be_sent(token) for token in tokens.values() if token is not None):
        return LoginError(f"the sign-in service's answer holds what cannot be a token. {_AGAIN}")
    expires = read_claims(access).expires_at_unix_s
    life_s = get_number(reply.body, "expires_in")
    if expires is None and life_s is not None and life_s > 0:
        expires = now_unix_s + life_s
    return read_signed_in(
        Credentials(
            access_token=access,
            refresh_token=refresh,
            id_token=identity,
            expires_at_unix_s=expires,
        ),
        scope=get_text(reply.body, "scope") or SCOPE,
    )


_TOKENS: Final = ("access_token", "refresh_token", "id_token")
