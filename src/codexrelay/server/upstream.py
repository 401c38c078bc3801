"""The upstream request of a turn, per account: what only its maker can read goes to no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from codexrelay.backends.backend import UpstreamRequest
from codexrelay.backends.codex.headers import request_headers
from codexrelay.errors import RequestError
from codexrelay.protocol.raw import Json, JsonObject, dump, get_list, get_text, is_object
from codexrelay.sessions.state import TurnPlan

#: Longest session id that goes into a header.
_LONGEST_ID: Final = 128


@attrs.frozen(kw_only=True)
class Draft:
    """A turn's body for the backend."""

    body: JsonObject
    #: The same for an account that cannot read the encrypted reasoning in `body`; None if there is
    #: none in it.
    body_for_others: Callable[[], JsonObject] | None


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
    draft: Draft
    #: Names the session for clients that do not do so themselves.
    session_id: str
    #: Serialised bodies: the usual one, and the one for other accounts.
    _own: bytes = attrs.field(init=False)
    _others: bytes | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        try:
            self._own = dump(self.draft.body)
        except ValueError as error:
            raise RequestError(message=str(error), code="invalid_json") from None

    def __call__(self, account_id: str) -> UpstreamRequest:
        """Return the request for `account_id`."""
        state = self.plan.turn_state
        own = state.value if state is not None and state.account_id == account_id else None
        return UpstreamRequest(
            path=self.path,
            body=self._body(account_id),
            headers=request_headers(
                self.client_headers,
                session_id=self.session_id,
                turn_state=own,
                accept=self.accept,
            ),
        )

    @property
    def prefer(self) -> str | None:
        """The account that has a claim: it gave this turn's state, or made what the body holds."""
        if self.plan.turn_state is not None:
            return self.plan.turn_state.account_id
        return self.plan.account_id if self.draft.body_for_others is not None else None

    def _body(self, account_id: str) -> bytes:
        others = self.draft.body_for_others
        if others is None or self.plan.account_id in (None, account_id):
            return self._own
        if self._others is None:
            self._others = dump(others())
        return self._others


def session_id_for(body: JsonObject, fallback: str) -> str:
    """Return the id that upstream's session headers carry: the cache key where it fits a header.

    Codex CLI sends the same value in both places (measured).
    """
    key = get_text(body, "prompt_cache_key")
    fits = key is not None and 0 < len(key) <= _LONGEST_ID and key.isascii() and key.isprintable()
    return key if key is not None and fits else fallback


def responses_draft(body: JsonObject) -> Draft:
    """Return the draft of a Responses body."""
    holds = any(_is_encrypted_reasoning(item) for item in get_list(body, "input"))
    return Draft(body=body, body_for_others=(lambda: _without_reasoning(body)) if holds else None)


def _without_reasoning(body: JsonObject) -> JsonObject:
    """Drop encrypted reasoning: another account answers it with `invalid_encrypted_content`."""
    kept = [item for item in get_list(body, "input") if not _is_encrypted_reasoning(item)]
    return {**body, "input": kept}


def _is_encrypted_reasoning(item: Json) -> bool:
    return (
        is_object(item)
        and item.get("type") == "reasoning"
        and isinstance(item.get("encrypted_content"), str)
    )
