"""Headers towards the Codex backend, and those of its answers that clients get.

Source of the request's list: Codex CLI 0.169 over HTTP, in its order (wire notes 2.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.backends.codex import identity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from codexrelay.accounts.account import Account
    from codexrelay.backends.backend import Head
    from codexrelay.protocol.raw import Headers

TURN_STATE: Final = "x-codex-turn-state"
LITE: Final = "x-openai-internal-codex-responses-lite"

#: What a client may say itself; everything else of its own stays here, above all `authorization`,
#: `chatgpt-account-id`, `cookie` and the constant `openai-platform` of Droid.
_FROM_CLIENT: Final = frozenset(
    {
        LITE,
        "x-openai-subagent",
        "x-openai-memgen-request",
        "x-responsesapi-include-timing-metrics",
        "x-client-request-id",
        "session-id",
        "thread-id",
    }
)
#: Of the client's `x-codex-*`: these are set here, because they belong to an account.
_NOT_FROM_CLIENT: Final = frozenset({TURN_STATE})
#: Longer than any that was seen; servers refuse such heads as a whole.
_LONGEST_VALUE: Final = 16384

#: Answer headers that mean something to clients, besides all `x-codex-*`. Not `x-models-etag`: it
#: would let Codex CLI ask for the catalogue again after every turn, since ours has no such tag.
_TO_CLIENT: Final = frozenset(
    {"openai-model", "x-request-id", "x-oai-request-id", "x-reasoning-included"}
)


def request_headers(
    client: Mapping[str, str], *, session_id: str, turn_state: str | None, accept: str
) -> tuple[tuple[str, str], ...]:
    """Return the headers of an upstream request, without those of the account.

    `client` are the client's headers, lower-case; `session_id` names the session for a client that
    does not do so itself; `turn_state` is sent only to the account that gave it.
    """
    headers = {
        "version": identity.VERSION,
        "x-codex-beta-features": identity.BETA_FEATURES,
        "x-client-request-id": session_id,
        "session-id": session_id,
        "thread-id": session_id,
    }
    headers |= dict(_said_by(client))
    if turn_state is not None:
        headers[TURN_STATE] = turn_state
    headers |= {
        "accept": accept,
        "accept-encoding": "identity",
        "content-type": "application/json",
        "originator": identity.ORIGINATOR,
        "user-agent": identity.USER_AGENT,
    }
    return tuple(headers.items())


def _said_by(client: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in client.items():
        wanted = name in _FROM_CLIENT or name.startswith("x-codex-")
        if wanted and name not in _NOT_FROM_CLIENT and len(value) <= _LONGEST_VALUE:
            yield name, value


def account_headers(account: Account) -> tuple[tuple[str, str], ...]:
    """Return the headers that name the account. They come from one value, so they always match."""
    headers = [("authorization", f"Bearer {account.credentials.access_token}")]
    if account.workspace_id is not None:
        headers.append(("chatgpt-account-id", account.workspace_id))
    if account.fedramp:
        headers.append(("x-openai-fedramp", "true"))
    return tuple(headers)


def passed_on(head: Head) -> Headers:
    """Return the answer headers that the client gets: limits, turn state, model, request id."""
    return [
        (name.encode("ascii"), value.encode("latin-1"))
        for name, value in head.headers.items()
        if name in _TO_CLIENT or name.startswith("x-codex-")
    ]
