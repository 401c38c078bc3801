"""Calls are kept, put in words or renamed, and everything else is what it was."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import attrs
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import call_filter, chat_request, faults, sse
from codexrelay.protocol.call_filter import (
    CallFilter,
    Decide,
    Decision,
    FilteredStream,
    FilteredWhole,
    Keep,
    Rename,
    Say,
    ToolCall,
    chain,
)
from codexrelay.protocol.chat_stream import ChatStream
from codexrelay.protocol.chat_whole import ChatWhole
from codexrelay.protocol.raw import parse_object
from codexrelay.protocol.responses_stream import ResponsesStream
from codexrelay.protocol.responses_whole import ResponsesWhole
from tests.fakes import responses_events as upstream
from tests.fakes.chat_client import ChatClient
from tests.fakes.recordings import recorded_streams, samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy

    from codexrelay.protocol.answer import StreamedAnswer, WholeAnswer
    from codexrelay.protocol.chat_request import ChatTurn
    from codexrelay.protocol.raw import JsonObject

LS, PWD = upstream.function("ls", "1"), upstream.function("pwd", "2")
PATCH = upstream.custom("apply_patch", "3")
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
RENAMED = Rename("bash", '{"command":"ls"}')


def numbered(*blocks: bytes, start: int = 0) -> list[bytes]:
    """Give each event the next sequence number, as the backend does."""
    events = [raw for block in blocks for raw in sse.split(block)]
    return [b"%b,%s}\n\n" % (raw[:-3], _number(n)) for n, raw in enumerate(events, start)]


def _number(number: int) -> bytes:
    return b'"sequence_number":%d' % number


def as_events(body: bytes) -> list[dict[str, Any]]:
    seen = [sse.read(raw) for raw in sse.split(body)]
    return [orjson.loads(one.data) for one in seen if one is not None]


def numbers(body: bytes) -> list[int]:
    return [event["sequence_number"] for event in as_events(body) if "sequence_number" in event]


def cut_at(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(body)]
    return [body[a:b] for a, b in itertools.pairwise(edges)]


@attrs.define(eq=False)
class Asked:
    """Decides the same of every call, and remembers them."""

    decision: Decision = attrs.field(factory=Keep)
    calls: list[ToolCall] = attrs.field(factory=list)

    def __call__(self, call: ToolCall) -> Decision:
        self.calls.append(call)
        return self.decision


def deciding(decisions: Mapping[str, Decision]) -> Decide:
    """Decide by call id; what is not named is kept."""
    return lambda call: decisions.get(call.call_id, Keep())


def filtered(blocks: Iterable[bytes], decisions: Mapping[str, Decision] | None = None) -> bytes:
    calls = CallFilter(deciding(decisions or {}))
    return b"".join(calls.feed(block) for block in blocks)


def stream() -> ResponsesStream:
    return ResponsesStream(now_unix_s=1.79e9, model="gpt-5.5", created_unix_s=1_790_000_000)


def whole() -> ResponsesWhole:
    return ResponsesWhole(now_unix_s=1.79e9, model="gpt-5.5", created_unix_s=1_790_000_000)


def asked(**fields: object) -> ChatTurn:
    body = {"model": "relay-model", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return chat_request.translate(body, recall=lambda _: ())


def chat() -> ChatStream:
    return ChatStream(asked(), completion_id="c", created_unix_s=1, now_unix_s=1.0)


def chat_whole() -> ChatWhole:
    return ChatWhole(asked(), completion_id="c", created_unix_s=1, now_unix_s=1.0)


def through(answer: StreamedAnswer, decisions: Mapping[str, Decision]) -> FilteredStream:
    return FilteredStream(answer, CallFilter(deciding(decisions)))


def whole_through(answer: WholeAnswer, decisions: Mapping[str, Decision]) -> FilteredWhole:
    return FilteredWhole(answer, CallFilter(deciding(decisions)))


def said_item(item: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The message that stands for a call."""
    return {
        "id": call_filter.call_events.message_id(item["id"]),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
    }


# --- one call

ONE_CALL = numbered(
    upstream.created(),
    upstream.text("Let me look.", 0),
    upstream.call(1, LS, '{"p":', '"."}'),
    upstream.text("Done.", 2),
    upstream.completed(output=[LS | {"arguments": '{"p":"."}', "status": "completed"}]),
)


