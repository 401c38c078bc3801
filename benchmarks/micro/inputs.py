"""What the functions are fed with, made here: written as the backend writes it."""

from __future__ import annotations

import itertools
import json
import random
from typing import TYPE_CHECKING, Final

from benchmarks.requests import MODEL, chat_body, responses_body

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

#: What one read from a socket gives in a burst.
BLOCK_BYTES: Final = 65536
_TEXT: Final = "@T0000000000000000 abcdefgh"
_ID: Final = "68f0c0ffee00000000000000000000000000000000000000"


def responses_events(deltas: int) -> list[bytes]:
    """Return the events of a Responses stream up to so many text deltas, 270 bytes each."""
    response: JsonObject = {
        "id": f"resp_{_ID}",
        "object": "response",
        "created_at": 1_760_000_000,
        "status": "in_progress",
        "error": None,
        "model": MODEL,
        "output": [],
        "usage": None,
    }
    item: JsonObject = {"id": f"msg_{_ID}", "type": "message", "content": []}
    opening: list[JsonObject] = [
        {"type": "response.created", "response": response},
        {"type": "response.in_progress", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
    ]
    events = [*opening, *(_text_delta() for _ in range(deltas))]
    return [
        _named({"type": event["type"], "sequence_number": number, **event})
        for number, event in enumerate(events)
    ]


def responses_deltas(deltas: int) -> list[bytes]:
    """Return so many text deltas alone."""
    return responses_events(deltas)[-deltas:]


def chat_events(deltas: int) -> list[bytes]:
    """Return so many chunks of a Chat stream, 260 bytes each."""
    first: JsonObject = {"role": "assistant"}
    said: JsonObject = {"content": _TEXT}
    told = [{**first, **said}, *([said] * (deltas - 1))]
    return [b"data: " + _dumped(_chunk(delta)) + b"\n\n" for delta in told]


def in_blocks(events: list[bytes], size: int = BLOCK_BYTES) -> list[bytes]:
    """Return the events as a socket gives them in a burst: cut anywhere."""
    whole = b"".join(events)
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def responses_request(turns: int) -> JsonObject:
    """Return a Responses request of a coding agent, with so many tool calls behind it."""
    history = itertools.chain.from_iterable(_turn(number) for number in range(turns))
    body = responses_body("What is left to do?", list(history))
    return {**body, "tools": [_tool(name) for name in _TOOLS]}  # type: ignore[dict-item]


def chat_request(turns: int) -> JsonObject:
    """Return the same conversation as a Chat request."""
    messages: list[Json] = [{"role": "system", "content": "You are a coding agent."}]
    for number in range(turns):
        call: JsonObject = {"name": "shell", "arguments": _arguments(number)}
        messages += [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": f"call_{number}", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": f"call_{number}", "content": tool_output(number)},
        ]
    body = chat_body("What is left to do?", stream=True)
    asked: list[Json] = body["messages"]  # type: ignore[assignment]
    tools: list[Json] = [
        {"type": "function", "function": {k: v for k, v in _tool(name).items() if k != "type"}}
        for name in _TOOLS
    ]
    return {**body, "messages": [*messages, *asked], "tools": tools}  # type: ignore[dict-item]


def tool_output(number: int) -> str:
    """Return some 1,000 characters of source text."""
    line = '    path_{}_{} = resolve("src/mod_{}.py", strict=True)  # prüfen\n'
    return "".join(line.format(number, each, each) for each in range(15))


def sized(request: JsonObject) -> int:
    """Return the bytes of the request on the wire."""
    return len(_dumped(request))


def secrets(count: int) -> list[str]:
    """Return so many made-up keys, the same ones each time."""
    rng = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return ["".join(rng.choices(letters, k=48)) for _ in range(count)]


def server_frame(text: bytes) -> bytes:
    """Return a text as one frame of a server."""
    return _head(len(text), masked=False) + text


def client_frame(text: bytes) -> bytes:
    """Return a text as one frame of a client, under a mask that changes nothing."""
    return _head(len(text), masked=True) + bytes(4) + text


_TOOLS: Final = ("shell", "apply_patch", "read_file", "update_plan")


def _text_delta() -> JsonObject:
    return {
        "type": "response.output_text.delta",
        "item_id": f"msg_{_ID}",
        "output_index": 0,
        "content_index": 0,
        "delta": _TEXT,
        "logprobs": [],
        "obfuscation": "Vq3bXw",
    }


def _chunk(delta: JsonObject) -> JsonObject:
    return {
        "id": f"chatcmpl-{_ID}",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}],
    }


def _turn(number: int) -> tuple[JsonObject, JsonObject]:
    call: JsonObject = {
        "type": "function_call",
        "name": "shell",
        "arguments": _arguments(number),
        "call_id": f"call_{number}",
    }
    output = tool_output(number)
    return call, {"type": "function_call_output", "call_id": f"call_{number}", "output": output}


def _arguments(number: int) -> str:
    return json.dumps({"command": ["sed", "-n", "1,200p", f"src/mod_{number}.py"]})


def _tool(name: str) -> JsonObject:
    command: JsonObject = {"type": "array", "items": {"type": "string"}}
    return {
        "type": "function",
        "name": name,
        "description": f"Runs {name} and returns what it says.",
        "parameters": {"type": "object", "properties": {"command": command}},
        "strict": False,
    }


def _named(event: JsonObject) -> bytes:
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + _dumped(event) + b"\n\n"


def _dumped(value: object) -> bytes:
    """As the backend and the clients write it: no blank, and no escape that need not be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _head(size: int, *, masked: bool) -> bytes:
    bit = 0x80 if masked else 0
    if size <= 125:
        return bytes((0x81, bit | size))
    if size < 1 << 16:
        return bytes((0x81, bit | 126)) + size.to_bytes(2)
    return bytes((0x81, bit | 127)) + size.to_bytes(8)
