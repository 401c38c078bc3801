"""A Responses stream is heard by a Chat client as it was said."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import chat_request, faults, sse
from codexrelay.protocol.chat_stream import ChatStream
from tests.fakes import responses_events as upstream
from tests.fakes.chat_client import ChatClient

ROLE_OF_TEXT = {"role": "assistant", "content": "", "refusal": None}
ROLE_OF_ELSE = {"role": "assistant", "content": None, "refusal": None}


def chat(*, include_usage: bool = False, model: str = "relay-model") -> ChatStream:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": include_usage},
    }
    turn = chat_request.translate(body, recall=lambda _: ())
    return ChatStream(turn, completion_id="chatcmpl-1", created_unix_s=1_700, now_unix_s=1_700.0)


def hear(*events: bytes, include_usage: bool = False) -> ChatClient:
    """Feed a whole stream and read what the client gets."""
    stream, client = chat(include_usage=include_usage), ChatClient()
    for event in events:
        client.read(stream.feed(event))
    client.read(stream.finish())
    assert client.done
    return client


def opened(index: int, call_id: str, name: str) -> dict[str, Any]:
    function = {"name": name, "arguments": ""}
    entry = {"index": index, "id": call_id, "type": "function", "function": function}
    return {"tool_calls": [entry]}


def continued(index: int, arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


TEXT_PART: dict[str, Any] = {"type": "output_text", "text": "Yes", "annotations": []}
RAW_THOUGHT = {"type": "reasoning_text", "text": "Hm"}

CONVERSATIONS: dict[str, list[tuple[bytes, list[dict[str, Any]]]]] = {
    "text": [
        (upstream.created(), []),
        (upstream.event("response.in_progress", response={"id": "resp_1"}), []),
        (upstream.added(0, type="message", id="msg_1", content=[]), []),
        (upstream.text("Hello"), [ROLE_OF_TEXT, {"content": "Hello"}]),
        (upstream.text(""), []),
        (upstream.text(", world"), [{"content": ", world"}]),
        (upstream.event("response.output_text.done", output_index=0, text="Hello, world"), []),
        (
            upstream.done(0, type="message", content=[{"type": "output_text", "text": "Hello…"}]),
            [],
        ),
        (upstream.completed(), [{}]),
    ],
    "reasoning in two parts, then text": [
        (upstream.created(), []),
        (upstream.added(0, type="reasoning", id="rs_1"), []),
        (upstream.summary("**A**"), [ROLE_OF_ELSE, {"reasoning_content": "**A**"}]),
        (upstream.summary(" first"), [{"reasoning_content": " first"}]),
        (upstream.summary("**B**", part=1), [{"reasoning_content": "\n\n**B**"}]),
        (upstream.summary(" second", part=1), [{"reasoning_content": " second"}]),
        (
            upstream.done(0, type="reasoning", summary=[{"type": "summary_text", "text": "…"}]),
            [],
        ),
        (upstream.text("42", index=1), [{"content": "42"}]),
        (upstream.completed(), [{}]),
    ],
    "raw reasoning": [
        (
            upstream.event("response.reasoning_text.delta", output_index=0, delta="Hm"),
            [ROLE_OF_ELSE, {"reasoning_content": "Hm"}],
        ),
        (upstream.completed(), [{}]),
    ],
    "a refusal": [
        (
            upstream.event("response.refusal.delta", output_index=0, delta="No"),
            [ROLE_OF_ELSE, {"refusal": "No"}],
        ),
        (upstream.completed(), [{}]),
    ],
    "two calls at once": [
        (
            upstream.added(0, **upstream.function("f", "c1")),
            [ROLE_OF_ELSE, opened(0, "c1", "f")],
        ),
        (upstream.added(1, **upstream.function("g", "c2")), [opened(1, "c2", "g")]),
        (upstream.arguments('{"b":', 1), [continued(1, '{"b":')]),
        (upstream.arguments('{"a":1', 0), [continued(0, '{"a":1')]),
        (upstream.arguments("2}", 1), [continued(1, "2}")]),
        (upstream.arguments("}", 0), [continued(0, "}")]),
        (upstream.done(1, **upstream.function("g", "c2", '{"b":2}')), []),
        (upstream.done(0, **upstream.function("f", "c1", '{"a":1}')), []),
        (upstream.completed(), [{}]),
    ],
    "arguments that come with the end only": [
        (
            upstream.added(0, **upstream.function("f", "c1")),
            [ROLE_OF_ELSE, opened(0, "c1", "f")],
        ),
        (
            upstream.event(
                "response.function_call_arguments.done", output_index=0, arguments='{"a":1}'
            ),
            [continued(0, '{"a":1}')],
        ),
        (upstream.done(0, **upstream.function("f", "c1", '{"a":1}')), []),
        (upstream.completed(), [{}]),
    ],
    "items that come with the end only": [
        (
            upstream.done(
                0, type="reasoning", summary=[{"text": "Hm", "type": "summary_text"}], id="rs_1"
            ),
            [ROLE_OF_ELSE, {"reasoning_content": "Hm"}],
        ),
        (
            upstream.done(
                1,
                type="message",
                content=[
                    {"type": "output_text", "text": "Yes", "annotations": []},
                    {"type": "refusal", "refusal": "no"},
                ],
            ),
            [{"content": "Yes"}, {"refusal": "no"}],
        ),
        (
            upstream.done(2, **upstream.function("f", "c1", "{}")),
            [opened(0, "c1", "f"), continued(0, "{}")],
        ),
        (
            upstream.done(3, **upstream.custom("sql", "c2", 'a"b')),
            [
                opened(1, "c2", "sql"),
                continued(1, '{"input":"'),
                continued(1, 'a\\"b'),
                continued(1, '"}'),
            ],
        ),
        (upstream.completed(), [{}]),
    ],
    "events without an output index": [
        (
            upstream.event(
                "response.output_item.added", item=upstream.function("f", "c1") | {"id": "fc_1"}
            ),
            [ROLE_OF_ELSE, opened(0, "c1", "f")],
        ),
        (
            upstream.event(
                "response.output_item.added", item=upstream.function("g", "c2") | {"id": "fc_2"}
            ),
            [opened(1, "c2", "g")],
        ),
        (
            upstream.event("response.function_call_arguments.delta", item_id="fc_1", delta="{}"),
            [continued(0, "{}")],
        ),
        (
            upstream.event(
                "response.output_item.done", item=upstream.function("f", "c1") | {"id": "fc_1"}
            ),
            [],
        ),
        (
            upstream.event(
                "response.output_item.done", item=upstream.function("g", "c2") | {"id": "fc_2"}
            ),
            [],
        ),
        (upstream.completed(), [{}]),
    ],
    "an index at the item, then its id only": [
        (
            upstream.added(4, **upstream.function("f", "c1") | {"id": "fc_1"}),
            [ROLE_OF_ELSE, opened(0, "c1", "f")],
        ),
        (
            upstream.event("response.function_call_arguments.delta", item_id="fc_1", delta="{}"),
            [continued(0, "{}")],
        ),
        (upstream.done(4, **upstream.function("f", "c1") | {"id": "fc_1"}), []),
        (upstream.completed(), [{}]),
    ],
    "ids that change with each event": [
        (
            upstream.added(0, **upstream.function("f", "c1") | {"id": "x1"}),
            [ROLE_OF_ELSE, opened(0, "c1", "f")],
        ),
        (
            upstream.event(
                "response.function_call_arguments.delta",
                output_index=0,
                item_id="x2",
                delta="{}",
            ),
            [continued(0, "{}")],
        ),
        (upstream.done(0, **upstream.function("f", "c1", "{}") | {"id": "x3"}), []),
        (upstream.completed(), [{}]),
    ],
    "a web source": [
        (upstream.text("Found"), [ROLE_OF_TEXT, {"content": "Found"}]),
        (
            upstream.event(
                "response.output_text.annotation.added",
                output_index=0,
                annotation={
                    "type": "url_citation",
                    "url": "u",
                    "title": "t",
                    "start_index": 0,
                    "end_index": 5,
                },
            ),
            [
                {
                    "annotations": [
                        {
                            "type": "url_citation",
                            "url_citation": {
                                "url": "u",
                                "title": "t",
                                "start_index": 0,
                                "end_index": 5,
                            },
                        }
                    ]
                }
            ],
        ),
        (
            upstream.event(
                "response.output_text.annotation.added",
                output_index=0,
                annotation={"type": "file_citation", "file_id": "f"},
            ),
            [],
        ),
        (upstream.completed(), [{}]),
    ],
    "work that is done on the backend": [
        (upstream.added(0, type="web_search_call", id="ws_1", status="in_progress"), []),
        (upstream.event("response.web_search_call.searching", output_index=0), []),
        (upstream.done(0, type="web_search_call", id="ws_1", action={"type": "search"}), []),
        (upstream.done(1, type="local_shell_call", id="lsh_1", call_id="c1", action={}), []),
        (upstream.arguments("{}", 1), []),
        (upstream.completed(), [ROLE_OF_TEXT, {}]),
    ],
    "side notes and unknown events": [
        (upstream.event("codex.rate_limits", rate_limits={}), []),
        (upstream.event("keepalive"), []),
        (upstream.event("response.news", delta="x"), []),
        (b": comment\n\n", []),
        (b"retry: 5\n\n", []),
        (b"data: [DONE]\n\n", []),
        (upstream.text("ok"), [ROLE_OF_TEXT, {"content": "ok"}]),
        (upstream.completed(), [{}]),
        (upstream.event("ping", cost="0"), []),
        (upstream.text("late"), []),
        (upstream.completed(), []),
    ],
    "a second part that comes with the finished item only": [
        (upstream.text("One"), [ROLE_OF_TEXT, {"content": "One"}]),
        (
            upstream.event(
                "response.output_text.done", output_index=0, content_index=1, text=" two"
            ),
            [],  # of which part the first delta was is not known
        ),
        (
            upstream.event(
                "response.output_text.delta", output_index=1, content_index=0, delta="Left"
            ),
            [{"content": "Left"}],
        ),
        (
            upstream.event(
                "response.output_text.done", output_index=1, content_index=0, text="Left"
            ),
            [],
        ),
        (
            upstream.done(
                1,
                type="message",
                content=[
                    {"type": "output_text", "text": "Left"},
                    {"type": "output_text", "text": " right"},
                    {"type": "refusal", "refusal": "no"},
                ],
            ),
            [{"content": " right"}, {"refusal": "no"}],
        ),
        (upstream.completed(), [{}]),
    ],
    "texts that come whole, without a delta": [
        (
            upstream.event(
                "response.reasoning_summary_text.done", output_index=0, summary_index=0, text="Hm"
            ),
            [ROLE_OF_ELSE, {"reasoning_content": "Hm"}],
        ),
        (
            upstream.event("response.reasoning_text.done", output_index=0, text="raw"),
            [{"reasoning_content": "\n\nraw"}],
        ),
        (
            upstream.event(
                "response.output_text.done", output_index=1, content_index=0, text="Yes"
            ),
            [{"content": "Yes"}],
        ),
        (
            upstream.event("response.refusal.done", output_index=1, content_index=1, refusal="no"),
            [{"refusal": "no"}],
        ),
        (
            upstream.done(
                1,
                type="message",
                content=[
                    {"type": "output_text", "text": "Yes"},
                    {"type": "refusal", "refusal": "no"},
                ],
            ),
            [],
        ),
        (upstream.completed(), [{}]),
    ],
    "an answer that stands in the response alone": [
        (upstream.created(), []),
        (
            upstream.completed(
                output=[
                    {"type": "reasoning", "id": "rs_1", "summary": [], "content": [RAW_THOUGHT]},
                    {"type": "message", "id": "msg_1", "content": [TEXT_PART]},
                    upstream.function("f", "c1", "{}"),
                ]
            ),
            [
                ROLE_OF_ELSE,
                {"reasoning_content": "Hm"},
                {"content": "Yes"},
                opened(0, "c1", "f"),
                continued(0, "{}"),
                {},
            ],
        ),
    ],
    "a response that says once more what was said": [
        (upstream.text("Yes"), [ROLE_OF_TEXT, {"content": "Yes"}]),
        (
            upstream.call(1, upstream.function("f", "c1"), "{}"),
            [opened(0, "c1", "f"), continued(0, "{}")],
        ),
        (
            upstream.completed(
                output=[
                    {"type": "message", "id": "other", "content": [TEXT_PART]},
                    upstream.function("f", "c1", "{}"),
                ]
            ),
            [{}],
        ),
    ],
    "texts of items that have an id alone": [
        (
            upstream.event("response.output_text.delta", item_id="msg_1", delta="Yes"),
            [ROLE_OF_TEXT, {"content": "Yes"}],
        ),
        (
            upstream.completed(
                output=[
                    {"type": "message", "id": "msg_1", "content": [TEXT_PART]},
                    {"type": "message", "id": "msg_2", "content": [TEXT_PART | {"text": "!"}]},
                ]
            ),
            [{"content": "!"}, {}],
        ),
    ],
    "a text of no item at all": [
        (
            upstream.event("response.output_text.delta", delta="Yes"),
            [ROLE_OF_TEXT, {"content": "Yes"}],
        ),
        (
            upstream.done(0, type="message", id="msg_1", content=[TEXT_PART]),
            [],
        ),
        (
            upstream.completed(output=[{"type": "message", "id": "msg_1", "content": [TEXT_PART]}]),
            [{}],
        ),
    ],
    "sources that come with the finished item only": [
        (upstream.text("Found"), [ROLE_OF_TEXT, {"content": "Found"}]),
        (
            upstream.done(
                0,
                type="message",
                content=[TEXT_PART | {"annotations": [{"type": "url_citation", "url": "u"}]}],
            ),
            [{"annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]}],
        ),
        (upstream.completed(), [{}]),
    ],
    "arguments that stand in the added item alone": [
        (
            upstream.added(0, **upstream.function("f", "c1", '{"a":1}')),
            [ROLE_OF_ELSE, opened(0, "c1", "f")],
        ),
        (upstream.done(0, **upstream.function("f", "c1")), [continued(0, '{"a":1}')]),
        (
            upstream.added(1, **upstream.function("g", "c2", "{}"), status="completed"),
            [opened(1, "c2", "g")],
        ),
        (upstream.completed(), [continued(1, "{}"), {}]),
    ],
    "input that is called whole, of an item that is not called done": [
        (
            upstream.added(0, **upstream.custom("sql", "c1")),
            [ROLE_OF_ELSE, opened(0, "c1", "sql"), continued(0, '{"input":"')],
        ),
        (
            upstream.event("response.custom_tool_call_input.done", output_index=0, input="x"),
            [continued(0, "x")],
        ),
        (upstream.completed(), [continued(0, '"}'), {}]),
    ],
    "nothing at all": [(upstream.completed(), [ROLE_OF_TEXT, {}])],
    "an older name of the end": [
        (upstream.event("response.done", response={"id": "r"}), [ROLE_OF_TEXT, {}])
    ],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_each_event_is_answered_with_its_chunks(name: str) -> None:
    stream, client = chat(), ChatClient()
    for event, expected in CONVERSATIONS[name]:
        seen = len(client.deltas)
        client.read(stream.feed(event))
        assert client.deltas[seen:] == expected, event
    assert stream.terminal is not None
    assert stream.terminal.name == "completed"
    assert len(client.finish_reasons) == 1


ALL_CONVERSATIONS = {
    name: b"".join(event for event, _ in conversation)
    for name, conversation in CONVERSATIONS.items()
}


@given(data=st.data(), name=st.sampled_from(sorted(ALL_CONVERSATIONS)))
def test_the_chunks_do_not_depend_on_how_the_bytes_were_cut(data: st.DataObject, name: str) -> None:
    whole = ALL_CONVERSATIONS[name]
    cuts = data.draw(st.sets(st.integers(0, len(whole)), max_size=20))
    edges = [0, *sorted(cuts), len(whole)]
    stream = chat(include_usage=True)
    pieces = [stream.feed(whole[a:b]) for a, b in itertools.pairwise(edges)]
    for piece in pieces:
        ChatClient().read(piece)  # each is whole chunks
    assert b"".join(pieces) == chat(include_usage=True).feed(whole)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_framing_of_the_events_does_not_matter(name: str) -> None:
    whole = ALL_CONVERSATIONS[name]
    lines = whole.split(b"\n")[:-1]
    unnamed = b"".join(line + b"\n" for line in lines if not line.startswith(b"event:"))
    expected = chat().feed(whole)
    assert chat().feed(unnamed) == expected
    assert chat().feed(unnamed.replace(b"data:", b"event: message\ndata:")) == expected
    assert chat().feed(whole.replace(b"\n", b"\r\n")) == expected


def test_all_chunks_of_an_answer_carry_the_same_head() -> None:
    client = hear(
        upstream.created(model="gpt-5.5-2026"),
        upstream.text("a"),
        upstream.completed(),
        include_usage=True,
    )
    heads = {(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in client.chunks}
    assert heads == {("chatcmpl-1", 1_700, "gpt-5.5-2026", "chat.completion.chunk")}
    assert {chunk.system_fingerprint for chunk in client.chunks} == {None}
    assert {chunk.service_tier for chunk in client.chunks} == {None}


def test_without_a_created_event_the_model_is_the_one_asked_for() -> None:
    assert {chunk.model for chunk in hear(upstream.completed()).chunks} == {"relay-model"}


def test_the_service_tier_is_the_one_upstream_named_last() -> None:
    client = hear(
        upstream.created(service_tier="auto"),
        upstream.text("a"),
        upstream.completed(service_tier="default"),
        include_usage=True,
    )
    assert [c.service_tier for c in client.chunks] == ["auto", "auto", "default", "default"]


def test_a_tier_that_the_sdk_does_not_know_is_left_out() -> None:
    client = hear(
        upstream.created(service_tier="auto"),
        upstream.text("a"),
        upstream.completed(service_tier="ultrafast"),
    )
    assert [chunk.service_tier for chunk in client.chunks] == ["auto", "auto", None]


@pytest.mark.parametrize(
    ("end", "name", "finish_reason"),
    [
        (upstream.completed(), "completed", "stop"),
        (upstream.completed(status="incomplete"), "incomplete", "length"),
        (upstream.incomplete("max_output_tokens"), "incomplete", "length"),
        (upstream.incomplete("content_filter"), "incomplete", "content_filter"),
        (upstream.incomplete("something_new"), "incomplete", "length"),
        (upstream.incomplete(None), "incomplete", "length"),
    ],
)
def test_the_finish_reason_says_how_upstream_ended(
    end: bytes, name: str, finish_reason: str
) -> None:
    stream, client = chat(), ChatClient()
    client.read(stream.feed(upstream.text("a") + end))
    assert client.finish_reasons == [finish_reason]
    assert stream.terminal is not None
    assert (stream.terminal.name, stream.terminal.response_id) == (name, "resp_1")
    assert stream.terminal.usage == upstream.USAGE
    assert stream.terminal.fault is None


def test_an_answer_with_calls_ends_with_tool_calls() -> None:
    client = hear(
        upstream.text("Looking."),
        upstream.call(1, upstream.function("f", "c1"), "{}"),
        upstream.completed(),
    )
    assert client.finish_reasons == ["tool_calls"]
    assert client.content == "Looking."


def test_the_usage_comes_last_and_only_if_asked_for() -> None:
    events = [upstream.text("a"), upstream.completed()]
    asked = hear(*events, include_usage=True)
    assert asked.usage_chunks == [asked.chunks[-1]]
    assert asked.chunks[-1].to_dict()["usage"] == {
        "prompt_tokens": 120,
        "completion_tokens": 30,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 12},
    }
    assert all(chunk.to_dict()["usage"] is None for chunk in asked.chunks[:-1])
    unasked = hear(*events)
    assert not unasked.usage_chunks
    assert not any("usage" in chunk.to_dict() for chunk in unasked.chunks)


def test_without_usage_from_upstream_no_usage_is_made_up() -> None:
    client = hear(upstream.completed(usage=None), include_usage=True)
    assert client.finish_reasons == ["stop"]
    assert not client.usage_chunks


def test_many_interleaved_calls_arrive_whole() -> None:
    calls = [upstream.function(f"f{i}", f"c{i}") for i in range(5)]
    texts = [f'{{"n":{i},"ü":"\\u00fc"}}' for i in range(5)]
    events = [upstream.added(2 * i, **item) for i, item in enumerate(calls)]
    events += [
        upstream.arguments(texts[i][at : at + 1], 2 * i)
        for at in range(max(map(len, texts)))
        for i in reversed(range(5))
    ]
    events += [upstream.done(2 * i, **item) for i, item in enumerate(calls)]
    client = hear(*events, upstream.completed())
    assert client.calls == [
        {
            "index": i,
            "id": f"c{i}",
            "type": "function",
            "function": {"name": f"f{i}", "arguments": texts[i]},
        }
        for i in range(5)
    ]
    assert client.finish_reasons == ["tool_calls"]


def nameless(event: bytes) -> bytes:
    """Take out what tells the event's item from others; a call still has its `call_id`."""
    head, data = event.split(b"data: ", 1)
    payload = json.loads(data)
    payload.pop("output_index", None)
    payload["item"].pop("id", None)
    return head + b"data: " + json.dumps(payload).encode() + b"\n\n"


