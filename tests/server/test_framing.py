"""The frames of a WebSocket, without a connection; wsproto is the client."""

from __future__ import annotations

import itertools
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, TextMessage
from wsproto.events import Ping as WsprotoPing
from wsproto.events import Pong as WsprotoPong
from wsproto.extensions import PerMessageDeflate

from codexrelay.server.framing import (
    NO_CODE,
    Close,
    FrameReader,
    Inflater,
    Message,
    Ping,
    Received,
    Violation,
    binary_frame,
    close_frame,
    pong_frame,
    text_frames,
)

LIMIT_BYTES = 1000
MASK = b"\x11\x22\x33\x44"


def frame(first: int, payload: bytes = b"", *, length: bytes | None = None) -> bytes:
    """Return a masked frame, made without the code under test."""
    if length is None:
        size = len(payload)
        length = (
            bytes((size,))
            if size < 126
            else b"\x7e" + size.to_bytes(2)
            if size < 65536
            else b"\x7f" + size.to_bytes(8)
        )
    masked = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))
    return bytes((first, length[0] | 0x80)) + length[1:] + MASK + masked


def deflated(data: bytes, window: zlib._Compress | None = None) -> bytes:
    window = window or zlib.compressobj(wbits=-15)
    return (window.compress(data) + window.flush(zlib.Z_SYNC_FLUSH))[:-4]


def read(
    *pieces: bytes, deflate: bool = False, limit_bytes: int = LIMIT_BYTES
) -> tuple[list[Received], int | None]:
    """Return what a reader makes of the pieces, and the code it closes with."""
    reader = FrameReader(limit_bytes, Inflater() if deflate else None)
    got: list[Received] = []
    try:
        for piece in pieces:
            got.extend(reader.feed(piece))
    except Violation as violation:
        return got, violation.code
    return got, None


def read_one_by_one(data: bytes, cuts: set[int], *, deflate: bool) -> object:
    reader = FrameReader(LIMIT_BYTES, Inflater() if deflate else None)
    got: list[object] = []
    edges = [0, *sorted(cuts), len(data)]
    try:
        for start, end in itertools.pairwise(edges):
            for received in reader.feed(data[start:end]):
                got.append(received)  # noqa: PERF402 - what came before a violation counts
    except Violation as violation:
        got.append(violation.args)
    return got


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0x83), 1002),
        (frame(0x8B), 1002),
        (b"\x81\x05hello", 1002),
        (frame(0xC1, b"a"), 1002),
        (frame(0xA1, b"a"), 1002),
        (frame(0x91, b"a"), 1002),
        (frame(0xC9), 1002),
        (frame(0x09), 1002),
        (frame(0x89, b"a" * 126), 1002),
        (frame(0x80, b"a"), 1002),
        (frame(0x01, b"a") + frame(0x81, b"b"), 1002),
        (frame(0x81, b"a", length=b"\x7e\x00\x01"), 1002),
        (frame(0x81, b"a", length=b"\x7f" + (1).to_bytes(8)), 1002),
        (frame(0x81, b"", length=b"\x7f" + (1 << 63).to_bytes(8)), 1002),
        (frame(0x81, b"\xc3"), 1007),
        (frame(0x01, b"\xc3") + frame(0x80, b"\xc3"), 1007),
        (frame(0x88, b"\x03"), 1002),
        (frame(0x88, (1005).to_bytes(2)), 1002),
        (frame(0x88, (999).to_bytes(2)), 1002),
        (frame(0x88, (2000).to_bytes(2)), 1002),
        (frame(0x88, (5000).to_bytes(2)), 1002),
        (frame(0x88, (1000).to_bytes(2) + b"\xff"), 1007),
        (frame(0x81, b"", length=b"\x7e" + (LIMIT_BYTES + 1).to_bytes(2)), 1009),
        (frame(0x02, b"a" * LIMIT_BYTES) + frame(0x80, b"a"), 1009),
    ],
    ids=[
        "unknown opcode",
        "unknown control opcode",
        "no mask",
        "compressed without agreement",
        "second reserved bit",
        "third reserved bit",
        "compressed ping",
        "fragmented ping",
        "long ping",
        "continuation of nothing",
        "message inside a message",
        "length too long in 2 bytes",
        "length too long in 8 bytes",
        "negative length",
        "half a character",
        "broken character across fragments",
        "half a close code",
        "close code never sent",
        "close code too small",
        "undefined close code",
        "close code too big",
        "close reason no UTF-8",
        "announced too big",
        "fragments too big together",
    ],
)
def test_what_breaks_the_protocol_has_its_close_code(data: bytes, code: int) -> None:
    assert read(frame(0x81, b"before"), data) == ([Message("before")], code)


