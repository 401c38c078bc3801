"""A Chat client of a target that speaks Chat gets the target's own chunks."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from codexrelay.protocol import faults, sse
from codexrelay.protocol.chat_native import ChatDelivery, NativeChatStream, NativeChatWhole
from codexrelay.protocol.faults import FaultKind
from codexrelay.protocol.raw import parse_object
from tests.fakes import chat_chunks as upstream
from tests.fakes.recordings import recorded_streams

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.protocol.answer import StreamedAnswer, WholeAnswer
    from codexrelay.protocol.delivery import Delivery

NOW_UNIX_S = 1_795_347_089.0


def stream(*, include_usage: bool = True) -> NativeChatStream:
    return NativeChatStream(include_usage=include_usage, now_unix_s=NOW_UNIX_S)


def whole() -> NativeChatWhole:
    return NativeChatWhole(
        model="relay-model",
        completion_id="chatcmpl-relay",
        created_unix_s=1_795_347_000,
        now_unix_s=NOW_UNIX_S,
    )


def played(*blocks: bytes, include_usage: bool = True) -> tuple[bytes, NativeChatStream]:
    answer = stream(include_usage=include_usage)
    given_out = b"".join([answer.feed(block) for block in blocks])
    return given_out, answer


def completion(*blocks: bytes) -> dict[str, Any]:
    answer = whole()
    for block in blocks:
        assert answer.feed(block) == b""
    assert answer.terminal is not None
    assert answer.terminal.fault is None
    value: dict[str, Any] = json.loads(answer.body())
    ChatCompletion.model_validate(value)
    return value


def cut_at(body: bytes, cuts: set[int]) -> list[bytes]:
    return [body[a:b] for a, b in itertools.pairwise([0, *sorted(cuts), len(body)])]


def test_they_are_answers() -> None:
    answer: StreamedAnswer = stream()
    assert sse.read(answer.keep_alive) is None
    assert answer.finish() == upstream.DONE
    one: WholeAnswer = whole()
    assert one.terminal is None


# --- streamed

SAID = b"".join(
    [
        upstream.role(),
        b": upstream's own keep-alive\n\n",
        upstream.text("Gr"),
        upstream.text("üße 👋"),
        upstream.thought("Hm").replace(b"\n", b"\r\n"),
        b'data:{"choices":[{"index":0,"delta":{"content":"a"}}],"timings":{"n": 1.50}}\n\n',
        upstream.text('{"finish_reason":"stop","error":1} data: [DONE]'),
        upstream.opened(0, "c1", "ls"),
        upstream.more(0, "{}"),
        upstream.finish("tool_calls"),
    ]
)
USAGE = upstream.usage()


@given(cuts=st.sets(st.integers(0, len(SAID + USAGE + upstream.DONE))))
def test_chunks_pass_unchanged_however_they_were_cut(cuts: set[int]) -> None:
    given_out, answer = played(*cut_at(SAID + USAGE + upstream.DONE, cuts))
    assert given_out + answer.finish() == SAID + USAGE + upstream.DONE
    assert answer.terminal is not None
    assert answer.terminal.name == "completed"
    assert answer.terminal.response_id == "chatcmpl-7"
    assert answer.terminal.usage == upstream.RESPONSES_USAGE


@given(cuts=st.sets(st.integers(0, len(SAID))))
def test_what_is_handed_on_ends_at_the_end_of_an_event(cuts: set[int]) -> None:
    answer = stream()
    for block in cut_at(SAID, cuts):
        given_out = answer.feed(block)
        assert given_out == b"" or given_out.endswith((b"\n\n", b"\r\n\r\n"))


def test_who_did_not_ask_for_the_usage_is_not_told_it_but_the_relay_is() -> None:
    given_out, answer = played(SAID, USAGE, upstream.DONE, include_usage=False)
    assert given_out == SAID
    assert answer.terminal is not None
    assert answer.terminal.usage == upstream.RESPONSES_USAGE


def test_usage_beside_a_choice_passes() -> None:
    last = upstream.chunk({}, "stop", usage=upstream.USAGE)
    given_out, answer = played(upstream.text("a"), last, upstream.DONE, include_usage=False)
    assert given_out == upstream.text("a") + last
    assert answer.terminal is not None
    assert answer.terminal.usage == upstream.RESPONSES_USAGE


def test_counts_that_come_while_the_answer_goes_on_do_not_end_it() -> None:
    _, answer = played(upstream.text("a"), upstream.usage({"prompt_tokens": 1}))
    assert answer.terminal is None


@pytest.mark.parametrize(
    ("end", "name"),
    [
        ((upstream.finish(), upstream.DONE), "completed"),
        ((upstream.finish(), upstream.usage()), "completed"),
        ((upstream.finish("length"), upstream.DONE), "incomplete"),
        ((upstream.finish("content_filter"), upstream.usage()), "incomplete"),
        ((upstream.DONE,), "completed"),
        (
            (upstream.text("b", 1), upstream.finish(), upstream.finish("length", 1), USAGE),
            "incomplete",
        ),
    ],
    ids=["[DONE]", "usage", "cut", "filtered", "no reason", "two choices"],
)
def test_the_end_is_upstreams(end: tuple[bytes, ...], name: str) -> None:
    _, answer = played(upstream.text("a"), *end)
    assert answer.terminal is not None
    assert answer.terminal.name == name


def test_one_choice_of_two_is_no_end() -> None:
    _, answer = played(upstream.text("a"), upstream.text("b", 1), upstream.finish(), USAGE)
    assert answer.terminal is None


def test_nothing_follows_the_end() -> None:
    given_out, answer = played(
        upstream.text("a"), upstream.finish(), USAGE, upstream.DONE, upstream.text("b"), b": x\n\n"
    )
    assert given_out == upstream.text("a") + upstream.finish() + USAGE
    assert answer.finish() == upstream.DONE


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (upstream.data({"error": {"message": "wait", "code": 429}}), FaultKind.THROTTLED),
        (b'event: error\ndata: {"message":"oops"}\n\n', FaultKind.OVERLOADED),
        (upstream.finish("abort"), FaultKind.OVERLOADED),
        (b"data: <html>\n\n", FaultKind.BROKEN),
    ],
    ids=["error", "error event", "reason", "a page"],
)
@pytest.mark.parametrize("made", [stream, whole])
def test_a_failure_ends_the_answer_in_openais_shape(
    made: Callable[[], Any], raw: bytes, kind: FaultKind
) -> None:
    answer = made()
    said = answer.feed(upstream.text("a"))
    last = answer.feed(raw + upstream.text("never") + upstream.DONE)
    assert answer.terminal.name == "failed"
    assert answer.terminal.fault.kind is kind
    if isinstance(answer, NativeChatStream):
        assert said == upstream.text("a")
        [event] = [sse.read(one) for one in sse.split(last)]
        assert event is not None
        assert parse_object(event.data)["error"] == answer.terminal.fault.error


def test_a_page_among_chunks_of_the_plain_form_fails_a_whole_answer() -> None:
    answer = whole()
    answer.feed(upstream.text("a") + b"data: {oops}\n\n" + upstream.finish() + upstream.DONE)
    assert answer.terminal is not None
    assert answer.terminal.name == "failed"


def test_an_end_of_nothing_is_no_answer() -> None:
    given_out, answer = played(upstream.DONE)
    assert b"error" in given_out
    assert answer.terminal is not None
    assert answer.terminal.fault == faults.ended_early()


@pytest.mark.parametrize("made", [stream, whole])
def test_a_fault_of_ours_ends_the_answer(made: Callable[[], Any]) -> None:
    answer, fault = made(), faults.ended_early()
    answer.feed(upstream.text("a"))
    last = answer.fail(fault)
    assert answer.terminal.fault == fault
    if isinstance(answer, NativeChatStream):
        assert parse_object(last.removeprefix(b"data: "))["error"] == fault.error


# --- whole


def test_a_text_is_one_completion() -> None:
    assert completion(
        upstream.role(),
        upstream.text("Hello"),
        upstream.text(", world"),
        upstream.finish(),
        USAGE,
        upstream.DONE,
    ) == {
        **upstream.FRAME,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello, world"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": upstream.USAGE,
    }


def test_what_upstream_does_not_say_of_itself_is_ours() -> None:
    chunk = upstream.data({"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]})
    value = completion(chunk, upstream.DONE)
    assert (value["id"], value["model"]) == ("chatcmpl-relay", "relay-model")
    assert value["created"] == 1_795_347_000
    assert value["choices"][0]["message"]["content"] == "Hi"


def test_calls_are_put_together() -> None:
    [choice] = completion(
        upstream.role(),
        upstream.opened(0, "c1", "ls"),
        upstream.more(0, '{"a":'),
        upstream.call(index=1, name="ls", arguments={"b": 2}),
        upstream.more(0, "1}"),
        upstream.finish("tool_calls"),
        upstream.DONE,
    )["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "ls", "arguments": '{"a":1}'},
            },
            {
                "id": "call_relay_relay_0_1",  # of the answer, the choice and the call
                "type": "function",
                "function": {"name": "ls", "arguments": '{"b":2}'},
            },
        ],
    }
    assert choice["finish_reason"] == "tool_calls"


def test_unknown_fields_and_several_choices_are_added_up() -> None:
    logprobs = {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]}
    details = [{"index": 0, "type": "reasoning.text", "text": "H"}]
    value = completion(
        upstream.chunk({"content": "a", "reasoning_details": details}, logprobs=logprobs),
        upstream.chunk({"content": "x"}, index=1),
        upstream.chunk(
            {"reasoning_details": [{"index": 0, "type": "reasoning.text", "text": "m"}]},
            logprobs=logprobs,
        ),
        upstream.chunk({"content": "b", "odd": {"n": 1}}, "stop", stop_reason=7),
        upstream.data({**upstream.FRAME, "choices": [], "timings": {"n": 1}}),
        upstream.finish("length", 1),
        USAGE,
    )
    first, second = value["choices"]
    assert first["message"] == {
        "role": "assistant",
        "content": "ab",
        "reasoning_details": [{"index": 0, "type": "reasoning.text", "text": "Hm"}],
        "odd": {"n": 1},
    }
    assert len(first["logprobs"]["content"]) == 2
    assert first["stop_reason"] == 7
    assert (second["index"], second["message"]["content"]) == (1, "x")
    assert second["finish_reason"] == "length"
    assert value["timings"] == {"n": 1}


def test_an_answer_in_one_piece_comes_out_as_it_came() -> None:
    entry = {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
    came = upstream.whole(
        {"content": None, "reasoning_content": "Hm", "tool_calls": [entry]},
        "tool_calls",
        system_fingerprint="fp",
        timings={"n": 1},
    )
    delivery = ChatDelivery()
    assert delivery.feed(came) == b""
    assert completion(delivery.end()) == json.loads(came)


# --- delivered


def delivered(*blocks: bytes) -> bytes:
    delivery: Delivery = ChatDelivery()
    return b"".join([delivery.feed(block) for block in blocks]) + delivery.end()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (SAID + USAGE + upstream.DONE, SAID + USAGE + upstream.DONE),
        (SAID + USAGE, SAID + USAGE + upstream.DONE),
        (SAID[:-2], SAID + upstream.DONE),
        (SAID + upstream.DONE[:-2], SAID + upstream.DONE),
        (upstream.text("a"), upstream.text("a")),
        (upstream.text("a") + upstream.text("b", 1) + upstream.finish(),) * 2,
        (b"<html>", b"<html>"),
        (b"", b""),
    ],
    ids=[
        "all of it",
        "without [DONE]",
        "without the last line end",
        "[DONE] without its end",
        "broken off",
        "one choice of two",
        "a page",
        "nothing",
    ],
)
def test_an_answer_gets_the_end_that_it_lacks_and_no_other(body: bytes, expected: bytes) -> None:
    assert delivered(body) == expected
    assert delivered(*(body[i : i + 1] for i in range(len(body)))) == expected


def test_recorded_streams_pass_and_add_up() -> None:
    for recorded in recorded_streams("chat"):
        if not recorded.sound:
            continue
        answer, one = stream(), whole()
        given_out = answer.feed(recorded.body) + answer.finish()
        assert given_out == recorded.body or upstream.DONE not in recorded.body, recorded.name
        one.feed(recorded.body)
        if one.terminal is not None and one.terminal.fault is None:
            assert json.loads(one.body())["choices"], recorded.name