def test_a_call_waits_until_it_is_whole_and_all_else_passes_at_once() -> None:
    calls = CallFilter(deciding({}))
    created, text, added, delta_1, delta_2, whole_input, done, more, completed = ONE_CALL
    conversation = [
        (created, created),
        (text, text),
        (added, b""),
        (delta_1, b""),
        (delta_2, b""),
        (whole_input, b""),
        (done, added + delta_1 + delta_2 + whole_input + done),
        (more, more),
        (completed, completed),
    ]
    for given_in, given_out in conversation:
        assert calls.feed(given_in) == given_out
    assert calls.give_up() == b""


def test_the_decision_is_asked_for_once_with_exactly_what_the_model_wrote() -> None:
    decide = Asked()
    calls = CallFilter(decide)
    patch = {**PATCH, "namespace": "files"}
    for event in [*ONE_CALL[:-1], upstream.call(3, patch, "*** ", "\r\n\u20ac"), ONE_CALL[-1]]:
        calls.feed(event)
    assert decide.calls == [
        ToolCall(call_id="1", name="ls", arguments='{"p":"."}'),
        ToolCall(
            call_id="3",
            name="apply_patch",
            arguments="*** \r\n\u20ac",
            custom=True,
            namespace="files",
        ),
    ]


def test_a_call_put_in_words_is_a_whole_message_in_its_place() -> None:
    out = filtered(ONE_CALL, {"1": Say("I would list it.")})
    message = said_item(LS, "I would list it.")
    in_part = {"item_id": message["id"], "output_index": 1, "content_index": 0}
    [part] = message["content"]
    begun = message | {"status": "in_progress", "content": []}
    text = {**in_part, "text": "I would list it.", "logprobs": []}
    assert as_events(out)[2:8] == [
        {
            "type": "response.output_item.added",
            "item": begun,
            "output_index": 1,
            "sequence_number": 2,
        },
        {
            "type": "response.content_part.added",
            **in_part,
            "part": part | {"text": ""},
            "sequence_number": 3,
        },
        {
            "type": "response.output_text.delta",
            **in_part,
            "delta": "I would list it.",
            "logprobs": [],
            "sequence_number": 4,
        },
        {"type": "response.output_text.done", **text, "sequence_number": 5},
        {"type": "response.content_part.done", **in_part, "part": part, "sequence_number": 6},
        {
            "type": "response.output_item.done",
            "item": message,
            "output_index": 1,
            "sequence_number": 7,
        },
    ]
    assert numbers(out) == [*range(10)]
    assert as_events(out)[-1]["response"]["output"] == [message]
    assert b"_call" not in out


def test_a_renamed_call_keeps_its_kind_ids_and_place() -> None:
    out = filtered(ONE_CALL, {"1": RENAMED})
    item = LS | {"name": "bash", "arguments": RENAMED.arguments, "status": "completed"}
    of_item = {"item_id": LS["id"], "output_index": 1}
    begun = item | {"status": "in_progress", "arguments": ""}
    name = "response.function_call_arguments"
    events = as_events(out)
    assert events[2:6] == [
        {
            "type": "response.output_item.added",
            "item": begun,
            "output_index": 1,
            "sequence_number": 2,
        },
        {"type": f"{name}.delta", **of_item, "delta": RENAMED.arguments, "sequence_number": 3},
        {
            "type": f"{name}.done",
            **of_item,
            "arguments": RENAMED.arguments,
            "sequence_number": 4,
        },
        {
            "type": "response.output_item.done",
            "item": item,
            "output_index": 1,
            "sequence_number": 5,
        },
    ]
    # Numbers may be left out. None is given twice.
    assert numbers(out) == [0, 1, 2, 3, 4, 5, 7, 8]
    assert events[-1]["response"]["output"] == [item]


def test_a_renamed_custom_call_stays_raw_text() -> None:
    out = filtered(numbered(upstream.call(0, PATCH, "***")), {"3": Rename("edit", "+++")})
    kinds = [event["type"] for event in as_events(out)]
    assert kinds[1:3] == [
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
    ]
    assert as_events(out)[-1]["item"] == PATCH | {
        "name": "edit",
        "input": "+++",
        "status": "completed",
    }


def test_later_numbers_move_up_only_as_far_as_they_must() -> None:
    call = numbered(upstream.added(0, **LS), upstream.done(0, **LS))
    later = [upstream.event("keepalive", sequence_number=n) for n in (2, 3, 8, 9)]
    out = filtered([*call, *later], {"1": Say("Hm")})
    assert numbers(out) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert out.endswith(b"".join(later[2:]))


