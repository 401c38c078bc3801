"""Frames of a WebSocket server, without a connection."""

from __future__ import annotations

import itertools
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.backends.transports.server_frames import ServerFrames
from tests.fakes.websocket_server import BINARY, CLOSE, PING, PONG, TEXT, close_frame, frame

LIMIT_BYTES: Final = 200_000


def fed(*blocks: bytes) -> ServerFrames:
    frames = ServerFrames(LIMIT_BYTES)
    for block in blocks:
        frames.feed(memoryview(block))
    return frames


TEXTS: Final = st.lists(st.text(max_size=200) | st.sampled_from(["x" * 126, "y" * 70_000]))


@given(TEXTS, st.data())
def test_messages_are_the_same_however_the_stream_is_cut(
    texts: list[str], data: st.DataObject
) -> None:
    stream = b"".join(frame(text.encode()) for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    blocks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [*fed(*blocks).messages] == texts


@given(st.text(max_size=40), st.lists(st.integers(0, 100), max_size=5))
def test_a_message_is_the_same_in_however_many_frames_it_comes(text: str, cuts: list[int]) -> None:
    raw = text.encode()
    at = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    parts = [raw[a:b] for a, b in itertools.pairwise(at)]
    stream = b"".join(
        frame(part, 0 if n else TEXT, ends=n == len(parts) - 1) + frame(b"p", PING)
        for n, part in enumerate(parts)
    )
    frames = fed(*(stream[n : n + 1] for n in range(len(stream))))
    assert [*frames.messages] == [text]
    assert frames.take_control() == frame(b"p", PING) * len(parts)
    assert frames.closed is None


def test_binary_messages_are_bytes() -> None:
    assert [*fed(frame(b"\xff\x00", BINARY)).messages] == [b"\xff\x00"]


def test_a_close_frame_ends_what_is_read_and_says_why() -> None:
    frames = fed(frame(b"one") + close_frame(1011, "keepalive") + frame(b"two"))
    assert [*frames.messages] == ["one"]
    assert frames.closed is not None
    assert (frames.closed.code, frames.closed.reason) == (1011, "keepalive")
    assert not frames.failed
    assert frames.take_control() == close_frame(1011, "keepalive")


def test_a_close_frame_may_have_no_code() -> None:
    closed = fed(frame(b"", CLOSE)).closed
    assert closed is not None
    assert (closed.code, closed.reason) == (1005, "")


MISTAKES: Final = {
    "masked": (b"\x81\x82abcdxx", 1002),
    "masked, and no more": (b"\x81\x81", 1002),
    "an extension": (b"\xc1\x01x", 1002),
    "an unknown kind": (b"\x83\x01x", 1002),
    "an unknown control frame": (b"\x8b\x01x", 1002),
    "a fragmented ping": (b"\x09\x01x", 1002),
    "a long ping": (b"\x89\x7e\x00\x80" + b"x" * 128, 1002),
    "a continuation of nothing": (b"\x80\x01x", 1002),
    "a message within another": (frame(b"a", ends=False) + frame(b"b"), 1002),
    "a length in two bytes without need": (b"\x81\x7e\x00\x05hello", 1002),
    "a length in eight bytes without need": (b"\x81\x7f" + (500).to_bytes(8), 1002),
    "half a code": (frame(b"\x03", CLOSE), 1002),
    "a code that is never sent": (close_frame(1006), 1002),
    "a code out of range": (close_frame(999), 1002),
    "a reason in no UTF-8": (frame(b"\x03\xe8\xff", CLOSE), 1007),
    "a text in no UTF-8": (frame(b"a\xff"), 1007),
    "a text in pieces in no UTF-8": (frame(b"\xe2", ends=False) + frame(b"a", 0), 1007),
    "too big, told by its head": (frame(b"x" * (LIMIT_BYTES + 1))[:10], 1009),
    "too big in pieces": (
        frame(b"x" * LIMIT_BYTES, ends=False) + frame(b"x", 0, ends=False),
        1009,
    ),
    "a length of 2^63": (b"\x81\x7f" + (1 << 63).to_bytes(8), 1009),
    "endless pings": (frame(b"p" * 125, PING) * 600, 1002),
}


@pytest.mark.parametrize(("stream", "code"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_it_with_its_code_behind_what_came_before(stream: bytes, code: int) -> None:
    frames = fed(frame(b"before") + stream, frame(b"behind"))
    assert [*frames.messages] == ["before"]
    assert frames.failed
    assert frames.closed is not None
    assert frames.closed.code == code
    assert frames.closed.reason.startswith("the server sent ")
    assert len(frames.closed.reason.encode()) <= 123, "more does not fit into a close frame"


def test_a_message_as_big_as_allowed_passes() -> None:
    assert [len(m) for m in fed(frame(b"x" * LIMIT_BYTES)).messages] == [LIMIT_BYTES]


def test_pongs_are_kept_for_whoever_waits_for_them() -> None:
    assert fed(frame(b"1", PONG)).take_control() == frame(b"1", PONG)
