"""A Chat Completions request as a request to the Codex backend.

What the client asked for arrives, in the words of Responses; what the backend would reject is left
out and named; what cannot be meant by it is refused. Absent stays absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.chat_fields import flag_at, list_at, name_at, object_at, refused, text_at
from codexrelay.protocol.chat_messages import dropped_keys, translate_messages
from codexrelay.protocol.chat_tools import ToolMap, translate_choice, translate_tools
from codexrelay.protocol.raw import JsonObject

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from codexrelay.protocol.raw import Json

#: Fields that are read here. All others are left out: the backend answers 400 to what it does not
#: know (wire notes 2.3).
_READ: Final = frozenset(
    {
        "model",
        "messages",
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "parallel_tool_calls",
        "response_format",
        "verbosity",
        "reasoning_effort",
        "service_tier",
        "prompt_cache_key",
        "stream",
        "stream_options",
        "n",
    }
)
#: Fields that are meant for the relay itself.
_OURS: Final = frozenset({"codex_capabilities", "extra_body"})

#: Names that clients use for a tier, where the backend's differs (wire notes 2.3).
_TIERS: Final = {"fast": "priority"}


@attrs.frozen(kw_only=True)
class ChatTurn:
    """A chat request, translated, and what its answer must know of it."""

    #: The Responses body for the backend.
    body: JsonObject
    tools: ToolMap
    #: Whether the client wants chunks, and whether it wants a last one with the usage.
    stream: bool
    include_usage: bool
    #: The client's own name of the model.
    model: str
    #: The client's fields that were not forwarded, in its order (`user`, `messages[].name`).
    dropped: tuple[str, ...]


def translate(body: JsonObject, *, recall: Callable[[str], Sequence[JsonObject]]) -> ChatTurn:
    """Translate a chat request. `body` is not changed; the result shares its inner values.

    `recall` returns the encrypted reasoning items that preceded the tool call with this id in an
    earlier answer (`ChatStream.reasoning`), oldest first; none if they are not known (any more).

    Raises:
        RequestError: the request is malformed or asks for what the backend cannot do; `param` names
            the field.
    """
    _check_choices(body.get("n"))
    model = name_at(body.get("model"), "model")
    messages = list_at(body.get("messages"), "messages")
    if not messages:
        raise refused("`messages` must hold at least one message", "messages")
    tools, tool_map = translate_tools(body)
    stream, include_usage = _streaming(body)
    return ChatTurn(
        body={
            "model": model,
            # Required, and any string will do; the client's system text stays where it stands.
            "instructions": "",
            "input": translate_messages(messages, tool_map, recall),
            **_present(
                tools=[*tools] or None,
                tool_choice=translate_choice(body),
                parallel_tool_calls=_flag(body, "parallel_tool_calls"),
                reasoning=_reasoning(body),
                text=_text(body) or None,
                service_tier=_service_tier(body),
                prompt_cache_key=_text_field(body, "prompt_cache_key"),
            ),
            "store": False,
            "stream": True,
            # The only way to think on where the last turn ended, as nothing is stored.
            "include": ["reasoning.encrypted_content"],
        },
        tools=tool_map,
        stream=stream,
        include_usage=include_usage,
        model=model,
        dropped=(*_dropped_fields(body), *dropped_keys(messages)),
    )


def _dropped_fields(body: JsonObject) -> list[str]:
    return [
        key
        for key, value in body.items()
        if value is not None and key not in _READ and key not in _OURS
    ]


def _present(**fields: Json) -> JsonObject:
    return {key: value for key, value in fields.items() if value is not None}


def _text_field(body: JsonObject, key: str) -> str | None:
    value = body.get(key)
    return None if value is None else text_at(value, key)


def _flag(body: JsonObject, key: str) -> bool | None:
    value = body.get(key)
    return None if value is None else flag_at(value, key)


def _check_choices(n: Json) -> None:
    """Refuse to give one answer where several were asked for."""
    if n is None or (n == 1 and not isinstance(n, bool)):
        return
    raise refused("`n` must be 1: the backend gives one answer", "n", code="unsupported_value")


def _streaming(body: JsonObject) -> tuple[bool, bool]:
    stream = _flag(body, "stream") or False
    options = body.get("stream_options")
    if options is None:
        return stream, False
    wanted = object_at(options, "stream_options").get("include_usage")
    return stream, wanted is not None and flag_at(wanted, "stream_options.include_usage")


def _reasoning(body: JsonObject) -> JsonObject | None:
    effort = _text_field(body, "reasoning_effort")
    # Without a summary the backend shows nothing of what the model thinks.
    return None if effort is None else {"effort": effort, "summary": "auto"}


def _service_tier(body: JsonObject) -> str | None:
    tier = _text_field(body, "service_tier")
    return None if tier is None else _TIERS.get(tier, tier)


def _text(body: JsonObject) -> JsonObject:
    shape = body.get("response_format")
    return _present(
        verbosity=_text_field(body, "verbosity"),
        format=None if shape is None else _format(object_at(shape, "response_format")),
    )


def _format(shape: JsonObject) -> JsonObject:
    match shape.get("type"):
        case "text" | "json_object" as kind:
            return {"type": kind}
        case "json_schema":
            schema = object_at(shape.get("json_schema"), "response_format.json_schema")
            name_at(schema.get("name"), "response_format.json_schema.name")
            return {"type": "json_schema", **schema}
        case kind:
            raise refused(
                f"`response_format.type` must be text, json_object or json_schema, not {kind!r}",
                "response_format.type",
            )