def test_the_number_of_an_event_is_told_from_what_only_looks_like_one() -> None:
    schema = [{"type": "function", "parameters": {"sequence_number": 1}}]
    end = upstream.event("response.completed", response={"tools": schema}, sequence_number=2)
    events = [*numbered(upstream.added(0, **LS), upstream.done(0, **LS)), end]
    last = as_events(filtered(events, {"1": Say("Hm")}))[-1]
    assert last["sequence_number"] == 6
    assert last["response"]["tools"] == schema


def test_events_without_numbers_get_none() -> None:
    out = filtered([upstream.call(0, LS, "{}"), upstream.text("x", 1)], {"1": Say("Hm")})
    assert numbers(out) == []
    assert out.endswith(upstream.text("x", 1))


@pytest.mark.parametrize("named", [True, False], ids=["named events", "nameless events"])
@pytest.mark.parametrize("end_of_line", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_other_ways_to_write_events_are_read_too(named: bool, end_of_line: bytes) -> None:
    body = upstream.created() + upstream.call(0, LS, "{}") + upstream.completed()
    if not named:
        body = b"".join(b"data: " + raw.partition(b"data: ")[2] for raw in sse.split(body))
    body = body.replace(b"\n", end_of_line)
    out = filtered([body], {"1": Say("Hm")})
    assert "".join(e["delta"] for e in as_events(out) if e["type"].endswith("text.delta")) == "Hm"
    assert b"function_call" not in out
    assert filtered([body]) == body


@pytest.mark.parametrize(
    ("before", "begins"),
    [(b"", ""), (upstream.summary("Hm"), ""), (upstream.text("Well.", 0), "\n\n")],
    ids=["nothing", "a thought", "a text"],
)
def test_what_is_said_apart_keeps_apart_from_texts_only(before: bytes, begins: str) -> None:
    body = upstream.created() + before + upstream.call(1, LS, "{}") + upstream.call(2, PWD, "{}")
    listed = upstream.function("ls", "9") | {"arguments": "{}"}
    end = upstream.completed(output=[LS, PWD, listed])
    for cuts in ([], range(1, len(body), 7)):
        calls = CallFilter(Asked(Say("no", apart=True)))
        out = b"".join(map(calls.feed, [*cut_at(body, cuts), end]))
        said = [e["item"] for e in as_events(out) if e["type"] == "response.output_item.done"]
        texts = [item["content"][0]["text"] for item in said]
        assert texts == [f"{begins}no\n", "\n\nno\n"]
        listed_in = as_events(out)[-1]["response"]["output"]
        assert listed_in == [*said, said_item(listed, "\n\nno\n")]


def test_encrypted_reasoning_is_kept_for_calls_in_other_words() -> None:
    first, second = (
        {"type": "reasoning", "id": f"rs_{n}", "summary": [], "encrypted_content": f"secret {n}"}
        for n in (1, 2)
    )
    body = b"".join(
        [
            upstream.created(),
            upstream.done(0, **first, status="completed"),
            upstream.text("Well.", 1),
            upstream.call(2, LS, "{}"),
            upstream.done(3, **second),
            upstream.call(4, PWD, "{}"),
            upstream.call(5, PATCH, "***"),
            upstream.completed(),
        ]
    )
    for cuts in ([], range(1, len(body), 50)):
        calls = CallFilter(Asked(Say("x", is_call=True)))
        for block in cut_at(body, cuts):
            calls.feed(block)
        assert calls.reasoning == {"1": [first], "2": [second]}
        refusing = CallFilter(Asked(Say("x")))
        refusing.feed(body)
        assert refusing.reasoning == {}


# --- several calls

TWO_AT_ONCE = numbered(
    upstream.added(0, **LS),
    upstream.added(1, **PWD),
    upstream.arguments("{", 0),
    upstream.text("meanwhile", 2),
    upstream.arguments("[", 1),
    upstream.arguments("]", 1),
    upstream.done(1, **PWD | {"arguments": "[]"}),
    upstream.arguments("}", 0),
    upstream.done(0, **LS | {"arguments": "{}"}),
    upstream.text("after", 2),
    upstream.completed(),
)


def test_nothing_overtakes_two_calls_at_once_and_nothing_waits_longer_than_for_them() -> None:
    calls = CallFilter(deciding({}))
    given_out = [calls.feed(event) for event in TWO_AT_ONCE]
    assert given_out[:8] == [b""] * 8
    assert given_out[8] == b"".join(TWO_AT_ONCE[:9])
    assert given_out[9:] == TWO_AT_ONCE[9:]


def test_what_stands_before_the_first_open_call_comes_out_while_a_later_one_is_open() -> None:
    events = numbered(
        upstream.added(0, **LS),
        upstream.text("meanwhile", 2),
        upstream.added(1, **PWD),
        upstream.done(0, **LS),
        upstream.done(1, **PWD),
    )
    calls = CallFilter(deciding({}))
    given_out = [calls.feed(event) for event in events]
    assert given_out == [b"", b"", b"", events[0] + events[1], b"".join(events[2:])]


@pytest.mark.parametrize(
    ("decisions", "calls", "content"),
    [
        ({}, [("1", "ls", "{}"), ("2", "pwd", "[]")], "meanwhileafter"),
        ({"1": Say("A")}, [("2", "pwd", "[]")], "Ameanwhileafter"),
        ({"2": Say("B")}, [("1", "ls", "{}")], "Bmeanwhileafter"),
        ({"1": Say("A"), "2": Say("B")}, [], "ABmeanwhileafter"),
        ({"1": RENAMED, "2": Say("B")}, [("1", "bash", RENAMED.arguments)], "Bmeanwhileafter"),
    ],
    ids=["both kept", "first said", "second said", "both said", "renamed and said"],
)
def test_each_of_two_calls_at_once_is_decided_by_itself(
    decisions: dict[str, Decision], calls: list[tuple[str, str, str]], content: str
) -> None:
    answer, client = through(chat(), decisions), ChatClient()
    for event in TWO_AT_ONCE:
        client.read(answer.feed(event))
    heard = [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in client.calls]
    assert heard == calls
    assert client.content == content
    assert client.finish_reason == ("tool_calls" if calls else "stop")
    assert sorted(set(n := numbers(filtered(TWO_AT_ONCE, decisions)))) == n


def test_a_call_told_twice_is_decided_once_and_said_once() -> None:
    decide = Asked(Say("Hm"))
    done = upstream.done(0, **LS | {"arguments": "{}"})
    out = CallFilter(decide).feed(upstream.call(0, LS, "{}") + done + upstream.arguments("}", 0))
    assert len(decide.calls) == 1
    assert [event["type"] for event in as_events(out)].count("response.output_item.done") == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [((0, "a", "1"), (0, "b", "2")), ((0, "a", "1"), (1, "b", "1"))],
    ids=["one index for all", "one call id for all"],
)
def test_a_call_is_not_taken_for_another_by_one_of_its_names(
    first: tuple[int, str, str], second: tuple[int, str, str]
) -> None:
    decide = Asked()
    calls = CallFilter(decide)
    for name, (index, item_id, call_id) in zip(("x", "y"), (first, second), strict=True):
        item = upstream.function(name, call_id) | {"id": item_id}
        calls.feed(upstream.call(index, item, "{}"))
    assert [call.name for call in decide.calls] == ["x", "y"]