def test_calls_that_only_their_call_id_tells_apart_all_arrive() -> None:
    items = [upstream.function(f"f{i}", f"c{i}") | {"arguments": "{}"} for i in range(3)]
    client = hear(*(nameless(upstream.done(0, **item)) for item in items), upstream.completed())
    assert [call["id"] for call in client.calls] == ["c0", "c1", "c2"]
    assert client.finish_reasons == ["tool_calls"]


def test_a_call_that_is_called_something_else_when_it_is_done_is_told_once() -> None:
    item = upstream.function("f", "c1")
    done = nameless(upstream.done(4, **item | {"arguments": "{}"}))
    client = hear(upstream.added(4, **item), done, upstream.completed())
    assert [call["id"] for call in client.calls] == ["c1"]
    assert client.calls[0]["function"]["arguments"] == "{}"
    assert client.finish_reasons == ["tool_calls"]


# Lone surrogates are no text; JSON of the backend cannot hold them.
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


@given(pieces=st.lists(texts, max_size=6))
def test_the_text_of_a_custom_tool_survives_byte_for_byte(pieces: list[str]) -> None:
    client = hear(upstream.call(0, upstream.custom("sql", "c1"), *pieces), upstream.completed())
    (call,) = client.calls
    assert json.loads(call["function"]["arguments"]) == {"input": "".join(pieces)}
    assert client.finish_reasons == ["tool_calls"]


