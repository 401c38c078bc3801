"""Whether an answer is whole, as its last event or its length shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.cassettes.model import Frame
from harness.cassettes.terminal import is_event_stream, is_whole, is_whole_websocket
from tests.fakes.cassettes import EVENTS

if TYPE_CHECKING:
    from harness.cassettes.model import Direction, End

STREAM = (("content-type", "text/event-stream; charset=utf-8"),)
JSON = (("content-type", "application/json"),)


def event(kind: str, more: str = "") -> bytes:
    return f'event: {kind}\ndata: {{"type":"{kind}"{more}}}\n\n'.encode()


CREATED = event("response.created")
CHAT = b'data: {"object":"chat.completion.chunk","choices":[]}\n\n'

TABLE = [
    (CREATED + event("response.completed"), True),
    (CREATED + event("response.failed"), True),
    (CREATED + event("response.incomplete"), True),
    (CREATED + event("response.done"), True),
    (CREATED + event("error", ',"message":"x"'), True),
    (CREATED + event("response.completed") + b": comment\n\n", True),
    (CREATED + event("response.completed") + b"data: [DONE]\n\n", True),
    (event("response.completed").replace(b"\n", b"\r\n"), True),
    (CREATED, False),
    (CREATED + event("response.completed")[:-1], False),
    (CREATED + b"data: [DONE]\n\n", False),
    (event("response.completed") + CREATED, False),
    (CHAT + b"data: [DONE]\n\n", True),
    (CHAT + b'data: {"error":{"message":"x"}}\n\n', True),
    (CHAT, False),
    (CHAT + b"data: [DO", False),
    (b"data: [DONE]\n\n", True),
    (b"data: no json\n\n", False),
    (b": only a comment\n\n", False),
]


@pytest.mark.parametrize(("body", "whole"), TABLE, ids=lambda value: repr(value)[-30:])
@pytest.mark.parametrize("headers", [STREAM, ()], ids=["typed", "without a type"])
def test_an_event_stream_is_whole_when_its_last_event_says_so(
    body: bytes, whole: bool, headers: tuple[tuple[str, str], ...]
) -> None:
    assert is_event_stream(headers, body)
    assert is_whole(headers, body) is whole
    assert is_whole(headers, body, ended="reset") is whole


def test_an_event_stream_without_events_is_not_whole() -> None:
    assert not is_whole(STREAM, b"")


def test_every_cut_of_a_stream_is_seen() -> None:
    assert [at for at in range(len(EVENTS) + 1) if is_whole(STREAM, EVENTS[:at])] == [len(EVENTS)]


def test_any_other_body_is_whole_when_it_ended_properly() -> None:
    assert is_whole(JSON, b"{}")
    assert is_whole((*JSON, ("content-length", "2")), b"{}")
    assert is_whole((*JSON, ("content-length", "70")), b"")  # an answer to HEAD
    assert not is_whole((*JSON, ("content-length", "3")), b"{}")
    assert not is_whole(JSON, b"{}", ended="reset")


def test_a_json_error_under_the_type_of_a_stream_is_no_stream() -> None:
    assert is_whole(STREAM, b'{"error": {"message": "x"}}')
    assert not is_event_stream(JSON, b"data: x")


CREATE = b'{"type":"response.create"}'
DELTA = b'{"type":"response.output_text.delta"}'
COMPLETED = b'{"type":"response.completed"}'


@pytest.mark.parametrize(
    ("said", "ended", "whole"),
    [
        ([("out", CREATE), ("in", COMPLETED)], "eof", True),
        ([("out", CREATE), ("in", COMPLETED)], "closed-by-relay", True),
        ([("out", CREATE), ("in", COMPLETED)], "reset", True),
        ([("out", CREATE), ("in", DELTA)], "eof", False),
        ([("out", CREATE), ("in", COMPLETED), ("out", CREATE)], "eof", False),
        ([("out", COMPLETED)], "eof", False),
        ([("out", b"ask"), ("in", b"answer")], "eof", True),
        ([("out", b"ask"), ("in", b"answer")], "reset", False),
        ([], "eof", True),
        ([], "idle", False),
    ],
)
def test_a_websocket_is_whole_if_its_last_turn_is(
    said: list[tuple[Direction, bytes]], ended: End, whole: bool
) -> None:
    frames = [Frame(at_s=1, direction=way, kind="text", data=data) for way, data in said]
    close = Frame(at_s=2, direction="in", kind="close", code=1000)
    assert is_whole_websocket([*frames, close], ended=ended) is whole
