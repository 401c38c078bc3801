"""The chunks of a Chat stream, as servers of local models write them."""

from __future__ import annotations

from typing import Any

import orjson

DONE = b"data: [DONE]\n\n"
USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 30,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 12},
}
#: The same in the words of Responses.
RESPONSES_USAGE = {
    "input_tokens": 120,
    "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 0},
    "output_tokens": 30,
    "output_tokens_details": {"reasoning_tokens": 12},
    "total_tokens": 150,
}
FRAME: dict[str, Any] = {
    "id": "chatcmpl-7",
    "object": "chat.completion.chunk",
    "created": 1_795_347_000,
    "model": "qwen3",
}


def data(payload: object) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(payload)


def chunk(
    delta: dict[str, Any] | None = None,
    finish: str | None = None,
    *,
    index: int = 0,
    usage: object = None,
    **more: object,
) -> bytes:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    beside = {} if usage is None else {"usage": usage}
    return data({**FRAME, "choices": [{**choice, **more}], **beside})


def role() -> bytes:
    return chunk({"role": "assistant", "content": ""})


def text(piece: str, index: int = 0) -> bytes:
    return chunk({"content": piece}, index=index)


def thought(piece: str, key: str = "reasoning_content") -> bytes:
    return chunk({key: piece})


def call(**entry: object) -> bytes:
    """One entry of `tool_calls`; `name` and `arguments` go into its function."""
    function = {key: entry.pop(key) for key in ("name", "arguments") if key in entry}
    return chunk({"tool_calls": [{**entry, "type": "function", "function": function}]})


def opened(index: int, call_id: str, name: str, arguments: str = "") -> bytes:
    return call(index=index, id=call_id, name=name, arguments=arguments)


def more(index: int, arguments: str) -> bytes:
    return call(index=index, arguments=arguments)


def finish(reason: str = "stop", index: int = 0) -> bytes:
    return chunk({}, reason, index=index)


def usage(counts: object = USAGE) -> bytes:
    return data({**FRAME, "choices": [], "usage": counts})


def whole(message: dict[str, Any], finish: str | None = "stop", **more: object) -> bytes:
    """A whole completion, as one JSON object."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", **message},
        "logprobs": None,
        "finish_reason": finish,
    }
    frame = {**FRAME, "object": "chat.completion"}
    return orjson.dumps({**frame, "choices": [choice], "usage": USAGE, **more})
