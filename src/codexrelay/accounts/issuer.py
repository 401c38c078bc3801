"""The sign-in service, of which the relay uses one call: a refresh token for new tokens.

Source: wire notes 1.2 (measured, Codex CLI 0.169).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs
import httpx

from codexrelay.accounts import wire
from codexrelay.accounts.account import can_be_sent
from codexrelay.protocol.progress import Progress
from codexrelay.protocol.raw import dump, get_number, get_object, get_text, parse_object

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

#: Codex's public client; refresh tokens are bound to it.
CLIENT_ID: Final = "app_EMoamEEZ73f0CkXaXp7hrann"
#: Why a refresh is asked for, in the issuer's words: before use, or after a 401.
RefreshReason: TypeAlias = Literal["proactive_expiry", "unauthorized_recovery"]

#: Codes after which the refresh token is of no use to anybody, and what the owner is told.
TERMINAL_CODES: Final = frozenset(
    {
        "refresh_token_expired",
        "refresh_token_reused",
        "refresh_token_invalidated",
        "invalid_grant",
        "token_expired",
        "token_invalidated",
        "app_session_terminated",
        "account_session_expired",
        "account_deactivated",
        "account_suspended",
        "account_deleted",
    }
)

#: Refused without being read, or not by the issuer at all (an edge's page has no code).
_NOT_PROCESSED: Final = frozenset({408, 425, 429, 451, 503})
_SPEAKS_OF_THE_TOKEN: Final = frozenset({400, 401})
#: Codes that blame the place from which the call comes, whatever the status.
_OF_THE_PLACE: Final = frozenset({"unsupported_country_region_territory"})
CANNOT_BE_REACHED: Final = "the sign-in service cannot be reached"
#: What may stand in the way, for messages about an answer that says nothing about the token.
WHAT_TO_CHECK: Final = "check the network, the VPN or proxy, and the region it comes out in"
#: No access token lives longer; what is said beyond that is a mistake.
_LONGEST_LIFE_S: Final = 10 * 365.25 * 86_400


@attrs.frozen(kw_only=True)
class Renewed:
    """New tokens; the refresh token that was sent is spent."""

    #: None: the old ones stay (each field of the answer is optional in Codex's own parser).
    access_token: str | None = attrs.field(repr=False)
    refresh_token: str | None = attrs.field(repr=False)
    id_token: str | None = attrs.field(repr=False)
    #: Life of the access token, None if the answer says nothing sensible about it; the token's own
    #: `exp` is more to be trusted.
    expires_in_s: float | None


@attrs.frozen(kw_only=True)
class Refused:
    """The issuer read the token and will not renew it."""

    code: str

    @property
    def is_terminal(self) -> bool:
        """Whether the code is known to mean that asking again is of no use."""
        return self.code in TERMINAL_CODES


@attrs.frozen(kw_only=True)
class Unavailable:
    """The token was not looked at, so it is unspent."""

    why: str


@attrs.frozen(kw_only=True)
class Lost:
    """The token was sent and no usable answer came: it may be spent."""

    why: str


Answer: TypeAlias = Renewed | Refused | Unavailable | Lost


@attrs.frozen(kw_only=True)
class Issuer:
    """The token endpoint of one issuer."""

    url: str
    #: Shared with others and closed by its owner.
    transport: httpx.AsyncBaseTransport

    async def renew(
        self, refresh_token: str, *, reason: RefreshReason, progress: Progress | None = None
    ) -> Answer:
        """Spend `refresh_token`. Once called it counts as spent, unless the answer says otherwise.

        Raises nothing of the network's. The deadline is the caller's; when it cancels this, the
        answer is lost, unless `progress` says that the token had not left.
        """
        progress = progress or Progress()
        body = dump(
            {
                "client_id": CLIENT_ID,
                "grant_type": "refresh_token",
                "refresh_reason": reason,
                "refresh_token": refresh_token,
            }
        )
        url = f"{self.url.rstrip('/')}/oauth/token"
        request = wire.post(url, body, content_type="application/json", progress=progress)
        wire.keep_to(httpx.URL(self.url), request)
        try:
            answer = await wire.exchange(self.transport, request)
        except httpx.RequestError as error:
            told = wire.words(error)
            # Nothing was sent, so the token is as good as before.
            if isinstance(error, wire.NOT_SENT) or progress.is_unsent:
                return Unavailable(why=f"{CANNOT_BE_REACHED}: {told}")
            return Lost(why=f"the connection to the sign-in service broke ({told})")
        return read_answer(answer.status, answer.body)


def read_answer(status: int, body: bytes) -> Answer:
    """Return what the issuer's answer means for the token that was sent.

    A 5xx other than 503 may come from a gateway whose issuer had already done its work, so it
    counts as lost. A code of the closed table is a refusal under any 4xx. Any other answer is one
    only where the status speaks of the token and the body is an OAuth error: a page of something
    on the way (a block of the region, of a VPN, of a company) says nothing about it.
    """
    try:
        value = parse_object(body)
    except ValueError:
        value = {}
    if status in _NOT_PROCESSED:
        return Unavailable(why=f"the sign-in service answered {status}")
    if status >= 500 or status < 200:
        return Lost(why=f"the sign-in service answered {status}")
    if status < 300:
        return _renewed(value)
    code = _code_of(value)
    if code in TERMINAL_CODES:
        return Refused(code=code)
    if status in _SPEAKS_OF_THE_TOKEN and code not in _OF_THE_PLACE:
        if code is not None:
            return Refused(code=code)
        if get_object(value, "error"):
            return Refused(code=f"http_{status}")
    named = "" if code is None else f" ({code})"
    return Unavailable(why=f"the sign-in service answered {status}{named}; {WHAT_TO_CHECK}")


def _renewed(value: JsonObject) -> Answer:
    access_token, refresh_token, id_token = (
        get_text(value, name) or None for name in ("access_token", "refresh_token", "id_token")
    )
    if access_token is None and refresh_token is None:
        return Lost(why="the sign-in service's answer held no tokens")
    if not all(can_be_sent(token) for token in (access_token, refresh_token) if token is not None):
        return Lost(why="the sign-in service's answer held a token that cannot be one")
    life_s = get_number(value, "expires_in")
    return Renewed(
        access_token=access_token,
        refresh_token=refresh_token,
        # Nothing is sent with it: one that cannot be one is no reason to lose the others.
        id_token=id_token if id_token is not None and can_be_sent(id_token) else None,
        expires_in_s=life_s if life_s is not None and 0 < life_s <= _LONGEST_LIFE_S else None,
    )


def _code_of(value: JsonObject) -> str | None:
    """Return the code, which stands in one of three places (wire notes 1.2)."""
    return (
        get_text(get_object(value, "error"), "code")
        or get_text(value, "error")
        or get_text(value, "code")
        or None
    )
