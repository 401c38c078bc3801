from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import sse

BACKEND = b'event: response.created\ndata: {"a":"\xc3\xa4"}\n\nevent: error\ndata: {}\n\n'
OTHERS = (
    b": a comment\r\n\r\nevent: ping\r\ndata: {}\r\n\r\n"
    b"data: one\rdata: two\r\r"
    b"retry: 5\n\n\n"
    b"data: three\n\ndata: unfinished"
)


def fed(blocks: list[bytes]) -> tuple[list[bytes], sse.EventCutter]:
    cutter = sse.EventCutter()
    return [cutter.feed(block) for block in blocks], cutter


def cut_at(stream: bytes, cuts: set[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


def events_of(wholes: list[bytes]) -> list[sse.Event]:
    return [event for whole in wholes for raw in sse.split(whole) if (event := sse.read(raw))]


streams = st.lists(
    st.sampled_from(
        [b"data: x", b"event: e", b": c", b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b"\r", b"data:y\n"]
    ),
    max_size=20,
).map(b"".join)


@given(cuts=st.sets(st.integers(0, len(BACKEND + OTHERS))))
def test_events_do_not_depend_on_how_the_stream_was_cut(cuts: set[int]) -> None:
    stream = BACKEND + OTHERS
    wholes, cutter = fed(cut_at(stream, cuts))
    assert events_of(wholes) == [
        sse.Event("response.created", b'{"a":"\xc3\xa4"}'),
        sse.Event("error", b"{}"),
        sse.Event("ping", b"{}"),
        sse.Event("", b"one\ntwo"),
        sse.Event("", b"three"),
    ]
    assert cutter.pending == b"data: unfinished"


@given(stream=streams, data=st.data())
@example(stream=b"data: x\r\n\r\n", data=None)
def test_no_byte_is_lost_added_or_moved(stream: bytes, data: st.DataObject | None) -> None:
    cuts = data.draw(st.sets(st.integers(0, len(stream)))) if data else {7, 8, 9, 10}
    wholes, cutter = fed(cut_at(stream, cuts))
    assert b"".join(wholes) + cutter.pending == stream
    for whole in wholes:
        assert b"".join(sse.split(whole)) == whole


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"])
def test_an_event_is_handed_on_with_the_last_byte_of_its_end(end: bytes) -> None:
    event = b"event: ping\ndata: {}" + end
    wholes, cutter = fed([bytes([byte]) for byte in event])
    assert wholes[-1] == event
    assert not any(wholes[:-1])
    assert cutter.pending == b""


@pytest.mark.parametrize(
    "blocks",
    [
        [b"data: x\r\n", b"\r", b"\n"],
        [b"data: x\n", b"", b"\n"],
        [b"data: x", b"\n", b"", b"\n"],
    ],
    ids=["an end in three pieces", "nothing within an end", "nothing after half an end"],
)
def test_short_blocks_hide_no_end(blocks: list[bytes]) -> None:
    wholes, _ = fed(blocks)
    assert wholes[-1] == b"".join(blocks)


def test_a_block_of_whole_events_is_handed_on_without_a_copy() -> None:
    assert sse.EventCutter().feed(BACKEND) is BACKEND


def test_an_event_larger_than_the_limit_is_refused_before_it_has_ended() -> None:
    cutter = sse.EventCutter(max_event_bytes=100)
    assert cutter.feed(b"data: {}\n\ndata: " + b"x" * 90) == b"data: {}\n\n"
    with pytest.raises(EventTooLargeError, match="larger than 100 bytes"):
        cutter.feed(b"x" * 10)


def test_the_limit_counts_one_event_and_not_the_stream() -> None:
    cutter = sse.EventCutter(max_event_bytes=100)
    for _ in range(50):
        cutter.feed(b"data: " + b"x" * 40)
        assert cutter.feed(b"\n\nda")
        assert cutter.feed(b"ta: \n\n")


@pytest.mark.parametrize(
    ("raw", "event"),
    [
        (b"event: a\ndata: {}\n\n", sse.Event("a", b"{}")),
        (b"event:a\ndata:{}\n\n", sse.Event("a", b"{}")),
        (b"data: {}\nevent: a\n\n", sse.Event("a", b"{}")),
        (b"event: a\nid: 7\ndata: {\ndata: }\n\n", sse.Event("a", b"{\n}")),
        (b"event: a\ndata: {}\nretry: 3\n\n", sse.Event("a", b"{}")),
        (b"event: a\r\ndata: {}\r\n\r\n", sse.Event("a", b"{}")),
        (b"data: a: b\n\n", sse.Event("", b"a: b")),
        (b"data:  {}\n\n", sse.Event("", b" {}")),
        (b"data\n\n", sse.Event("", b"")),
        (b": keep-alive\n\n", None),
        (b"event: lonely\n\n", None),
        (b"\n", None),
    ],
)
def test_an_event_is_read_whatever_its_form(raw: bytes, event: sse.Event | None) -> None:
    assert sse.read(raw) == event


def test_what_is_written_is_read_as_it_was() -> None:
    assert sse.read(sse.write("error", b'{"a":1}')) == sse.Event("error", b'{"a":1}')


def test_a_comment_is_a_whole_event_that_says_nothing() -> None:
    comment = sse.comment("keep-alive")
    assert sse.EventCutter().feed(comment) == comment
    assert sse.read(comment) is None
