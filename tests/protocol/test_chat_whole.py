"""A whole completion is what the chunks add up to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from codexrelay.protocol import chat_request, faults
from codexrelay.protocol.chat_stream import ChatStream
from codexrelay.protocol.chat_whole import ChatWhole
from tests.fakes import responses_events as upstream
from tests.fakes.chat_client import ChatClient
from tests.fakes.recordings import recorded_streams

if TYPE_CHECKING:
    from codexrelay.protocol.chat_request import ChatTurn

SQL = {"type": "custom", "custom": {"name": "sql"}}


def asked(**fields: object) -> ChatTurn:
    body = {"model": "relay-model", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return chat_request.translate(body, recall=lambda _: ())


def whole_of(turn: ChatTurn) -> ChatWhole:
    return ChatWhole(turn, completion_id="chatcmpl-1", created_unix_s=1_700, now_unix_s=1_700.0)


def complete(*events: bytes, **fields: object) -> dict[str, Any]:
    """Feed a whole stream and read the completion."""
    whole = whole_of(asked(**fields))
    for event in events:
        assert whole.feed(event) == b""
    return read(whole)


def read(whole: ChatWhole) -> dict[str, Any]:
    value = orjson.loads(whole.body())
    ChatCompletion.model_validate(value, strict=True)
    return value


def message(completion: dict[str, Any]) -> dict[str, Any]:
    (choice,) = completion["choices"]
    return choice["message"]


def as_streamed(completion: dict[str, Any]) -> dict[str, Any]:
    """Return the message with its custom calls in the form that chunks have for them."""
    given = message(completion)
    for call in given.get("tool_calls", []):
        if call["type"] == "custom":
            custom = call.pop("custom")
            text = orjson.dumps({"input": custom["input"]}).decode()
            call |= {"type": "function", "function": {"name": custom["name"], "arguments": text}}
    return given


def test_a_text_is_one_completion() -> None:
    assert complete(
        upstream.created(model="gpt-5.5-2026", service_tier="auto"),
        upstream.text("Hello"),
        upstream.text(", world"),
        upstream.completed(service_tier="default"),
    ) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700,
        "model": "gpt-5.5-2026",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello, world", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 120,
            "completion_tokens": 30,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 64},
            "completion_tokens_details": {"reasoning_tokens": 12},
        },
        "service_tier": "default",
        "system_fingerprint": None,
    }


def test_without_usage_from_upstream_no_usage_is_made_up() -> None:
    assert "usage" not in complete(upstream.text("a"), upstream.completed(usage=None))


def test_calls_and_reasoning_are_part_of_the_message() -> None:
    completion = complete(
        upstream.summary("Think"),
        upstream.call(1, upstream.function("f", "c1"), '{"a":', "1}"),
        upstream.call(2, upstream.custom("sql", "c2"), 'SELECT "', 'x"'),
        upstream.completed(),
        tools=[SQL],
    )
    assert message(completion) == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "Think",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
            {"id": "c2", "type": "custom", "custom": {"name": "sql", "input": 'SELECT "x"'}},
        ],
    }
    assert completion["choices"][0]["finish_reason"] == "tool_calls"


def test_a_custom_call_is_a_function_call_for_a_client_that_declared_no_such_tool() -> None:
    completion = complete(
        upstream.call(0, upstream.custom("sql", "c1"), 'a"b'), upstream.completed()
    )
    (call,) = message(completion)["tool_calls"]
    assert call["type"] == "function"
    assert json.loads(call["function"]["arguments"]) == {"input": 'a"b'}


def test_a_refusal_has_no_content() -> None:
    refusal = upstream.event("response.refusal.delta", output_index=0, delta="No")
    given = message(complete(refusal, upstream.completed()))
    assert given == {"role": "assistant", "content": None, "refusal": "No"}


def test_web_sources_are_annotations() -> None:
    citation = {"url": "u", "title": "t", "start_index": 0, "end_index": 1}
    part = {
        "type": "output_text",
        "text": "a",
        "annotations": [{"type": "url_citation", **citation}],
    }
    given = message(
        complete(upstream.done(0, type="message", content=[part]), upstream.completed())
    )
    assert given["annotations"] == [{"type": "url_citation", "url_citation": citation}]


def test_an_incomplete_answer_says_why() -> None:
    completion = complete(upstream.text("a"), upstream.incomplete("max_output_tokens"))
    assert completion["choices"][0]["finish_reason"] == "length"


def test_a_failure_upstream_is_kept_with_its_own_words() -> None:
    whole = whole_of(asked())
    whole.feed(upstream.text("a") + upstream.failed("server_is_overloaded", "Busy."))
    assert whole.terminal is not None
    assert whole.terminal.fault is not None
    assert (whole.terminal.fault.code, whole.terminal.fault.message) == (
        "server_is_overloaded",
        "Busy.",
    )


def test_a_fault_of_the_connection_ends_the_answer() -> None:
    whole = whole_of(asked())
    whole.feed(upstream.text("a"))
    fault = faults.ended_early()
    assert whole.fail(fault) == b""
    assert whole.terminal is not None
    assert (whole.terminal.name, whole.terminal.fault) == ("failed", fault)


def test_encrypted_reasoning_is_kept_as_in_a_stream() -> None:
    thought = {"id": "rs_1", "type": "reasoning", "encrypted_content": "a", "summary": []}
    whole = whole_of(asked())
    whole.feed(upstream.done(0, **thought) + upstream.call(1, upstream.function("f", "c1"), "{}"))
    assert whole.reasoning == {"c1": [thought]}


pieces = st.lists(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=5), max_size=3
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Any answer: items of every kind, their deltas interleaved, ended well or by a limit."""
    tracks: list[list[bytes]] = []
    for i in range(draw(st.integers(0, 5))):
        match draw(st.sampled_from(["text", "summary", "refusal", "f", "sql", "done", "other"])):
            case "text":
                tracks.append([upstream.text(piece, index=i) for piece in draw(pieces)])
            case "summary":
                given = draw(pieces)
                tracks.append([upstream.summary(p, i, part=n // 2) for n, p in enumerate(given)])
            case "refusal":
                name = "response.refusal.delta"
                tracks.append([upstream.event(name, output_index=i, delta=p) for p in draw(pieces)])
            case "done":
                part = {"type": "output_text", "text": "".join(draw(pieces))}
                tracks.append([upstream.done(i, type="message", content=[part])])
            case "f":
                item = upstream.function("f", f"c{i}")
                given = [upstream.arguments(piece, i) for piece in draw(pieces)]
                tracks.append([upstream.added(i, **item), *given, upstream.done(i, **item)])
            case "sql":
                item = upstream.custom("sql", f"c{i}")
                given = [upstream.raw_input(piece, i) for piece in draw(pieces)]
                tracks.append([upstream.added(i, **item), *given, upstream.done(i, **item)])
            case _:
                tracks.append([upstream.added(i, type="web_search_call")])
    # Which track speaks next, until all have spoken.
    turns = draw(st.permutations([n for n, track in enumerate(tracks) for _ in track]))
    speaking = [iter(track) for track in tracks]
    whole = b"".join(next(speaking[n]) for n in turns)
    end = draw(st.sampled_from([upstream.completed(), upstream.incomplete("content_filter")]))
    return upstream.created() + whole + end


@given(answer=answers())
def test_a_completion_is_the_sum_of_the_chunks(answer: bytes) -> None:
    check_sum(answer)


def test_recorded_streams_are_heard_alike_whole_and_in_chunks() -> None:
    ended = {check_sum(recording.body) for recording in recorded_streams() if recording.sound}
    assert ended == {"stop", "tool_calls", None}


def test_recorded_streams_with_broken_events_end_as_broken() -> None:
    for recording in recorded_streams():
        if not recording.sound:
            assert check_sum(recording.body) is None, recording.name


def check_sum(answer: bytes) -> str | None:
    """Give `answer` to both; compare; return the finish reason."""
    turn = asked(tools=[SQL], stream=True, stream_options={"include_usage": True})
    stream, client, whole = (
        ChatStream(turn, completion_id="chatcmpl-1", created_unix_s=1_700, now_unix_s=1_700.0),
        ChatClient(),
        whole_of(turn),
    )
    client.read(stream.feed(answer) + stream.finish())
    whole.feed(answer)
    assert stream.terminal == whole.terminal
    assert stream.reasoning == whole.reasoning
    assert whole.terminal is not None
    if whole.terminal.name == "failed":
        assert client.error is not None
        assert client.finish_reasons == []
        return None
    completion = read(whole)
    assert as_streamed(completion) == client.message()
    assert [completion["choices"][0]["finish_reason"]] == client.finish_reasons
    last = client.chunks[-1].to_dict()
    assert completion.get("usage") == last["usage"]
    for key in ("id", "created", "model", "system_fingerprint", "service_tier"):
        assert completion.get(key) == last.get(key)
    return client.finish_reason


@pytest.mark.parametrize("text", ["Looking.", ""])
def test_a_call_that_was_cut_is_left_out(text: str) -> None:
    completion = complete(
        upstream.text(text),
        upstream.call(1, upstream.function("f", "c1"), "{}"),
        upstream.added(2, **upstream.custom("sql", "c2")),
        upstream.raw_input("SEL", 2),
        upstream.done(2, **upstream.custom("sql", "c2", "SEL"), status="incomplete"),
        upstream.added(3, **upstream.function("f", "c3")),
        upstream.arguments("{}", 3),
        upstream.incomplete("max_output_tokens"),
        tools=[SQL],
    )
    assert message(completion)["content"] == (text or None)
    assert [call["id"] for call in message(completion)["tool_calls"]] == ["c1"]
    assert completion["choices"][0]["finish_reason"] == "length"


def test_without_anything_but_a_cut_call_the_message_is_an_empty_text() -> None:
    cut = upstream.added(0, **upstream.custom("sql", "c1"))
    completion = complete(cut, upstream.incomplete("max_output_tokens"))
    assert message(completion) == {"role": "assistant", "content": "", "refusal": None}


def test_a_tier_that_the_sdk_does_not_know_is_left_out() -> None:
    completion = complete(
        upstream.created(service_tier="auto"), upstream.completed(service_tier="ultrafast")
    )
    assert "service_tier" not in completion
