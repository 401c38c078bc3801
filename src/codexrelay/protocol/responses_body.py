"""The body of a Responses answer whose server sends one object although a stream was asked for.

It stands for events that it does not send, and clients live on these: some show nothing but what
comes as a delta (measured). A stream passes as it is, and so does what is no answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import events, sse
from codexrelay.protocol.raw import (
    Json,
    JsonObject,
    dump,
    get_list,
    get_text,
    is_object,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Type of a part of a message -> the key of its text, which its events are called by too.
_TEXTS: Final[Mapping[str, str]] = {"output_text": "text", "refusal": "refusal"}
#: Type of a call -> the key of what it is called with, and what its events are called.
_INPUTS: Final[Mapping[str, tuple[str, str]]] = {
    "function_call": ("arguments", "response.function_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
}
_THOUGHT: Final = "response.reasoning_summary"
_ENDS: Final = frozenset({"completed", "incomplete", "failed"})


@attrs.define(eq=False)
class ResponsesDelivery:
    """A `delivery.Delivery`: the target's own bytes, or the events that its one object stands for.

    Unlike others it does not wait for the end of an event: the bytes are nobody's but the target's.
    """

    max_bytes: int = sse.MAX_EVENT_BYTES
    #: Whether the body is one object; None: nothing has come that shows it.
    _is_object: bool | None = attrs.field(default=None, init=False)
    _kept: list[bytes] = attrs.field(factory=list, init=False)
    _kept_bytes: int = attrs.field(default=0, init=False)

    def feed(self, block: bytes) -> bytes:
        """See `delivery.Delivery.feed`."""
        if self._is_object is None and block.strip():
            self._is_object = block.lstrip().startswith(b"{")
        if not self._is_object:
            return block
        self._kept.append(block)
        self._kept_bytes += len(block)
        if self._kept_bytes > self.max_bytes:
            raise EventTooLargeError(limit_bytes=self.max_bytes)
        return b""

    def end(self) -> bytes:
        """See `delivery.Delivery.end`."""
        body = b"".join(self._kept)
        try:
            response = parse_object(body)
        except ValueError:
            return body
        if response.get("object") != "response" or not isinstance(response.get("output"), list):
            return body
        written = (
            sse.write(name, dump({"type": name, **fields, "sequence_number": i}))
            for i, (name, fields) in enumerate(_events_of(response))
        )
        return b"".join(written)


def _events_of(response: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """Yield the events that would have told a response, by name."""
    begun: JsonObject = {**response, "status": "in_progress", "output": [], "usage": None}
    yield "response.created", {"response": begun}
    for i, item in enumerate(get_list(response, "output")):
        if is_object(item):
            place: JsonObject = {"output_index": i}
            yield events.ITEM_ADDED, place | {"item": _begun(item)}
            item_id = get_text(item, "id") or f"item_{i}"
            for name, fields in _within(item):
                yield name, {"item_id": item_id} | place | fields
            yield events.ITEM_DONE, place | {"item": item}
    status = get_text(response, "status") or ""
    # Another status is no end: as the answer of a stream that breaks off.
    if status in _ENDS:
        yield f"response.{status}", {"response": response}


def _begun(item: JsonObject) -> JsonObject:
    """Return an item as it is before anything of it has come."""
    empty: JsonObject = {}
    for key in ("content", "summary"):
        if isinstance(item.get(key), list):
            empty[key] = []
    if (call := _INPUTS.get(get_text(item, "type") or "")) is not None:
        empty[call[0]] = ""
    if "status" in item:
        empty["status"] = "in_progress"
    return item | empty


def _within(item: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """Yield what comes between the begin and the end of an item."""
    kind = get_text(item, "type") or ""
    if kind == "message":
        for i, part in enumerate(get_list(item, "content")):
            if is_object(part):
                yield from _told(part, {"content_index": i}, _part_names(part))
    elif kind == "reasoning":
        names = (f"{_THOUGHT}_part", f"{_THOUGHT}_text", "text")
        for i, part in enumerate(get_list(item, "summary")):
            if is_object(part):
                yield from _told(part, {"summary_index": i}, names)
    elif kind in _INPUTS:
        key, name = _INPUTS[kind]
        whole = get_text(item, key) or ""
        yield f"{name}.delta", {"delta": whole}
        called: JsonObject = {"name": item["name"]} if key == "arguments" and "name" in item else {}
        yield f"{name}.done", called | {key: whole}


def _part_names(part: JsonObject) -> tuple[str, str, str | None]:
    kind = get_text(part, "type") or ""
    return "response.content_part", f"response.{kind}", _TEXTS.get(kind)


def _told(
    part: JsonObject, place: JsonObject, names: tuple[str, str, str | None]
) -> Iterator[tuple[str, JsonObject]]:
    """Yield the events of a part; `names`: its own, that of its text, and the text's key."""
    of_part, of_text, key = names
    empty: Json = part if key is None else part | {key: ""}
    yield f"{of_part}.added", place | {"part": empty}
    if key is not None:
        whole = get_text(part, key) or ""
        more: JsonObject = {"logprobs": []} if part.get("type") == "output_text" else {}
        yield f"{of_text}.delta", place | {"delta": whole} | more
        yield f"{of_text}.done", place | {key: whole} | more
    yield f"{of_part}.done", place | {"part": part}
