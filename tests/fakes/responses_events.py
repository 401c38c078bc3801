"""The events of a Responses stream, written as the Codex backend writes them (wire notes 3)."""

from __future__ import annotations

from typing import Any

import orjson

USAGE = {
    "input_tokens": 120,
    "input_tokens_details": {"cached_tokens": 64},
    "output_tokens": 30,
    "output_tokens_details": {"reasoning_tokens": 12},
    "total_tokens": 150,
}


def event(name: str, **fields: object) -> bytes:
    data = orjson.dumps({"type": name, **fields})
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


def created(model: str = "gpt-5.5", **more: object) -> bytes:
    return event("response.created", response={"id": "resp_1", "model": model, **more})


def completed(usage: object = USAGE, **more: object) -> bytes:
    response = {"id": "resp_1", "status": "completed", "output": [], "usage": usage, **more}
    return event("response.completed", response=response)


def incomplete(reason: str | None) -> bytes:
    details = None if reason is None else {"reason": reason}
    response = {"id": "resp_1", "incomplete_details": details, "usage": USAGE}
    return event("response.incomplete", response=response)


def failed(code: str, message: str) -> bytes:
    response = {"id": "resp_1", "error": {"code": code, "message": message}}
    return event("response.failed", response=response)


def added(index: int, **item: object) -> bytes:
    return event("response.output_item.added", output_index=index, item=item)


def done(index: int, **item: object) -> bytes:
    return event("response.output_item.done", output_index=index, item=item)


def text(delta: str, index: int = 0) -> bytes:
    return event("response.output_text.delta", output_index=index, item_id="msg_1", delta=delta)


def summary(delta: str, index: int = 0, part: int = 0) -> bytes:
    name = "response.reasoning_summary_text.delta"
    return event(name, output_index=index, item_id="rs_1", summary_index=part, delta=delta)


def function(name: str, call_id: str, arguments: str = "") -> dict[str, Any]:
    return {
        "id": f"fc_{call_id}",
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def custom(name: str, call_id: str, input: str = "") -> dict[str, Any]:
    return {
        "id": f"ctc_{call_id}",
        "type": "custom_tool_call",
        "call_id": call_id,
        "name": name,
        "input": input,
    }


def arguments(delta: str, index: int) -> bytes:
    return event("response.function_call_arguments.delta", output_index=index, delta=delta)


def raw_input(delta: str, index: int) -> bytes:
    return event("response.custom_tool_call_input.delta", output_index=index, delta=delta)


def call(index: int, item: dict[str, Any], *pieces: str) -> bytes:
    """A whole call whose input is streamed in `pieces`."""
    is_custom = item["type"] == "custom_tool_call"
    delta, key = (raw_input, "input") if is_custom else (arguments, "arguments")
    whole = "".join(pieces)
    name = "custom_tool_call_input" if is_custom else "function_call_arguments"
    return b"".join(
        [
            added(index, **item),
            *(delta(piece, index) for piece in pieces),
            event(f"response.{name}.done", output_index=index, **{key: whole}),
            done(index, **{**item, key: whole, "status": "completed"}),
        ]
    )
