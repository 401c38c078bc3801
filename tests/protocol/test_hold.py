from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.protocol import faults, sse
from codexrelay.protocol.faults import Fault, FaultKind
from codexrelay.protocol.hold import Hold, Output
from tests.fakes.responses_events import (
    added,
    completed,
    created,
    event,
    failed,
    incomplete,
    text,
)

NOW_UNIX_S = 1_795_347_089.0
HANDSHAKE = b"".join(
    [
        event("codex.rate_limits", plan_type="plus"),
        event("response.metadata", headers={"x-codex-turn-state": "state"}),
        b": keep-alive\n\n",
        created(),
        event("keepalive", sequence_number=1),
        event("response.in_progress", response={}),
    ]
)


def hold() -> Hold:
    return Hold(now_unix_s=NOW_UNIX_S)


def ended(body: bytes) -> Fault:
    held = hold()
    assert held.feed(body) is None
    return held.end()


@pytest.mark.parametrize(
    "first",
    [
        added(0, type="message"),
        text("a"),
        completed(),
        incomplete("max_output_tokens"),
        event("response.unheard_of"),
        text("a").replace(b"\n", b"\r\n"),
        b"data: " + text("a").partition(b"data: ")[2],
    ],
    ids=["item", "delta", "completed", "incomplete", "unknown", "CRLF", "without a name"],
)
def test_the_first_event_that_is_no_handshake_is_output(first: bytes) -> None:
    held = hold()
    assert held.feed(HANDSHAKE) is None
    assert held.feed(first) == Output(HANDSHAKE + first)


@given(data=st.data())
def test_what_was_held_is_every_byte_so_far(data: st.DataObject) -> None:
    body = HANDSHAKE + text("a") + text("b")
    cuts = data.draw(st.sets(st.integers(0, len(body))))
    edges = [0, *sorted(cuts), len(body)]
    held, fed = hold(), b""
    for begin, end in itertools.pairwise(edges):
        fed += body[begin:end]
        if (result := held.feed(body[begin:end])) is not None:
            assert result == Output(fed)
            break
    else:
        pytest.fail("no output was seen")
    assert len(fed) >= len(HANDSHAKE + text("a"))


OPENING = created() + event("response.in_progress", response={})


@pytest.mark.parametrize("first", [added(0, type="message"), text("a"), completed()])
def test_an_answer_that_is_announced_and_begins_in_one_block_is_output(first: bytes) -> None:
    held = hold()
    body = OPENING + first + text("b")
    assert held.feed(body) == Output(body)
    assert held.has_begun


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (OPENING + failed("server_is_overloaded", "busy") + text("a"), FaultKind.OVERLOADED),
        (b"event: response.created\ndata: <html>\n\n" + text("a"), FaultKind.BROKEN),
        (OPENING + b"event: response.a\ndata: <html>\n\n" + text("a"), FaultKind.BROKEN),
        (OPENING + b"event: error\ndata: {}\n\n" + text("a"), FaultKind.OVERLOADED),
    ],
    ids=["failed", "page for an announcement", "page for an output", "error"],
)
def test_what_follows_announcements_in_their_block_is_judged(body: bytes, kind: FaultKind) -> None:
    result = hold().feed(body)
    assert isinstance(result, Fault)
    assert result.kind is kind


def test_what_the_handshake_says_is_told() -> None:
    held = hold()
    assert (held.turn_state, held.rate_limits) == (None, None)
    held.feed(HANDSHAKE)
    assert held.turn_state == "state"
    assert held.rate_limits == {"type": "codex.rate_limits", "plan_type": "plus"}


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (failed("server_is_overloaded", "busy"), FaultKind.OVERLOADED),
        (event("error", error={"type": "usage_limit_reached"}), FaultKind.LIMITED),
        (event("error", code="rate_limit_exceeded", message="slow down"), FaultKind.THROTTLED),
        (b'data: {"error":{"code":"rate_limit_exceeded","message":"no"}}\n\n', FaultKind.THROTTLED),
        (b"event: error\ndata: {oops\n\n", FaultKind.BROKEN),
        (b"data: <html>\n\n", FaultKind.BROKEN),
        (b"event: response.created\ndata: {oops}\n\n", FaultKind.BROKEN),
        (b'event: response.in_progress\ndata: {"a":1}{}\n\n', FaultKind.BROKEN),
    ],
    ids=[
        "failed",
        "nested error",
        "flat error",
        "bare error",
        "broken",
        "page",
        "broken announcement",
        "two objects",
    ],
)
def test_a_failure_before_any_output_is_a_fault(raw: bytes, kind: FaultKind) -> None:
    result = hold().feed(HANDSHAKE + raw + text("never"))
    assert isinstance(result, Fault)
    assert result.kind is kind


def test_output_before_a_failure_in_one_block_commits() -> None:
    body = text("a") + failed("server_is_overloaded", "busy")
    assert hold().feed(body) == Output(body)


@pytest.mark.parametrize("body", [HANDSHAKE, b"event: resp", b": keep-alive\n\n"])
def test_a_stream_that_ends_in_its_handshake_has_ended_early(body: bytes) -> None:
    assert ended(body) == faults.ended_early()


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"", FaultKind.BROKEN, "without a body"),
        (
            b"<html>\n<head><title>Just a\nmoment</title></head>\n\n<body>\n\n</html>",
            FaultKind.BROKEN,
            "web page: Just a moment",
        ),
        (b"upstream connect error\n\nreset", FaultKind.BROKEN, "upstream connect error reset"),
        (b'{"detail":"Unauthorized"}', FaultKind.BROKEN, "Unauthorized"),
        (
            b'{"error":{"type":"usage_limit_reached","message":"spent","resets_in_seconds":60}}',
            FaultKind.LIMITED,
            "spent",
        ),
        (b"[]", FaultKind.BROKEN, "[]"),
    ],
    ids=["nothing", "page", "text", "detail", "error", "array"],
)
def test_a_body_that_is_no_stream_is_told_in_its_own_words(
    body: bytes, kind: FaultKind, words: str
) -> None:
    fault = ended(body)
    assert fault.kind is kind
    assert words in fault.message


@pytest.mark.parametrize(
    "body",
    [b"data: " + b"x" * 200, created() * 10],
    ids=["one event", "handshake without an end"],
)
def test_more_than_fits_is_no_handshake(body: bytes) -> None:
    held = Hold(now_unix_s=NOW_UNIX_S, max_bytes=200)
    result = held.feed(body)
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.BROKEN


def test_the_limit_is_that_of_one_event() -> None:
    assert hold().max_bytes == sse.MAX_EVENT_BYTES
