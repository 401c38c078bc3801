from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.protocol import faults
from codexrelay.protocol.chat_hold import ChatHold
from codexrelay.protocol.chat_native import ChatDelivery
from codexrelay.protocol.faults import Fault, FaultKind
from codexrelay.protocol.hold import Output
from tests.fakes import chat_chunks as upstream

NOW_UNIX_S = 1_795_347_089.0
HANDSHAKE = b"".join(
    [
        b": loading the model\n\n",
        b"event: ping\ndata: {}\n\n",
        upstream.role(),
        upstream.chunk({"content": None, "tool_calls": [], "reasoning_content": ""}),
        upstream.usage(),
    ]
)


def hold() -> ChatHold:
    return ChatHold(now_unix_s=NOW_UNIX_S)


@pytest.mark.parametrize(
    "first",
    [
        upstream.text("a"),
        upstream.thought("a"),
        upstream.thought("a", "reasoning"),
        upstream.chunk({"refusal": "no"}),
        upstream.opened(0, "c1", "ls"),
        upstream.chunk({"function_call": {"name": "ls"}}),
        upstream.chunk({"audio": {"id": "a"}}),
        upstream.finish(),
        upstream.finish("length"),
        upstream.chunk({}, text="a"),
        upstream.text("a").replace(b"\n", b"\r\n"),
    ],
    ids=[
        "text",
        "reasoning",
        "reasoning too",
        "refusal",
        "call",
        "older call",
        "something else",
        "end",
        "cut",
        "completion",
        "CRLF",
    ],
)
def test_the_first_chunk_that_says_something_is_output(first: bytes) -> None:
    held = hold()
    assert held.feed(HANDSHAKE) is None
    assert held.feed(first) == Output(HANDSHAKE + first)


@given(data=st.data())
def test_what_was_held_is_every_byte_so_far(data: st.DataObject) -> None:
    body = HANDSHAKE + upstream.text("a") + upstream.text("b")
    cuts = data.draw(st.sets(st.integers(0, len(body))))
    held, fed = hold(), b""
    for begin, end in itertools.pairwise([0, *sorted(cuts), len(body)]):
        fed += body[begin:end]
        if (result := held.feed(body[begin:end])) is not None:
            assert result == Output(fed)
            break
    else:
        pytest.fail("no output was seen")


def test_a_comment_is_no_beginning() -> None:
    held = hold()
    held.feed(b": loading\n\n" + upstream.role()[:-1])
    assert not held.has_begun
    held.feed(upstream.role()[-1:])
    assert held.has_begun
    assert (held.turn_state, held.rate_limits) == (None, None)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (upstream.data({"error": {"message": "wait", "code": 429}}), FaultKind.THROTTLED),
        (upstream.data({"error": {"type": "insufficient_quota"}}), FaultKind.LIMITED),
        (upstream.data({"error": "no memory"}), FaultKind.OVERLOADED),
        (upstream.finish("error"), FaultKind.OVERLOADED),
        (b"data: {oops\n\n", FaultKind.BROKEN),
        (upstream.DONE, FaultKind.BROKEN),
    ],
    ids=["status", "code", "text", "reason", "broken", "an end of nothing"],
)
def test_a_failure_before_any_output_is_a_fault(raw: bytes, kind: FaultKind) -> None:
    result = hold().feed(HANDSHAKE + raw + upstream.text("never"))
    assert isinstance(result, Fault)
    assert result.kind is kind


def test_output_before_a_failure_in_one_block_commits() -> None:
    body = upstream.text("a") + upstream.data({"error": "no memory"})
    assert hold().feed(body) == Output(body)


@pytest.mark.parametrize("body", [HANDSHAKE, b"data: {", b": keep-alive\n\n"])
def test_a_stream_that_ends_in_its_handshake_has_ended_early(body: bytes) -> None:
    held = hold()
    assert held.feed(body) is None
    assert held.end() == faults.ended_early()


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"", FaultKind.BROKEN, "without a body"),
        (b"<title>Moved</title>", FaultKind.BROKEN, "web page: Moved"),
        (b'{"detail":"Unauthorized"}', FaultKind.BROKEN, "Unauthorized"),
        (b'{"error":{"message":"no such model","code":404}}', FaultKind.REFUSED, "no such model"),
    ],
    ids=["nothing", "page", "detail", "error"],
)
def test_a_body_that_is_no_stream_is_told_in_its_own_words(
    body: bytes, kind: FaultKind, words: str
) -> None:
    delivery, held = ChatDelivery(), hold()
    fault = held.feed(delivery.feed(body)) or held.feed(delivery.end()) or held.end()
    assert isinstance(fault, Fault)
    assert fault.kind is kind
    assert words in fault.message


def test_an_answer_in_one_piece_is_output() -> None:
    delivery, held = ChatDelivery(), hold()
    assert held.feed(delivery.feed(upstream.whole({"content": "Hi"}))) is None
    assert isinstance(held.feed(delivery.end()), Output)


@pytest.mark.parametrize(
    "body",
    [b"data: " + b"x" * 200, upstream.role() * 10],
    ids=["one event", "handshake without an end"],
)
def test_more_than_fits_is_no_handshake(body: bytes) -> None:
    result = ChatHold(now_unix_s=NOW_UNIX_S, max_bytes=190).feed(body)
    assert isinstance(result, Fault)
    assert result.kind is FaultKind.BROKEN