HALF_CALLS = {
    "a custom call": (upstream.custom("sql", "c1"), upstream.raw_input("SELECT", 0)),
    "a function call": (upstream.function("f", "c1"), upstream.arguments("{}", 0)),
}
half_calls = pytest.mark.parametrize(("item", "piece"), HALF_CALLS.values(), ids=HALF_CALLS)


def cut(index: int, item: dict[str, Any]) -> bytes:
    """The end of an item that upstream itself calls incomplete."""
    return upstream.done(index, **item, status="incomplete")


def test_the_json_around_half_a_custom_call_is_never_closed() -> None:
    item = upstream.custom("sql", "c1", "SELECT")
    begun = [upstream.added(0, **item), upstream.raw_input("SELECT", 0)]
    said = upstream.event("response.custom_tool_call_input.done", output_index=0, input="SELECT")
    for events in ([], [cut(0, item)], [said, cut(0, item)]):
        client = hear(*begun, *events, upstream.incomplete("max_output_tokens"))
        assert client.calls[0]["function"]["arguments"] == '{"input":"SELECT'
        assert client.finish_reasons == ["length"]


def test_a_call_that_is_known_only_as_incomplete_is_not_shown() -> None:
    item = upstream.function("f", "c1", "{}")
    response = {"id": "resp_1", "output": [item]}
    for events in (
        [cut(0, item), upstream.incomplete("max_output_tokens")],
        [upstream.event("response.incomplete", response=response)],
    ):
        client = hear(*events)
        assert client.calls == []
        assert client.finish_reasons == ["length"]


