"""The answers that are written here: most so small that each byte can be the last one."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, TypeAlias

from codexrelay.protocol.raw import JsonObject, dump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from codexrelay.protocol.raw import Json

#: Named as in the backend's own streams.
RESPONSE_ID: Final = "resp_1"
_MODEL: Final = "gpt-5.5"


def event(name: str, /, **fields: Json) -> bytes:
    """Return an event as the backend writes it."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), dump({"type": name, **fields}))


def _response(status: str, output: list[Json], **more: Json) -> JsonObject:
    named: JsonObject = {"id": RESPONSE_ID, "object": "response", "status": status}
    return named | {"model": _MODEL, "output": output, **more}


def _usage() -> JsonObject:
    return {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14}


Numbered: TypeAlias = "Iterator[tuple[str, dict[str, Json]]]"


def _whole(items: Numbered) -> tuple[bytes, ...]:
    """Return a whole answer around its items' events, numbered."""
    output: list[Json] = []
    events: list[tuple[str, dict[str, Json]]] = [
        ("response.created", {"response": _response("in_progress", [])})
    ]
    for name, fields in items:
        if name == "response.output_item.done":
            output.append(fields["item"])
        events.append((name, fields))
    completed = _response("completed", output, usage=_usage())
    events.append(("response.completed", {"response": completed}))
    return tuple(
        event(name, sequence_number=number, **fields)
        for number, (name, fields) in enumerate(events)
    )


def _text(index: int, pieces: tuple[str, ...], *, short: bool = False) -> Numbered:
    item_id, text = f"msg_{index}", "".join(pieces)
    item: JsonObject = {"id": item_id, "type": "message", "role": "assistant", "content": []}
    at: dict[str, Json] = {"item_id": item_id, "output_index": index, "content_index": 0}
    yield "response.output_item.added", {"output_index": index, "item": item}
    for piece in pieces:
        yield "response.output_text.delta", at | {"delta": piece}
    if not short:
        yield "response.output_text.done", at | {"text": text}
    part: JsonObject = {"type": "output_text", "text": text, "annotations": []}
    done: JsonObject = item | {"content": [part]}
    yield "response.output_item.done", {"output_index": index, "item": done}


def _call(index: int, name: str, pieces: tuple[str, ...], *, custom: bool = False) -> Numbered:
    item_id, payload = f"fc_{index}", "".join(pieces)
    kind, key = ("custom_tool_call", "input") if custom else ("function_call", "arguments")
    stem = "response.custom_tool_call_input" if custom else "response.function_call_arguments"
    item: JsonObject = {"id": item_id, "type": kind, "call_id": f"call_{index}", "name": name}
    at: dict[str, Json] = {"item_id": item_id, "output_index": index}
    yield "response.output_item.added", {"output_index": index, "item": item | {key: ""}}
    for piece in pieces:
        yield f"{stem}.delta", at | {"delta": piece}
    yield f"{stem}.done", at | {key: payload}
    yield "response.output_item.done", {"output_index": index, "item": item | {key: payload}}


def _reasoning(index: int, pieces: tuple[str, ...]) -> Numbered:
    item: JsonObject = {"id": f"rs_{index}", "type": "reasoning", "summary": []}
    at: dict[str, Json] = {"item_id": f"rs_{index}", "output_index": index, "summary_index": 0}
    yield "response.output_item.added", {"output_index": index, "item": item}
    for piece in pieces:
        yield "response.reasoning_summary_text.delta", at | {"delta": piece}
    part: JsonObject = {"type": "summary_text", "text": "".join(pieces)}
    done: JsonObject = item | {"summary": [part], "encrypted_content": "c2VhbGVk"}
    yield "response.output_item.done", {"output_index": index, "item": done}


def _woven(*items: Numbered) -> Numbered:
    """Yield the events of several items in turns, as parallel calls come."""
    rounds = itertools.zip_longest(*items)
    yield from (step for steps in rounds for step in steps if step is not None)


def text() -> tuple[bytes, ...]:
    """Return the events of a text in three pieces, one with characters of several bytes."""
    return _whole(_text(0, ("Hel", "lo, Gr\u00fc\u00dfe \u2713", " world")))


def tool_call() -> tuple[bytes, ...]:
    """Return the events of one tool call."""
    return _whole(_call(0, "shell", ('{"cmd":', '"ls"}')))


def parallel_calls() -> tuple[bytes, ...]:
    """Return the events of two tool calls that come woven into each other."""
    return _whole(_woven(_call(0, "read", ('{"a"', ":1}")), _call(1, "list", ("{", "}"))))


def reasoning() -> tuple[bytes, ...]:
    """Return the events of a thought and a text after it."""
    return _whole(
        itertools.chain(_reasoning(0, ("Thin", "king")), _text(1, ("So", "."), short=True))
    )


def custom_call() -> tuple[bytes, ...]:
    """Return the events of a custom tool's call."""
    return _whole(_call(0, "apply_patch", ("*** Be", 'gin "x"\n'), custom=True))


def long_call() -> tuple[bytes, ...]:
    """Return the events of a tool call with 64 KiB of arguments, in 16 pieces."""
    return _whole(_call(0, "shell", ('{"cmd":"', *["x" * 4096] * 16, '"}')))


#: By name: each is a whole, small answer.
STREAMS: Final[dict[str, Callable[[], tuple[bytes, ...]]]] = {
    "text": text,
    "tool-call": tool_call,
    "parallel-calls": parallel_calls,
    "reasoning": reasoning,
    "custom-call": custom_call,
}
