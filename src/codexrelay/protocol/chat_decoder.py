"""Reads a Responses stream for a Chat client: bytes in, facts out.

It decides what counts: which items are tool calls, what was streamed and what came only with the
finished item or the whole response, how the turn ended.

Sources: wire notes 3; recorded streams. Items are told apart by `output_index`: through some
gateways each event carries another item id (recorded).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Final

import attrs

from codexrelay.protocol import chat_runs, endings, events, faults, sse
from codexrelay.protocol.answer import Terminal
from codexrelay.protocol.chat_calls import INPUTS, Calls
from codexrelay.protocol.chat_facts import Citation, Ended, Fact, Refusal, Text, Thought
from codexrelay.protocol.chat_runs import Run
from codexrelay.protocol.chat_told import NAMELESS, Key, Part, Told, Within
from codexrelay.protocol.raw import (
    JsonObject,
    get_list,
    get_object,
    get_text,
    is_object,
    parse_object,
)
from codexrelay.protocol.responses_scan import inside, with_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.protocol.chat_facts import FinishReason
    from codexrelay.protocol.events import TerminalName
    from codexrelay.protocol.faults import Fault

#: The tiers that the SDK 3.54 knows in a chat completion; another would make it invalid.
_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})


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
    #: Item id -> key: an event without an output index has only the id, and may follow one with.
    _keys: dict[str, Key] = attrs.field(factory=dict)
    #: Items that are finished.
    _done: set[Key] = attrs.field(factory=set)
    _told: Told = attrs.field(factory=Told)
    _calls: Calls = attrs.field(factory=Calls)
    #: Encrypted reasoning that no call has followed yet.
    _pending: list[JsonObject] = attrs.field(factory=list)
    #: The part of reasoning that the last thought belongs to.
    _passage: Part | None = None

    def feed(self, block: bytes) -> Iterator[Fact]:
        """Take upstream bytes, yield what they say. Nothing follows an `Ended`.

        Raises:
            EventTooLargeError: see `sse.EventCutter`.
        """
        if self._ended():
            return
        for said in chat_runs.read(self._cutter.feed(block)):
            if isinstance(said, Run):
                yield from self._DELTA_READERS[said.name](self, said.about, _present(said.deltas))
                continue
            yield from self._read(*said)
            if self._ended():
                return

    def fail(self, fault: Fault) -> Ended:
        """End the turn for `fault`."""
        return self._end("failed", fault=fault)

    def _ended(self) -> bool:
        return self.terminal is not None

    def _read(self, name: str, data: bytes) -> Iterable[Fact]:
        """Take one event."""
        try:
            if name in self._DELTA_READERS or name in self._READERS or name in events.TERMINAL:
                payload = parse_object(data)
            elif name.startswith("response."):
                return ()  # nothing that Chat could say: not even parsed
            elif (found := inside(name, data)) is not None:
                payload = with_type(name, found)
                name = get_text(payload, "type") or name
            else:
                return ()
        except ValueError:
            return (self.fail(faults.not_json()),)
        if (read_delta := self._DELTA_READERS.get(name)) is not None:
            delta = get_text(payload, "delta")
            return read_delta(self, payload, [delta] if delta else [])
        if (read := self._READERS.get(name)) is not None:
            return read(self, payload)
        if name in events.TERMINAL:
            return self._ending(endings.true_name(name, payload), payload)
        return ()

    # --- the response as a whole

    def _created(self, event: JsonObject) -> Iterable[Fact]:
        response = get_object(event, "response")
        self.model = get_text(response, "model")
        self._take_tier(response)
        self._response_id = get_text(response, "id")
        return ()

    def _ending(self, name: str, event: JsonObject) -> Iterator[Fact]:
        """Take the terminal event whose true name is `name`."""
        response = get_object(event, "response")
        if name in events.FAILURES:
            fault = faults.from_event(event, now_unix_s=self.now_unix_s)
            yield self._end("failed", event, fault=fault)
        elif not response:
            yield self.fail(endings.without_response())
        elif name == events.INCOMPLETE:
            yield from self._output(response, complete=False)
            details = get_object(response, "incomplete_details")
            filtered = details.get("reason") == "content_filter"
            yield self._end("incomplete", event, "content_filter" if filtered else "length")
        else:
            yield from self._output(response, complete=True)
            yield from self._calls.end()
            yield self._end_complete(event)

    def _end_complete(self, event: JsonObject) -> Ended:
        if not self._calls.whole:
            # Upstream contradicts itself, and half a call must not look like one.
            fault = faults.broken("the backend ended the answer inside a tool call")
            return self._end("failed", event, fault=fault)
        return self._end("completed", event, "tool_calls" if self._calls else "stop")

    def _output(self, response: JsonObject, *, complete: bool) -> Iterator[Fact]:
        """Take the items that stand in the response alone.

        Unless the response is `complete`, a call in it may be half even if nothing says so.
        """
        for i, item in enumerate(get_list(response, "output")):
            if is_object(item) and (key := self._key_in_output(i, item)) not in self._done:
                is_call = item.get("type") in INPUTS
                if complete or not is_call or item.get("status") == "completed":
                    yield from self._finish(key, item)

    def _key_in_output(self, index: int, item: JsonObject) -> Key:
        """Return the key of an item of the response, by its ids rather than by its place."""
        call = self._calls.key_of(get_text(item, "call_id"))
        return call if call is not None else self._keys.get(_name(item), index)

    def _take_tier(self, response: JsonObject) -> None:
        tier = get_text(response, "service_tier")
        if tier is not None:
            self.service_tier = tier if tier in _TIERS else None

    def _end(
        self,
        name: TerminalName,
        event: JsonObject | None = None,
        finish_reason: FinishReason | None = None,
        fault: Fault | None = None,
    ) -> Ended:
        response = get_object(event or {}, "response")
        self._take_tier(response)
        self.terminal = Terminal(
            name=name,
            response_id=get_text(response, "id") or self._response_id,
            usage=get_object(response, "usage") or None,
            fault=fault,
        )
        return Ended(self.terminal, finish_reason)

    # --- what the model says

    def _text(self, about: JsonObject, deltas: list[str]) -> Iterable[Fact]:
        self._tell(self._part(about, "content"), deltas)
        return (Text(deltas),) if deltas else ()

    def _refusal(self, about: JsonObject, deltas: list[str]) -> Iterable[Fact]:
        self._tell(self._part(about, "content"), deltas)
        return (Refusal(deltas),) if deltas else ()

    def _summary(self, about: JsonObject, deltas: list[str]) -> Iterable[Fact]:
        part = self._part(about, "summary", "summary_index")
        self._tell(part, deltas)
        return (self._thought(deltas, part),) if deltas else ()

    def _raw_reasoning(self, about: JsonObject, deltas: list[str]) -> Iterable[Fact]:
        part = self._part(about, "content")
        self._tell(part, deltas)
        return (self._thought(deltas, part),) if deltas else ()

    def _text_done(self, event: JsonObject) -> Iterable[Fact]:
        return self._say(self._part(event, "content"), event)

    def _summary_done(self, event: JsonObject) -> Iterable[Fact]:
        return self._think(self._part(event, "summary", "summary_index"), event)

    def _raw_reasoning_done(self, event: JsonObject) -> Iterable[Fact]:
        return self._think(self._part(event, "content"), event)

    def _annotation(self, event: JsonObject) -> Iterable[Fact]:
        self._told.add(self._part(event, "annotations"))
        return _citations([event.get("annotation")])

    def _say(self, part: Part, whole: JsonObject) -> Iterator[Fact]:
        """Say a text or a refusal that is `whole`, unless it was said."""
        text, refusal = get_text(whole, "text"), get_text(whole, "refusal")
        if (text or refusal) and self._told.claim(part):
            if text:
                yield Text([text])
            if refusal:
                yield Refusal([refusal])

    def _think(self, part: Part, whole: JsonObject) -> Iterator[Fact]:
        text = get_text(whole, "text")
        if text and self._told.claim(part):
            yield self._thought([text], part)

    def _thought(self, texts: list[str], passage: Part) -> Thought:
        begins_another = self._passage not in (None, passage)
        self._passage = passage
        return Thought([f"\n\n{texts[0]}", *texts[1:]] if begins_another else texts)

    # --- what the model calls

    def _input(self, about: JsonObject, deltas: list[str]) -> Iterable[Fact]:
        pieces = self._calls.pieces(self._key(about), deltas)
        return () if pieces is None else (pieces,)

    def _arguments_done(self, event: JsonObject) -> Iterable[Fact]:
        return self._calls.input_done(self._key(event), get_text(event, "arguments") or "")

    def _raw_input_done(self, event: JsonObject) -> Iterable[Fact]:
        return self._calls.input_done(self._key(event), get_text(event, "input") or "")

    def _open(self, key: Key, item: JsonObject) -> Iterator[Fact]:
        call = self._calls.open(key, item)
        if call is not None:
            if self._pending:
                self.reasoning[call.call_id], self._pending = self._pending, []
            yield call

    # --- items

    def _item_added(self, event: JsonObject) -> Iterable[Fact]:
        item = get_object(event, "item")
        key = self._item_key(event, item)
        return self._open(key, item) if item.get("type") in INPUTS else ()

    def _item_done(self, event: JsonObject) -> Iterable[Fact]:
        item = get_object(event, "item")
        return self._finish(self._item_key(event, item), item)

    def _finish(self, key: Key, item: JsonObject) -> Iterator[Fact]:
        """Take an item as it ended."""
        self._done.add(key)
        match item.get("type"):
            case "message":
                yield from self._message_done(key, item)
            case "reasoning":
                yield from self._reasoning_done(key, item)
            case "function_call" | "custom_tool_call":
                if item.get("status") == "incomplete":
                    self._calls.cut(key)
                else:
                    yield from self._open(key, item)
                    yield from self._calls.done(key, item)
            case _:
                pass  # the backend's own tools: their work is done there

    def _message_done(self, key: Key, item: JsonObject) -> Iterator[Fact]:
        for i, part in _objects(item, "content"):
            yield from self._say((key, "content", i), part)
            annotations = get_list(part, "annotations")
            if annotations and self._told.claim((key, "annotations", i)):
                yield from _citations(annotations)

    def _reasoning_done(self, key: Key, item: JsonObject) -> Iterator[Fact]:
        if get_text(item, "encrypted_content"):
            self._pending.append({name: item[name] for name in item if name != "status"})
        # The raw reasoning is long, and the summary says the same.
        within: Within = "summary" if get_list(item, "summary") else "content"
        for i, part in _objects(item, within):
            yield from self._think((key, within, i), part)

    def _tell(self, part: Part, deltas: list[str]) -> None:
        if deltas:
            self._told.add(part)

    # --- what an event is about

    def _part(self, event: JsonObject, within: Within, index_key: str = "content_index") -> Part:
        index, key = event.get(index_key), self._key(event)
        return (key, within, index if isinstance(index, int) and key != NAMELESS else None)

    def _key(self, event: JsonObject) -> Key:
        """Return the key of the item that `event` is about."""
        index = event.get("output_index")
        if isinstance(index, int):
            return index
        item_id = get_text(event, "item_id") or NAMELESS
        return self._keys.setdefault(item_id, item_id)

    def _item_key(self, event: JsonObject, item: JsonObject) -> Key:
        """Return the key of the item that `event` shows."""
        index, name = event.get("output_index"), _name(item)
        call = self._calls.key_of(get_text(item, "call_id"))
        if call is not None:  # whatever else it is called now: a call told twice is run twice
            return call
        if not isinstance(index, int):
            return self._keys.setdefault(name, name)
        if name != NAMELESS:
            self._keys[name] = index
        return index

    #: Deltas, read with the members that say what they are about and those that are not empty.
    _DELTA_READERS: ClassVar[
        Mapping[str, Callable[[Decoder, JsonObject, list[str]], Iterable[Fact]]]
    ] = {
        "response.output_text.delta": _text,
        "response.refusal.delta": _refusal,
        "response.reasoning_summary_text.delta": _summary,
        "response.reasoning_text.delta": _raw_reasoning,
        "response.function_call_arguments.delta": _input,
        "response.custom_tool_call_input.delta": _input,
    }
    #: Other events that say something to a Chat client, besides the terminal ones.
    _READERS: ClassVar[Mapping[str, Callable[[Decoder, JsonObject], Iterable[Fact]]]] = {
        "response.created": _created,
        "response.output_text.done": _text_done,
        "response.output_text.annotation.added": _annotation,
        "response.refusal.done": _text_done,
        "response.reasoning_summary_text.done": _summary_done,
        "response.reasoning_text.done": _raw_reasoning_done,
        "response.function_call_arguments.done": _arguments_done,
        "response.custom_tool_call_input.done": _raw_input_done,
        events.ITEM_ADDED: _item_added,
        events.ITEM_DONE: _item_done,
    }


def _present(deltas: list[str]) -> list[str]:
    return [delta for delta in deltas if delta] if "" in deltas else deltas


def _name(item: JsonObject) -> str:
    """Return what an item is known by where no output index is given."""
    return get_text(item, "id") or get_text(item, "call_id") or NAMELESS


def _citations(annotations: Iterable[object]) -> Iterator[Citation]:
    """Yield what Chat can show; it knows no citations of files."""
    for annotation in annotations:
        if isinstance(annotation, dict) and annotation.get("type") == "url_citation":
            inner = {key: value for key, value in annotation.items() if key != "type"}
            yield Citation({"type": "url_citation", "url_citation": inner})


def _objects(item: JsonObject, within: str) -> Iterator[tuple[int, JsonObject]]:
    """Yield the objects of a list of `item` with their indexes."""
    for i, part in enumerate(get_list(item, within)):
        if is_object(part):
            yield i, part
