"""Headers towards the Codex backend, and those of its answers that clients get.

Source of the request's list: Codex CLI 0.169 over HTTP, in its order (wire notes 2.1). Who the
request says it comes from is in `identity`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.backends.codex import identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
        identity.SESSION,
        identity.THREAD,
    }
)
#: These two come from one place, the client or here.
_IDS: Final = (identity.SESSION, identity.THREAD)
#: Where each stands: as Codex CLI sends them. Others that a client may say itself stand behind the
#: first of these, where Codex CLI has its situational ones.
_PLACES: Final[Mapping[str, int]] = {
    identity.FEATURES: 0,
    "x-codex-window-id": 1,
    "x-codex-turn-metadata": 2,
    LITE: 3,
    "x-codex-routing-hint": 4,
    TURN_STATE: 6,
    "x-client-request-id": 7,
    identity.SESSION: 8,
    identity.THREAD: 9,
}
_ELSEWHERE: Final = 5
#: Of the client's `x-codex-*`: these are set here, because they belong to an account.
_NOT_FROM_CLIENT: Final = frozenset({TURN_STATE})
#: The handshake of a WebSocket has them in another order (wire notes 7, measured): these first, and
#: then the others, as over HTTP.
_FIRST_OF_HANDSHAKE: Final = (
    "chatgpt-account-id",
    "x-openai-fedramp",
    "authorization",
    "user-agent",
    "originator",
    "openai-beta",
    "version",
    identity.FEATURES,
    "x-client-request-id",
    identity.SESSION,
    identity.THREAD,
    "x-codex-window-id",
    "x-codex-turn-metadata",
    "x-codex-routing-hint",
)
#: Of a body or of an answer that a handshake does not have; and of one request, where later ones
#: share the handshake.
_NOT_IN_HANDSHAKE: Final = frozenset(
    {"accept", "accept-encoding", "content-type", "content-length", "content-encoding", LITE}
)
#: The revision of the protocol that is spoken.
_SOCKETS_BETA: Final = ("openai-beta", "responses_websockets=2026-02-06")
#: Longer than any that was seen; servers refuse such heads as a whole.
_LONGEST_VALUE: Final = 16384
#: Some servers refuse a head with one of these.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

#: Answer headers that mean something to clients, besides all `x-codex-*`. Not `x-models-etag`: it
#: would let Codex CLI ask for the catalogue again after every turn, as our list has another tag.
_TO_CLIENT: Final = frozenset(
    {"openai-model", "x-request-id", "x-oai-request-id", "x-reasoning-included"}
)


@attrs.frozen
class Renamed:
    """A client's own name for a model, and the slug that the backend knows.

    Codex CLI says the model in more places than one: what it was told to call it, parameters and
    aliases included, is nothing that the backend should hear.
    """

    asked: str
    slug: str

    def within(self, text: str) -> str:
        """Return a header's value, or JSON as text, with the slug where the model is named."""
        if self.asked == self.slug or not self.asked:
            return text
        # As JSON has it, with and without escapes; and as `x-codex-routing-hint` has it.
        for written in dict.fromkeys(
            (json.dumps(self.asked), json.dumps(self.asked, ensure_ascii=False))
        ):
            named = re.compile(rf'("model"\s*:\s*){re.escape(written)}')
            text = named.sub(lambda found: found[1] + json.dumps(self.slug), text)
        named = re.compile(rf"(\bmodel=){re.escape(self.asked)}(?=$|[;,&\s])")
        return named.sub(lambda found: found[1] + self.slug, text)


def request_headers(
    client: Mapping[str, str],
    *,
    session_id: str,
    turn_state: str | None,
    accept: str,
    renamed: Renamed | None = None,
) -> tuple[tuple[str, str], ...]:
    """Return the headers of an upstream request, without those of the account.

    Behind them stands what a client that is Codex CLI says of itself: the backend's block decides
    whether that goes out, and what features are named where the client names none
    (`identity.named`).

    `client` are the client's headers, lower-case; `session_id` names the session for a client that
    does not do so itself; `turn_state` is sent only to the account that gave it; `renamed` is the
    model, where the client calls it otherwise.
    """
    ours: Iterable[tuple[str, str]] = (
        ("x-client-request-id", session_id),
        (identity.SESSION, session_id),
        (identity.THREAD, session_id),
    )
    said = _said_by(client, renamed)
    if turn_state is not None:
        said.append((TURN_STATE, turn_state))
    if said:  # without Codex CLI in front there is nothing to sort
        ours = sorted((dict(ours) | dict(said)).items(), key=_place)
    return (
        *ours,
        ("accept", accept),
        # Codex CLI leaves this out, and means the same by it.
        ("accept-encoding", "identity"),
        ("content-type", "application/json"),
        *identity.said_by(client),
    )


def question_headers(accept: str = "*/*") -> tuple[tuple[str, str], ...]:
    """Return the headers of a question of the relay's own, which is no turn: of no session.

    As Codex CLI asks for the models (wire notes 5), but for the encoding, as above.
    """
    return (("accept", accept), ("accept-encoding", "identity"))


def _place(header: tuple[str, str]) -> int:
    return _PLACES.get(header[0], _ELSEWHERE)


def _said_by(client: Mapping[str, str], renamed: Renamed | None) -> list[tuple[str, str]]:
    told = [
        (name, value)
        for name, value in client.items()
        if name in _FROM_CLIENT or name.startswith("x-codex-")
    ]
    if not told:
        return told
    # One without the other, or beside one of ours, would name a session that nobody has.
    ids = all(_is_id(client.get(name, "")) for name in _IDS)
    return [
        (name, value if renamed is None else renamed.within(value))
        for name, value in told
        if name not in _NOT_FROM_CLIENT and (ids or name not in _IDS) and _can_be_sent(value)
    ]


def _can_be_sent(value: str) -> bool:
    return 0 < len(value) <= _LONGEST_VALUE and _CONTROL.search(value) is None


def _is_id(value: str) -> bool:
    return value.isascii() and value.isprintable() and _can_be_sent(value)


def account_headers(account: Account) -> tuple[tuple[str, str], ...]:
    """Return the headers that name the account. They come from one value, so they always match."""
    headers = [("authorization", f"Bearer {account.credentials.access_token}")]
    if account.workspace_id is not None:
        headers.append(("chatgpt-account-id", account.workspace_id))
    if account.fedramp:
        headers.append(("x-openai-fedramp", "true"))
    return tuple(headers)


def handshake_headers(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the headers of a WebSocket's handshake; `headers` are those of the same over HTTP."""
    kept = [header for header in headers if header[0] not in _NOT_IN_HANDSHAKE]
    places = {name: place for place, name in enumerate(_FIRST_OF_HANDSHAKE)}
    return tuple(
        sorted((*kept, _SOCKETS_BETA), key=lambda header: places.get(header[0], len(places)))
    )


def passed_on(head: Head) -> Headers:
    """Return the answer headers that the client gets: limits, turn state, model, request id."""
    told = [
        (name, value)
        for name, value in head.headers.items()
        if name[:8] == "x-codex-" or name in _TO_CLIENT
    ]
    if not told:
        return []
    # Joined, because one call for all of them is a quarter of one for each; no line break gets
    # through the parser.
    names = "\n".join([name for name, _ in told]).encode("ascii").split(b"\n")
    values = "\n".join([value for _, value in told]).encode("latin-1").split(b"\n")
    return list(zip(names, values, strict=True))
