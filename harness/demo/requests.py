"""What the demo's agent asks, as bodies of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.protocol.raw import get_list, get_text, is_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.protocol.raw import Json, JsonObject

MODEL: Final = "gpt-5.5"

#: A tool that the simulated model likes to call.
SHELL: Final[JsonObject] = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": "Run a command.",
        "parameters": {
            "type": "object",
            "properties": {"command": {"type": "string"}},
            "required": ["command"],
        },
    },
}


def say(speech: str) -> str:
    """Return a prompt that tells the simulated model what to say."""
    return f"[sim text={speech}]"


def responses_request(prompt: str | Sequence[Json]) -> JsonObject:
    """Return a streamed Responses request, for one prompt or for a whole conversation."""
    content = prompt if isinstance(prompt, str) else list(prompt)
    return {"input": content, "model": MODEL, "stream": True}


def chat_request(messages: Sequence[Json], *tools: Json) -> JsonObject:
    """Return a streamed Chat Completions request."""
    body: JsonObject = {"messages": list(messages), "model": MODEL, "stream": True}
    return body | {"tools": list(tools)} if tools else body


def user(prompt: str) -> JsonObject:
    """Return a user's message."""
    return {"role": "user", "content": prompt}


def assistant(text: str) -> JsonObject:
    """Return what the model has said, as the next request of its conversation holds it."""
    return {"role": "assistant", "content": text}


def tool_exchange(call: JsonObject, printed: str) -> tuple[JsonObject, JsonObject]:
    """Return the messages that tell the model what its tool call came to."""
    return (
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": get_text(call, "id"), "content": printed},
    )


def tool_outputs(body: Json) -> list[Json]:
    """Return the tool outputs in a request that reached the backend."""
    items = get_list(body, "input") if is_object(body) else []
    return [
        item.get("output")
        for item in items
        if is_object(item) and item.get("type") == "function_call_output"
    ]