def test_events_that_bear_other_item_ids_are_told_apart_by_index() -> None:
    """Recorded: a gateway that gives each event another item id."""
    body = b"".join(
        [
            upstream.added(0, **LS | {"id": "x1"}),
            upstream.event(
                "response.function_call_arguments.delta", output_index=0, item_id="x2", delta="{}"
            ),
            upstream.done(0, **LS | {"id": "x3", "arguments": ""}),
        ]
    )
    decide = Asked()
    CallFilter(decide).feed(body)
    assert decide.calls == [ToolCall(call_id="1", name="ls", arguments="{}")]


def test_a_call_that_was_never_added_does_not_leak_its_input() -> None:
    events = [upstream.arguments("{}", 0), upstream.done(0, **LS | {"arguments": "{}"})]
    out = filtered(events, {"1": Say("Hm")})
    assert b"arguments" not in out
    assert as_events(out)[-1]["item"] == said_item(LS, "Hm")


# --- how it ends


def test_an_output_that_upstream_left_out_is_completed_with_what_was_told() -> None:
    answer = through(stream(), {"1": Say("Hm")})
    answer.feed(upstream.created() + upstream.call(0, LS, "{}") + upstream.completed(output=[]))
    inner = answer.answer
    assert isinstance(inner, ResponsesStream)
    assert inner.response is not None
    assert inner.response["output"] == [said_item(LS, "Hm")]


