"""What a client may be told, given what was sent upstream: the invariants of the loss property."""

from __future__ import annotations

import itertools
import json
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from harness.proof import frames
from harness.proof.truth import (
    TERMINAL,
    Event,
    Message,
    Payload,
    event_of,
    events_of,
    is_output,
    read_message,
    read_texts,
    refusal_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.proof.asked import Asked

Protocol: TypeAlias = Literal["responses", "chat"]

#: Terminal events of an answer that is one.
ENDED_WELL: Final = frozenset({"response.completed", "response.incomplete"})
_DONE: Final = b"[DONE]"


@attrs.frozen(kw_only=True)
class Upstream:
    """What was sent in answer to one attempt, read."""

    message: Message
    #: The whole events of a 200.
    events: tuple[Event, ...] = ()

    @classmethod
    def of(cls, asked: Asked) -> Upstream:
        """Read what was sent for a request."""
        return (cls.over_socket if asked.way == "message" else cls.over_http)(asked.sent)

    @classmethod
    def over_http(cls, wire: bytes | bytearray) -> Upstream:
        """Read what was sent over HTTP."""
        message = read_message(wire)
        events = events_of(message.body) if message.status == 200 else []
        return cls(message=message, events=tuple(events))

    @classmethod
    def over_socket(cls, wire: bytes | bytearray) -> Upstream:
        """Read what was sent over a WebSocket, behind its handshake."""
        texts = frames.texts_of(bytes(wire))
        told = list(itertools.takewhile(lambda text: refusal_of(text) is None, texts))
        events = tuple(map(event_of, told))
        return cls(message=read_texts(told or texts[:1]), events=events)

    @property
    def gave_output(self) -> bool:
        """The model has begun to answer, so that the turn is committed to this attempt.

        Behind an event that is no JSON nothing counts: nobody reads on.
        """
        sound = itertools.takewhile(lambda event: event.payload is not None, self.events)
        return any(map(is_output, sound))

    @property
    def is_unannounced(self) -> bool:
        """Nothing says that it began: on a WebSocket it may be the rest of an answer before it."""
        created = any(event.name == "response.created" for event in self.events)
        return self.message.over == "socket" and not created

    @property
    def terminal(self) -> Event | None:
        """Its first terminal event."""
        return next((event for event in self.events if event.name in TERMINAL), None)

    @property
    def until_terminal(self) -> tuple[Event, ...]:
        """The events before the terminal one; all of them where there is none."""
        names = [event.name in TERMINAL for event in self.events]
        return self.events[: names.index(True)] if True in names else self.events

    @property
    def behind_terminal(self) -> tuple[Event, ...]:
        """What stands behind the terminal event; some gateways tell the turn's cost there."""
        return self.events[len(self.until_terminal) + 1 :]


def judge_attempts(attempts: Sequence[Upstream]) -> list[str]:
    """Return what is wrong with how often upstream was asked."""
    return [
        f"attempt {number} had given output, and another one followed"
        for number, attempt in enumerate(attempts[:-1], start=1)
        if attempt.gave_output and not attempt.is_unannounced
    ]


def judge(
    protocol: Protocol, message: Message, attempts: Sequence[Upstream], *, streamed: bool
) -> list[str]:
    """Return what is wrong with a client's answer. `attempts` were asked in this order."""
    if message.broken is not None:
        return [f"the answer holds {message.broken}"]
    if not message.whole:
        return [f"the answer did not come to its end, status {message.status}"]
    last = attempts[-1] if attempts else Upstream(message=read_message(b""))
    if message.status != 200:
        return _judge_refusal(protocol, message, last, streamed=streamed)
    if not streamed:
        return _judge_whole(protocol, message, last)
    if b"\n\n" not in message.body or not message.body.endswith(b"\n\n"):
        return [f"the stream ends within an event: {message.body[-60:]!r}"]
    events = events_of(message.body)
    if protocol == "responses":
        return _judge_responses(events, last, message) + _misnamed(events, message)
    return _judge_chat(events, last)


def _judge_refusal(
    protocol: Protocol, message: Message, last: Upstream, *, streamed: bool
) -> list[str]:
    problems = []
    # In Chat, an item that is only announced says nothing yet.
    begun = last.gave_output if protocol == "responses" else said_by(last.events) != Said()
    if streamed and begun:
        problems.append(f"status {message.status} although the answer had begun")
    if last.terminal is not None and last.terminal.name in ENDED_WELL:
        problems.append(f"status {message.status} although the answer was complete")
    if not is_error(message.body):
        problems.append(f"status {message.status} without an error body: {message.body[:80]!r}")
    return problems


def is_error(body: bytes) -> bool:
    """Tell whether a body is an error as OpenAI writes it."""
    try:
        value = json.loads(body)
    except ValueError:
        return False
    error = value.get("error") if isinstance(value, dict) else None
    return isinstance(error, dict) and bool(error.get("message")) and "type" in error


def judge_stopped(
    protocol: Protocol, message: Message, attempts: Sequence[Upstream], *, streamed: bool
) -> list[str]:
    """Return what is wrong with an answer that was stopped at some moment.

    What upstream had sent by then may not have been read yet. So it must be right for some number
    of its events.
    """
    problems = judge(protocol, message, attempts, streamed=streamed)
    for count in range(len(attempts[-1].events)) if problems and attempts else ():
        read = attrs.evolve(attempts[-1], events=attempts[-1].events[:count])
        if not judge(protocol, message, [*attempts[:-1], read], streamed=streamed):
            return []
    return problems


def judge_mangled(
    protocol: Protocol, message: Message, attempts: Sequence[Upstream], *, streamed: bool
) -> list[str]:
    """Return what is wrong with an answer whose last attempt upstream has mangled itself.

    How it reads is upstream's affair; how it ends is ours.
    """
    last = attempts[-1]
    if message.broken is not None or not message.whole:
        return [f"the answer did not come to its end: {message.broken}"]
    if message.status != 200:
        good = is_error(message.body)
        return [] if good else [f"status {message.status} without an error body"]
    well = any(event.name in ENDED_WELL for event in last.events)
    if not streamed:
        return [] if well else ["status 200 although the answer was not complete"]
    events = events_of(message.body)
    if protocol == "responses":
        of = _told(message, last)
        # Of an event that is named otherwise than it is, each believes something else.
        torn = {of(event) for event in last.events if _is_torn(event)}
        ends = [e.name for e in events if e.name in TERMINAL and of(e) not in torn]
        sent = set(map(of, last.events))
        problems = [] if len(ends) == 1 else [f"terminal events {ends}"]
        if message.over == "socket" and ends and events[-1].name not in TERMINAL:
            problems.append("events behind the terminal one, on a WebSocket")
        if ends and ends[0] in ENDED_WELL and not well:
            problems.append(f"{ends[0]} although the answer was not complete")
        made_up = [e.raw[:100] for e in events if e.name not in TERMINAL and of(e) not in sent]
        return problems + [f"an event that upstream did not send: {raw!r}" for raw in made_up]
    chunks = [event.payload or {} for event in events if event.data != _DONE]
    errors = sum("error" in chunk for chunk in chunks)
    reasons = [reason for chunk in chunks if (reason := _finish_reason(chunk)) is not None]
    problems = [] if errors + len(reasons) == 1 else [f"{errors} errors, reasons {reasons}"]
    if not events or events[-1].data != _DONE:
        problems.append("no [DONE] at the end")
    if reasons and not well:
        problems.append(f"finish reason {reasons} although the answer was not complete")
    return problems


def _is_torn(event: Event) -> bool:
    named = event.raw.removeprefix(b"event: ").split(b"\n")[0]
    return event.raw.startswith(b"event:") and named != event.name.encode()


# Responses, streamed.


def _told(message: Message, last: Upstream) -> Callable[[Event], bytes]:
    """Return what of an event must come through: where both sides are alike, all of its bytes.

    A WebSocket's message is a text, so that what is none becomes one.
    """
    if message.over == last.message.over:
        return attrgetter("raw")
    return attrgetter("data") if message.over == "http" else _as_text


def _as_text(event: Event) -> bytes:
    return event.data.decode(errors="replace").encode()


def _misnamed(events: list[Event], message: Message) -> list[str]:
    """Return which events of a stream over HTTP are not named in a line of their own."""
    if message.over == "socket":
        return []
    return [
        f"an event without its name: {event.raw[:80]!r}"
        for event in events
        if event.payload is not None and not event.raw.startswith(b"event: " + event.name.encode())
    ]


def _judge_responses(events: list[Event], last: Upstream, message: Message) -> list[str]:
    terminals = [number for number, event in enumerate(events) if event.name in TERMINAL]
    if len(terminals) != 1:
        return [f"{len(terminals)} terminal events"]
    problems = []
    of = _told(message, last)
    # On a WebSocket they would be taken for the beginning of the next answer.
    behind = list(map(of, events[terminals[0] + 1 :]))
    may_follow = [] if message.over == "socket" else list(map(of, last.behind_terminal))
    if behind != may_follow[: len(behind)]:
        problems.append(f"events behind the terminal one: {[e.name for e in events]}")
    told, true = list(map(of, events[: terminals[0]])), list(map(of, last.until_terminal))
    if not last.gave_output and last.terminal is None:
        true = []  # nothing was committed, so nothing of it may be seen
    if told != true:
        problems.append(f"{_difference(told, true)}")
    end, payload = events[terminals[0]], events[terminals[0]].payload or {}
    if last.terminal is None:
        if end.name != "response.failed":
            problems.append(f"{end.name} although upstream sent no terminal event")
        problems += _calls_made_up(payload, last.events)
    elif end.name != last.terminal.name:
        problems.append(f"{end.name}, and upstream sent {last.terminal.name}")
    elif message.over == "socket":  # as all the others there
        if end.name in ENDED_WELL and of(end) != of(last.terminal):
            problems.append("the terminal event is not upstream's")
    elif end.name in ENDED_WELL and _output(payload) != _true_output(last):
        problems.append("the output of the terminal event is not upstream's")
    return problems


def _difference(told: list[bytes], true: list[bytes]) -> str:
    if told == true[: len(told)]:
        return f"{len(true) - len(told)} events were lost of {len(true)}"
    at = next((n for n, (a, b) in enumerate(zip(told, true, strict=False)) if a != b), len(true))
    return f"event {at + 1} is not upstream's: {told[at][:100]!r}"


def _output(payload: Payload) -> list[object]:
    response = payload.get("response")
    output = response.get("output") if isinstance(response, dict) else None
    return output if isinstance(output, list) else []


def _true_output(attempt: Upstream) -> list[object]:
    """Return the output of a whole answer. A terminal event that has none leaves it to the items.

    They are those that were done, in their order in the output.
    """
    told = _output(attempt.terminal.payload or {}) if attempt.terminal is not None else []
    if told:
        return told
    payloads = [event.payload or {} for event in attempt.until_terminal]
    done = [one for one in payloads if one.get("type") == "response.output_item.done"]
    done.sort(key=lambda one: one["output_index"] if isinstance(one["output_index"], int) else 0)
    return [one.get("item") for one in done]


def _calls_made_up(payload: Payload, events: Sequence[Event]) -> list[str]:
    """Return the calls in a terminal event of the relay's own that upstream had not finished."""
    done = [
        event.payload.get("item")
        for event in events
        if event.payload is not None and event.name == "response.output_item.done"
    ]
    return [
        f"the failed response holds an item that was not done: {item!r}"
        for item in _output(payload)
        if item not in done
    ]


# Chat.


@attrs.define(kw_only=True)
class Call:
    """A tool call, as far as it is known."""

    call_id: object
    name: object
    #: Its arguments or its raw text, by the deltas.
    payload: str = ""
    custom: bool = False
    #: Upstream has said all of its payload, and that the whole call is finished.
    said: bool = False
    done: bool = False


@attrs.define(kw_only=True)
class Said:
    """What was said in an answer."""

    text: str = ""
    thought: str = ""
    refusal: str = ""
    calls: list[Call] = attrs.field(factory=list)


_CALL_KINDS: Final = frozenset({"function_call", "custom_tool_call"})


def said_by(events: Sequence[Event]) -> Said:
    """Return what the events of a Responses stream say. Each of its calls has its deltas."""
    said, calls = Said(), {}
    passage = None
    for event in events:
        payload = event.payload or {}
        delta, key = str(payload.get("delta", "")), payload.get("output_index")
        item = payload.get("item")
        kind = item.get("type") if isinstance(item, dict) else None
        match event.name:
            case "response.output_text.delta":
                said.text += delta
            case "response.reasoning_summary_text.delta":
                # An empty line parts what is thought in several parts.
                now = (key, payload.get("summary_index"))
                said.thought += delta if passage in (None, now) else f"\n\n{delta}"
                passage = now
            case "response.refusal.delta":
                said.refusal += delta
            case "response.output_item.added" if isinstance(item, dict) and kind in _CALL_KINDS:
                call = Call(call_id=item.get("call_id"), name=item.get("name"))
                call.custom = kind == "custom_tool_call"
                calls[key] = call
                said.calls.append(call)
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                calls[key].payload += delta
            case (
                "response.function_call_arguments.done" | "response.custom_tool_call_input.done"
            ) if key in calls:
                calls[key].said = True
            case "response.output_item.done" if key in calls:
                calls[key].said = calls[key].done = True
            case _:
                pass
    return said


def _judge_chat(events: list[Event], last: Upstream) -> list[str]:
    if [event.data for event in events].count(_DONE) != 1 or events[-1].data != _DONE:
        return ["the stream does not end with one [DONE]"]
    chunks = [event.payload or {} for event in events[:-1]]
    errors = [number for number, chunk in enumerate(chunks) if "error" in chunk]
    finished = [reason for chunk in chunks if (reason := _finish_reason(chunk)) is not None]
    problems = []
    if len(errors) + len(finished) != 1:
        problems.append(f"{len(errors)} errors and {len(finished)} finish reasons")
    if errors and errors != [len(chunks) - 1]:
        problems.append("chunks behind the error")
    true = said_by(last.until_terminal)
    well = last.terminal is not None and last.terminal.name in ENDED_WELL
    if finished and not well:
        problems.append(f"finish reason {finished} although the answer was not complete")
    if errors and well:
        problems.append("an error although the answer was complete")
    if finished == ["tool_calls"] and not all(call.done for call in true.calls):
        problems.append("a tool call is marked complete that was not")
    if well and finished and (finished == ["tool_calls"]) != bool(true.calls):
        problems.append(f"finish reason {finished} with {len(true.calls)} calls")
    return problems + _compare(_said_in(chunks), true)


def _finish_reason(chunk: Payload) -> object:
    choices = chunk.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    return first.get("finish_reason") if isinstance(first, dict) else None


def _said_in(chunks: Sequence[Payload]) -> Said:
    said, calls = Said(), {}
    for chunk in chunks:
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            delta = choice.get("delta") or {}
            said.text += delta.get("content") or ""
            said.thought += delta.get("reasoning_content") or ""
            said.refusal += delta.get("refusal") or ""
            for entry in delta.get("tool_calls") or []:
                function = entry.get("function") or {}
                if "id" in entry:
                    call = Call(call_id=entry["id"], name=function.get("name"))
                    calls[entry["index"]] = call
                    said.calls.append(call)
                calls[entry["index"]].payload += function.get("arguments") or ""
    return said


def _compare(told: Said, true: Said) -> list[str]:
    problems = [
        f"{what} {got!r}, and upstream said {said!r}"
        for what, got, said in (
            ("text", told.text, true.text),
            ("thought", told.thought, true.thought),
            ("refusal", told.refusal, true.refusal),
        )
        if got != said
    ]
    names = [(call.call_id, call.name) for call in told.calls]
    if names != [(call.call_id, call.name) for call in true.calls]:
        return [*problems, f"calls {names}, and upstream opened {true.calls}"]
    for got, call in zip(told.calls, true.calls, strict=True):
        wanted = {_wrapped(call, closed=closed) for closed in _may_be_closed(call)}
        if got.payload not in wanted:
            problems.append(f"arguments {got.payload!r}, and upstream said {call!r}")
    return problems


def _may_be_closed(call: Call) -> tuple[bool, ...]:
    """Return whether a custom tool's arguments are closed; either, where nothing decides it."""
    if call.done:
        return (True,)
    return (True, False) if call.said else (False,)


def _wrapped(call: Call, *, closed: bool) -> str:
    """Return a call's arguments as Chat has them: raw text is put into an object."""
    if not call.custom:
        return call.payload
    begun = '{"input":' + json.dumps(call.payload, ensure_ascii=False)
    return begun + "}" if closed else begun[:-1]


# One JSON body.


def _judge_whole(protocol: Protocol, message: Message, last: Upstream) -> list[str]:
    try:
        value = json.loads(message.body)
    except ValueError:
        return [f"a body that is no JSON: {message.body[:80]!r}"]
    if last.terminal is None or last.terminal.name not in ENDED_WELL:
        return ["status 200 although the answer was not complete"]
    if protocol == "responses":
        true_output = _true_output(last)
        told = value.get("output")
        if [_words(item) for item in told] != [_words(item) for item in true_output]:
            return [f"the output {told!r} is not upstream's"]
        return []
    choice = value["choices"][0]
    said = _said_in([{"choices": [{"delta": _with_indexes(choice["message"])}]}])
    true = said_by(last.until_terminal)
    problems = _compare(said, true)
    if (choice["finish_reason"] == "tool_calls") != bool(true.calls):
        problems.append(f"finish reason {choice['finish_reason']} with {len(true.calls)} calls")
    return problems


def _with_indexes(message: Payload) -> Payload:
    calls = message.get("tool_calls")
    numbered = enumerate(calls if isinstance(calls, list) else [])
    return message | {"tool_calls": [call | {"index": number} for number, call in numbered]}


def _words(item: object) -> object:
    """Return what an item says, without what is filled in for SDKs."""
    if not isinstance(item, dict):
        return item
    parts = [
        part.get("text")
        for key in ("content", "summary")
        for part in item.get(key) or []
        if isinstance(part, dict)
    ]
    kept = ("id", "type", "call_id", "name", "arguments", "input")
    return {key: item.get(key) for key in kept}, parts
