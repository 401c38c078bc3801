"""The events of an item that the relay itself puts into a Responses stream: a message, a call.

They have the form of the backend's own (recorded streams; the event models of the openai SDK 3.54).
Where an event stands in the stream (`output_index`, `sequence_number`) is not said here.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from codexrelay.protocol import events
from codexrelay.protocol.chat_calls import INPUTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from codexrelay.protocol.raw import Json, JsonObject

_DIGEST_BYTES: Final = 20
#: Item type -> how the names of the events begin that bring its input.
_INPUT_EVENTS: Final[Mapping[str, str]] = {
    "function_call": "response.function_call_arguments",
    "custom_tool_call": "response.custom_tool_call_input",
}


def message_id(item_id: str) -> str:
    """Return the id of the message that stands for the item `item_id`: always the same one.

    A digest, as an id has 64 characters at most (wire notes 2.3) and that of the item may have all
    of them.
    """
    data = item_id.encode("utf-8", "surrogatepass")
    return f"msg_{hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()}"


def message(item_id: str, text: str) -> JsonObject:
    """Return the finished item of a message that says `text`; `item_id` is its own id."""
    return {
        "id": item_id,
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [_part(text)],
    }


def message_events(item_id: str, text: str) -> Iterator[JsonObject]:
    """Yield all events of a message that says `text`."""
    whole = message(item_id, text)
    in_part: JsonObject = {"item_id": item_id, "content_index": 0}
    yield _item(events.ITEM_ADDED, whole | {"status": "in_progress", "content": []})
    yield {"type": "response.content_part.added", **in_part, "part": _part("")}
    yield {"type": "response.output_text.delta", **in_part, "delta": text, "logprobs": []}
    yield {"type": "response.output_text.done", **in_part, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **in_part, "part": _part(text)}
    yield _item(events.ITEM_DONE, whole)


def call_events(item: JsonObject) -> Iterator[JsonObject]:
    """Yield all events of the call that `item` is in the end."""
    kind = str(item["type"])
    key, name = INPUTS[kind], _INPUT_EVENTS[kind]
    of_item: JsonObject = {"item_id": item["id"]} if "id" in item else {}
    yield _item(events.ITEM_ADDED, item | {"status": "in_progress", key: ""})
    if item[key]:
        yield {"type": f"{name}.delta", **of_item, "delta": item[key]}
    yield {"type": f"{name}.done", **of_item, key: item[key]}
    yield _item(events.ITEM_DONE, item)


def _item(name: str, item: JsonObject) -> JsonObject:
    return {"type": name, "item": item}


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
