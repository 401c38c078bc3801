"""A client's request as one to another backend: native where it speaks the client's protocol.

Native means: the body as it came, but for the name of the model, the stream that the relay always
reads, and what speaks to the relay alone. What only the Codex backend wants (its prompt, its tools,
`store: false`, encrypted reasoning) is never put into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.chat_fields import flag_at, list_at, name_at, object_at
from codexrelay.protocol.chat_native import ChatDelivery
from codexrelay.protocol.chat_request import ChatTurn, translate_plainly
from codexrelay.protocol.chat_source import ChatToResponses
from codexrelay.protocol.chat_target import as_chat
from codexrelay.protocol.delivery import Delivery, Wire
from codexrelay.protocol.raw import JsonObject, get_object
from codexrelay.protocol.responses_body import ResponsesDelivery
from codexrelay.protocol.responses_request import check_form
from codexrelay.protocol.target_tools import TargetTools

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.protocol.model_choice import ModelChoice
    from codexrelay.protocol.raw import Json

#: What is spoken -> where it is spoken, below the base URL.
PATHS: Final[Mapping[Wire, str]] = {"responses": "/responses", "chat": "/chat/completions"}
#: Fields that neither API has: names of a session for the relay, and what Codex CLI tells its own
#: backend of itself (its installation among it), which is nobody else's business.
_NOT_FOR_OTHERS: Final = frozenset({"session_id", "conversation_id", "client_metadata"})


@attrs.frozen(kw_only=True)
class PlainRequest:
    """A request to another backend, and what its answer must know of it."""

    #: What the target speaks, and what the attempt delivers.
    wire: Wire
    delivers: Wire
    body: JsonObject
    #: The client's own name of the model.
    model: str
    #: Whether the client wants events, and (Chat) a last chunk with the usage.
    stream: bool
    include_usage: bool = False
    #: What of the client's request is not sent, as paths.
    dropped: tuple[str, ...] = ()
    #: What was done to it beyond that, as `PATH: WHAT`.
    changes: tuple[str, ...] = ()
    #: For the answer to a Chat client of a target that speaks Responses, None otherwise.
    chat: ChatTurn | None = None
    #: How the target calls the tools of a Responses client, where it speaks Chat.
    tools: TargetTools = attrs.field(factory=TargetTools)

    @property
    def path(self) -> str:
        """Where it is sent, below the base URL."""
        return PATHS[self.wire]

    def delivery(self, *, response_id: str, created_unix_s: int) -> Delivery:
        """Return what reads one attempt's answer."""
        if self.wire == "responses":
            return ResponsesDelivery()
        if self.delivers == "chat":
            return ChatDelivery()
        return ChatToResponses(
            self.tools,
            response_id=response_id,
            model=self.model,
            created_unix_s=created_unix_s,
        )


def plain_request(
    body: JsonObject,
    *,
    spoken: Wire,
    wire: Wire,
    choice: ModelChoice,
    cache_key: str | None = None,
) -> PlainRequest:
    """Return what is sent to another backend. `body` is not changed, its inner values are shared.

    Args:
        body: the client's, without the fields of `relay_fields`.
        spoken: what the client speaks.
        wire: what the target speaks.
        choice: the model; what its name says of effort, verbosity and tier beats the body.
        cache_key: `prompt_cache_key` for a client that sends none; only a target that speaks
            Responses gets one.

    Raises:
        RequestError: 400, the request is malformed, or asks for what the target's protocol cannot
            say.
    """
    given: JsonObject = {key: value for key, value in body.items() if key not in _NOT_FOR_OTHERS}
    dropped = tuple(key for key in body if key in _NOT_FOR_OTHERS)
    make = _MAKERS[spoken, wire]
    plain = make(given)
    fitted = _fit(plain.body, wire, choice)
    if wire == "responses" and cache_key is not None and not fitted.get("prompt_cache_key"):
        fitted["prompt_cache_key"] = cache_key
    return attrs.evolve(plain, body=fitted, dropped=(*dropped, *plain.dropped))


def _responses_to_responses(body: JsonObject) -> PlainRequest:
    given, model = check_form(body)
    return PlainRequest(
        wire="responses",
        delivers="responses",
        body={**given, "stream": True},
        model=model,
        stream=given.get("stream") is True,
    )


def _responses_to_chat(body: JsonObject) -> PlainRequest:
    target = as_chat(body)
    return PlainRequest(
        wire="chat",
        delivers="responses",
        body=target.body,
        model=target.model,
        stream=target.stream,
        dropped=target.dropped,
        changes=target.changes,
        tools=target.tools,
    )


def _chat_to_responses(body: JsonObject) -> PlainRequest:
    turn = translate_plainly(body)
    return PlainRequest(
        wire="responses",
        delivers="responses",
        body=turn.body,
        model=turn.model,
        stream=turn.stream,
        include_usage=turn.include_usage,
        dropped=turn.dropped,
        changes=turn.changes,
        chat=turn,
    )


def _chat_to_chat(body: JsonObject) -> PlainRequest:
    model = name_at(body.get("model"), "model")
    list_at(body.get("messages"), "messages")
    stream = body.get("stream") is not None and flag_at(body["stream"], "stream")
    options = body.get("stream_options")
    options = {} if options is None else object_at(options, "stream_options")
    return PlainRequest(
        wire="chat",
        delivers="chat",
        body={**body, "stream": True, "stream_options": {**options, "include_usage": True}},
        model=model,
        stream=stream,
        include_usage=options.get("include_usage") is True,
    )


_MAKERS: Final = {
    ("responses", "responses"): _responses_to_responses,
    ("responses", "chat"): _responses_to_chat,
    ("chat", "responses"): _chat_to_responses,
    ("chat", "chat"): _chat_to_chat,
}


def _fit(body: JsonObject, wire: Wire, choice: ModelChoice) -> JsonObject:
    """Return the body for the model, with what its name says of how it answers."""
    said: dict[str, Json] = {"model": choice.slug}
    if choice.service_tier is not None:
        said["service_tier"] = choice.service_tier
    if wire == "responses":
        if choice.effort is not None:
            said["reasoning"] = {**get_object(body, "reasoning"), "effort": choice.effort}
        if choice.verbosity is not None:
            said["text"] = {**get_object(body, "text"), "verbosity": choice.verbosity}
    else:
        if choice.effort is not None:
            said["reasoning_effort"] = choice.effort
        if choice.verbosity is not None:
            said["verbosity"] = choice.verbosity
    return {**body, **said}