def test_a_finished_call_of_an_incomplete_response_is_shown() -> None:
    item = upstream.custom("sql", "c1", "x") | {"status": "completed"}
    response = {"id": "resp_1", "output": [item]}
    client = hear(upstream.event("response.incomplete", response=response))
    assert client.calls[0]["function"]["arguments"] == '{"input":"x"}'
    assert client.finish_reasons == ["length"]


@half_calls
@pytest.mark.parametrize("end", ["nothing", "cut", "cut alone"])
def test_a_complete_response_with_half_a_call_is_broken(
    item: dict[str, Any], piece: bytes, end: str
) -> None:
    begun = [] if end == "cut alone" else [upstream.added(0, **item), piece]
    ended = [] if end == "nothing" else [cut(0, item)]
    stream, client = chat(), ChatClient()
    for event in [*begun, *ended, upstream.completed()]:
        client.read(stream.feed(event))
    assert client.error is not None
    assert "inside a tool call" in client.error["message"]
    assert client.finish_reasons == []
    assert stream.terminal is not None
    assert stream.terminal.fault is not None
    assert stream.terminal.fault.kind is faults.FaultKind.BROKEN


def test_input_that_follows_a_finished_call_is_not_added_to_it() -> None:
    late = upstream.raw_input("late", 0)
    client = hear(upstream.call(0, upstream.custom("sql", "c1"), "x"), late, upstream.completed())
    assert client.calls[0]["function"]["arguments"] == '{"input":"x"}'