@pytest.mark.parametrize(
    ("decision", "output"),
    [
        (Keep(), LS | {"arguments": "{}"}),
        (Say("Hm"), said_item(LS, "Hm")),
        (Rename("bash", "[]"), LS | {"name": "bash", "arguments": "[]"}),
    ],
    ids=["kept", "said", "renamed"],
)
def test_a_call_that_stands_in_the_response_alone_is_decided_there(
    decision: Decision, output: JsonObject
) -> None:
    end = upstream.completed(output=[MESSAGE, LS | {"arguments": "{}"}])
    out = filtered([upstream.created(), end], {"1": decision})
    [_, last] = as_events(out)
    assert last["response"]["output"] == [MESSAGE, output]


def test_a_call_whose_item_was_never_called_done_is_decided_at_the_end() -> None:
    whole_input = upstream.event(
        "response.function_call_arguments.done", output_index=0, arguments="{}"
    )
    events = [upstream.added(0, **LS), upstream.arguments("{}", 0), whole_input]
    client, answer = ChatClient(), through(chat(), {"1": Say("Hm")})
    client.read(answer.feed(b"".join([upstream.created(), *events, upstream.completed()])))
    assert (client.content, client.calls, client.finish_reason) == ("Hm", [], "stop")
    kept = through(chat(), {})
    client = ChatClient()
    client.read(kept.feed(b"".join([upstream.created(), *events, upstream.completed()])))
    assert client.finish_reason == "tool_calls"


HALF = [upstream.added(0, **LS), upstream.arguments('{"p', 0), upstream.text("and", 1)]
CUT = upstream.done(0, **LS | {"arguments": '{"p', "status": "incomplete"})


@pytest.mark.parametrize("events", [HALF, [*HALF, CUT]], ids=["not done", "done, incomplete"])
@pytest.mark.parametrize(
    "end",
    [
        upstream.incomplete("max_output_tokens"),
        upstream.completed(),
        upstream.event("response.incomplete", response={"output": [LS | {"arguments": '{"p'}]}),
        upstream.completed(output=[LS | {"arguments": '{"p', "status": "incomplete"}]),
    ],
    ids=["incomplete", "completed", "incomplete and listed", "completed and listed as incomplete"],
)
def test_half_a_call_reaches_nobody_and_an_answer_with_one_is_not_complete(
    events: list[bytes], end: bytes
) -> None:
    def never(_: ToolCall) -> Decision:
        raise AssertionError("half a call was decided upon")

    calls = CallFilter(never)
    assert b"".join(map(calls.feed, events)) == b""
    out = calls.feed(end)
    assert out.startswith(HALF[2])
    assert b"_call" not in out
    [_, last] = as_events(out)
    kept = last["response"].get("output", [])
    assert kept == []
    is_complete = b"response.completed" in end
    assert last["type"] == ("response.failed" if is_complete else "response.incomplete")
    bare, filtering = chat(), FilteredStream(chat(), CallFilter(never))
    for event in [*events, end]:
        bare.feed(event)
        filtering.feed(event)
    told, known = filtering.terminal, bare.terminal
    assert told is not None
    assert known is not None
    assert (told.name, told.usage) == (known.name, known.usage)
    if told.fault is not None and known.fault is not None:
        assert told.fault.error == known.fault.error


@pytest.mark.parametrize("end", [upstream.incomplete("max_output_tokens"), upstream.completed()])
def test_an_observer_lets_half_a_call_pass_as_it_came(end: bytes) -> None:
    decide = Asked()
    calls = CallFilter(decide, observe_only=True)
    assert [calls.feed(event) for event in [*HALF, end]] == [*HALF, end]
    assert decide.calls == []


@pytest.mark.parametrize(
    "end",
    [
        upstream.event("response.incomplete", response={"output": [MESSAGE, LS]}),
        upstream.event(
            "response.failed", response={"output": [MESSAGE, LS], "error": {"message": "no"}}
        ),
    ],
    ids=["incomplete", "failed"],
)
def test_a_call_that_only_a_broken_answer_lists_is_not_listed(end: bytes) -> None:
    [last] = as_events(filtered([end]))
    assert last["response"]["output"] == [MESSAGE]


def test_input_that_names_no_call_is_of_the_one_under_way_or_of_none() -> None:
    piece = upstream.event("response.function_call_arguments.delta", delta='{"p"')
    decide = Asked(Say("Hm"))
    calls = CallFilter(decide)
    out = calls.feed(piece + upstream.added(0, **LS) + piece)
    assert out == b""
    out = calls.feed(upstream.done(0, **LS | {"arguments": ""}) + upstream.completed())
    assert b"arguments" not in out
    assert [call.arguments for call in decide.calls] == ['{"p"']


