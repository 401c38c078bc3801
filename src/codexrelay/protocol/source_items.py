"""Writes the items of a Responses stream that is made of chat chunks: every event of each.

They have the form of the backend's own (recorded streams; the event models of the openai SDK 3.54).
Texts and calls may come mixed: a text ends where something else begins, a call when the answer
ends, because only then its server has said that nothing more comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from codexrelay.protocol import events, sse
from codexrelay.protocol.chat_chunk import Call
from codexrelay.protocol.made_ids import made_id
from codexrelay.protocol.raw import Json, JsonObject, dump
from codexrelay.protocol.target_tools import TargetTools, Tool, as_input

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a message can say.
PartKind: TypeAlias = Literal["output_text", "refusal"]

_PART_KEYS: Final[Mapping[PartKind, str]] = {"output_text": "text", "refusal": "refusal"}


@attrs.define(eq=False)
class _Part:
    """A text under way."""

    kind: PartKind
    pieces: list[str] = attrs.field(factory=list)

    def whole(self) -> JsonObject:
        return _part(self.kind, "".join(self.pieces))


@attrs.define(eq=False)
class _Message:
    """A message under way: its parts so far, the last of which is open."""

    place: int
    item_id: str
    done: list[Json] = attrs.field(factory=list)
    part: _Part | None = None


@attrs.define(eq=False)
class _Reasoning:
    """Reasoning under way, told as a summary: the one form of it that every client shows."""

    place: int
    item_id: str
    pieces: list[str] = attrs.field(factory=list)


@attrs.define(eq=False)
class _OpenCall:
    """A call under way."""

    place: int
    item: JsonObject
    tool: Tool
    call: Call


@attrs.define(eq=False)
class Items:
    """The items of one answer."""

    tools: TargetTools
    #: Ends the ids of the items; of the response, so that it is no other answer's.
    suffix: str
    #: The finished items, by their place.
    output: dict[int, JsonObject] = attrs.field(factory=dict)
    _places: int = 0
    _number: int = 0
    _text: _Message | _Reasoning | None = None
    _calls: dict[int, _OpenCall] = attrs.field(factory=dict)
    _call_ids: set[str] = attrs.field(factory=set)
    _out: list[bytes] = attrs.field(factory=list)

    def taken(self) -> bytes:
        """Return the events since this was asked last."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def write(self, name: str, /, **fields: Json) -> None:
        """Write an event of the stream."""
        event: JsonObject = {"type": name, **fields, "sequence_number": self._number}
        self._number += 1
        self._out.append(sse.write(name, dump(event)))

    def pass_on(self, raw: bytes) -> None:
        """Hand on an event that is none of ours."""
        self._out.append(raw)

    # --- texts

    def think(self, piece: str) -> None:
        """Write a piece of reasoning."""
        if not isinstance(self._text, _Reasoning):
            self.end_text()
            self._text = _Reasoning(*self._begin("rs"))
            self._added(self._text.place, _reasoning(self._text.item_id, []))
            self._of_summary(self._text, "response.reasoning_summary_part.added", part=_summary(""))
        self._text.pieces.append(piece)
        self._of_summary(self._text, "response.reasoning_summary_text.delta", delta=piece)

    def say(self, kind: PartKind, piece: str) -> None:
        """Write a piece of text, or of a refusal."""
        if not isinstance(self._text, _Message):
            self.end_text()
            self._text = _Message(*self._begin("msg"))
            self._added(self._text.place, _message(self._text.item_id, [], "in_progress"))
        message = self._text
        if message.part is None or message.part.kind != kind:
            self._end_part(message)
            message.part = _Part(kind)
            self._of_part(message, "response.content_part.added", part=_part(kind, ""))
        message.part.pieces.append(piece)
        more: JsonObject = {"logprobs": []} if kind == "output_text" else {}
        self._of_part(message, f"response.{kind}.delta", delta=piece, **more)

    def end_text(self, *, status: str = "completed") -> None:
        """End the text or the reasoning under way, if there is one."""
        text, self._text = self._text, None
        if isinstance(text, _Reasoning):
            whole = "".join(text.pieces)
            self._of_summary(text, "response.reasoning_summary_text.done", text=whole)
            part = _summary(whole)
            self._of_summary(text, "response.reasoning_summary_part.done", part=part)
            self._done(text.place, _reasoning(text.item_id, [part]))
        elif text is not None:
            self._end_part(text)
            self._done(text.place, _message(text.item_id, text.done, status))

    def _end_part(self, message: _Message) -> None:
        if message.part is None:
            return
        part, kind = message.part.whole(), message.part.kind
        key = _PART_KEYS[kind]
        more: JsonObject = {"logprobs": []} if kind == "output_text" else {}
        self._of_part(message, f"response.{kind}.done", **{key: part[key]}, **more)
        self._of_part(message, "response.content_part.done", part=part)
        message.done.append(part)
        message.part = None

    # --- calls

    def call(self, call: Call, piece: str) -> None:
        """Write a piece of a call. It is not seen before it has a name."""
        opened = self._calls.get(call.place)
        if opened is None:
            if call.name is None:
                return
            self.end_text()
            opened = self._calls[call.place] = self._open(call, call.name)
            piece = "".join(call.arguments)
        # Raw text stands in the arguments as JSON, and is told when that is whole.
        if piece and not opened.tool.custom:
            self._of_call(opened, "response.function_call_arguments.delta", delta=piece)

    def _open(self, call: Call, name: str) -> _OpenCall:
        tool = self.tools.known_as(name)
        place, item_id = self._begin("ctc" if tool.custom else "fc")
        item: JsonObject = {
            "id": item_id,
            "type": "custom_tool_call" if tool.custom else "function_call",
            "status": "in_progress",
            "call_id": self._call_id(call),
            "name": tool.name,
        }
        if tool.called_in is not None:
            item["namespace"] = tool.called_in
        self._added(place, item | {_input_key(tool): ""})
        return _OpenCall(place, item, tool, call)

    def _call_id(self, call: Call) -> str:
        """Return the server's id; one of ours if it gave none, or the same to two calls."""
        call_id = call.id or ""
        if not call_id or call_id in self._call_ids:
            call_id = made_id("call", self.suffix, call.place)
        self._call_ids.add(call_id)
        return call_id

    @property
    def has_said(self) -> bool:
        """Whether there is any item."""
        return self._places > 0

    @property
    def calls_are_whole(self) -> bool:
        """Whether no call lacks anything, as far as its arguments show it."""
        return all(opened.call.is_whole for opened in self._calls.values())

    def end_calls(self, *, complete: bool) -> None:
        """End the calls. Unless the answer is `complete`, those are cut that are not whole."""
        calls, self._calls = self._calls, {}
        for opened in calls.values():
            arguments = "".join(opened.call.arguments)
            if complete or opened.call.is_whole:
                self._end_call(opened, arguments)
            else:
                item = opened.item | {"status": "incomplete", _input_key(opened.tool): arguments}
                self._done(opened.place, item)

    def _end_call(self, opened: _OpenCall, arguments: str) -> None:
        if opened.tool.custom:
            name, key, whole = "custom_tool_call_input", "input", as_input(arguments)
            if whole:
                self._of_call(opened, f"response.{name}.delta", delta=whole)
            self._of_call(opened, f"response.{name}.done", input=whole)
        else:
            name, key, whole = "function_call_arguments", "arguments", arguments
            if not whole.strip():
                whole = "{}"  # clients parse them
                self._of_call(opened, f"response.{name}.delta", delta=whole)
            self._of_call(
                opened, f"response.{name}.done", name=opened.item["name"], arguments=whole
            )
        self._done(opened.place, opened.item | {"status": "completed", key: whole})

    # --- what all have in common

    def _begin(self, prefix: str) -> tuple[int, str]:
        place, self._places = self._places, self._places + 1
        return place, made_id(prefix, self.suffix, place)

    def _added(self, place: int, item: JsonObject) -> None:
        self.write(events.ITEM_ADDED, output_index=place, item=item)

    def _done(self, place: int, item: JsonObject) -> None:
        self.output[place] = item
        self.write(events.ITEM_DONE, output_index=place, item=item)

    def _of_part(self, message: _Message, name: str, **fields: Json) -> None:
        self.write(
            name,
            item_id=message.item_id,
            output_index=message.place,
            content_index=len(message.done),
            **fields,
        )

    def _of_summary(self, reasoning: _Reasoning, name: str, **fields: Json) -> None:
        self.write(
            name,
            item_id=reasoning.item_id,
            output_index=reasoning.place,
            summary_index=0,
            **fields,
        )

    def _of_call(self, opened: _OpenCall, event: str, /, **fields: Json) -> None:
        self.write(event, item_id=opened.item["id"], output_index=opened.place, **fields)


def _input_key(tool: Tool) -> str:
    return "input" if tool.custom else "arguments"


def _message(item_id: str, content: list[Json], status: str) -> JsonObject:
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _reasoning(item_id: str, summary: list[Json]) -> JsonObject:
    return {"id": item_id, "type": "reasoning", "summary": summary}


def _part(kind: PartKind, text: str) -> JsonObject:
    if kind == "refusal":
        return {"type": kind, "refusal": text}
    return {"type": kind, "text": text, "annotations": [], "logprobs": []}


def _summary(text: str) -> JsonObject:
    return {"type": "summary_text", "text": text}