@given(pieces=st.lists(texts, min_size=1, max_size=6))
def test_text_survives_byte_for_byte(pieces: list[str]) -> None:
    client = hear(*(upstream.text(piece) for piece in pieces), upstream.completed())
    assert (client.content or "") == "".join(pieces)


def test_escaped_surrogate_pairs_are_read_as_one_character() -> None:
    escaped = (
        b'data: {"type":"response.output_text.delta","output_index":0,"delta":"\\ud83d\\ude00"}\n\n'
    )
    assert hear(escaped, upstream.completed()).content == "😀"


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        (upstream.failed("server_is_overloaded", "Busy."), "server_is_overloaded", "Busy."),
        (
            upstream.event(
                "error",
                error={"type": "invalid_request_error", "code": "too_long", "message": "Long."},
            ),
            "too_long",
            "Long.",
        ),
        (upstream.event("error", code="too_long", message="Long."), "too_long", "Long."),
        (
            b'data: {"error":{"code":"too_long","message":"Long."}}\n\n',
            "too_long",
            "Long.",
        ),
        (
            upstream.completed(status="failed", error={"code": "too_long", "message": "Long."}),
            "too_long",
            "Long.",
        ),
        (
            upstream.event("response.completed"),
            "upstream_connection_error",
            "the backend ended the answer without its response object",
        ),
    ],
)
def test_a_failure_upstream_is_one_error_chunk(end: bytes, code: str, message: str) -> None:
    stream, client = chat(include_usage=True), ChatClient()
    client.read(stream.feed(upstream.text("a") + end))
    assert client.error is not None
    assert (client.error["code"], client.error["message"]) == (code, message)
    assert {"type", "param"} <= set(client.error)
    assert client.finish_reasons == []
    assert stream.terminal is not None
    assert stream.terminal.name == "failed"
    assert stream.terminal.fault is not None
    assert stream.terminal.fault.error == client.error
    assert stream.feed(upstream.failed("other", "Again.") + upstream.completed()) == b""


