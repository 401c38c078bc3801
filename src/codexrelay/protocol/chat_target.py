"""A Responses request for a target that speaks only Chat: Ollama, llama.cpp, vLLM, LM Studio.

What has a meaning in Chat arrives, in Chat's words; all else is left out and named, because some
servers refuse what they do not know. Fields that are no part of either API (`top_k`, `min_p`) are
known to many of these servers and pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.chat_fields import name_at, object_at, refused, text_at
from codexrelay.protocol.raw import JsonObject, get_object
from codexrelay.protocol.responses_request import checked
from codexrelay.protocol.target_history import translate_history
from codexrelay.protocol.target_tools import TargetTools, offer

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json

#: Fields that are read here.
_READ: Final = frozenset(
    {
        "model",
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "text",
        "reasoning",
        "max_output_tokens",
        "stream",
    }
)
#: Fields that mean the same in Chat, or to servers of local models.
_SAME: Final = (
    "temperature",
    "top_p",
    "stop",
    "seed",
    "user",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "service_tier",
    # Of the servers.
    "top_k",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "repetition_penalty",
    "chat_template_kwargs",
    "grammar",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "keep_alive",
    "options",
    "think",
)
#: Fields without which the rest would mean something else -> what to do instead.
_REFUSED: Final = {
    "conversation": "send the whole conversation as `input`",
    "prompt": "send its text as `instructions`",
}


@attrs.frozen(kw_only=True)
class ChatTarget:
    """A Responses request, translated, and what its answer must know of it."""

    #: The Chat body for the target.
    body: JsonObject
    tools: TargetTools
    #: The client's own name of the model, and whether it wants events.
    model: str
    stream: bool
    #: What of the request is not sent, as paths: `text.verbosity`, `input[].reasoning`.
    dropped: tuple[str, ...] = ()
    #: What was done to it beyond that, as `PATH: WHAT`.
    changes: tuple[str, ...] = ()


def as_chat(body: JsonObject) -> ChatTarget:
    """Translate a Responses request. `body` is not changed; the result shares its inner values.

    The body asks for a stream with usage, whatever the client wants: the relay always reads one.

    Raises:
        RequestError: the request is malformed, or asks for what Chat cannot say; `param` names the
            field.
    """
    given, model = checked(body)
    for field, instead in _REFUSED.items():
        if given.get(field) is not None:
            raise refused(
                f"`{field}` is kept by another backend, this one does not know it: {instead}",
                field,
                code="unsupported_parameter",
            )
    dropped = {key: None for key, value in given.items() if _is_dropped(key, value)}
    offered = offer(given)
    history = translate_history(given, offered.names)
    if not history.messages:
        raise refused("nothing of `input` can be sent", "input")
    told = _present(
        tools=offered.tools or None,
        tool_choice=offered.choice,
        parallel_tool_calls=given.get("parallel_tool_calls") if offered.tools else None,
        response_format=_response_format(given, dropped),
        reasoning_effort=_effort(given, dropped),
        max_tokens=given.get("max_output_tokens"),
    )
    return ChatTarget(
        body={
            "model": model,
            "messages": history.messages,
            **told,
            **_present(**{key: given.get(key) for key in _SAME}),
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        tools=offered.names,
        model=model,
        stream=given.get("stream") is True,
        dropped=(*dropped, *offered.dropped, *history.dropped),
        changes=history.changes,
    )


def _is_dropped(key: str, value: Json) -> bool:
    # What is asked for by `false` or an empty list is what everybody gets.
    return bool(value) and key not in _READ and key not in _SAME


def _present(**fields: Json) -> JsonObject:
    return {key: value for key, value in fields.items() if value is not None}


def _effort(body: JsonObject, dropped: dict[str, None]) -> Json:
    if body.get("reasoning") is None:
        return None
    reasoning = object_at(body["reasoning"], "reasoning")
    for key, value in reasoning.items():
        if value is not None and key != "effort":
            dropped[f"reasoning.{key}"] = None
    effort = reasoning.get("effort")
    return None if effort is None else text_at(effort, "reasoning.effort")


def _response_format(body: JsonObject, dropped: dict[str, None]) -> Json:
    if body.get("text") is None:
        return None
    text = object_at(body["text"], "text")
    for key, value in text.items():
        if value is not None and key != "format":
            dropped[f"text.{key}"] = None
    if text.get("format") is None:
        return None
    shape = object_at(text["format"], "text.format")
    match text_at(shape.get("type"), "text.format.type"):
        case "text":
            return None
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            # Chat's older form of it stands in Responses bodies too.
            inner = get_object(shape, "json_schema") or shape
            name_at(inner.get("name"), "text.format.name")
            schema: JsonObject = {k: v for k, v in inner.items() if k != "type" and v is not None}
            return {"type": "json_schema", "json_schema": schema}
        case kind:
            raise refused(
                f"`text.format.type` must be text, json_object or json_schema, not {kind!r}",
                "text.format.type",
                code="unsupported_value",
            )