@pytest.mark.parametrize(
    "end",
    [
        upstream.failed("server_error", "no"),
        upstream.event("error", error={"message": "no"}),
        upstream.event("response.completed"),
        b"event: response.completed\ndata: <html>\n\n",
    ],
    ids=["failed", "error", "no response", "no JSON"],
)
def test_a_turn_that_fails_takes_half_a_call_with_it_and_nothing_else(end: bytes) -> None:
    out = filtered([*HALF, end])
    assert out == HALF[2] + end


def test_a_stream_that_breaks_off_tells_what_waited_without_half_a_call() -> None:
    answer = through(stream(), {"2": Say("Hm")})
    begun = [*HALF, upstream.call(2, PWD, "{}"), b"event: resp"]
    assert b"".join(map(answer.feed, begun)) == b""
    out = answer.fail(faults.ended_early())
    kinds = [event["type"] for event in as_events(out)]
    assert kinds[0] == "response.output_text.delta"
    assert kinds[-1] == "response.failed"
    assert b"function_call" not in out
    assert as_events(out)[-1]["response"]["output"] == [said_item(PWD, "Hm")]
    assert answer.terminal is not None
    assert answer.terminal.name == "failed"


def test_a_whole_answer_that_breaks_off_fails() -> None:
    answer = whole_through(whole(), {})
    for event in HALF:
        assert answer.feed(event) == b""
    assert answer.fail(faults.ended_early()) == b""
    assert answer.terminal is not None
    assert answer.terminal.name == "failed"


def test_a_call_that_grows_without_end_is_refused() -> None:
    piece = upstream.arguments("x" * 20, 0)
    calls = CallFilter(deciding({}), max_waiting_bytes=10 * len(piece))
    calls.feed(upstream.added(0, **LS))
    for _ in range(7):
        calls.feed(piece)
    with pytest.raises(EventTooLargeError):
        calls.feed(piece * 2)


def test_only_what_waits_counts_as_waiting() -> None:
    call = upstream.call(0, LS, "{}")
    calls = CallFilter(deciding({}), max_waiting_bytes=len(call))
    for _ in range(5):
        assert calls.feed(call) == call


# --- what both kinds of client see


@pytest.mark.parametrize(
    ("decision", "message", "finish_reason"),
    [
        (
            Say("Hm"),
            {"role": "assistant", "content": "Let me look.HmDone.", "refusal": None},
            "stop",
        ),
        (
            RENAMED,
            {
                "role": "assistant",
                "content": "Let me look.Done.",
                "refusal": None,
                "tool_calls": [
                    {
                        "id": "1",
                        "type": "function",
                        "function": {"name": "bash", "arguments": RENAMED.arguments},
                    }
                ],
            },
            "tool_calls",
        ),
    ],
    ids=["said", "renamed"],
)
def test_a_chat_client_sees_the_same_streamed_and_whole(
    decision: Decision, message: dict[str, Any], finish_reason: str
) -> None:
    streamed, client = through(chat(), {"1": decision}), ChatClient()
    for event in ONE_CALL:
        client.read(streamed.feed(event))
    client.read(streamed.finish())
    assert client.done
    assert client.message() == message
    assert client.finish_reason == finish_reason
    answer = whole_through(chat_whole(), {"1": decision})
    for event in ONE_CALL:
        answer.feed(event)
    completion = json.loads(answer.body())
    ChatCompletion.model_validate(completion, strict=True)
    [choice] = completion["choices"]
    assert (choice["message"], choice["finish_reason"]) == (message, finish_reason)


@pytest.mark.parametrize("decision", [Keep(), Say("Hm"), RENAMED], ids=["kept", "said", "renamed"])
def test_a_responses_client_sees_the_same_streamed_and_whole(decision: Decision) -> None:
    streamed, answer = through(stream(), {"1": decision}), whole_through(whole(), {"1": decision})
    out = b"".join(map(streamed.feed, ONE_CALL)) + streamed.finish()
    for event in ONE_CALL:
        answer.feed(event)
    body = json.loads(answer.body())
    Response.model_validate(body, strict=True)
    assert body["output"] == as_events(out)[-1]["response"]["output"]


def test_the_answer_is_asked_for_what_it_heard() -> None:
    """What the server reads of an answer besides: it must not speak of calls that nobody got."""
    thoughts = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "secret"}
    inner = chat()
    answer = through(inner, {"1": Say("Hm")})
    answer.feed(upstream.done(0, **thoughts) + upstream.call(1, LS, "{}"))
    assert inner.reasoning == {}
    answer.feed(upstream.call(2, PWD, "{}") + upstream.completed())
    assert list(inner.reasoning) == ["2"]
    assert answer.keep_alive == inner.keep_alive