def test_a_failure_is_timed_against_the_given_clock() -> None:
    error = {"type": "usage_limit_reached", "message": "Spent.", "resets_in_seconds": 60}
    stream = chat()
    stream.feed(upstream.event("error", error=error))
    assert stream.terminal is not None
    assert stream.terminal.fault is not None
    assert stream.terminal.fault.resets_at_unix_s == 1_760.0


@pytest.mark.parametrize("payload", [b'{"type":"response.output_text.delta",', b"[]", b"null"])
def test_an_event_that_is_no_json_object_ends_the_answer_as_broken(payload: bytes) -> None:
    stream, client = chat(), ChatClient()
    client.read(stream.feed(upstream.text("a")))
    client.read(stream.feed(sse.write("response.output_text.delta", payload)))
    assert client.error is not None
    assert client.finish_reasons == []
    assert stream.terminal is not None
    assert stream.terminal.fault is not None
    assert stream.terminal.fault.kind is faults.FaultKind.BROKEN


def test_an_ignored_event_is_not_even_parsed() -> None:
    assert hear(sse.write("codex.rate_limits", b"{not json"), upstream.completed()).error is None


@pytest.mark.parametrize(
    "event",
    [
        upstream.event("response.created", response=5),
        upstream.event("response.output_text.delta", output_index=0, delta=5),
        upstream.event("response.output_text.delta", output_index=0),
        upstream.event("response.output_item.added", output_index=0, item="x"),
        upstream.event("response.output_item.done", output_index=[], item={"type": "message"}),
        upstream.added(0, type="function_call", name="f"),
        upstream.added(0, type="function_call", call_id="c1"),
        upstream.done(0, type="message", content=["x", {"type": "output_text"}]),
        upstream.event("response.output_text.annotation.added", annotation=None),
    ],
)
def test_fields_of_a_wrong_type_say_nothing(event: bytes) -> None:
    client = hear(event, upstream.completed())
    assert client.deltas == [ROLE_OF_TEXT, {}]
    assert client.finish_reasons == ["stop"]