def test_messages_are_whole_whatever_their_fragments() -> None:
    data = frame(0x01, b"a\xc3") + frame(0x00, b"") + frame(0x89, b"?") + frame(0x80, b"\xa9b")
    assert read(data) == ([Ping(b"?"), Message("aéb")], None)
    assert read(frame(0x82, b"\xff\x00")) == ([Message(b"\xff\x00")], None)
    assert read(frame(0x81)) == ([Message("")], None)
    assert read(frame(0x82)) == ([Message(b"")], None)


def test_pongs_say_nothing() -> None:
    assert read(frame(0x8A, b"unasked"), frame(0x81, b"a")) == ([Message("a")], None)


def test_nothing_behind_a_close_frame_is_read() -> None:
    end = frame(0x88, (1001).to_bytes(2) + b"bye")
    assert read(end + frame(0x83), b"\xff\xff") == ([Close(1001, "bye")], None)
    assert read(frame(0x88)) == ([Close(NO_CODE, "")], None)


def test_a_message_of_the_limit_passes_counted_in_bytes() -> None:
    text = "é" * (LIMIT_BYTES // 2)
    assert read(frame(0x81, text.encode())) == ([Message(text)], None)
    assert read(frame(0x81, ("é" + text).encode())) == ([], 1009)


def test_the_limit_of_an_inflated_message_is_exact() -> None:
    whole, over = b"a" * LIMIT_BYTES, b"a" * (LIMIT_BYTES + 1)
    assert read(frame(0xC2, deflated(whole)), deflate=True) == ([Message(whole)], None)
    assert read(frame(0xC2, deflated(over)), deflate=True) == ([], 1009)
    noise = random.Random(1).randbytes(LIMIT_BYTES)
    assert read(frame(0xC2, deflated(noise)), deflate=True) == ([Message(noise)], None)


def test_a_deflate_bomb_is_not_inflated() -> None:
    bomb = frame(0xC2, deflated(bytes(64 * 2**20)))
    tracemalloc.start()
    try:
        assert read(bomb, deflate=True, limit_bytes=2**20) == ([], 1009)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def test_compression_survives_fragments_pings_and_plain_messages_between() -> None:
    window = zlib.compressobj(wbits=-15)
    first, second = deflated(b"one " * 50, window), deflated(b"one " * 50, window)
    data = (
        frame(0x41, first[:3])
        + frame(0x89)
        + frame(0x80, first[3:])
        + frame(0x81, b"plain")
        + frame(0xC1, second)
    )
    text = Message("one " * 50)
    assert read(data, deflate=True) == ([Ping(b""), text, Message("plain"), text], None)


def test_a_block_marked_as_the_last_does_not_end_the_inflating() -> None:
    data = b"".join(
        frame(0xC1, end.compress(text) + end.flush(zlib.Z_FINISH) + b"\x00")
        for text in (b"one", b"two")
        for end in [zlib.compressobj(wbits=-15)]
    )
    assert read(data, deflate=True) == ([Message("one"), Message("two")], None)


def test_what_cannot_be_inflated_closes_with_1007() -> None:
    assert read(frame(0xC1, b"\xff\xff\xff"), deflate=True) == ([], 1007)
    assert read(frame(0x41, b"\x02") + frame(0xC0, b"\x02"), deflate=True)[1] == 1002


@given(
    st.lists(
        st.sampled_from(
            [
                frame(0x81, "é1".encode()),
                frame(0x01, b"2"),
                frame(0x80, b"3" * 130),
                frame(0x89, b"4"),
                frame(0x8A),
                frame(0xC1, deflated(b"5" * 200)),
                frame(0x88, (1000).to_bytes(2)),
                frame(0x82, b"6" * 999),
                b"\x00",
                b"\xff",
            ]
        ),
        max_size=8,
    ),
    st.sets(st.integers(0, 1500), max_size=12),
)
@settings(max_examples=200, deadline=None)
def test_it_does_not_matter_how_the_bytes_were_cut(parts: list[bytes], cuts: set[int]) -> None:
    data = b"".join(parts)
    cuts = {cut for cut in cuts if cut < len(data)}
    assert read_one_by_one(data, cuts, deflate=True) == read_one_by_one(data, set(), deflate=True)


def test_frames_may_come_byte_by_byte() -> None:
    data = frame(0x01, b"a" * 200) + frame(0x89, b"?") + frame(0x80, b"b") + frame(0x88)
    pieces = [data[at : at + 1] for at in range(len(data))]
    assert read(*pieces) == ([Ping(b"?"), Message("a" * 200 + "b"), Close(NO_CODE, "")], None)


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_another_error_than_a_violation(data: bytes) -> None:
    _, code = read(data, deflate=True)
    assert code in (None, 1002, 1007, 1009)


@given(st.lists(st.text(max_size=200) | st.binary(max_size=200), max_size=5), st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_client_of_another_make_is_understood(messages: list[str | bytes], deflate: bool) -> None:
    extension = PerMessageDeflate()
    if deflate:
        extension.finalize("permessage-deflate")
    client = Connection(ConnectionType.CLIENT, [extension])
    events: list[Event] = [
        TextMessage(m) if isinstance(m, str) else BytesMessage(m) for m in messages
    ]
    data = b"".join(client.send(event) for event in [*events, CloseConnection(1000, "é")])
    expected = [*(Message(m) for m in messages), Close(1000, "é")]
    assert read(data, deflate=deflate) == (expected, None)


def test_a_client_of_another_make_understands_what_is_sent() -> None:
    texts = [b"", b"x" * 125, b"x" * 126, b"x" * 65535, b"x" * 65536, "é".encode()]
    client = Connection(ConnectionType.CLIENT, [PerMessageDeflate()])
    client.receive_data(
        text_frames(texts) + pong_frame(b"!") + binary_frame(b"b" * 300) + close_frame(1001, "bye")
    )
    seen: list[object] = []
    text: list[str] = []
    for event in client.events():
        match event:
            case TextMessage(data=data, message_finished=finished):
                text.append(data)
                if finished:
                    seen.append("".join(text))
                    text.clear()
            case BytesMessage(data=data):
                seen.append(bytes(data))
            case WsprotoPing() | WsprotoPong():
                seen.append(bytes(event.payload))
            case CloseConnection(code=code, reason=reason):
                seen.append((code, reason))
    assert seen == [*(t.decode() for t in texts), b"!", b"b" * 300, (1001, "bye")]


def test_a_text_that_is_no_utf8_is_mended() -> None:
    assert text_frames([b"a\xffb"]) == b"\x81\x05a\xef\xbf\xbdb"


def test_a_close_frame_is_short_and_has_no_forbidden_code() -> None:
    assert close_frame(NO_CODE, "never told") == b"\x88\x00"
    told = close_frame(1000, "é" * 100)
    assert len(told) <= 127
    assert told[4:].decode() == "é" * 61
