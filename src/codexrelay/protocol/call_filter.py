"""Tool calls in a Responses stream: each one is decided upon when it is whole.

A *call* is an item of type `function_call` or `custom_tool_call`; others are none of this filter's
business. Events go in and events come out, between upstream and an answer. What is decided of a
call (`Decision`): it is kept, put in words, or renamed.

What is promised:

- Nothing overtakes: events come out in the order in which they came in. Behind a call that is not
  whole yet everything waits, and no longer than that. The backend sends one item after the other
  (so do all recorded streams), so that in practice nothing waits but the call's own events.
- If every call is kept, what comes out is what came in, byte for byte. An event is only changed if
  it is of a call that is not kept, if it is the terminal event and lists such a call, or if its
  sequence number is not above those of the events that were put in before it.
- What comes out does not depend on how the bytes were cut. It always ends at the end of an event.
- No call comes out that was not decided upon, and none is decided upon that upstream never
  finishes. Such a call is gone, however the turn ends: its events, and its item in the response. If
  upstream calls the response complete all the same, the turn fails, as it does for a Chat client
  without a filter: an agent would take the answer for one that wanted no tool.

With `observe_only` none of this holds anything back or changes anything.

The function that decides is asked once for each call, in the order in which the calls become whole.
It must not fail: an exception in it leaves `feed`, and ends the turn.
"""

from __future__ import annotations

import operator
import re
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import call_events, events, faults, sse
from codexrelay.protocol.answer import StreamedAnswer, WholeAnswer
from codexrelay.protocol.chat_calls import INPUTS
from codexrelay.protocol.raw import (
    JsonObject,
    dump,
    get_list,
    get_object,
    get_text,
    is_object,
    parse_object,
)
from codexrelay.protocol.responses_scan import DELTAS, look, only_deltas, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.protocol.answer import Terminal
    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.raw import Json
    from codexrelay.protocol.responses_scan import Looked


@attrs.frozen(kw_only=True)
class ToolCall:
    """A whole call, as the model made it."""

    #: The model's own id of it; empty if it gave none (nobody can answer such a call).
    call_id: str
    name: str
    #: The arguments of a function as JSON text, or the raw text of a custom tool: the exact one.
    arguments: str
    #: Whether its input is raw text instead of JSON arguments.
    custom: bool = False
    #: Of a tool that stands in a namespace.
    namespace: str | None = None


@attrs.frozen
class Keep:
    """The call reaches the client as the model made it."""


@attrs.frozen
class Say:
    """The client is told `text` in a message of the assistant, instead of the call."""

    text: str
    #: Whether it must not run into what is said before and behind it: a Chat client sees the texts
    #: of all messages of an answer joined.
    apart: bool = False
    #: Whether it is the call in other words, to be read as a call when the client sends it back.
    is_call: bool = False


@attrs.frozen
class Rename:
    """The call reaches the client under another name and with other arguments.

    Its kind, ids and namespace stay.
    """

    name: str
    arguments: str


Decision: TypeAlias = Keep | Say | Rename
Decide: TypeAlias = Callable[[ToolCall], Decision]

_KEEP: Final = Keep()


def chain(*decides: Decide) -> Decide:
    """Return what asks each of `decides` in order.

    The first that puts the call in words has the last word. Behind one that renames it, the others
    see the renamed call. So: those that may refuse come first, those that rename next, and last
    those that put every call in words.
    """

    def decide(call: ToolCall) -> Decision:
        decision: Decision = _KEEP
        for each in decides:
            given = each(call)
            match given:
                case Say():
                    return given
                case Rename(name, arguments):
                    call, decision = attrs.evolve(call, name=name, arguments=arguments), given
                case Keep():
                    pass
        return decision

    return decide


@attrs.frozen
class _Dropped:
    """Nothing of the call reaches the client: it never became whole."""


_DROPPED: Final = _Dropped()

#: No event that a filter must look at comes without one of them, as long as no call is open.
_MARK: Final = b"_call"
_THOUGHT: Final = b'"encrypted_content"'
#: What no event comes without that says something to the user.
_SAID: Final = b"output_text"
_PIECES: Final = frozenset(
    {"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"}
)
#: Event -> the key of the whole input that it brings.
_WHOLES: Final = {
    "response.function_call_arguments.done": "arguments",
    "response.custom_tool_call_input.done": "input",
}
_NUMBER: Final = re.compile(rb'"sequence_number":\s*(\d{1,18})')


