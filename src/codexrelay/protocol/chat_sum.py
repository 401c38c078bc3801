"""Chat chunks added up to one completion, whatever is in them.

Nothing is picked out: what a server adds to its chunks (log probabilities, details of reasoning, a
field of its own) stands in the sum, at its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.chat_chunk import Calls, delta_of
from codexrelay.protocol.made_ids import made_id
from codexrelay.protocol.raw import (
    Json,
    JsonObject,
    get_list,
    get_number,
    get_object,
    get_text,
    is_object,
)

if TYPE_CHECKING:
    from codexrelay.protocol.chat_chunk import Chunk

#: Texts that name something; of those that are pieces the sum is wanted.
_NAMES: Final = frozenset({"role", "type", "id", "name", "finish_reason", "format"})


@attrs.define(eq=False)
class _Choice:
    """One choice."""

    #: The pieces of the message's texts: joined once, for an answer may have very many.
    _texts: dict[str, list[str]] = attrs.field(factory=dict)
    #: What else is in the message, and what stands beside it.
    _message: JsonObject = attrs.field(factory=dict)
    _beside: JsonObject = attrs.field(factory=dict)
    _calls: Calls = attrs.field(factory=Calls)
    #: What the pieces of each call add up to, but for its name and arguments.
    _entries: list[JsonObject] = attrs.field(factory=list)

    def add(self, choice: JsonObject) -> None:
        for key, value in delta_of(choice).items():
            if key == "tool_calls":
                continue
            if isinstance(value, str) and key not in _NAMES:
                self._texts.setdefault(key, []).append(value)
            else:
                _merge(self._message, {key: value})
        for entry in get_list(delta_of(choice), "tool_calls"):
            if is_object(entry):
                self._add_call(entry)
        _merge(self._beside, _without(choice, "index", "delta", "message"))

    def _add_call(self, entry: JsonObject) -> None:
        taken = self._calls.take(entry)
        if taken is None:
            return
        place = taken[0].place
        if place == len(self._entries):
            self._entries.append({})
        more = _without(entry, "index", "id", "type", "function")
        if function := _without(get_object(entry, "function"), "name", "arguments"):
            more["function"] = function
        _merge(self._entries[place], more)

    def whole(self, index: int, answer: str) -> Json:
        """Return the choice; `answer` ends the ids of calls that have none of their own."""
        texts: JsonObject = {key: "".join(pieces) for key, pieces in self._texts.items()}
        message: JsonObject = {"role": "assistant", "content": None, **self._message, **texts}
        if calls := self._tool_calls(f"{answer}_{index}"):
            message["tool_calls"] = calls
            message["content"] = message["content"] or None
        return {"index": index, "message": message, "logprobs": None, **self._beside}

    def _tool_calls(self, suffix: str) -> list[Json]:
        return [
            {
                # Unlike any other answer's: they all come back in one history.
                "id": call.id or made_id("call", suffix, call.place),
                "type": "function",
                **entry,
                "function": {
                    "name": call.name or "",
                    "arguments": "".join(call.arguments),
                    **get_object(entry, "function"),
                },
            }
            for call, entry in zip(self._calls.calls, self._entries, strict=True)
        ]


@attrs.define(eq=False)
class ChatSum:
    """All chunks of an answer."""

    _frame: JsonObject = attrs.field(factory=dict)
    _choices: dict[int, _Choice] = attrs.field(factory=dict)

    def add(self, chunk: Chunk) -> None:
        """Add a chunk."""
        # Each chunk repeats its frame; what it says last of the usage and the tier is true.
        self._frame |= {k: v for k, v in chunk.payload.items() if k != "choices" and v is not None}
        for index, choice in chunk.choices:
            self._choices.setdefault(index, _Choice()).add(choice)

    def completion(self, otherwise: JsonObject) -> JsonObject:
        """Return the sum; `otherwise` are the fields of it that no chunk need have given.

        Its `id` is no other answer's.
        """
        answer = (get_text(otherwise, "id") or "").removeprefix("chatcmpl-")
        whole: JsonObject = otherwise | self._frame | {"object": "chat.completion"}
        usage = whole.pop("usage", None)
        whole["choices"] = [choice.whole(i, answer) for i, choice in sorted(self._choices.items())]
        return whole if usage is None else whole | {"usage": usage}


def _without(value: JsonObject, *keys: str) -> JsonObject:
    return {key: inner for key, inner in value.items() if key not in keys}


def _merge(into: JsonObject, more: JsonObject) -> None:
    """Add `more` to what came before: texts and lists go on, objects inside too.

    What is said of something else than texts and lists is true as it is said last; null says
    nothing.
    """
    for key, value in more.items():
        before = into.get(key)
        if value is None:
            into.setdefault(key, None)
        elif isinstance(value, str) and isinstance(before, str):
            into[key] = (value or before) if key in _NAMES else before + value
        elif is_object(value) and is_object(before):
            into[key] = _merged(before, value)
        elif isinstance(value, list) and isinstance(before, list):
            into[key] = _continued(before, value)
        else:
            into[key] = value


def _merged(before: JsonObject, more: JsonObject) -> JsonObject:
    whole = {**before}
    _merge(whole, more)
    return whole


def _continued(before: list[Json], more: list[Json]) -> list[Json]:
    """Return the list as it goes on: entries with an index are continued, others are added."""
    whole = [*before]
    for entry in more:
        place = _place_of(entry, whole)
        known = None if place is None else whole[place]
        if place is not None and is_object(known) and is_object(entry):
            whole[place] = _merged(known, entry)
        else:
            whole.append(entry)
    return whole


def _place_of(entry: Json, known: list[Json]) -> int | None:
    index = get_number(entry, "index") if is_object(entry) else None
    if index is None:
        return None
    for place, other in enumerate(known):
        if is_object(other) and get_number(other, "index") == index:
            return place
    return None
