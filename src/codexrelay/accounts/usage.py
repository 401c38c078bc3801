"""Asking the backend how much of its quota an account has used, without spending any of it.

Source: wire notes 4.3 (measured, Codex CLI 0.169).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

import attrs
import httpx

from codexrelay.accounts.wire import USER_AGENT, exchange
from codexrelay.errors import CodexRelayError
from codexrelay.protocol import faults
from codexrelay.protocol.faults import FaultKind
from codexrelay.protocol.limits import from_usage
from codexrelay.protocol.raw import parse_object

if TYPE_CHECKING:
    from codexrelay.accounts.account import Account
    from codexrelay.accounts.wire import RawAnswer
    from codexrelay.protocol.limits import Limits

#: ChatGPT's own API stands in two places: the model's under `codex`, all else under `wham`.
_CODEX_PATH: Final = "/backend-api/codex"
_USAGE_PATH: Final = "/backend-api/wham/usage"
_OTHER_USAGE_PATH: Final = "/api/codex/usage"


@attrs.frozen(kw_only=True)
class UsageUnavailableError(CodexRelayError):
    """The backend does not say what an account has used."""

    account_id: str
    #: What happened, and what to do where anything can be done.
    why: str
    #: Of the answer; None: there was none.
    status: int | None = None

    def __str__(self) -> str:
        return f"the usage of account {self.account_id} is not known: {self.why}"


def usage_url(api_base_url: str) -> str:
    """Return where the usage is asked for, from where the model is asked."""
    scheme, host, path, _, _ = urlsplit(api_base_url)
    before, found, after = path.rstrip("/").rpartition(_CODEX_PATH)
    is_chatgpt = bool(found) and not after
    usage = before + _USAGE_PATH if is_chatgpt else _OTHER_USAGE_PATH
    return urlunsplit((scheme, host, usage, "", ""))


async def fetch_usage(
    transport: httpx.AsyncBaseTransport,
    account: Account,
    *,
    api_base_url: str,
    now_unix_s: float,
    user_agent: str = USER_AGENT,
) -> Limits:
    """Return what the backend says of the account's quota now.

    The token is sent as it is: the caller refreshes an expired one first. The deadline is the
    caller's; nothing is left open when it cancels this.

    Args:
        transport: shared with others and closed by its owner.
        account: whose usage; its token must be one that the backend takes.
        api_base_url: as turns use it.
        now_unix_s: wall clock.
        user_agent: who asks.

    Raises:
        UsageUnavailableError: no connection, a refusal, or an answer without limits.
    """
    request = httpx.Request("GET", usage_url(api_base_url), headers=_headers(account, user_agent))
    try:
        answer = await exchange(transport, request)
    except httpx.RequestError as error:
        raise UsageUnavailableError(
            account_id=account.id,
            why=f"the connection to {request.url.host} failed ({type(error).__name__})",
        ) from error
    limits = None
    if answer.status == 200:
        try:
            limits = from_usage(parse_object(answer.body), now_unix_s=now_unix_s)
        except ValueError:
            limits = None
    if limits is None:
        raise UsageUnavailableError(
            account_id=account.id,
            why=_why_not(account, answer, now_unix_s),
            status=answer.status,
        )
    return limits


def _headers(account: Account, user_agent: str) -> dict[str, str]:
    headers = {
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": f"Bearer {account.credentials.access_token}",
        "user-agent": user_agent,
    }
    if account.workspace_id is not None:
        headers["chatgpt-account-id"] = account.workspace_id
    if account.fedramp:
        headers["x-openai-fedramp"] = "true"
    return headers


def _why_not(account: Account, answer: RawAnswer, now_unix_s: float) -> str:
    """Say what the answer was, and what to do about it."""
    status = answer.status
    if status == 200:
        return "the backend answered 200, but with no word on limits"
    fault = faults.from_response(status, {}, answer.body, now_unix_s=now_unix_s)
    told = f"the backend answered {status}"
    if fault.message and str(status) not in fault.message:
        told = f"{told}: {fault.message}"
    elif fault.message:
        told = fault.message
    if fault.kind is FaultKind.UNAUTHORIZED:
        return f"{told}; sign in again: {_sign_in(account)}"
    return told


def _sign_in(account: Account) -> str:
    if account.origin == "legacy":
        return "`codex login`"
    return f"`codexrelay accounts update {account.id}`"