@attrs.define(eq=False)
class _Call:
    """A call, from its first event on."""

    #: `output_index` and the like, for events of ours.
    place: JsonObject
    #: Of its first event: the sequence number, None if it has none.
    number: int | None
    #: What is known of its item: as it was added at first, as it was done in the end.
    item: JsonObject = attrs.field(factory=dict)
    pieces: list[str] = attrs.field(factory=list)
    #: Its input, once an event has said that it is whole.
    whole: str | None = None
    #: None as long as it is not whole.
    decision: Decision | _Dropped | None = None
    #: Whether the events that stand for it have come out.
    written: bool = False
    #: What is said in its place, once that is certain.
    words: str | None = None

    def input_of(self, item: JsonObject) -> str:
        """Return the whole input, now that the item is done as `item`."""
        key = INPUTS[str(item["type"])]
        told = get_text(item, key) or self.whole or "".join(self.pieces)
        return told or get_text(self.item, key) or ""

    def end_whole(self) -> JsonObject | None:
        """Return its item, if all of its input has come although it was never called done."""
        if not self.item or self.item.get("status") == "incomplete":
            return None
        key = INPUTS[str(self.item["type"])]
        given_whole = self.item.get("status") == "completed" and get_text(self.item, key)
        return self.item if self.whole is not None or given_whole else None

    @property
    def message_id(self) -> str:
        """The id of the message that stands for it."""
        own = get_text(self.item, "id") or get_text(self.item, "call_id")
        return call_events.message_id(own or str(self.place.get("output_index")))


#: Stands for the call of input that no call is named for.
_NOBODYS: Final = _Call(place={}, number=None, decision=_DROPPED)


@attrs.define(eq=False)
class _Calls:
    """The calls of one stream. Events name them in several ways, not all of them reliable."""

    #: (what it is named by, the name) -> the call that was last called so.
    _known: dict[tuple[str, str | int], _Call] = attrs.field(factory=dict)
    #: Those that are not whole yet, in order.
    open: list[_Call] = attrs.field(factory=list)

    def of_item(self, event: JsonObject, item: JsonObject, *, done: bool) -> _Call:
        """Return the call that `event` shows as `item`; a new one if it is none of those known."""
        call_id = get_text(item, "call_id") or None
        call = self._get("call", call_id) or self._get("item", get_text(item, "id"))
        call = call or self._at(event)
        if call is None or not _is_it(call, event, item, done=done):
            call = self._begin(event)
        for kind, name in (("call", call_id), ("item", get_text(item, "id"))):
            if name:
                self._known[kind, name] = call
        if isinstance(index := event.get("output_index"), int):
            self._known["at", index] = call
        return call

    def of_input(self, event: JsonObject) -> _Call:
        """Return the call that `event` brings input of."""
        item_id, index = get_text(event, "item_id"), event.get("output_index")
        # Through some gateways each event carries another item id (recorded).
        call = self._get("item", item_id) or self._at(event)
        if call is None and (item_id or isinstance(index, int)):
            call = self._begin(event)
            if item_id:
                self._known["item", item_id] = call
            if isinstance(index, int):
                self._known["at", index] = call
        # It does not say of which: of the one that is under way, or of none at all.
        return call or (self.open[-1] if self.open else _NOBODYS)

    def listed(self, item: JsonObject) -> _Call | None:
        """Return the call that a response lists as `item`."""
        return self._get("call", get_text(item, "call_id")) or self._get(
            "item", get_text(item, "id")
        )

    def close(self, call: _Call, decision: Decision | _Dropped) -> None:
        """Note what was decided of the call, which is whole or never will be."""
        call.decision = decision
        self.open = [other for other in self.open if other is not call]

    def _begin(self, event: JsonObject) -> _Call:
        number, index = event.get("sequence_number"), event.get("output_index")
        call = _Call(
            place={} if index is None else {"output_index": index},
            number=number if isinstance(number, int) else None,
        )
        self.open.append(call)
        return call

    def _get(self, kind: str, name: str | int | None) -> _Call | None:
        return self._known.get((kind, name)) if name is not None and name != "" else None

    def _at(self, event: JsonObject) -> _Call | None:
        index = event.get("output_index")
        return self._get("at", index) if isinstance(index, int) else None


def _is_it(call: _Call, event: JsonObject, item: JsonObject, *, done: bool) -> bool:
    """Tell whether `event` shows `call`, which has its call id, its item id or its index.

    One of them is not enough: some gateways give one index, or one call id, to all. A call that is
    taken for another would not be decided upon.
    """
    if call.decision is None:
        same = get_text(call.item, "call_id") == get_text(item, "call_id")
        return same or done or not call.item
    return get_text(call.item, "call_id") == get_text(item, "call_id") and (
        get_text(call.item, "id") == get_text(item, "id")
        or call.place.get("output_index") == event.get("output_index")
    )


