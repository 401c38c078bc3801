"""A Chat Completions request as a Responses request, to the Codex backend or to another.

What the client asked for arrives, in the words of Responses; what the backend would reject is left
out and named; what cannot be meant by it is refused. Absent stays absent.

Another backend (`translate_plainly`) gets what its API has a place for, and nothing of ours.

With `protocol: openai-responses` a client may write Responses fields beside its messages, or
`input` in their place, and is checked for them as a Responses client is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol import environment_context, prompt, tool_schema
from codexrelay.protocol.chat_fields import flag_at, list_at, name_at, object_at, refused, text_at
from codexrelay.protocol.chat_messages import (
    dropped_keys,
    system_head,
    system_texts,
    translate_messages,
)
from codexrelay.protocol.chat_tools import ToolMap, custom_names, translate_choice, translate_tools
from codexrelay.protocol.raw import Json, JsonObject, get_list
from codexrelay.protocol.responses_request import checked, fit_items
from codexrelay.protocol.shaping import CHAT, Shaping
from codexrelay.protocol.tool_text import read_back

if TYPE_CHECKING:
    from collections.abc import Callable

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
#: Fields of Responses that are read beside them where `protocol` says so.
_READ_AS_RESPONSES: Final = frozenset(
    {"input", "instructions", "reasoning", "text", "include", "client_metadata"}
)
_ENCRYPTED_REASONING: Final = "reasoning.encrypted_content"
#: Fields that the Codex backend refuses and that the Responses API has under the same name.
_SAME: Final = (
    "temperature",
    "top_p",
    "user",
    "safety_identifier",
    "metadata",
    "store",
    "prompt_cache_retention",
)
#: Names of the longest answer in tokens, the newer one first: `max_output_tokens`.
_MAX_TOKENS: Final = ("max_completion_tokens", "max_tokens")


@attrs.define(kw_only=True)
class ChatTurn:
    """A chat request, translated, and what its answer must know of it."""

    #: The Responses body for the backend; whoever has taken it may leave none.
    body: JsonObject
    tools: ToolMap
    #: Whether the client wants chunks, and whether it wants a last one with the usage.
    stream: bool
    include_usage: bool
    #: The client's own name of the model.
    model: str
    #: The client's fields that were not forwarded, in its order (`user`, `messages[].name`).
    dropped: tuple[str, ...]
    #: What was done to it beyond that, as `PATH: WHAT`.
    changes: tuple[str, ...] = ()
    #: Names of the client's tools that its `tool_schema_mode` leaves out.
    dropped_tools: tuple[str, ...] = ()


def translate(
    body: JsonObject,
    *,
    recall: Callable[[str], Sequence[JsonObject]],
    shaping: Shaping = CHAT,
) -> ChatTurn:
    """Translate a chat request. `body` is not changed; the result shares its inner values.

    `recall` returns the encrypted reasoning items that preceded the tool call with this id in an
    earlier answer (`ChatStream.reasoning`), oldest first; none if they are not known (any more).
    `shaping` is what was asked of this request; the default is what nobody has configured.

    Raises:
        RequestError: the request is malformed or asks for what the backend cannot do; `param` names
            the field.
    """
    _check_choices(body.get("n"))
    model = name_at(body.get("model"), "model")
    beside = _beside(body, shaping)
    messages = [] if beside.items is not None else list_at(body.get("messages"), "messages")
    if not messages and beside.items is None:
        raise refused("`messages` must hold at least one message", "messages")
    tools, tool_map = translate_tools(body)
    stream, include_usage = _streaming(body)
    # First, because the history is read by the tools that were offered.
    arranged = tool_schema.arrange(
        _present(tools=[*tools] or None, tool_choice=translate_choice(body), input=beside.items),
        shaping.capabilities.tool_schema_mode,
        shaping.tool_schema,
    )
    offered = arranged.body
    if "tools" in offered:
        tool_map = tool_map.with_names(custom_names(get_list(offered, "tools")))
    items = None if beside.items is None else get_list(offered, "input")
    told = _tell(messages, items, beside, tool_map, recall, shaping)
    return ChatTurn(
        body={
            "model": model,
            "instructions": told.instructions,
            "input": told.items,
            **_present(
                tools=offered.get("tools"),
                tool_choice=offered.get("tool_choice"),
                parallel_tool_calls=_flag(body, "parallel_tool_calls"),
                reasoning=_merged(_reasoning(body), beside.reasoning),
                text=_merged(_text(body) or None, beside.text),
                service_tier=_text_field(body, "service_tier"),
                prompt_cache_key=_text_field(body, "prompt_cache_key"),
                client_metadata=beside.client_metadata,
            ),
            "store": False,
            "stream": True,
            # The only way to think on where the last turn ended, as nothing is stored.
            "include": [*beside.include, _ENCRYPTED_REASONING],
        },
        tools=tool_map,
        stream=stream,
        include_usage=include_usage,
        model=model,
        dropped=(*_dropped_fields(body, shaping), *dropped_keys(messages)),
        changes=(*shaping.said.changes, *arranged.changes),
        dropped_tools=arranged.dropped,
    )


def translate_plainly(body: JsonObject) -> ChatTurn:
    """Translate a chat request for a target that speaks Responses and is not the Codex backend.

    System text stays where it is, and no text of ours is put before it. What thoughts an earlier
    answer left is not put back: they are encrypted for whoever made them.

    Raises:
        RequestError: the request is malformed or asks for what Responses cannot say; `param` names
            the field.
    """
    _check_choices(body.get("n"))
    model = name_at(body.get("model"), "model")
    messages = list_at(body.get("messages"), "messages")
    if not messages:
        raise refused("`messages` must hold at least one message", "messages")
    tools, tool_map = translate_tools(body)
    stream, include_usage = _streaming(body)
    effort = _text_field(body, "reasoning_effort")
    limits = [value for key in _MAX_TOKENS if (value := body.get(key)) is not None]
    return ChatTurn(
        body={
            "model": model,
            "input": translate_messages(messages, tool_map, _recall_nothing, keeps_system=True),
            **_present(
                tools=[*tools] or None,
                tool_choice=translate_choice(body),
                parallel_tool_calls=_flag(body, "parallel_tool_calls"),
                reasoning=None if effort is None else {"effort": effort},
                text=_text(body) or None,
                max_output_tokens=limits[0] if limits else None,
                service_tier=_text_field(body, "service_tier"),
                prompt_cache_key=_text_field(body, "prompt_cache_key"),
                **{key: body.get(key) for key in _SAME},
            ),
            "stream": True,
        },
        tools=tool_map,
        stream=stream,
        include_usage=include_usage,
        model=model,
        dropped=(
            *(
                key
                for key, value in body.items()
                if value is not None and key not in _READ and key not in (*_SAME, *_MAX_TOKENS)
            ),
            *dropped_keys(messages),
        ),
    )


def _recall_nothing(_call_id: str) -> Sequence[JsonObject]:
    return ()


def _dropped_fields(body: JsonObject, shaping: Shaping) -> list[str]:
    as_responses = shaping.capabilities.protocol == "openai-responses"
    return [
        key
        for key, value in body.items()
        if value is not None
        and key not in _READ
        and not (as_responses and key in _READ_AS_RESPONSES)
    ]


@attrs.frozen
class _Told:
    """What the model is told: the texts of this request, in their places."""

    instructions: str
    items: list[Json]


def _tell(
    messages: Sequence[Json],
    items: list[Json] | None,
    beside: _Beside,
    tools: ToolMap,
    recall: Callable[[str], Sequence[JsonObject]],
    shaping: Shaping,
) -> _Told:
    """Put system text, environment and conversation where the modes want them.

    The conversation are `items`, or else the messages.
    """
    mode, said = shaping.capabilities.prompt_mode, shaping.said
    head = system_head(messages)
    more = (*([beside.instructions] if beside.instructions else []), *said.system_prompt)
    # Messages that are already where they belong stay as they are. So do those behind which
    # nothing comes: a conversation cannot be empty.
    if mode == "codex_default" or head == len(messages):
        placed = prompt.place(mode, shaping.prompt, more)
        moved = 0
    else:
        placed = prompt.place(mode, shaping.prompt, (*system_texts(messages[:head]), *more))
        moved = head
    if items is None:
        items = translate_messages(messages, tools, recall, skipped=moved)
        if shaping.capabilities.tool_text_format == "xml":
            items = read_back(items, recall)
    if placed.at_head:
        items = prompt.led_by(placed.at_head, items, behind=head - moved)
    if shaping.capabilities.include_environment_context:
        items = environment_context.with_message(items, said)
    return _Told(placed.instructions, items)


@attrs.frozen(kw_only=True)
class _Beside:
    """The Responses fields of a Chat request."""

    #: Instead of messages; None: there are none.
    items: list[Json] | None = None
    instructions: str | None = None
    reasoning: JsonObject | None = None
    text: JsonObject | None = None
    client_metadata: JsonObject | None = None
    include: Sequence[Json] = ()


_NOTHING: Final = _Beside()


def _beside(body: JsonObject, shaping: Shaping) -> _Beside:
    """Read the Responses fields, where `protocol` says that they count.

    Raises:
        RequestError: one is malformed, or the conversation stands in both places.
    """
    if shaping.capabilities.protocol == "openai-chat":
        return _NOTHING
    instead = body.get("input") is not None
    if instead and body.get("messages") is not None:
        raise refused("give `messages` or `input`, not both", "input")
    # Checked as a Responses request is, also where its conversation is in messages.
    checked(body if instead else {**body, "input": []})
    include = get_list(body, "include")
    return _Beside(
        items=fit_items(body, shaping) if instead else None,
        instructions=_text_field(body, "instructions"),
        reasoning=_object_field(body, "reasoning"),
        text=_object_field(body, "text"),
        client_metadata=_object_field(body, "client_metadata"),
        include=[wanted for wanted in include if wanted != _ENCRYPTED_REASONING],
    )


def _merged(chat: JsonObject | None, responses: JsonObject | None) -> JsonObject | None:
    """Return both, the Responses fields beating those of Chat."""
    return chat if responses is None else {**(chat or {}), **responses}


def _object_field(body: JsonObject, key: str) -> JsonObject | None:
    value = body.get(key)
    return None if value is None else object_at(value, key)


def _present(**fields: Json) -> JsonObject:
    return {key: value for key, value in fields.items() if value is not None}


def _text_field(body: JsonObject, key: str) -> str | None:
    if key not in body:
        return None
    value = body[key]
    return None if value is None else text_at(value, key)


def _flag(body: JsonObject, key: str) -> bool | None:
    if key not in body:
        return None
    value = body[key]
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


def _text(body: JsonObject) -> JsonObject:
    if "response_format" not in body and "verbosity" not in body:
        return {}
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
