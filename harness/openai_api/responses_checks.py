"""What the simulated API refuses of a Responses request.

Fields and pairing: OpenAI's reference of /v1/responses. A server of this kind keeps nothing, so
that what refers to something kept is refused too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.protocol.raw import get_list, get_text, is_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.protocol.raw import Json, JsonObject

FIELDS: Final = frozenset(
    {
        *("input", "instructions", "model", "stream", "stream_options", "tools", "tool_choice"),
        *("parallel_tool_calls", "temperature", "top_p", "max_output_tokens", "max_tool_calls"),
        *("reasoning", "text", "include", "store", "metadata", "user", "safety_identifier"),
        *("prompt_cache_key", "prompt_cache_retention", "service_tier", "truncation"),
        *("top_logprobs", "background", "conversation", "previous_response_id"),
    }
)
_ROLES: Final = ("user", "assistant", "system", "developer")
#: Type of a call -> type of its result.
_PAIRS: Final = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
}
_OTHERS: Final = frozenset({"message", "reasoning"})
_PARTS: Final = {
    "assistant": {"output_text", "refusal"},
    "user": {"input_text", "input_image", "input_file"},
    "system": {"input_text"},
    "developer": {"input_text"},
}
#: A namespace holds functions; Codex CLI offers some so.
_TOOLS: Final = frozenset({"function", "custom", "namespace", "web_search", "web_search_preview"})


def problem_of(body: JsonObject) -> str | None:
    """Return what is wrong with a Responses request, None if it is fine."""
    return next(_problems(body), None)


def _problems(body: JsonObject) -> Iterator[str]:
    yield from (f"Unknown parameter: '{name}'." for name in body.keys() - FIELDS)
    for name in ("previous_response_id", "conversation"):
        if body.get(name) is not None:
            yield f"{name}: nothing is kept here"
    for place, tool in enumerate(get_list(body, "tools")):
        kind = tool.get("type") if is_object(tool) else tool
        if kind not in _TOOLS:
            yield f"tools[{place}]: the type {kind!r} is none of {', '.join(sorted(_TOOLS))}"
        elif is_object(tool) and "function" in tool:
            yield f"tools[{place}]: that is the tool of a chat"
    said = body.get("input")
    if isinstance(said, list):
        yield from _problems_of_items(said)
    elif not isinstance(said, str) or not said:
        yield "input is neither text nor a list of items"


def _problems_of_items(items: list[Json]) -> Iterator[str]:
    if not items:
        yield "input is empty"
    calls: dict[str, set[str]] = {kind: set() for kind in _PAIRS}
    answered: set[str] = set()
    for place, item in enumerate(items):
        at = f"input[{place}]"
        if not is_object(item):
            yield f"{at}: no object"
            continue
        kind = item.get("type", "message")
        call_id = get_text(item, "call_id") or ""
        if kind == "message":
            yield from _problems_of_message(item, at)
        elif kind in _PAIRS:
            calls[str(kind)].add(call_id)
        elif call_type := _call_type(kind):
            if call_id not in calls[call_type]:
                yield f"{at}: no tool call {call_id!r} comes before this output"
            answered.add(call_id)
        elif kind not in _OTHERS:
            yield f"{at}: the type {kind!r} is not supported"
    for call_id in sorted(set().union(*calls.values()) - answered):
        yield f"No tool output found for function call {call_id}."


def _call_type(kind: Json) -> str | None:
    return next((call for call, output in _PAIRS.items() if output == kind), None)


def _problems_of_message(item: JsonObject, at: str) -> Iterator[str]:
    role = get_text(item, "role") or ""
    if role not in _ROLES:
        yield f"{at}: the role {role!r} is none of {', '.join(_ROLES)}"
        return
    content = item.get("content")
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        yield f"{at}: content is neither text nor a list of parts"
        return
    for part in content:
        kind = part.get("type") if is_object(part) else part
        if kind not in _PARTS[role]:
            yield f"{at}: a part of type {kind!r} is not for {role}"
