"""What faults do to answers."""

from __future__ import annotations

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.protocol.raw import parse_object
from harness.cassettes.model import Direction, Frame
from harness.cassettes.performance import Chunk, Performance
from harness.faults.text import Fault, parse
from tests.fakes.recordings import recorded_streams
from tests.harness.test_fault_text import FAULTS

EVENTS = [b"event: %c\ndata: {}\n\n" % name for name in b"abcd"]
BODY = b"".join(EVENTS)
LENGTH = len(EVENTS[0])
#: Each event one second after the other, the chunk borders in the middle of them.
ANSWER = Performance(
    status=200,
    headers=(("content-type", "text/event-stream"),),
    head_at_s=0.5,
    chunks=(
        Chunk(1, BODY[: LENGTH - 3]),
        Chunk(2, BODY[LENGTH - 3 : 2 * LENGTH]),
        Chunk(3, BODY[2 * LENGTH : 4 * LENGTH - 1]),
        Chunk(4, BODY[4 * LENGTH - 1 :]),
    ),
)


def message(at_s: float, direction: Direction, data: bytes) -> Frame:
    return Frame(at_s=at_s, direction=direction, kind="text", data=data)


SOCKET = Performance(
    status=101,
    frames=(
        message(1, "out", b"ask"),
        message(2, "in", b"one"),
        message(3, "in", b"two"),
        message(4, "out", b"ask more"),
        message(5, "in", b"three"),
        Frame(at_s=6, direction="in", kind="close", code=1000),
    ),
)


def with_fault(text: str, performance: Performance = ANSWER) -> Performance:
    return parse(text).apply(performance)


def test_a_cut_is_a_prefix_and_closes_the_connection() -> None:
    changed = with_fault("cut@7")

    assert (changed.body, changed.end, changed.framed) == (BODY[:7], "eof", False)
    assert with_fault("cut@e2").body == BODY[: 2 * LENGTH]
    assert with_fault("cut@e-2").body == BODY[: 3 * LENGTH]
    assert with_fault("cut@100000").body == BODY
    assert with_fault("cut@0").chunks == ()


@pytest.mark.parametrize(
    ("text", "end", "framed"),
    [
        ("rst", "reset", True),
        ("idle", "idle", True),
        ("fin", "eof", False),
        ("cut@9+rst", "reset", True),
        ("cut@9+eof", "eof", True),
        ("cut@9+rst+fin", "eof", False),
    ],
)
def test_the_last_end_counts(text: str, end: str, framed: bool) -> None:
    changed = with_fault(text)

    assert (changed.end, changed.framed) == (end, framed)


def test_without_a_head_there_is_only_an_end() -> None:
    assert with_fault("nohead+rst") == Performance(status=None, head_at_s=0.5, end="reset")


def test_a_delay_moves_all_that_follows_and_from_the_beginning_the_head() -> None:
    assert [chunk.at_s for chunk in with_fault("delay@e2=10s").chunks] == [1, 2, 13, 14]
    assert with_fault("delay@e2=10s").head_at_s == 0.5
    assert [chunk.at_s for chunk in with_fault("delay@0=10s").chunks] == [11, 12, 13, 14]
    assert with_fault("delay@0=10s").head_at_s == 10.5


def test_a_stall_is_a_silence_after_which_time_is_made_up_for() -> None:
    changed = with_fault("stall@e2=1.5s")

    assert [chunk.at_s for chunk in changed.chunks] == [1, 2, 3.5, 4]


def test_a_stall_at_the_beginning_holds_the_head() -> None:
    changed = with_fault("stall@0=2.5s")

    assert changed.head_at_s == 2.5
    assert [chunk.at_s for chunk in changed.chunks] == [2.5, 2.5, 3, 4]


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("dup@e2", "abbcd"),
        ("dup@e-1", "abcdd"),
        ("dup@e9", "abcd"),
        ("dup@e1-e3", "abcbcd"),
        ("swap@e2", "acbd"),
        ("swap@e4", "abcd"),
        ("swap@e-1", "abcd"),
        ("drop@e1", "bcd"),
        ("drop@e-1", "abc"),
        ("drop@e0-e3", "d"),
        ("drop@e1+dup@e1+swap@e3", "bbdc"),
    ],
)
def test_events_are_doubled_exchanged_and_lost(text: str, order: str) -> None:
    events = {chr(event[7]): event for event in EVENTS}

    assert with_fault(text).body == b"".join(events[name] for name in order)


