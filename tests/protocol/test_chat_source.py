"""Chat chunks are heard by a Responses client as they were said."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import chat_body, faults, sse
from codexrelay.protocol.chat_source import ChatToResponses
from codexrelay.protocol.faults import FaultKind
from codexrelay.protocol.hold import Hold, Output
from codexrelay.protocol.raw import parse_object
from codexrelay.protocol.responses_stream import ResponsesStream
from codexrelay.protocol.responses_whole import ResponsesWhole
from codexrelay.protocol.target_tools import TargetTools, Tool
from tests.fakes import chat_chunks as upstream
from tests.fakes.recordings import recorded_streams
from tests.fakes.responses_client import ResponsesClient

if TYPE_CHECKING:
    from codexrelay.protocol.delivery import Delivery

NOW_UNIX_S = 1_795_347_089.0
TOOLS = TargetTools(
    by_name={
        "ls": Tool("ls"),
        "apply_patch": Tool("apply_patch", custom=True),
        "agents__spawn": Tool("spawn", namespace="agents"),
        "exec": Tool("exec", custom=True, namespace="functions"),
    }
)


def source(tools: TargetTools = TOOLS) -> ChatToResponses:
    return ChatToResponses(
        tools, response_id="resp_1", model="relay-model", created_unix_s=1_795_347_000
    )


def hear(*blocks: bytes, tools: TargetTools = TOOLS) -> ResponsesClient:
    """Feed a whole body and read what the client gets."""
    reader, client = source(tools), ResponsesClient()
    for block in blocks:
        client.read(reader.feed(block))
    client.read(reader.end())
    return client


def message(text: str, place: int = 0, status: str = "completed") -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": f"msg_relay_1_{place}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [part],
    }


def function(
    call_id: str, name: str, arguments: str, place: int = 0, status: str = "completed"
) -> dict[str, Any]:
    return {
        "id": f"fc_relay_1_{place}",
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def reasoning(text: str, place: int = 0) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": text}]
    return {"id": f"rs_relay_1_{place}", "type": "reasoning", "summary": summary}


def test_it_is_a_delivery() -> None:
    reader: Delivery = source()
    assert reader.feed(b"") == b""
    assert reader.end() == b""


def test_a_text_has_every_event_of_a_responses_stream() -> None:
    client = hear(
        upstream.role(),
        upstream.text("Hello"),
        upstream.text(", world"),
        upstream.finish(),
        upstream.usage(),
        upstream.DONE,
    )
    assert client.names == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert client.output == [message("Hello, world")]
    assert client.response["usage"] == upstream.RESPONSES_USAGE
    assert client.response["id"] == "resp_1"
    assert client.response["model"] == "qwen3"
    assert client.response["status"] == "completed"


END = (upstream.finish(), upstream.DONE)
CALL_END = (upstream.finish("tool_calls"), upstream.DONE)

CONVERSATIONS: dict[str, tuple[tuple[bytes, ...], list[dict[str, Any]]]] = {
    "reasoning, then text": (
        (upstream.thought("Let me "), upstream.thought("think"), upstream.text("42"), *END),
        [reasoning("Let me think"), message("42", 1)],
    ),
    "reasoning under its other name": (
        (upstream.thought("Hm", "reasoning"), upstream.text("42"), *END),
        [reasoning("Hm"), message("42", 1)],
    ),
    "reasoning under both names": (
        (upstream.chunk({"reasoning": "Hm", "reasoning_content": "Hm", "content": ""}), *END),
        [reasoning("Hm")],
    ),
    "content in parts": (
        (
            upstream.chunk(
                {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]}
            ),
            upstream.chunk({"content": [{"type": "text", "text": "42"}]}),
            *END,
        ),
        [reasoning("Hm"), message("42", 1)],
    ),
    "two calls in pieces": (
        (
            upstream.opened(0, "c1", "ls"),
            upstream.more(0, '{"a":'),
            upstream.more(0, "1}"),
            upstream.opened(1, "c2", "ls"),
            upstream.more(1, "{}"),
            *CALL_END,
        ),
        [function("c1", "ls", '{"a":1}'), function("c2", "ls", "{}", 1)],
    ),
    "two calls mixed": (
        (
            upstream.opened(0, "c1", "ls", '{"a":'),
            upstream.opened(1, "c2", "ls", '{"b":'),
            upstream.more(0, "1}"),
            upstream.more(1, "2}"),
            *CALL_END,
        ),
        [function("c1", "ls", '{"a":1}'), function("c2", "ls", '{"b":2}', 1)],
    ),
    "several calls in one chunk": (
        (
            upstream.chunk(
                {
                    "tool_calls": [
                        {"id": "c1", "function": {"name": "ls", "arguments": "{}"}},
                        {"id": "c2", "function": {"name": "ls", "arguments": "{}"}},
                    ]
                }
            ),
            *CALL_END,
        ),
        [function("c1", "ls", "{}"), function("c2", "ls", "{}", 1)],
    ),
    "one index for all calls": (
        (
            upstream.opened(0, "c1", "ls", '{"a":1}'),
            upstream.opened(0, "c2", "ls", '{"a":2}'),
            *CALL_END,
        ),
        [function("c1", "ls", '{"a":1}'), function("c2", "ls", '{"a":2}', 1)],
    ),
    "no index, and the name each time": (
        (
            upstream.call(id="c1", name="ls", arguments='{"a":'),
            upstream.call(name="ls", arguments="1}"),
            upstream.call(name="ls", arguments="{}"),
            *CALL_END,
        ),
        [function("c1", "ls", '{"a":1}'), function("call_relay_1_1", "ls", "{}", 1)],
    ),
    "another id each time": (
        (
            upstream.opened(0, "x1", "ls", '{"a":'),
            upstream.call(index=0, id="x2", name="ls", arguments="1}"),
            *CALL_END,
        ),
        [function("x1", "ls", '{"a":1}')],
    ),
    "a call without an id": (
        (upstream.call(index=0, id="", name="ls", arguments="{}"), *CALL_END),
        [function("call_relay_1_0", "ls", "{}")],
    ),
    "one id for two calls": (
        (upstream.opened(0, "ls", "ls", "{}"), upstream.opened(1, "ls", "ls", "{}"), *CALL_END),
        [function("ls", "ls", "{}"), function("call_relay_1_1", "ls", "{}", 1)],
    ),
    "arguments as an object": (
        (upstream.call(index=0, id="c1", name="ls", arguments={"a": 1}), *CALL_END),
        [function("c1", "ls", '{"a":1}')],
    ),
    "no arguments": (
        (upstream.call(index=0, id="c1", name="ls", arguments=None), *CALL_END),
        [function("c1", "ls", "{}")],
    ),
    "a call that ends the answer as a text would": (
        (upstream.opened(0, "c1", "ls", "{}"), *END),
        [function("c1", "ls", "{}")],
    ),
    "a name that comes late": (
        (
            upstream.call(index=0, id="c1", arguments='{"a'),
            upstream.call(index=0, name="ls", arguments='":1}'),
            *CALL_END,
        ),
        [function("c1", "ls", '{"a":1}')],
    ),
    "the older form of a call": (
        (
            upstream.chunk({"function_call": {"name": "ls", "arguments": ""}}),
            upstream.chunk({"function_call": {"arguments": "{}"}}),
            upstream.finish("function_call"),
            upstream.DONE,
        ),
        [function("call_relay_1_0", "ls", "{}")],
    ),
    "text, a call, text": (
        (
            upstream.text("Now:"),
            upstream.opened(0, "c1", "ls", "{}"),
            upstream.text("Done."),
            *CALL_END,
        ),
        [message("Now:"), function("c1", "ls", "{}", 1), message("Done.", 2)],
    ),
    "text behind the reason": (
        (upstream.text("a"), upstream.finish(), upstream.text("b"), upstream.DONE),
        [message("ab")],
    ),
    "a tool in a namespace": (
        (upstream.opened(0, "c1", "agents__spawn", "{}"), *CALL_END),
        [function("c1", "spawn", "{}") | {"namespace": "agents"}],
    ),
    "a tool that nobody offered": (
        (upstream.opened(0, "c1", "rm", "{}"), *CALL_END),
        [function("c1", "rm", "{}")],
    ),
    "nothing but null": (
        (
            upstream.chunk(
                {"role": "assistant", "content": None, "tool_calls": None, "refusal": None}
            ),
            *END,
        ),
        [],
    ),
    "a whole message in place of a delta": (
        (
            upstream.data(
                {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]},
            ),
            upstream.DONE,
        ),
        [message("Hi")],
    ),
    "other choices": (
        (upstream.text("a"), upstream.text("b", index=1), *END),
        [message("a")],
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_what_was_said_becomes_items(name: str) -> None:
    blocks, output = CONVERSATIONS[name]
    client = hear(*blocks)
    assert client.output == output
    assert client.response["status"] == "completed"


@pytest.mark.parametrize("name", ["text, a call, text", "two calls mixed"])
def test_the_events_do_not_depend_on_how_the_bytes_were_cut(name: str) -> None:
    body = b"".join(CONVERSATIONS[name][0])
    expected = source().feed(body)
    for cut in range(len(body)):
        reader = source()
        assert reader.feed(body[:cut]) + reader.feed(body[cut:]) == expected


def test_a_refusal_and_a_text_are_parts_of_one_message() -> None:
    client = hear(upstream.text("Well"), upstream.chunk({"refusal": "No"}), *END)
    [item] = client.output
    assert [part["type"] for part in item["content"]] == ["output_text", "refusal"]
    assert "response.refusal.delta" in client.names
    assert "response.refusal.done" in client.names


PATCH = '*** Begin Patch\n*** Add File: "ą"\n+😀\\\n*** End Patch'


@pytest.mark.parametrize(
    ("arguments", "raw"),
    [
        (json.dumps({"input": PATCH}), PATCH),
        (json.dumps({"patch": PATCH}), PATCH),
        (json.dumps(PATCH), PATCH),
        (PATCH, PATCH),
        ('{"a":1}', '{"a":1}'),
        ("", ""),
    ],
    ids=["input", "another name", "a string", "no JSON", "an object", "nothing"],
)
def test_a_tool_that_takes_text_is_called_with_text(arguments: str, raw: str) -> None:
    halves = arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :]
    client = hear(
        upstream.opened(0, "c1", "apply_patch"),
        *(upstream.more(0, half) for half in halves),
        *CALL_END,
    )
    assert client.output == [
        {
            "id": "ctc_relay_1_0",
            "type": "custom_tool_call",
            "status": "completed",
            "call_id": "c1",
            "name": "apply_patch",
            "input": raw,
        }
    ]
    assert "response.custom_tool_call_input.done" in client.names


def test_codex_is_told_of_no_namespace_for_its_own_tools() -> None:
    [item] = hear(upstream.opened(0, "c1", "exec", '{"input":"x"}'), *CALL_END).output
    assert (item["name"], item["input"]) == ("exec", "x")
    assert "namespace" not in item


# --- ends


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("stop", "completed", None),
        ("end_turn", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_the_reason_says_whether_the_answer_is_complete(
    reason: str, status: str, details: object
) -> None:
    client = hear(upstream.text("a"), upstream.finish(reason), upstream.DONE)
    assert client.response["status"] == status
    assert client.response["incomplete_details"] == details
    assert client.output == [message("a", status=status)]


def test_an_answer_that_is_cut_inside_a_call_says_so_of_the_call() -> None:
    client = hear(
        upstream.opened(0, "c1", "ls", "{}"),
        upstream.opened(1, "c2", "ls", '{"a'),
        upstream.finish("length"),
        upstream.DONE,
    )
    assert client.output == [
        function("c1", "ls", "{}"),
        function("c2", "ls", '{"a', 1, status="incomplete"),
    ]


@pytest.mark.parametrize(
    "end",
    [
        (upstream.finish(), upstream.usage(), upstream.DONE),
        (upstream.finish(), upstream.usage()),
        (upstream.chunk({}, "stop", usage=upstream.USAGE), upstream.DONE),
        (upstream.chunk({}, "stop", usage=upstream.USAGE),),
        (upstream.finish(), upstream.usage()[:-2]),
        (upstream.finish(), upstream.usage().replace(b"\n", b"\r\n"), b": bye\r\n\r\n"),
        (upstream.chunk({}, "stop", usage={"prompt_tokens": 1}), upstream.usage(), upstream.DONE),
        (upstream.chunk({}, usage=upstream.USAGE), upstream.finish(), upstream.DONE),
    ],
    ids=[
        "with [DONE]",
        "without [DONE]",
        "usage beside the reason",
        "usage beside the reason, without [DONE]",
        "without the last line end",
        "CRLF",
        "usage twice",
        "usage before the reason",
    ],
)
def test_an_end_is_an_end_in_whichever_form(end: tuple[bytes, ...]) -> None:
    client = hear(upstream.text("a"), *end)
    assert client.response["status"] == "completed"
    assert client.response["usage"] == upstream.RESPONSES_USAGE


def test_the_end_does_not_wait_for_the_sentinel_once_the_usage_is_there() -> None:
    reader, client = source(), ResponsesClient()
    client.read(reader.feed(upstream.text("a") + upstream.finish()))
    assert client.terminal is None
    client.read(reader.feed(upstream.usage()))
    assert client.terminal is not None


def test_an_answer_without_usage_says_so() -> None:
    assert hear(upstream.text("a"), *END).response["usage"] is None


@pytest.mark.parametrize(
    "blocks",
    [
        (upstream.role(),),
        (upstream.text("a"),),
        (upstream.opened(0, "c1", "ls", "{}"),),
        (upstream.opened(0, "c1", "ls", '{"a'), upstream.DONE),
        (upstream.role(), upstream.DONE),
        (upstream.DONE,),
        (upstream.usage(),),
    ],
    ids=[
        "handshake",
        "text",
        "call",
        "[DONE] inside a call",
        "[DONE] of nothing",
        "[DONE] alone",
        "usage alone",
    ],
)
def test_an_answer_that_breaks_off_has_no_end(blocks: tuple[bytes, ...]) -> None:
    assert hear(*blocks).terminal is None


def test_the_sentinel_ends_an_answer_that_gives_no_reason() -> None:
    client = hear(upstream.text("a"), upstream.opened(0, "c1", "ls", "{}"), upstream.DONE)
    assert client.response["status"] == "completed"
    assert client.output == [message("a"), function("c1", "ls", "{}", 1)]


def test_a_call_that_is_never_named_is_a_failure_and_no_answer_without_a_call() -> None:
    client = hear(upstream.call(index=0, id="c1", arguments="{}"), *CALL_END)
    assert client.response["status"] == "failed"


# --- failures

LIMIT = {"error": {"message": "slow down", "type": "rate_limit_error", "code": 429}}


@pytest.mark.parametrize(
    ("raw", "kind", "words"),
    [
        (upstream.data(LIMIT), FaultKind.THROTTLED, "slow down"),
        (
            upstream.data({"error": {"code": "context_length_exceeded", "message": "too long"}}),
            FaultKind.REFUSED,
            "too long",
        ),
        (upstream.data({"error": "out of memory"}), FaultKind.OVERLOADED, "out of memory"),
        (
            upstream.data({"error": {"message": "no such model", "code": 404}}),
            FaultKind.REFUSED,
            "no such model",
        ),
        (
            upstream.data({"object": "error", "message": "bad", "code": 400}),
            FaultKind.REFUSED,
            "bad",
        ),
        (b'event: error\ndata: {"message":"oops"}\n\n', FaultKind.OVERLOADED, "oops"),
        (b"event: error\ndata: oops\n\n", FaultKind.OVERLOADED, "oops"),
        (upstream.finish("error"), FaultKind.OVERLOADED, "gave up"),
        (
            upstream.chunk({}, "error", error={"message": "provider down", "code": 502}),
            FaultKind.OVERLOADED,
            "provider down",
        ),
        (b"data: <html>\n\n", FaultKind.BROKEN, "no JSON"),
    ],
    ids=[
        "status as a code",
        "code",
        "text",
        "refused",
        "vLLM",
        "error event",
        "error text",
        "reason",
        "error of the choice",
        "a page",
    ],
)
@pytest.mark.parametrize("is_late", [False, True], ids=["first", "late"])
def test_a_failure_is_the_one_that_upstream_told(
    raw: bytes, kind: FaultKind, words: str, *, is_late: bool
) -> None:
    begin = upstream.text("a") if is_late else upstream.role()
    body = source().feed(begin + raw + upstream.text("never") + upstream.DONE)
    assert b"never" not in body
    if is_late:
        answer = ResponsesStream(now_unix_s=NOW_UNIX_S, model="m", created_unix_s=1)
        answer.feed(body)
        fault = answer.terminal and answer.terminal.fault
    else:
        fault = Hold(now_unix_s=NOW_UNIX_S).feed(body)
    assert isinstance(fault, faults.Fault)
    assert fault.kind is kind
    assert words in fault.message


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"", FaultKind.BROKEN, "without a body"),
        (b"<html><title>Moved</title></html>", FaultKind.BROKEN, "web page: Moved"),
        (b"error: no slot\n\nsorry", FaultKind.BROKEN, "error: no slot"),
        (b'{"detail":"Not Found"}', FaultKind.BROKEN, "Not Found"),
        (json.dumps(LIMIT).encode(), FaultKind.THROTTLED, "slow down"),
        (b'{"error":"model is loading"}', FaultKind.OVERLOADED, "model is loading"),
        (b": still loading\n\n", FaultKind.BROKEN, "ended before"),
        (b"  \n", FaultKind.BROKEN, "without a body"),
    ],
    ids=["nothing", "page", "text", "detail", "error", "error text", "comment", "blanks"],
)
def test_a_body_that_is_no_answer_is_told_in_its_own_words(
    body: bytes, kind: FaultKind, words: str
) -> None:
    for cut in range(len(body) + 1):
        reader, hold = source(), Hold(now_unix_s=NOW_UNIX_S)
        results = [hold.feed(out) for out in (reader.feed(body[:cut]), reader.feed(body[cut:]))]
        results.append(hold.feed(reader.end()))
        fault = next((result for result in results if result is not None), None) or hold.end()
        assert isinstance(fault, faults.Fault)
        assert fault.kind is kind
        assert words in fault.message


def test_comments_pass_and_the_handshake_is_one_for_the_hold() -> None:
    reader, hold = source(), Hold(now_unix_s=NOW_UNIX_S)
    begin = reader.feed(b": loading\n\n" + upstream.role())
    assert begin.startswith(b": loading\n\n")
    assert hold.feed(begin) is None
    assert hold.has_begun
    assert isinstance(hold.feed(reader.feed(upstream.text("a"))), Output)


def test_too_large_an_event_is_refused() -> None:
    reader = source()
    reader._body = chat_body.ChatBody(max_bytes=100)
    with pytest.raises(EventTooLargeError):
        reader.feed(b"data: " + b"x" * 200)


# --- whole answers

ENTRY = {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
WHOLE = upstream.whole(
    {"content": "Look:", "reasoning_content": "Hm", "tool_calls": [ENTRY, {**ENTRY, "id": "c2"}]},
    "tool_calls",
)


@pytest.mark.parametrize("cut", range(0, len(WHOLE), 7))
def test_an_answer_in_one_piece_is_an_answer(cut: int) -> None:
    client = hear(WHOLE[:cut], WHOLE[cut:])
    assert client.output == [
        reasoning("Hm"),
        message("Look:", 1),
        function("c1", "ls", "{}", 2),
        function("c2", "ls", "{}", 3),
    ]
    assert client.response["usage"] == upstream.RESPONSES_USAGE


@pytest.mark.parametrize(
    "body",
    [upstream.whole({"content": "Hi"}, None), upstream.text("Hi") + upstream.finish()],
    ids=["one piece", "stream"],
)
@pytest.mark.parametrize("cut", range(5))
def test_a_byte_order_mark_is_no_part_of_the_answer(body: bytes, cut: int) -> None:
    marked = b"\xef\xbb\xbf" + body
    assert hear(marked[:cut], marked[cut:]).output == [message("Hi")]


def test_an_answer_in_one_piece_is_complete_without_a_reason() -> None:
    client = hear(b"\n " + upstream.whole({"content": "Hi"}, None))
    assert client.output == [message("Hi")]
    assert client.response["status"] == "completed"


# --- through the real answers


def test_a_client_gets_the_events_unchanged() -> None:
    body = source().feed(b"".join(CONVERSATIONS["text, a call, text"][0]) + upstream.usage())
    answer = ResponsesStream(now_unix_s=NOW_UNIX_S, model="m", created_unix_s=1)
    given_out = answer.feed(body)
    # All but the end, which lacks the usage that some clients cannot do without.
    assert given_out.rpartition(b"event: ")[0] == body.rpartition(b"event: ")[0]
    assert answer.terminal is not None
    assert answer.terminal.name == "completed"
    assert answer.terminal.response_id == "resp_1"


def test_a_client_that_wants_no_stream_gets_the_same_response() -> None:
    answer = ResponsesWhole(now_unix_s=NOW_UNIX_S, model="m", created_unix_s=1)
    blocks = (upstream.text("Hi"), upstream.finish(), upstream.usage(), upstream.DONE)
    answer.feed(source().feed(b"".join(blocks)))
    response = parse_object(answer.body())
    assert response["output"] == [message("Hi")]
    assert response["usage"] == upstream.RESPONSES_USAGE


def test_recorded_streams_of_many_servers_are_heard() -> None:
    for recorded in recorded_streams("chat"):
        if not recorded.sound:
            continue
        client = hear(recorded.body)
        chunks = [
            parse_object(event.data)
            for raw in sse.split(recorded.body)
            if (event := sse.read(raw)) is not None and event.data.strip() != b"[DONE]"
        ]
        said = "".join(
            choice["delta"]["content"]
            for chunk in chunks
            for choice in chunk.get("choices") or []
            if isinstance(choice.get("delta", {}).get("content"), str)
            and choice.get("index", 0) == 0
        )
        assert client.text == said, recorded.name


# --- for every stream

pieces = st.text(max_size=4)
arguments = st.dictionaries(st.text(max_size=3), st.integers(), max_size=2).map(json.dumps)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], str, list[tuple[str, str]]]:
    """Draw chunks, the text in them, and name and arguments of the calls, in order."""
    blocks, text, calls = [], "", []
    for _ in range(draw(st.integers(0, 6))):
        match draw(st.sampled_from(["text", "thought", "call", "comment", "role"])):
            case "text":
                piece = draw(pieces)
                text += piece
                blocks.append(upstream.text(piece))
            case "thought":
                blocks.append(upstream.thought(draw(pieces)))
            case "call":
                whole = draw(arguments)
                cut = draw(st.integers(0, len(whole)))
                place = len(calls)
                blocks.append(upstream.opened(place, f"c{place}", "ls", whole[:cut]))
                blocks.append(upstream.more(place, whole[cut:]))
                calls.append(("ls", whole))
            case "comment":
                blocks.append(b": here\n\n")
            case _:
                blocks.append(upstream.role())
    return blocks, text, calls


@given(drawn=streams(), is_broken_off=st.booleans(), data=st.data())
def test_there_is_one_end_and_no_call_is_lost(
    drawn: tuple[list[bytes], str, list[tuple[str, str]]],
    *,
    is_broken_off: bool,
    data: st.DataObject,
) -> None:
    blocks, text, calls = drawn
    end = b"" if is_broken_off else upstream.finish() + upstream.usage() + upstream.DONE
    body = b"".join(blocks) + end
    cuts = data.draw(st.sets(st.integers(0, len(body)), max_size=4))
    edges = [0, *sorted(cuts), len(body)]
    client = hear(*(body[a:b] for a, b in itertools.pairwise(edges)))
    assert client.text == text
    assert (client.terminal is None) is is_broken_off
    if not is_broken_off:
        assert [(name, whole) for _, name, whole in client.calls] == calls
        assert len({item["id"] for item in client.output}) == len(client.output)