@attrs.define(eq=False)
class CallFilter:
    """Filters the calls of one stream."""

    decide: Decide
    #: Nothing is held back and nothing changed: `decide` is shown each call, and whatever it says
    #: is ignored. Bytes come out as they went in, and at once.
    observe_only: bool = attrs.field(default=False, kw_only=True)
    #: The most that waits for the end of one call.
    max_waiting_bytes: int = attrs.field(default=sse.MAX_EVENT_BYTES, kw_only=True)
    #: Call id -> the encrypted reasoning that came out before that call, for calls that were said
    #: in other words (`Say.is_call`): what reads the answer behind this filter sees no call there.
    reasoning: dict[str, list[JsonObject]] = attrs.field(factory=dict, init=False)
    _cutter: sse.EventCutter = attrs.field(factory=sse.EventCutter, init=False)
    _calls: _Calls = attrs.field(factory=_Calls, init=False)
    #: Events (or runs of deltas) that wait, each with the call that it is of.
    _waiting: deque[tuple[bytes, _Call | None]] = attrs.field(factory=deque, init=False)
    _waiting_bytes: int = attrs.field(default=0, init=False)
    #: What comes out next.
    _out: list[bytes] = attrs.field(factory=list, init=False)
    #: The last sequence number that was given here; None once upstream's own are above it.
    _given: int | None = attrs.field(default=None, init=False)
    #: Encrypted reasoning that came out, and that no such call has followed yet.
    _thoughts: list[JsonObject] = attrs.field(factory=list, init=False)
    #: Whether anything was said to the user.
    _said: bool = attrs.field(default=False, init=False)

    def feed(self, block: bytes) -> bytes:
        """Take upstream bytes, return whole events, or nothing.

        Raises:
            EventTooLargeError: see `sse.EventCutter`; or more than `max_waiting_bytes` waits.
        """
        whole = self._cutter.feed(block)
        is_busy = bool(self._waiting or self._calls.open or self._given is not None)
        if is_busy or _MARK in whole or _THOUGHT in whole:
            self._read(whole)
        elif not self.observe_only:
            self._said = self._said or _SAID in whole
            return whole
        return block if self.observe_only else self._taken()

    def give_up(self) -> bytes:
        """Return what waits, as the stream goes on no more: all but the calls without an end."""
        self._abandon()
        return self._taken()

    def _taken(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    # --- what comes in

    def _read(self, whole: bytes) -> None:
        for piece, is_deltas in pieces(whole, DELTAS):
            if not is_deltas:
                self._take(piece)
            elif self.observe_only:
                continue  # what they add up to is said once more
            elif _MARK not in piece:
                self._put(piece, None)
            else:
                for raw in sse.split(piece):
                    self._take(raw)

    def _take(self, raw: bytes) -> None:
        """Take one event."""
        try:
            event = look(raw)
        except ValueError:  # where every answer ends
            self._abandon()
            event = None
        if event is not None and event.name in events.TERMINAL:
            raw = self._end(raw, event)
        self._put(raw, None if event is None else self._call_of(event))

    def _call_of(self, event: Looked) -> _Call | None:
        """Return the call that an event is of, having noted what it says of it."""
        name = event.name
        is_item = name in (events.ITEM_ADDED, events.ITEM_DONE) and _MARK in event.data
        if not is_item and name not in _PIECES and name not in _WHOLES:
            return None
        try:
            payload = event.payload or parse_object(event.data)
        except ValueError:  # the answer will say so
            return None
        if is_item:
            return self._item(payload, done=name == events.ITEM_DONE)
        call = self._calls.of_input(payload)
        if call.decision is None:
            if name in _PIECES:
                call.pieces.append(get_text(payload, "delta") or "")
            else:
                call.whole = get_text(payload, _WHOLES[name])
        return call

    def _item(self, event: JsonObject, *, done: bool) -> _Call | None:
        item = get_object(event, "item")
        if item.get("type") not in INPUTS:
            return None
        call = self._calls.of_item(event, item, done=done)
        if call.decision is None:
            if done and item.get("status") != "incomplete":
                self._close(call, item)
            else:
                call.item |= item
        return call

    def _end(self, raw: bytes, event: Looked) -> bytes:
        """Let nothing wait any longer; return the terminal event."""
        payload = event.payload or {}
        response = get_object(payload, "response")
        complete = event.name == events.COMPLETED
        if response and event.name not in events.FAILURES:
            self._settle(response, complete=complete)
        unfinished = bool(self._calls.open)
        self._abandon()
        output = get_list(response, "output")
        told: list[Json] = [new for item in output if (new := self._listed(item)) is not None]
        whole: JsonObject = {**response, "output": told}
        if complete and response and (unfinished or len(told) < len(output)):
            return _failed_inside_a_call(raw, payload, whole)
        if len(told) == len(output) and all(map(operator.is_, told, output)):
            return raw
        return _with_data(raw, {**payload, "response": whole})

    def _settle(self, response: JsonObject, *, complete: bool) -> None:
        """Decide what became whole with the response.

        Unless the response is `complete`, a call in it may be half even if nothing says so.
        """
        for item in get_list(response, "output"):
            if is_object(item) and item.get("type") in INPUTS:
                status = item.get("status")
                if status == "completed" or (complete and status != "incomplete"):
                    call = self._calls.listed(item) or self._calls.of_item({}, item, done=True)
                    if call.decision is None:
                        self._close(call, item)
        for call in [*self._calls.open]:
            if complete and (whole := call.end_whole()) is not None:
                self._close(call, whole)

    def _close(self, call: _Call, item: JsonObject) -> None:
        """Have a whole call decided upon."""
        key = INPUTS[str(item["type"])]
        call.item = call.item | item | {key: call.input_of(item)}
        decision = self.decide(
            ToolCall(
                call_id=get_text(call.item, "call_id") or "",
                name=get_text(call.item, "name") or "",
                arguments=get_text(call.item, key) or "",
                custom=item["type"] == "custom_tool_call",
                namespace=get_text(call.item, "namespace"),
            )
        )
        self._calls.close(call, _KEEP if self.observe_only else decision)

    # --- what comes out

    def _put(self, raw: bytes, call: _Call | None) -> None:
        if self.observe_only:
            return
        self._waiting.append((raw, call))
        self._waiting_bytes += len(raw)
        self._release()
        if self._waiting_bytes > self.max_waiting_bytes:
            raise EventTooLargeError(limit_bytes=self.max_waiting_bytes)

    def _abandon(self) -> None:
        """Let nothing wait any longer, and drop the calls that are not whole."""
        for call in self._calls.open:
            call.decision = _DROPPED
        self._calls.open = []
        self._release()

    def _release(self) -> None:
        """Let out what need not wait."""
        while self._waiting and not _is_open(self._waiting[0][1]):
            raw, call = self._waiting.popleft()
            self._waiting_bytes -= len(raw)
            if call is None or isinstance(call.decision, Keep):
                self._note(raw)
                self._out.append(self._numbered(raw))
            elif not call.written:
                call.written = True
                self._out += self._instead_of(call)

    def _note(self, raw: bytes) -> None:
        """Note what an event (or a run of deltas) says that comes out as it is."""
        self._said = self._said or _SAID in raw
        if _THOUGHT not in raw or only_deltas(raw):
            return
        try:
            event = look(raw)
            if event is None or event.name != events.ITEM_DONE:
                return
            item = get_object(event.payload or parse_object(event.data), "item")
        except ValueError:  # the answer will say so
            return
        if item.get("type") == "reasoning" and get_text(item, "encrypted_content"):
            self._thoughts.append({name: item[name] for name in item if name != "status"})

    def _words(self, call: _Call, say: Say) -> str:
        """Return what is said instead of the call: the same whenever this is asked."""
        if call.words is None:
            call.words = say.text
            if say.apart:
                call.words = f"\n\n{say.text}\n" if self._said else f"{say.text}\n"
            self._said = True
            call_id = get_text(call.item, "call_id")
            if say.is_call and call_id and self._thoughts:
                self.reasoning[call_id], self._thoughts = self._thoughts, []
        return call.words

    def _listed(self, item: Json) -> Json:
        """Return what a response lists instead of `item`, None for a call that is not whole."""
        if not is_object(item) or item.get("type") not in INPUTS:
            return item
        call = self._calls.listed(item)
        match None if call is None else call.decision:
            case Say() as say if call is not None:
                return call_events.message(call.message_id, self._words(call, say))
            case Rename(name, arguments):
                return item | {"name": name, INPUTS[str(item["type"])]: arguments}
            case Keep():
                return item
            case _:
                return None

    def _instead_of(self, call: _Call) -> Iterator[bytes]:
        """Yield the events that come out instead of a call's own."""
        match call.decision:
            case Say() as say:
                own = call_events.message_events(call.message_id, self._words(call, say))
            case Rename(name, arguments):
                key = INPUTS[str(call.item["type"])]
                own = call_events.call_events(call.item | {"name": name, key: arguments})
            case _:
                return
        for event in own:
            event |= call.place
            if call.number is not None:
                self._given = max(call.number, -1 if self._given is None else self._given + 1)
                event["sequence_number"] = self._given
            yield sse.write(str(event["type"]), dump(event))

    def _numbered(self, raw: bytes) -> bytes:
        """Return an event (or a run of deltas) with numbers above those that were given here."""
        if self._given is None:
            return raw
        return b"".join([self._numbered_one(one) for one in sse.split(raw)])

    def _numbered_one(self, raw: bytes) -> bytes:
        found = [*_NUMBER.finditer(raw)]
        if self._given is None or not found:
            return raw
        if len(found) == 1:
            [match] = found
            if (number := self._next(int(match[1]))) is None:
                return raw
            return b"%b%d%b" % (raw[: match.start(1)], number, raw[match.end(1) :])
        event = sse.read(raw)  # one of them is the event's own
        try:
            payload = {} if event is None else parse_object(event.data)
        except ValueError:  # the answer will say so
            return raw
        number = self._next(payload.get("sequence_number"))
        return raw if number is None else _with_data(raw, payload | {"sequence_number": number})

    def _next(self, number: Json) -> int | None:
        """Return what an event gets instead of `number`, None if it may keep it."""
        if self._given is None or not isinstance(number, int):
            return None
        if number > self._given:
            self._given = None
            return None
        self._given += 1
        return self._given


def _is_open(call: _Call | None) -> bool:
    return call is not None and call.decision is None


def _with_data(raw: bytes, payload: JsonObject, *, name: str | None = None) -> bytes:
    """Return the event `raw` with other data (and another name, if it has one).

    If that cannot be written, it stays as it is.
    """
    event = sse.read(raw)
    try:
        data = dump(payload)
    except ValueError:
        return raw
    if event is None or not event.name:
        return b"data: %b\n\n" % data
    return sse.write(name or event.name, data)


def _failed_inside_a_call(raw: bytes, payload: JsonObject, response: JsonObject) -> bytes:
    """Return the terminal event `raw` of an answer that is not as complete as it says."""
    # Upstream contradicts itself; in the same words as `chat_decoder`.
    fault = faults.broken("the backend ended the answer inside a tool call")
    failed: JsonObject = {**response, "status": "failed", "error": fault.error}
    return _with_data(
        raw, {**payload, "type": events.FAILED, "response": failed}, name=events.FAILED
    )


@attrs.define(eq=False)
class FilteredStream:
    """A `StreamedAnswer` whose calls are filtered before it is fed.

    What an answer says besides (`notes`, `reasoning`) is read from `answer`: it has heard what the
    client is told.
    """

    answer: StreamedAnswer
    calls: CallFilter
    keep_alive: bytes = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.keep_alive = self.answer.keep_alive

    @property
    def terminal(self) -> Terminal | None:
        """See `answer.Answer.terminal`."""
        return self.answer.terminal

    def feed(self, block: bytes) -> bytes:
        """See `answer.Answer.feed`."""
        return self.answer.feed(self.calls.feed(block))

    def fail(self, fault: Fault) -> bytes:
        """See `answer.Answer.fail`. Calls without an end are dropped, what else waits is told."""
        return _failed(self.answer, self.calls, fault)

    def finish(self) -> bytes:
        """See `answer.StreamedAnswer.finish`."""
        return self.answer.finish()


@attrs.define(eq=False)
class FilteredWhole:
    """A `WholeAnswer` whose calls are filtered before it is fed; see `FilteredStream`."""

    answer: WholeAnswer
    calls: CallFilter

    @property
    def terminal(self) -> Terminal | None:
        """See `answer.Answer.terminal`."""
        return self.answer.terminal

    def feed(self, block: bytes) -> bytes:
        """See `answer.Answer.feed`."""
        return self.answer.feed(self.calls.feed(block))

    def fail(self, fault: Fault) -> bytes:
        """See `answer.Answer.fail`."""
        return _failed(self.answer, self.calls, fault)

    def body(self) -> bytes:
        """See `answer.WholeAnswer.body`."""
        return self.answer.body()


def _failed(answer: StreamedAnswer | WholeAnswer, calls: CallFilter, fault: Fault) -> bytes:
    out = answer.feed(calls.give_up())
    # What waited may have been what no answer can go on after.
    return out if answer.terminal is not None else out + answer.fail(fault)
