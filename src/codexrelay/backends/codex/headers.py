"""Headers towards the Codex backend, and those of its answers that clients get.

Source of the request's list: Codex CLI 0.169 over HTTP, in its order (wire notes 2.1). Who the
request says it comes from is in `identity`.
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
#: Where each stands: as Codex CLI sends them. Others that a client may say itself stand behind the
#: first of these, where Codex CLI has its situational ones.
_PLACES: Final[Mapping[str, int]] = {
    "x-codex-beta-features": 0,
    "x-codex-window-id": 1,
    "x-codex-turn-metadata": 2,
    LITE: 3,
    "x-codex-routing-hint": 4,
    TURN_STATE: 6,
    "x-client-request-id": 7,
    "session-id": 8,
    "thread-id": 9,
}
_ELSEWHERE: Final = 5
#: Of the client's `x-codex-*`: these are set here, because they belong to an account.
_NOT_FROM_CLIENT: Final = frozenset({TURN_STATE})
#: Longer than any that was seen; servers refuse such heads as a whole.
_LONGEST_VALUE: Final = 16384

#: Answer headers that mean something to clients, besides all `x-codex-*`. Not `x-models-etag`: it
#: would let Codex CLI ask for the catalogue again after every turn, as our list has another tag.
_TO_CLIENT: Final = frozenset(
    {"openai-model", "x-request-id", "x-oai-request-id", "x-reasoning-included"}
)


def request_headers(
    client: Mapping[str, str], *, session_id: str, turn_state: str | None, accept: str
) -> tuple[tuple[str, str], ...]:
    """Return the headers of an upstream request, without those of the account.

    Behind them stands what a client that is Codex CLI says of itself: the backend's block decides
    whether that goes out (`identity.named`).

    `client` are the client's headers, lower-case; `session_id` names the session for a client that
    does not do so itself; `turn_state` is sent only to the account that gave it.
    """
    headers = {
        "x-codex-beta-features": identity.BETA_FEATURES,
        "x-client-request-id": session_id,
        "session-id": session_id,
        "thread-id": session_id,
    }
    in_place = len(headers)
    headers |= dict(_said_by(client))
    if turn_state is not None:
        headers[TURN_STATE] = turn_state
    # Without Codex CLI in front there is nothing to sort.
    ours = headers.items() if len(headers) == in_place else sorted(headers.items(), key=_place)
    return (
        *ours,
        ("accept", accept),
        # Codex CLI leaves this out, and means the same by it.
        ("accept-encoding", "identity"),
        ("content-type", "application/json"),
        *identity.said_by(client),
    )


def _place(header: tuple[str, str]) -> int:
    return _PLACES.get(header[0], _ELSEWHERE)


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