@given(data=st.data())
def test_a_stream_that_breaks_off_never_looks_finished(data: st.DataObject) -> None:
    whole = b"".join(
        [
            upstream.created(),
            upstream.text("Look"),
            upstream.call(1, upstream.function("f", "c1"), '{"a":', "1}"),
            upstream.call(2, upstream.custom("sql", "c2"), "SEL", "ECT"),
        ]
    )
    cut = data.draw(st.integers(0, len(whole)))
    stream, client = chat(include_usage=True), ChatClient()
    client.read(stream.feed(whole[:cut]))
    assert stream.terminal is None
    client.read(stream.fail(faults.ended_early()))
    client.read(stream.finish())
    assert client.error is not None
    assert client.error["code"] == "upstream_stream_incomplete"
    assert client.finish_reasons == []
    assert client.usage_chunks == []
    assert stream.terminal is not None
    assert stream.terminal.name == "failed"


def test_a_broken_off_answer_keeps_the_response_id() -> None:
    stream = chat()
    stream.feed(upstream.created())
    stream.fail(faults.ended_early())
    assert stream.terminal is not None
    assert stream.terminal.response_id == "resp_1"


def test_an_event_that_never_ends_is_refused() -> None:
    stream = chat()
    stream._decoder._cutter.max_event_bytes = 1_000
    with pytest.raises(EventTooLargeError):
        stream.feed(b"data: " + b"x" * 2_000)