def test_an_exchanged_event_waits_for_the_other() -> None:
    changed = with_fault("swap@e1")

    assert {chunk.at_s for chunk in changed.chunks[:2]} == {2}


def test_one_byte_is_corrupted_and_the_chunks_stay() -> None:
    changed = with_fault("corrupt@3=41")

    assert changed.body == BODY[:3] + b"A" + BODY[4:]
    assert list(map(len_of, changed.chunks)) == list(map(len_of, ANSWER.chunks))
    assert with_fault("corrupt@3").body[3] == 0xFF
    assert with_fault("corrupt@100000").body == BODY


def len_of(chunk: Chunk) -> int:
    return len(chunk.data)


def test_bytes_are_inserted_at_the_moment_of_what_is_in_front_of_them() -> None:
    changed = with_fault("insert@e2=: hello%0A%0A")

    assert changed.body == BODY[: 2 * LENGTH] + b": hello\n\n" + BODY[2 * LENGTH :]
    assert changed.chunks[2] == Chunk(2, b": hello\n\n")


def test_a_split_makes_each_byte_a_chunk() -> None:
    assert {len(chunk.data) for chunk in with_fault("split").chunks} == {1}
    part = with_fault("split@2-5")
    assert [chunk.data for chunk in part.chunks][:5] == [
        BODY[:2],
        BODY[2:3],
        BODY[3:4],
        BODY[4:5],
        BODY[5 : LENGTH - 3],
    ]
    assert part.body == BODY


def test_coalesced_chunks_come_as_the_last_one_would() -> None:
    assert with_fault("coalesce").chunks == (Chunk(4, BODY),)
    assert with_fault("cut@0+coalesce").chunks == ()


def test_a_refusal_has_the_error_body_of_its_status() -> None:
    changed = with_fault("status=429")

    error = parse_object(changed.body)["error"]
    assert isinstance(error, dict)
    assert error["code"] == "rate_limit_exceeded"
    assert dict(changed.headers)["retry-after"] == "2"
    assert dict(changed.headers)["content-length"] == str(len(changed.body))


def test_a_status_below_400_leaves_the_answer() -> None:
    assert with_fault("status=202") == attrs.evolve(ANSWER, status=202)


def test_a_reached_limit_tells_how_long_it_lasts() -> None:
    changed = with_fault("limit=90.5s")

    error = parse_object(changed.body)["error"]
    assert isinstance(error, dict)
    assert (changed.status, error["type"]) == (429, "usage_limit_reached")
    assert error["resets_in_seconds"] == 91


def test_headers_and_bodies_are_replaced() -> None:
    changed = with_fault('header:x-a=1+noheader:content-type+json={"a":"b%2Bc"}+header:x-a=2')

    assert changed.headers == (("x-a", "2"), ("content-type", "application/json"))
    assert changed.body == b'{"a":"b+c"}'


def test_a_length_that_is_told_is_true_unless_the_body_is_broken_off() -> None:
    told = attrs.evolve(ANSWER, headers=(("content-length", str(len(BODY))),))

    assert dict(with_fault("dup@e1", told).headers)["content-length"] == str(5 * LENGTH)
    assert dict(with_fault("cut@5", told).headers)["content-length"] == str(len(BODY))
    assert dict(with_fault("cut@5+eof", told).headers)["content-length"] == "5"
    cut_and_more = with_fault("cut@5+insert@2=ab", told)
    assert len(cut_and_more.body) == 7
    assert dict(cut_and_more.headers)["content-length"] == str(len(BODY) + 2)


def told(performance: Performance) -> list[str]:
    return [
        frame.data.decode() if frame.kind == "text" else f"{frame.kind} {frame.code}"
        for frame in performance.frames
    ]