def test_events_of_ours_are_valid_for_the_sdk() -> None:
    adapter: TypeAdapter[object] = TypeAdapter(ResponseStreamEvent)
    events = [*numbered(upstream.call(0, LS, "{}"), upstream.call(1, PATCH, "***"))]
    for decision in (Say("Hm"), RENAMED):
        for event in as_events(filtered(events, {"1": decision, "3": decision})):
            adapter.validate_python(event, strict=True)


# --- observing


def test_an_observer_changes_and_delays_nothing() -> None:
    decide = Asked(Say("ignored"))
    calls = CallFilter(decide, observe_only=True)
    body = b"".join(TWO_AT_ONCE)
    blocks = cut_at(body, range(7, len(body), 7))
    assert [calls.feed(block) for block in blocks] == blocks
    assert calls.give_up() == b""
    assert [call.call_id for call in decide.calls] == ["2", "1"]


@given(cuts=st.sets(st.integers(0, len(b"".join(ONE_CALL)))))
def test_an_observer_sees_each_call_before_the_client_has_its_end(cuts: set[int]) -> None:
    body, decide = b"".join(ONE_CALL), Asked()
    calls, out = CallFilter(decide, observe_only=True), b""
    for block in cut_at(body, cuts):
        out += calls.feed(block)
        assert bool(decide.calls) == (ONE_CALL[6] in out)
    assert out == body
    assert [call.arguments for call in decide.calls] == ['{"p":"."}']


# --- chains


@pytest.mark.parametrize(
    ("decides", "decision"),
    [
        ([], Keep()),
        ([Keep(), Keep()], Keep()),
        ([Keep(), RENAMED, Keep()], RENAMED),
        ([RENAMED, Rename("zsh", "[]")], Rename("zsh", "[]")),
        ([Say("no"), RENAMED], Say("no")),
        ([RENAMED, Say("yes"), Say("no")], Say("yes")),
    ],
    ids=["none", "kept", "renamed", "renamed twice", "said first", "said of the renamed"],
)
def test_a_chain_ends_at_the_first_word(decides: list[Decision], decision: Decision) -> None:
    assert chain(*map(Asked, decides))(ToolCall(call_id="1", name="ls", arguments="{}")) == decision


def test_behind_a_renaming_the_renamed_call_is_seen() -> None:
    call, last = ToolCall(call_id="1", name="ls", arguments="{}"), Asked()
    chain(Asked(RENAMED), last)(call)
    assert last.calls == [attrs.evolve(call, name="bash", arguments=RENAMED.arguments)]


# --- whatever comes


@attrs.frozen
class Script:
    """A stream of items at random: each call with what is decided of it."""

    body: bytes
    decisions: dict[str, Decision]
    #: Output index -> text.
    texts: dict[int, str]
    #: Output index -> call id.
    calls: dict[int, str]


ARGUMENTS: SearchStrategy[list[str]] = st.lists(st.text(max_size=4), max_size=3)
DECISIONS: SearchStrategy[Decision] = st.one_of(
    st.just(Keep()),
    st.builds(Say, st.text(max_size=5)),
    st.builds(Rename, st.text("ab", min_size=1, max_size=3), st.text(max_size=5)),
)


@st.composite
def scripts(draw: DrawFn) -> Script:
    kinds = draw(st.lists(st.sampled_from(["text", "function", "custom"]), max_size=5))
    decisions: dict[str, Decision] = {}
    texts, calls = {}, {}
    queues: list[list[bytes]] = []
    output: list[JsonObject] = []
    for index, kind in enumerate(kinds):
        pieces = draw(ARGUMENTS)
        if kind == "text":
            texts[index] = "".join(pieces)
            queues.append([upstream.text(piece, index) for piece in pieces])
            continue
        call_id = f"call_{index}"
        item = (upstream.function if kind == "function" else upstream.custom)("tool", call_id)
        decisions[call_id], calls[index] = draw(DECISIONS), call_id
        queues.append([*sse.split(upstream.call(index, item, *pieces))])
        done = as_events(queues[-1][-1])[0]["item"]
        output.append(done)
    order = draw(st.permutations([i for i, queue in enumerate(queues) for _ in queue]))
    turn = [iter(queue) for queue in queues]
    listed = output if draw(st.booleans()) else []
    events = [upstream.created(), *(next(turn[i]) for i in order)]
    events.append(upstream.completed(output=listed))
    if draw(st.booleans()):
        events = numbered(*events)
    return Script(b"".join(events), decisions, texts, calls)


