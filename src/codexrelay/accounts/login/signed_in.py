"""What a sign-in brings: tokens, and what they say about their owner."""

from __future__ import annotations

import attrs

from codexrelay.accounts.account import Credentials, can_be_sent
from codexrelay.protocol.claims import read_claims


@attrs.frozen(kw_only=True)
class SignedIn:
    """The tokens of one identity, which is a user in a workspace; nothing is stored yet."""

    credentials: Credentials
    #: `chatgpt-account-id` on the wire; None where no token says.
    workspace_id: str | None
    user_id: str | None
    email: str | None
    plan_type: str | None
    #: What the tokens are good for, in the issuer's words.
    scope: str
    #: The issuer has just handed them out; False: read from a file, where they may have grown old.
    fresh: bool = True


def read_signed_in(
    credentials: Credentials,
    *,
    scope: str,
    fresh: bool = True,
    workspace_id: str | None = None,
    email: str | None = None,
) -> SignedIn:
    """Return whose `credentials` are; both tokens are asked, the access token first.

    What is given beats the claims. A claim that cannot be sent in a header counts as not made.
    """
    access, identity = read_claims(credentials.access_token), read_claims(credentials.id_token)
    if credentials.expires_at_unix_s is None:
        credentials = attrs.evolve(credentials, expires_at_unix_s=access.expires_at_unix_s)
    claimed = (access.workspace_id, identity.workspace_id)
    return SignedIn(
        credentials=credentials,
        workspace_id=workspace_id or next((w for w in claimed if w and can_be_sent(w)), None),
        user_id=access.user_id or identity.user_id,
        email=email or access.email or identity.email,
        plan_type=access.plan_type or identity.plan_type,
        scope=scope,
        fresh=fresh,
    )