@pytest.mark.parametrize(
    ("text", "frames", "end"),
    [
        ("cut@f1", ["ask", "one"], "eof"),
        ("cut@f0+rst", [], "reset"),
        ("half-open@f2", ["ask", "one", "two"], "idle"),
        ("close@f2=1012", ["ask", "one", "two", "close 1012"], "eof"),
        ("close=1011", ["ask", "one", "two", "ask more", "three", "close 1011"], "eof"),
        ("rst", ["ask", "one", "two", "ask more", "three"], "reset"),
        ("dup@f1", ["ask", "one", "one", "two", "ask more", "three", "close 1000"], "eof"),
        ("drop@f-1", ["ask", "one", "two", "ask more", "close 1000"], "eof"),
        ("swap@f2", ["ask", "one", "three", "ask more", "two", "close 1000"], "eof"),
        ("oversize@f1=5", ["ask", "one  ", "two", "ask more", "three", "close 1000"], "eof"),
        ("corrupt@f1=41", ["ask", "Ane", "two", "ask more", "three", "close 1000"], "eof"),
        ("drop@f9", told(SOCKET), "eof"),
    ],
)
def test_messages_are_changed_as_events_are(text: str, frames: list[str], end: str) -> None:
    changed = with_fault(text, SOCKET)

    assert (told(changed), changed.end) == (frames, end)


def test_messages_come_later() -> None:
    later, stalled = with_fault("delay@f1=10s", SOCKET), with_fault("stall@f1=2.5s", SOCKET)

    assert [frame.at_s for frame in later.frames] == [1, 2, 13, 14, 15, 16]
    assert [frame.at_s for frame in stalled.frames] == [1, 2, 4.5, 4.5, 5, 6]


def test_what_the_client_says_next_is_not_late_but_the_answer_to_it() -> None:
    later, stalled = with_fault("delay@f2=10s", SOCKET), with_fault("stall@f2=9s", SOCKET)

    assert [frame.at_s for frame in later.frames] == [1, 2, 3, 4, 15, 16]
    assert [frame.at_s for frame in stalled.frames] == [1, 2, 3, 4, 12, 12]


chunks = st.lists(st.tuples(st.integers(0, 9), st.binary(min_size=1, max_size=9)), max_size=6)


def performance_of(pieces: list[tuple[int, bytes]], more: bytes) -> Performance:
    """Return an answer whose chunks come after so many seconds each, with an event in it."""
    times = itertools.accumulate(pause for pause, _ in pieces)
    made = [Chunk(at_s, data) for at_s, (_, data) in zip(times, pieces, strict=True)]
    if more:
        made.append(Chunk(made[-1].at_s if made else 0, more))
    return Performance(status=200, chunks=tuple(made))


ANSWERS = st.builds(performance_of, chunks, st.sampled_from([b"", b"data: 1\n\n", BODY]))


def assert_sound(changed: Performance) -> None:
    times = [chunk.at_s for chunk in changed.chunks]
    assert times == sorted(times)
    assert changed.status is not None or not changed.body
    at_s = [frame.at_s for frame in changed.frames]
    assert at_s == sorted(at_s)


@given(st.one_of(ANSWERS, st.just(ANSWER), st.just(SOCKET)), FAULTS)
def test_whatever_is_done_to_it_no_chunk_comes_before_an_earlier_one(
    answer: Performance, fault: Fault
) -> None:
    assert_sound(fault.apply(answer))


@given(
    ANSWERS,
    st.sampled_from(["split", "coalesce", "delay@3=2s", "stall@e1=5s", "delay@e0=1s", "split@2-9"]),
)
def test_time_and_borders_change_no_byte(answer: Performance, text: str) -> None:
    assert with_fault(text, answer).body == answer.body
    assert with_fault(f"{text}+coalesce+split", answer).body == answer.body


@given(ANSWERS, st.integers(0, 60))
def test_a_cut_keeps_exactly_what_is_in_front_of_it(answer: Performance, at: int) -> None:
    assert with_fault(f"cut@{at}", answer).body == answer.body[:at]


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_every_fault_can_be_laid_over_every_small_recording(api: str) -> None:
    texts = [
        *("cut@e3+rst", "cut@100+fin", "delay@0=1s", "stall@e2=30s", "dup@e2", "dup@10-40"),
        *("swap@e2", "drop@e3", "corrupt@50", "insert@e1=:%0A%0A", "split", "coalesce", "eof"),
        *("status=503", "limit=60s", "nohead+idle", "json={}"),
    ]
    small = [stream for stream in recorded_streams(api) if len(stream.body) < 6000]
    assert small
    for stream in small:
        answer = Performance(status=200, chunks=(Chunk(1, stream.body),))
        for text in texts:
            assert_sound(with_fault(text, answer))
        events = stream.body.split(b"\n\n")
        if len(events) > 4 and b"\r" not in stream.body:
            swapped = with_fault("swap@e2", answer).body.split(b"\n\n")
            assert swapped == [events[0], events[2], events[1], *events[3:]]
