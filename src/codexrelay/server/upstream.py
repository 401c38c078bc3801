"""The upstream request of a turn, per account: what only its maker can read goes to no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from codexrelay.backends.backend import SocketTurn, UpstreamRequest
from codexrelay.backends.codex.headers import Renamed, request_headers
from codexrelay.errors import RequestError
from codexrelay.protocol import encrypted
from codexrelay.protocol.raw import NOTHING, JsonObject, dump, dump_to_keep, get_list, get_text
from codexrelay.sessions.state import TurnPlan

#: Longest session id that goes into a header.
_LONGEST_ID: Final = 128


@attrs.define(eq=False, kw_only=True)
class UpstreamRequests:
    """Makes the request for whichever account a turn is given.

    Raises:
        RequestError: the body cannot be serialised.
    """

    path: str
    accept: str
    client_headers: Mapping[str, str]
    plan: TurnPlan
    body: JsonObject
    #: Names the session for clients that do not do so themselves.
    session_id: str
    #: The model, where the client calls it otherwise.
    renamed: Renamed | None = None
    #: Shared by all attempts; None for what goes over HTTP whatever the backend can do.
    socket: SocketTurn | None = None
    #: Writes the whole body.
    written_by: Callable[[JsonObject], bytes] = dump_to_keep
    #: The whole body: what nearly every attempt sends.
    _whole: bytes = attrs.field(init=False)
    _sent: JsonObject | None = attrs.field(default=None, init=False)
    #: As `encrypted_sent`, of what is not kept any more.
    _digests: tuple[str, ...] = attrs.field(default=(), init=False)

    def __attrs_post_init__(self) -> None:
        try:
            self._whole = self.written_by(self.body)
        except ValueError as error:
            raise RequestError(message=str(error), code="invalid_json") from None

    def __call__(self, account_id: str, *, stripped: bool) -> UpstreamRequest:
        """Return the request for `account_id`; `stripped` of all encrypted reasoning if told so."""
        state = self.plan.turn_state
        own = state.value if state is not None and state.account_id == account_id else None
        body = self.body
        if self.plan.owners:
            body = encrypted.readable_by(account_id, body, self.plan.owners)
        if stripped:
            body = encrypted.without_reasoning(body)
        self._sent = body
        whole, left_out = self._whole, 0
        if body is not self.body:
            whole = dump(body)
            left_out = len(get_list(self.body, "input")) - len(get_list(body, "input"))
        return UpstreamRequest(
            path=self.path,
            body=whole,
            content=body,
            socket=self.socket,
            reasoning_stripped=left_out,
            headers=request_headers(
                self.client_headers,
                session_id=self.session_id,
                turn_state=own,
                accept=self.accept,
                renamed=self.renamed,
            ),
        )

    @property
    def encrypted_sent(self) -> tuple[str, ...]:
        """The digests of the encrypted items in the latest request."""
        if self._sent is None:
            return self._digests
        return tuple(encrypted.digests_of(self._sent))

    def let_go(self) -> None:
        """Keep only what is asked for once the turn is over: no request is made any more."""
        self._digests, self._sent = self.encrypted_sent, None
        self.body, self.client_headers = NOTHING, {}
        self._whole = b""
        self.written_by = dump_to_keep  # the other one may hold what the client has written

    @property
    def claim(self) -> str | None:
        """The account that has a claim: it made what the body holds, or gave this turn's state."""
        owners = self.plan.owners
        owner = encrypted.owner_of(self.body, owners) if owners else None
        if owner is None and self.plan.turn_state is not None:
            return self.plan.turn_state.account_id
        return owner


def session_id_for(body: JsonObject, fallback: str) -> str:
    """Return the id that upstream's session headers carry: the cache key where it fits a header.

    Codex CLI sends the same value in both places (measured).
    """
    key = get_text(body, "prompt_cache_key")
    if key == fallback:
        return key
    fits = key is not None and 0 < len(key) <= _LONGEST_ID and key.isascii() and key.isprintable()
    return key if key is not None and fits else fallback