@given(script=scripts(), data=st.data())
def test_what_comes_out_does_not_depend_on_the_cuts(script: Script, data: st.DataObject) -> None:
    cuts = data.draw(st.sets(st.integers(0, len(script.body)), max_size=20))
    calls = CallFilter(deciding(script.decisions))
    out = [calls.feed(block) for block in cut_at(script.body, cuts)]
    assert all(given_out == b"" or given_out.endswith(b"\n\n") for given_out in out)
    assert b"".join(out) == filtered([script.body], script.decisions)


@given(script=scripts(), cuts=st.sets(st.integers(0, 500), max_size=20))
def test_if_all_calls_are_kept_nothing_is_changed(script: Script, cuts: set[int]) -> None:
    within = [cut for cut in cuts if cut <= len(script.body)]
    assert filtered(cut_at(script.body, within)) == script.body


@given(script=scripts())
def test_every_item_comes_out_as_it_was_decided_and_numbers_only_rise(script: Script) -> None:
    out = filtered([script.body], script.decisions)
    events = as_events(out)
    assert (n := numbers(out)) == sorted(set(n))
    assert bool(n) == bool(numbers(script.body))
    for index, text in script.texts.items():
        assert _text_of(events, index) == text
    was_done = _done_items(as_events(script.body))
    done = _done_items(events)
    assert set(done) == set(script.calls)
    for index, call_id in script.calls.items():
        was, item = was_done[index], done[index]
        key = "arguments" if was["type"] == "function_call" else "input"
        match script.decisions[call_id]:
            case Say(text):
                assert item == said_item(was, text)
                assert _text_of(events, index) == text
            case Rename(name, arguments):
                assert item == was | {"name": name, key: arguments}
            case _:
                assert item == was
    listed = events[-1]["response"]["output"]
    assert listed in ([], [done[index] for index in sorted(done)])


@given(script=scripts())
@settings(max_examples=30)
def test_every_chat_client_gets_exactly_the_calls_that_were_not_said(script: Script) -> None:
    client, answer = ChatClient(), through(chat(), script.decisions)
    client.read(answer.feed(script.body))
    wanted = [call_id for call_id, made in script.decisions.items() if not isinstance(made, Say)]
    assert sorted(call["id"] for call in client.calls) == wanted
    assert client.finish_reason == ("tool_calls" if wanted else "stop")


def _text_of(events: Sequence[Mapping[str, Any]], index: int) -> str:
    return "".join(
        event["delta"]
        for event in events
        if event["type"] == "response.output_text.delta" and event["output_index"] == index
    )


def _done_items(events: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    return {
        event["output_index"]: event["item"]
        for event in events
        if event["type"] == "response.output_item.done"
    }


# --- recorded streams


def recorded_bodies() -> Iterator[tuple[str, bytes]]:
    yield from ((one.name, one.body) for one in recorded_streams() if one.sound)
    yield from samples("stream_*.sse").items()


def test_kept_calls_pass_byte_for_byte_in_recorded_streams() -> None:
    with_calls = 0
    for name, body in recorded_bodies():
        decide = Asked()
        calls = CallFilter(decide)
        out = b"".join(map(calls.feed, cut_at(body, range(100, len(body), 100))))
        assert out == body, name
        assert len({call.call_id for call in decide.calls}) == len(decide.calls), name
        with_calls += bool(decide.calls)
    assert with_calls > 5


def test_said_calls_leave_no_trace_in_recorded_streams() -> None:
    for name, body in recorded_bodies():
        answer, client = FilteredStream(chat(), CallFilter(Asked(Say("<said>")))), ChatClient()
        client.read(answer.feed(body))
        assert client.calls == [], name
        assert client.finish_reason in (None, "stop", "length", "content_filter"), name
        bare = ChatClient()
        bare.read(chat().feed(body))
        content = client.content or ""
        assert content.count("<said>") == len(bare.calls), name
        assert content.replace("<said>", "") == (bare.content or ""), name


def test_a_sound_recorded_stream_stays_sound_when_its_calls_are_renamed() -> None:
    for name, body in recorded_bodies():
        out = FilteredStream(stream(), CallFilter(Asked(RENAMED))).feed(body)
        for event in sse.split(out):
            if (read := sse.read(event)) is not None and read.data != b"[DONE]":
                parse_object(read.data)
        was = numbers(body)
        if was == sorted(set(was)):
            assert (now := numbers(out)) == sorted(set(now)), name
