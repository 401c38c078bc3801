"""An event is the same text as a WebSocket message and as a server-sent event."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.protocol import frames, sse, warm_up
from codexrelay.protocol.raw import parse_object
from codexrelay.protocol.responses_scan import look, only_deltas
from codexrelay.protocol.responses_stream import ResponsesStream

DELTA = b'{"type":"response.output_text.delta","delta":"\\n\\ndata: x","sequence_number":4}'

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_message_becomes_the_event_that_the_backend_writes_over_http() -> None:
    event = frames.as_event(DELTA)
    assert event == b"event: response.output_text.delta\ndata: " + DELTA + b"\n\n"
    assert only_deltas(event)


@given(st.lists(st.dictionaries(st.text(), _JSON, max_size=4), max_size=6), st.booleans())
def test_what_was_a_message_is_the_same_message_again(
    values: list[dict[str, object]], indented: bool
) -> None:
    option = orjson.OPT_INDENT_2 if indented else 0
    texts = [orjson.dumps(value, option=option) for value in values]
    assert frames.messages(b"".join(map(frames.as_event, texts))) == texts


@given(st.lists(st.sampled_from([b": keep-alive\n\n", frames.as_event(DELTA), b"\n\n"])))
def test_comments_and_empty_events_are_no_messages(pieces: list[bytes]) -> None:
    expected = [DELTA for piece in pieces if piece.startswith(b"event")]
    assert frames.messages(b"".join(pieces)) == expected


@given(
    st.lists(
        st.sampled_from(
            [
                (frames.as_event(DELTA), [DELTA]),
                (b'event: a\ndata: {"a":\ndata: 1}\n\n', [b'{"a":\n1}']),
                (b'data: {"event: ":"data: "}\n\n', [b'{"event: ":"data: "}']),
                (b"event: response.output_text.delta\n\n", []),
                (b"event: a\nid: 7\ndata: {}\n\n", [b"{}"]),
                (b": keep-alive\n\n", []),
                (b"event: a\r\ndata: {}\r\n\r\n", [b"{}"]),
            ]
        ),
        max_size=5,
    )
)
def test_events_of_every_form_are_told_apart(pieces: list[tuple[bytes, list[bytes]]]) -> None:
    whole = b"".join(event for event, _ in pieces)
    assert frames.messages(whole) == [text for _, texts in pieces for text in texts]


@given(
    st.lists(
        st.sampled_from(['"a"', '"\u00fc\U0001f600"', "1\n", "1\r\n", '"\\n"', '"event: "']),
        min_size=1,
    ),
    st.sampled_from(['{"type":"a.delta"', '{"type": "a.delta"']),
)
def test_messages_of_one_kind_are_the_events_that_each_of_them_is(
    values: list[str], begin: str
) -> None:
    texts = [f'{begin},"delta":{value}}}' for value in values]
    kind = frames.Kind.of(texts[0])
    assert kind is not None
    assert kind.begin == begin
    assert kind.as_events(texts) == b"".join(frames.as_event(text.encode()) for text in texts)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"delta":"a","type":"x"}', '{"type":"\u00fc"}', '{"type":7}']
)
def test_a_message_that_begins_otherwise_is_of_no_kind(text: str) -> None:
    assert frames.Kind.of(text) is None


def test_events_with_carriage_returns_and_several_data_lines_are_messages() -> None:
    assert frames.messages(b'event: x\r\ndata: {"a":\r\ndata: 1}\r\n\r\n') == [b'{"a":\n1}']


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b'{"type":"response.created","response":{}}', "response.created"),
        (b'{"sequence_number":1,"type":"error"}', "error"),
        (b'{"type":7}', ""),
        (b'["type"]', ""),
        (b"no JSON", ""),
    ],
)
def test_a_messages_type_is_found_wherever_it_stands(text: bytes, name: str) -> None:
    assert frames.type_of(text) == name


def test_a_message_without_a_type_is_an_event_without_a_name() -> None:
    event = sse.read(frames.as_event(b'{"a":1}'))
    assert event == sse.Event("", b'{"a":1}')


def test_what_asks_for_a_response_is_the_body_with_its_type_in_front() -> None:
    asked = frames.create({"model": "m", "input": []}, previous_response_id="resp_1")
    assert asked == (
        b'{"type":"response.create","model":"m","input":[],"previous_response_id":"resp_1"}'
    )
    warm = orjson.loads(frames.create({"model": "m"}, generate=False))
    assert warm == {"type": "response.create", "model": "m", "generate": False}


def test_an_error_message_has_one_status_and_never_two() -> None:
    told = orjson.loads(frames.error(429, {"message": "m"}, {"retry-after": "2"}))
    assert told == {
        "type": "error",
        "status": 429,
        "error": {"message": "m"},
        "headers": {"retry-after": "2"},
    }


def test_the_answer_to_a_warm_up_is_created_and_completed_under_one_id_without_output() -> None:
    events = warm_up.answered("resp_1", model="gpt-5.5", created_unix_s=7)
    looked = [look(raw) for raw in sse.split(events)]
    assert [event.name for event in looked if event] == ["response.created", "response.completed"]
    for event in looked:
        assert event is not None
        response = parse_object(event.data)["response"]
        assert isinstance(response, dict)
        assert (response["id"], response["model"], response["output"]) == ("resp_1", "gpt-5.5", [])


def test_a_clients_stream_takes_the_answer_to_a_warm_up_as_it_is() -> None:
    stream = ResponsesStream(now_unix_s=7, model="gpt-5.5", created_unix_s=7)
    events = warm_up.answered("resp_1", model="gpt-5.5", created_unix_s=7)
    assert stream.feed(events) == events
    assert stream.terminal is not None
    assert (stream.terminal.name, stream.terminal.response_id) == ("completed", "resp_1")
