"""Deltas that are read by the dozen say what they say one by one."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codexrelay.protocol import chat_request
from codexrelay.protocol.chat_runs import Run, read
from codexrelay.protocol.chat_stream import ChatStream
from codexrelay.protocol.chat_whole import ChatWhole
from tests.fakes import responses_events as upstream
from tests.fakes.chat_client import ChatClient
from tests.fakes.recordings import recorded_streams

ORDERS = {
    "the API's": (
        "sequence_number",
        "item_id",
        "output_index",
        "content_index",
        "summary_index",
        "delta",
        "logprobs",
        "obfuscation",
    ),
    "the Codex backend's": (
        "content_index",
        "delta",
        "item_id",
        "logprobs",
        "obfuscation",
        "output_index",
        "sequence_number",
        "summary_index",
    ),
    "nobody's": ("delta", "content_index", "summary_index", "output_index", "item_id"),
}
MORE: dict[str, dict[str, object]] = {
    "response.output_text.delta": {"content_index": 0, "logprobs": []},
    "response.reasoning_summary_text.delta": {"summary_index": 0},
    "response.function_call_arguments.delta": {},
    "response.custom_tool_call_input.delta": {},
}
#: JSON strings as a backend may write them, and what a backend should not write.
STRINGS = [
    *(json.dumps(text).encode() for text in ("a", "", " é", "\U0001f44b", "\u2028", 'q"', "\n")),
    *(json.dumps(text, ensure_ascii=False).encode() for text in (" é", "\U0001f44b", "\u2028")),
    *(json.dumps(text).encode() for text in ("\\", '\\"', ",", '","', '",\n  "', "[", "}\n\n")),
    rb'"\/"',
    rb'"\ud83d"',
]
NO_STRINGS = [rb'"\x"', b'"\xff"', b'"\x01"', b"null", b"7", b'{"a":"b"}', b'"a', b'"a"b"']


def delta(
    string: bytes = b'"a"',
    *,
    name: str = "response.output_text.delta",
    order: str = "the Codex backend's",
    **members: object,
) -> bytes:
    """Return an event whose `delta` is the JSON text `string`."""
    had: dict[str, object] = {
        "sequence_number": 7,
        "item_id": "msg_1",
        "output_index": 0,
        "obfuscation": "Vq3b",
        "delta": "DELTA",
        **MORE[name],
        **members,
    }
    ordered = {"type": name} | {key: had[key] for key in ORDERS[order] if key in had}
    data = json.dumps(ordered | had, separators=(",", ":")).encode()
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data.replace(b'"DELTA"', string, 1))


def one_by_one(whole: bytes) -> bytes:
    """Return the same events in a form that is never read as a run."""
    return whole.replace(b"\ndata: {", b"\ndata:  {")


def chat() -> ChatStream:
    return ChatStream(turn(), completion_id="chatcmpl-1", created_unix_s=1, now_unix_s=1.0)


def turn() -> chat_request.ChatTurn:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    return chat_request.translate(body, recall=lambda _: ())


BEGINNINGS = {
    "text": upstream.created(),
    "calls": upstream.created()
    + upstream.added(0, **upstream.function("f", "c1"))
    + upstream.added(1, **upstream.custom("g", "c2")),
}

deltas = st.builds(
    delta,
    st.sampled_from(STRINGS),
    name=st.sampled_from(sorted(MORE)),
    order=st.sampled_from(sorted(ORDERS)),
    output_index=st.sampled_from([0, 0, 0, 1]),
)
#: Of one name and in one order, as a rule about one item.
alike = st.builds(
    lambda strings, about, name, order: b"".join(
        delta(one, name=name, order=order, **about.get(i, {})) for i, one in enumerate(strings)
    ),
    st.lists(st.sampled_from(STRINGS), min_size=6, max_size=90),
    st.dictionaries(
        st.integers(1, 5),
        st.sampled_from([{"output_index": 1}, {"content_index": 1}, {"summary_index": 1}]),
        max_size=2,
    ),
    st.sampled_from(sorted(MORE)),
    st.sampled_from(sorted(ORDERS)),
)
WHOLES = [
    upstream.event(f"response.{name}.done", output_index=index, text="all", **{part: at})
    for name, part in (
        ("output_text", "content_index"),
        ("reasoning_summary_text", "summary_index"),
    )
    for index in (0, 1)
    for at in (0, 1)
]
odd = st.sampled_from(
    [
        delta(item_id="msg_2"),
        delta(output_index=1.0),
        delta(output_index=None),
        delta(content_index=1),
        delta(logprobs=[{"token": "a"}]),
        delta(extra=1),
        delta().replace(b'"sequence_number":7', b'"sequence_number":07'),
        delta().replace(b"event:", b": \nevent:"),
        delta().replace(b"\n", b"\r\n"),
        delta().replace(b"Vq3b", b"Vq\n3b"),
        delta(name="response.reasoning_summary_text.delta", summary_index=1),
        b": comment\n\n",
        *WHOLES,
        upstream.text("b"),
    ]
)
last = st.sampled_from([upstream.completed(), *(delta(string) for string in NO_STRINGS)])
streams = st.builds(
    lambda events, end, late: b"".join([*events, end, late]),
    st.lists(st.one_of(alike, alike, deltas, odd), max_size=8),
    last,
    alike,
)


@given(beginning=st.sampled_from(sorted(BEGINNINGS)), body=streams, data=st.data())
def test_a_run_gives_the_chunks_of_its_events_one_by_one(
    beginning: str, body: bytes, data: st.DataObject
) -> None:
    whole = BEGINNINGS[beginning] + body
    apart = chat()
    expected = apart.feed(one_by_one(whole))
    cuts = data.draw(st.sets(st.integers(0, len(whole)), max_size=4))
    stream = chat()
    pieces = [
        stream.feed(whole[a:b]) for a, b in itertools.pairwise([0, *sorted(cuts), len(whole)])
    ]
    assert b"".join(pieces) == expected
    assert stream.terminal == apart.terminal


@settings(max_examples=10)
@given(strings=st.lists(st.sampled_from(STRINGS), min_size=20, max_size=90))
@pytest.mark.parametrize("order", ["the API's", "the Codex backend's"])
@pytest.mark.parametrize("name", sorted(MORE))
def test_deltas_about_the_same_are_a_run(name: str, order: str, strings: list[bytes]) -> None:
    events = [
        delta(one, name=name, order=order, sequence_number=n) for n, one in enumerate(strings)
    ]
    runs = [*read(b"".join(events))]
    assert all(isinstance(run, Run) and run.name == name for run in runs)
    texts = [text for run in runs if isinstance(run, Run) for text in run.deltas]
    assert texts == [json.loads(string) for string in strings]
    assert len(runs) <= 2 + sum(map(len, events)) // 12_000


def test_no_run_goes_on_into_another_item() -> None:
    other = delta(item_id="msg_2", output_index=1)
    runs = [said for said in read(delta() * 99 + other * 99) if isinstance(said, Run)]
    assert [run.about["item_id"] for run in runs] == ["msg_1", "msg_2"]
    assert [run.about["output_index"] for run in runs] == [0, 1]


def test_each_delta_is_a_chunk_of_its_own_and_an_empty_one_is_none() -> None:
    stream, client = chat(), ChatClient()
    client.read(stream.feed(delta(b'"a"') * 5 + delta(b'""') * 5 + delta(b'"b"') * 5))
    assert client.deltas[1:] == [{"content": "a"}] * 5 + [{"content": "b"}] * 5


def test_recorded_streams_say_the_same_in_runs_and_one_by_one() -> None:
    runs = 0
    for recorded in recorded_streams():
        runs += sum(isinstance(said, Run) for said in read(recorded.body))
        stream, apart = chat(), chat()
        assert stream.feed(recorded.body) == apart.feed(one_by_one(recorded.body)), recorded.name
        assert stream.terminal == apart.terminal
        if stream.terminal is not None and stream.terminal.fault is None:
            bodies = []
            for body in (recorded.body, one_by_one(recorded.body)):
                answer = ChatWhole(turn(), completion_id="c", created_unix_s=1, now_unix_s=1.0)
                answer.feed(body)
                bodies.append(answer.body())
            assert bodies[0] == bodies[1], recorded.name
    assert runs > 100
