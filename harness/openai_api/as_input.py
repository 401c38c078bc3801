"""A chat as the script of the simulated model knows conversations: input items and flat tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.protocol.raw import get_list, get_object, is_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.protocol.raw import Json, JsonObject


def as_input(chat: JsonObject) -> JsonObject:
    """Return what `script_for` reads of a Responses request that says the same as this chat."""
    items: list[Json] = []
    for message in get_list(chat, "messages"):
        items += _items(message) if is_object(message) else ()
    tools: list[Json] = [
        {"type": "function", **get_object(tool, "function")}
        for tool in get_list(chat, "tools")
        if is_object(tool)
    ]
    return {"input": items, "tools": tools}


def _items(message: JsonObject) -> Iterator[JsonObject]:
    if message.get("role") == "tool":
        yield {
            "type": "function_call_output",
            "call_id": message.get("tool_call_id"),
            "output": message.get("content"),
        }
        return
    if message.get("content"):
        yield {"type": "message", "role": message.get("role"), "content": message["content"]}
    for call in get_list(message, "tool_calls"):
        if is_object(call):
            function = get_object(call, "function")
            yield {"type": "function_call", "call_id": call.get("id"), **function}
