"""What the simulated API refuses of a chat request, in the order in which a server would notice.

Fields, roles and pairing: OpenAI's reference of /v1/chat/completions; each refusal says what is
wrong, so that a failing test says it too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from codexrelay.protocol.raw import get_list, get_object, get_text, is_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.protocol.raw import Json, JsonObject

FIELDS: Final = frozenset(
    {
        *("messages", "model", "stream", "stream_options", "tools", "tool_choice"),
        *("parallel_tool_calls", "temperature", "top_p", "n", "stop", "seed", "user", "metadata"),
        *("max_tokens", "max_completion_tokens", "frequency_penalty", "presence_penalty"),
        *("logprobs", "top_logprobs", "logit_bias", "response_format", "reasoning_effort"),
        *("verbosity", "store", "service_tier", "prompt_cache_key", "prompt_cache_retention"),
        *("safety_identifier", "modalities", "prediction", "web_search_options", "audio"),
        # Of local servers: more of what the model has thought, other ways to draw.
        *("top_k", "min_p", "repetition_penalty", "chat_template_kwargs", "enable_thinking"),
    }
)
#: Role -> the types of parts that its content may have.
_PARTS: Final = {
    "system": {"text"},
    "developer": {"text"},
    "user": {"text", "image_url", "input_audio", "file"},
    "assistant": {"text", "refusal"},
    "tool": {"text"},
}
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CHOICES: Final = ("none", "auto", "required")
#: They mean nothing without tools.
_OF_TOOLS: Final = ("tool_choice", "parallel_tool_calls")


def problem_of(body: JsonObject) -> str | None:
    """Return what is wrong with a chat request, None if it is fine."""
    return next(_problems(body), None)


def _problems(body: JsonObject) -> Iterator[str]:
    yield from (f"Unrecognized request argument supplied: {name}" for name in body.keys() - FIELDS)
    if "stream_options" in body and body.get("stream") is not True:
        yield "stream_options is only allowed when stream is true"
    yield from _problems_of_tools(body)
    yield from _problems_of_messages(get_list(body, "messages"))


def _problems_of_tools(body: JsonObject) -> Iterator[str]:
    if "tools" not in body:
        yield from (f"{name} is only allowed with tools" for name in _OF_TOOLS if name in body)
        return
    tools = get_list(body, "tools")
    if not tools:
        yield "tools is no list, or an empty one"
    for place, tool in enumerate(tools):
        function = get_object(tool, "function") if is_object(tool) else {}
        if not is_object(tool) or tool.get("type") != "function":
            yield f"tools[{place}]: only functions are supported"
        elif extra := tool.keys() - {"type", "function"}:
            yield f"tools[{place}]: unknown field {min(extra)}"
        elif not _TOOL_NAME.fullmatch(get_text(function, "name") or ""):
            yield f"tools[{place}]: the name {function.get('name')!r} is none"
        elif not is_object(function.get("parameters", {})):
            yield f"tools[{place}]: parameters is no JSON schema"
    yield from _problems_of_choice(body.get("tool_choice", "auto"), tools)


def _problems_of_choice(choice: Json, tools: list[Json]) -> Iterator[str]:
    if isinstance(choice, str):
        if choice not in _CHOICES:
            yield f"tool_choice {choice!r} is none of {', '.join(_CHOICES)}"
        return
    name = get_text(get_object(choice, "function"), "name") if is_object(choice) else None
    functions = [get_object(tool, "function") for tool in tools if is_object(tool)]
    known = {get_text(function, "name") for function in functions}
    if name is None or name not in known:
        yield "tool_choice names no function of tools"


def _problems_of_messages(messages: list[Json]) -> Iterator[str]:
    if not messages:
        yield "messages is no list, or an empty one"
    #: Calls of the latest message of the assistant that no result has answered yet.
    open_calls: set[str] = set()
    for place, message in enumerate(messages):
        at = f"messages[{place}]"
        if not is_object(message) or message.get("role") not in _PARTS:
            role = message.get("role") if is_object(message) else message
            yield f"{at}: the role {role!r} is none of {', '.join(_PARTS)}"
            return
        role = message["role"]
        assert isinstance(role, str)
        yield from _problems_of_content(message, role, at)
        if role == "tool":
            call_id = get_text(message, "tool_call_id") or ""
            if call_id not in open_calls:
                yield f"{at}: no call {call_id!r} of the preceding message waits for this result"
            open_calls.discard(call_id)
            continue
        if open_calls:
            yield f"{at}: the calls {', '.join(sorted(open_calls))} have no results before it"
        if role == "assistant":
            open_calls = set()
            for number, call in enumerate(get_list(message, "tool_calls")):
                yield from _problems_of_call(call, f"{at}.tool_calls[{number}]")
                open_calls.add((get_text(call, "id") if is_object(call) else "") or "")
    if open_calls:
        yield f"the calls {', '.join(sorted(open_calls))} have no results"


def _problems_of_content(message: JsonObject, role: str, at: str) -> Iterator[str]:
    content = message.get("content")
    if content is None:
        if role != "assistant" or not (get_list(message, "tool_calls") or message.get("refusal")):
            yield f"{at}: content is missing"
    elif isinstance(content, list):
        for part in content:
            kind = part.get("type") if is_object(part) else part
            if kind not in _PARTS[role]:
                yield f"{at}: a part of type {kind!r} is not for {role}"
    elif not isinstance(content, str):
        yield f"{at}: content is neither text nor a list of parts"


def _problems_of_call(call: Json, at: str) -> Iterator[str]:
    if not is_object(call) or call.get("type") != "function" or not get_text(call, "id"):
        yield f"{at}: no function call with an id"
        return
    function = get_object(call, "function")
    if not get_text(function, "name") or not isinstance(function.get("arguments"), str):
        yield f"{at}: a call needs a name, and arguments as text"