def test_a_keep_alive_is_a_comment() -> None:
    assert chat().keep_alive == b": keep-alive\n\n"


def thought(mark: str, **more: object) -> dict[str, Any]:
    return {
        "id": f"rs_{mark}",
        "type": "reasoning",
        "encrypted_content": mark,
        "summary": [],
        **more,
    }


def test_encrypted_reasoning_is_kept_for_the_call_it_led_to() -> None:
    stream = chat()
    stream.feed(
        b"".join(
            [
                upstream.added(0, **thought("draft")),
                upstream.done(0, **thought("a", status="completed", content=None)),
                upstream.text("Looking.", index=1),
                upstream.done(2, **thought("b")),
                upstream.call(3, upstream.function("f", "c1"), "{}"),
                upstream.call(4, upstream.function("g", "c2"), "{}"),
                upstream.done(5, type="reasoning", id="rs_open", summary=[]),
                upstream.done(6, **thought("c")),
                upstream.call(7, upstream.custom("sql", "c3"), "x"),
                upstream.done(8, **thought("d")),
                upstream.completed(),
            ]
        )
    )
    assert stream.reasoning == {
        "c1": [thought("a", content=None), thought("b")],
        "c3": [thought("c")],
    }


def test_what_was_kept_is_found_again_in_the_next_turn() -> None:
    stream, client = chat(), ChatClient()
    client.read(
        stream.feed(
            upstream.done(0, **thought("a"))
            + upstream.call(1, upstream.function("f", "c1"), "{}")
            + upstream.completed()
        )
    )
    (call,) = client.calls
    turn = chat_request.translate(
        {
            "model": "m",
            "messages": [
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "ok"},
            ],
        },
        recall=lambda call_id: stream.reasoning.get(call_id, ()),
    )
    assert turn.body["input"] == [
        thought("a"),
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "ok"},
    ]


@given(pieces=st.lists(texts, max_size=4))
def test_a_custom_call_comes_back_through_the_history_byte_for_byte(pieces: list[str]) -> None:
    stream, client = chat(), ChatClient()
    client.read(
        stream.feed(upstream.call(0, upstream.custom("sql", "c1"), *pieces) + upstream.completed())
    )
    turn = chat_request.translate(
        {
            "model": "m",
            "messages": [{"role": "assistant", "content": None, "tool_calls": client.calls}],
            "tools": [{"type": "custom", "custom": {"name": "sql"}}],
        },
        recall=lambda _: (),
    )
    assert turn.body["input"] == [
        {"type": "custom_tool_call", "call_id": "c1", "name": "sql", "input": "".join(pieces)}
    ]


def test_two_streams_with_equal_ids_do_not_mix() -> None:
    one, two = chat(), chat()
    heard_one, heard_two = ChatClient(), ChatClient()
    opening = upstream.added(0, **upstream.function("f", "c1"))
    heard_one.read(one.feed(opening))
    heard_two.read(two.feed(opening + upstream.arguments('{"b":1}', 0)))
    heard_one.read(one.feed(upstream.arguments('{"a":1}', 0)))
    assert heard_one.calls[0]["function"]["arguments"] == '{"a":1}'
    assert heard_two.calls[0]["function"]["arguments"] == '{"b":1}'
