"""Reads a Responses stream for a Chat client: bytes in, facts out.

It decides what counts: which items are tool calls, what was streamed and what came only with the
finished item, how the turn ended.

Sources: wire notes 3; recorded streams. Items are told apart by `output_index`: through some
gateways each event carries another item id (recorded).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

import attrs

from codexrelay.protocol import events, faults, sse
from codexrelay.protocol.answer import Terminal
from codexrelay.protocol.chat_facts import (
    CallClosed,
    CallInput,
    CallOpened,
    Citation,
    Ended,
    Fact,
    Refusal,
    Text,
    Thought,
)
from codexrelay.protocol.raw import (
    JsonObject,
    get_list,
    get_object,
    get_text,
    is_object,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.protocol.chat_facts import FinishReason
    from codexrelay.protocol.events import TerminalName
    from codexrelay.protocol.faults import Fault

#: How an item is known: its output index, or its id where upstream gives no index.
_Key: TypeAlias = int | str

#: Item type -> the key of its input.
_CALLS: Final[Mapping[str, str]] = {"function_call": "arguments", "custom_tool_call": "input"}


@attrs.define(eq=False)
class Decoder:
    """Reads one Responses stream."""

    #: Against which upstream's reset times are read, Unix seconds.
    now_unix_s: float
    #: The model that answers, as `response.created` named it; None before.
    model: str | None = None
    service_tier: str | None = None
    terminal: Terminal | None = None
    #: Call id -> the encrypted reasoning items that came between the call before (or the beginning)
    #: and this one. A call without any has no entry.
    reasoning: dict[str, list[JsonObject]] = attrs.field(factory=dict)
    _cutter: sse.EventCutter = attrs.field(factory=sse.EventCutter)
    _response_id: str | None = None
    #: Item id -> key, for events that have no output index.
    _keys: dict[str, _Key] = attrs.field(factory=dict)
    #: Items of which something was passed on: the finished item only repeats it.
    _told: set[_Key] = attrs.field(factory=set)
    #: The calls so far, and which of them have their whole input.
    _calls: dict[_Key, CallOpened] = attrs.field(factory=dict)
    _closed: set[_Key] = attrs.field(factory=set)
    #: Encrypted reasoning that no call has followed yet.
    _pending: list[JsonObject] = attrs.field(factory=list)
    #: The passage of reasoning that the last thought belongs to.
    _passage: tuple[object, ...] | None = None

    def feed(self, block: bytes) -> Iterator[Fact]:
        """Take upstream bytes, yield what they say. Nothing follows an `Ended`.

        Raises:
            EventTooLargeError: see `sse.EventCutter`.
        """
        if self._ended():
            return
        for raw in sse.split(self._cutter.feed(block)):
            event = sse.read(raw)
            if event is not None and (not event.name or event.name in self._READERS):
                yield from self._read(event)
                if self._ended():
                    return

    def fail(self, fault: Fault) -> Ended:
        """End the turn for `fault`."""
        return self._end("failed", fault=fault)

    def _ended(self) -> bool:
        return self.terminal is not None

    def _read(self, event: sse.Event) -> Iterable[Fact]:
        try:
            payload = parse_object(event.data)
        except ValueError:
            if event.data == b"[DONE]":  # the sentinel of other backends; it says nothing
                return ()
            return (self.fail(faults.broken("the backend sent an event that is no JSON object")),)
        read = self._READERS.get(event.name or get_text(payload, "type") or "")
        return read(self, payload) if read is not None else ()

    # --- the response as a whole

    def _created(self, event: JsonObject) -> Iterable[Fact]:
        response = get_object(event, "response")
        self.model = get_text(response, "model")
        self.service_tier = get_text(response, "service_tier")
        self._response_id = get_text(response, "id")
        return ()

    def _completed(self, event: JsonObject) -> Iterable[Fact]:
        for key in self._calls:
            yield from self._close(key)
        yield self._end("completed", event, "tool_calls" if self._calls else "stop")

    def _incomplete(self, event: JsonObject) -> Iterable[Fact]:
        details = get_object(get_object(event, "response"), "incomplete_details")
        filtered = details.get("reason") == "content_filter"
        yield self._end("incomplete", event, "content_filter" if filtered else "length")

    def _failed(self, event: JsonObject) -> Iterable[Fact]:
        fault = faults.from_event(event, now_unix_s=self.now_unix_s)
        yield self._end("failed", event, fault=fault)

    def _end(
        self,
        name: TerminalName,
        event: JsonObject | None = None,
        finish_reason: FinishReason | None = None,
        fault: Fault | None = None,
    ) -> Ended:
        response = get_object(event or {}, "response")
        self.service_tier = get_text(response, "service_tier") or self.service_tier
        self.terminal = Terminal(
            name=name,
            response_id=get_text(response, "id") or self._response_id,
            usage=get_object(response, "usage") or None,
            fault=fault,
        )
        return Ended(self.terminal, finish_reason)

    # --- what the model says

    def _text(self, event: JsonObject) -> Iterable[Fact]:
        delta = self._delta(event)
        return (Text(delta),) if delta else ()

    def _refusal(self, event: JsonObject) -> Iterable[Fact]:
        delta = self._delta(event)
        return (Refusal(delta),) if delta else ()

    def _summary(self, event: JsonObject) -> Iterable[Fact]:
        delta = self._delta(event)
        passage = (self._key(event), event.get("summary_index"))
        return (self._thought(delta, passage),) if delta else ()

    def _raw_reasoning(self, event: JsonObject) -> Iterable[Fact]:
        delta = self._delta(event)
        passage = (self._key(event), "raw", event.get("content_index"))
        return (self._thought(delta, passage),) if delta else ()

    def _annotation(self, event: JsonObject) -> Iterable[Fact]:
        return _citations([event.get("annotation")])

    def _thought(self, text: str, passage: tuple[object, ...]) -> Thought:
        begins_another = self._passage not in (None, passage)
        self._passage = passage
        return Thought(f"\n\n{text}" if begins_another else text)

    # --- what the model calls

    def _input(self, event: JsonObject) -> Iterable[Fact]:
        call = self._calls.get(self._key(event))
        if call is None:
            return ()  # of no tool that a client knows
        delta = self._delta(event)
        return (CallInput(call.index, delta),) if delta else ()

    def _arguments_done(self, event: JsonObject) -> Iterable[Fact]:
        return self._finish_call(self._key(event), get_text(event, "arguments"))

    def _raw_input_done(self, event: JsonObject) -> Iterable[Fact]:
        return self._finish_call(self._key(event), get_text(event, "input"))

    def _open(self, key: _Key, item: JsonObject) -> Iterable[Fact]:
        name, call_id = get_text(item, "name"), get_text(item, "call_id")
        if not name or not call_id or key in self._calls:
            return
        call = CallOpened(len(self._calls), call_id, name, item["type"] == "custom_tool_call")
        self._calls[key] = call
        if self._pending:
            self.reasoning[call_id], self._pending = self._pending, []
        yield call

    def _finish_call(self, key: _Key, whole: str | None) -> Iterable[Fact]:
        if (call := self._calls.get(key)) is None:
            return
        if whole and key not in self._told:
            self._told.add(key)
            yield CallInput(call.index, whole)
        yield from self._close(key)

    def _close(self, key: _Key) -> Iterable[Fact]:
        if key not in self._closed:
            self._closed.add(key)
            yield CallClosed(self._calls[key].index)

    # --- items

    def _item_added(self, event: JsonObject) -> Iterable[Fact]:
        item = get_object(event, "item")
        key = self._key(event, item)
        if item.get("type") in _CALLS:
            yield from self._open(key, item)

    def _item_done(self, event: JsonObject) -> Iterable[Fact]:
        item = get_object(event, "item")
        key = self._key(event, item)
        match item.get("type"):
            case "message":
                yield from self._message_done(key, item)
            case "reasoning":
                yield from self._reasoning_done(key, item)
            case "function_call" | "custom_tool_call" as kind:
                yield from self._open(key, item)
                yield from self._finish_call(key, get_text(item, _CALLS[kind]))
            case _:
                pass  # the backend's own tools: their work is done there

    def _message_done(self, key: _Key, item: JsonObject) -> Iterable[Fact]:
        if key in self._told:
            return
        self._told.add(key)
        for part in _objects(item, "content"):
            if text := get_text(part, "text"):
                yield Text(text)
            if refusal := get_text(part, "refusal"):
                yield Refusal(refusal)
            yield from _citations(get_list(part, "annotations"))

    def _reasoning_done(self, key: _Key, item: JsonObject) -> Iterable[Fact]:
        if get_text(item, "encrypted_content"):
            self._pending.append({name: item[name] for name in item if name != "status"})
        if key in self._told:
            return
        self._told.add(key)
        for i, part in enumerate(_objects(item, "summary")):
            if text := get_text(part, "text"):
                yield self._thought(text, (key, i))

    def _delta(self, event: JsonObject) -> str:
        delta = event.get("delta")
        if not isinstance(delta, str) or not delta:
            return ""
        self._told.add(self._key(event))
        return delta

    def _key(self, event: JsonObject, item: JsonObject | None = None) -> _Key:
        """Return the key of the item that `event` is about, or that it shows."""
        index = event.get("output_index")
        item_id = get_text(event, "item_id") if item is None else get_text(item, "id")
        if isinstance(index, int):
            if item and item_id:
                self._keys[item_id] = index
            return index
        return self._keys.get(item_id or "", item_id or "")

    #: Events that say something to a Chat client; the others are not even parsed.
    _READERS: ClassVar[Mapping[str, Callable[[Decoder, JsonObject], Iterable[Fact]]]] = {
        "response.created": _created,
        "response.output_text.delta": _text,
        "response.output_text.annotation.added": _annotation,
        "response.refusal.delta": _refusal,
        "response.reasoning_summary_text.delta": _summary,
        "response.reasoning_text.delta": _raw_reasoning,
        "response.function_call_arguments.delta": _input,
        "response.function_call_arguments.done": _arguments_done,
        "response.custom_tool_call_input.delta": _input,
        "response.custom_tool_call_input.done": _raw_input_done,
        events.ITEM_ADDED: _item_added,
        events.ITEM_DONE: _item_done,
        events.COMPLETED: _completed,
        events.DONE: _completed,
        events.INCOMPLETE: _incomplete,
        events.FAILED: _failed,
        events.ERROR: _failed,
    }


def _citations(annotations: Iterable[object]) -> Iterator[Citation]:
    """Yield what Chat can show; it knows no citations of files."""
    for annotation in annotations:
        if isinstance(annotation, dict) and annotation.get("type") == "url_citation":
            inner = {key: value for key, value in annotation.items() if key != "type"}
            yield Citation({"type": "url_citation", "url_citation": inner})


def _objects(item: JsonObject, key: str) -> Iterator[JsonObject]:
    return (part for part in get_list(item, key) if is_object(part))
