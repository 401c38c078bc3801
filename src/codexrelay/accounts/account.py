"""An account and its credentials, as values."""

from __future__ import annotations

import enum
import re
from typing import Final, Literal, TypeAlias

import attrs

from codexrelay.errors import Problem
from codexrelay.protocol.claims import read_claims
from codexrelay.protocol.limits import Limits

#: Which kind of file an account was read from: the relay's own, or Codex CLI's `auth.json`.
Origin: TypeAlias = Literal["managed", "legacy"]


#: A line break would end the header, and errors about it would quote it; a blank or a letter of
#: another alphabet is in no token or id, but is what pasting by hand leaves behind.
_SENDABLE: Final = re.compile(r"[!-~]+")


class Status(enum.Enum):
    """What can be expected of an account, the gravest first."""

    NEEDS_REAUTH = "needs_reauth"
    RATE_LIMITED = "rate_limited"
    #: Usable all the same: using it refreshes it first.
    EXPIRED = "expired"
    VALID = "valid"


@attrs.frozen(kw_only=True)
class Credentials:
    """The tokens of one account. They never show in a repr."""

    access_token: str = attrs.field(repr=False)
    #: Single use: a refresh spends it and brings the next one. None: cannot be refreshed.
    refresh_token: str | None = attrs.field(default=None, repr=False)
    id_token: str | None = attrs.field(default=None, repr=False)
    #: End of the access token's life, Unix seconds; None: unknown, taken as never.
    expires_at_unix_s: float | None = None

    def expires_within(self, seconds: float, *, now_unix_s: float) -> bool:
        """Tell whether the access token has `seconds` or less to live; 0 asks if it has expired."""
        return self.expires_at_unix_s is not None and (
            self.expires_at_unix_s - now_unix_s <= seconds
        )


@attrs.frozen(kw_only=True)
class Attention:
    """Something about an account that its owner must look at; time alone changes nothing."""

    #: The backend's code (`deactivated_workspace`), or one of ours.
    code: str
    #: The backend's words, or ours.
    message: str
    since_unix_s: float


@attrs.frozen(kw_only=True)
class UsageLimit:
    """The last usage limit that the backend answered with, as its error told it."""

    error_type: str | None = None
    message: str | None = None
    plan_type: str | None = None
    #: The full reset, Unix seconds: a cool-down may end earlier, for a trial.
    resets_at_unix_s: float | None = None
    observed_unix_s: float | None = None


@attrs.frozen(kw_only=True)
class FileFacts:
    """What stands in an account's file to be shown only, in the file's own words."""

    created_at: str | None = None
    updated_at: str | None = None
    scope: str | None = None
    token_type: str | None = None


@attrs.frozen(kw_only=True)
class Account:
    """One OAuth identity of the owner.

    Bearer and workspace id travel in this one value, so that no request can pair the token of one
    account with the id of another.
    """

    #: Local name: the account file's name without its ending.
    id: str
    #: `chatgpt-account-id` on the wire; None where neither file nor tokens say.
    workspace_id: str | None = None
    #: The person: several may have accounts in one workspace.
    user_id: str | None = None
    email: str | None = None
    plan_type: str | None = None
    credentials: Credentials
    #: Why the owner must sign in again, in an issuer's code or in words; None: need not.
    needs_reauth: str | None = None
    #: End of the cool-down, Unix seconds; may lie in the past.
    rate_limited_until_unix_s: float | None = None
    #: What the backend said last of its quota; None: nothing that is known here.
    limits: Limits | None = None
    usage_limit: UsageLimit | None = None
    last_used_unix_s: float | None = None
    attention: Attention | None = None
    origin: Origin = "managed"
    fedramp: bool = False
    #: None for an account that is in no file of ours.
    file: FileFacts | None = None

    def status(self, *, now_unix_s: float) -> Status:
        """Return the gravest thing there is to say about the account now."""
        if self.needs_reauth is not None:
            return Status.NEEDS_REAUTH
        limit = self.rate_limited_until_unix_s
        if limit is not None and now_unix_s < limit:
            return Status.RATE_LIMITED
        if self.credentials.expires_within(0, now_unix_s=now_unix_s):
            return Status.EXPIRED
        return Status.VALID

    def matches(self, names: tuple[str, ...]) -> bool:
        """Tell whether one of `names` is the local id or the workspace id."""
        return self.id in names or self.workspace_id in names


@attrs.frozen(kw_only=True)
class Loaded:
    """What a look at the account files found."""

    accounts: tuple[Account, ...] = ()
    #: Files that were skipped, or read in part, and why.
    problems: tuple[Problem, ...] = ()
    #: Of the files that were skipped: the id that each has by its name, and its problem.
    broken: tuple[tuple[str, Problem], ...] = ()
    #: There is an account file, usable or not.
    found: bool = False


def can_be_sent(text: str) -> bool:
    """Tell whether `text` may stand in a header as a token or an id."""
    return _SENDABLE.fullmatch(text) is not None


def make_account(
    account_id: str,
    credentials: Credentials,
    *,
    origin: Origin,
    workspace_id: str | None = None,
    email: str | None = None,
    needs_reauth: str | None = None,
    rate_limited_until_unix_s: float | None = None,
) -> Account:
    """Return the account that `credentials` belong to; their claims fill what is None.

    `credentials` and `workspace_id` can be sent. A claim that cannot counts as not made.

    Both tokens are asked, as only the id token names FedRAMP and only some access tokens name the
    email (wire notes 1.3).
    """
    access, identity = read_claims(credentials.access_token), read_claims(credentials.id_token)
    if credentials.expires_at_unix_s is None:
        credentials = attrs.evolve(credentials, expires_at_unix_s=access.expires_at_unix_s)
    return Account(
        id=account_id,
        workspace_id=workspace_id or _sendable(access.workspace_id, identity.workspace_id),
        user_id=access.user_id or identity.user_id,
        email=email or access.email or identity.email,
        plan_type=access.plan_type or identity.plan_type,
        credentials=credentials,
        needs_reauth=needs_reauth,
        rate_limited_until_unix_s=rate_limited_until_unix_s,
        origin=origin,
        fedramp=access.fedramp or identity.fedramp,
    )


def _sendable(*claims: str | None) -> str | None:
    """Return the first claim that says something that can be sent."""
    return next((claim for claim in claims if claim is not None and can_be_sent(claim)), None)
