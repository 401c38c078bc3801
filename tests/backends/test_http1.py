"""The HTTP/1.1 messages of the direct transport, without a socket."""

from __future__ import annotations

import itertools

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.backends.transports.http1 import (
    MAX_FRAMING_BYTES,
    BodyFramer,
    ResponseReader,
    head_of,
)

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
STREAM = (
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    + CHUNKED
    + b"5\r\nfirst\r\n6;a=b\r\nsecond\r\n5\r\nthird\r\n0\r\nTrailer: x\r\n\r\n"
)


def read(*blocks: bytes, to_head_request: bool = False) -> tuple[ResponseReader, bytes]:
    """Return the reader after these blocks, and all body that it gave before a fault."""
    reader, body = ResponseReader("peer:443", to_head_request), b""
    for block in blocks:
        reader.feed(memoryview(block))
        if reader.fault is None:
            body += reader.take()
    return reader, body


@given(cuts=st.sets(st.integers(1, len(STREAM) - 1)))
def test_a_response_does_not_depend_on_how_it_was_cut(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    reader, body = read(*(STREAM[a:b] for a, b in itertools.pairwise(edges)))
    assert (reader.status, body) == (200, b"firstsecondthird")
    assert reader.headers == [(b"Transfer-Encoding", b"chunked")]
    assert reader.complete
    assert reader.keeps_alive


def test_all_body_of_one_block_is_taken_as_one_block() -> None:
    reader = ResponseReader("peer:443")
    reader.feed(CHUNKED + b"4\r\none \r\n" * 1000)
    assert reader.take() == b"one " * 1000
    assert reader.take() == b""


def test_a_block_may_be_overwritten_after_it_was_fed() -> None:
    reader, block = ResponseReader("peer:443"), bytearray(CHUNKED + b"3\r\none\r\n")
    reader.feed(memoryview(block))
    block[:] = bytes(len(block))
    assert reader.take() == b"one"


@pytest.mark.parametrize(
    ("answer", "keeps_alive"),
    [
        (HEAD + b"Content-Length: 1\r\n\r\n!", True),
        (CHUNKED + b"1\r\n!\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (HEAD + b"Connection: close\r\nContent-Length: 1\r\n\r\n!", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n!", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n!", True),
        # Bytes that nobody asked for: whose response would they be?
        (HEAD + b"Content-Length: 1\r\n\r\n!?", False),
        (HEAD + b"Content-Length: 1\r\n\r\n!" + HEAD, False),
        (b"HTTP/1.1 204 No Content\r\n\r\nbody", False),
    ],
)
def test_a_connection_is_kept_only_if_both_ends_know_where_they_are(
    answer: bytes, *, keeps_alive: bool
) -> None:
    reader, _ = read(answer)
    assert reader.complete
    assert reader.keeps_alive is keeps_alive


def test_bytes_behind_a_response_to_head_are_no_body_and_spoil_the_connection() -> None:
    reader, body = read(HEAD + b"Content-Length: 4\r\n\r\nbody", to_head_request=True)
    assert (reader.complete, reader.keeps_alive, body) == (True, False, b"")


def test_a_body_without_length_ends_with_the_connection() -> None:
    reader, body = read(HEAD + b"\r\n", b"one", b"two")
    assert not reader.complete
    reader.feed_eof()
    assert (reader.complete, reader.keeps_alive, body) == (True, False, b"onetwo")


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc",
    ],
)
def test_a_body_of_doubtful_extent_is_refused(answer: bytes) -> None:
    reader, _ = read(answer)
    assert not reader.head_complete
    with pytest.raises(httpx.RemoteProtocolError, match="peer:443"):
        reader.take()


def test_what_came_before_a_fault_is_taken_first() -> None:
    reader = ResponseReader("peer:443")
    reader.feed(CHUNKED + b"3\r\none\r\nzz\r\n")
    assert reader.take() == b"one"
    with pytest.raises(httpx.RemoteProtocolError):
        reader.take()


@pytest.mark.parametrize(
    ("size", "fits"), [(MAX_FRAMING_BYTES - 100, True), (MAX_FRAMING_BYTES + 1, False)]
)
def test_headers_have_a_limit(size: int, *, fits: bool) -> None:
    long_header = b"Long: " + bytes(size).replace(b"\0", b"x") + b"\r\n"
    answer = HEAD + long_header + b"Content-Length: 0\r\n\r\n"
    reader, _ = read(answer[: size // 2], answer[size // 2 :])
    assert reader.complete is fits
    assert (reader.fault is None) is fits


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        pytest.param(HEAD + b"Long: ", b"x" * 1000, id="one header without end"),
        pytest.param(HEAD, b"Header: x\r\n" * 100, id="headers without end"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40, id="interim responses"),
        pytest.param(CHUNKED + b"0\r\n", b"Trailer: x\r\n" * 100, id="trailers without end"),
        pytest.param(CHUNKED + b"1;", b"extension=x;" * 100, id="a chunk extension without end"),
    ],
)
def test_framing_without_end_is_cut_off(begin: bytes, more: bytes) -> None:
    reader = ResponseReader("peer:443")
    reader.feed(begin)
    for _ in range(MAX_FRAMING_BYTES // len(more) + 2):
        if reader.fault is None:
            reader.feed(more)
    assert reader.fault is not None
    assert "bytes of headers" in reader.fault


def request(*headers: tuple[str, str]) -> httpx.Request:
    return httpx.Request("GET", "http://a/b?c=d", headers=[("Host", "a"), *headers])


def test_a_head_is_the_request_line_and_the_headers_as_given() -> None:
    assert head_of(request(("X-Note", "a: b"), ("x-note", ""))) == (
        b"GET /b?c=d HTTP/1.1\r\nHost: a\r\nX-Note: a: b\r\nx-note: \r\n\r\n"
    )


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\0b"])
def test_a_head_cannot_be_broken_open_by_a_value_and_the_error_keeps_it_secret(value: str) -> None:
    with pytest.raises(httpx.LocalProtocolError, match="'Authorization'") as caught:
        head_of(request(("Authorization", f"Bearer secret{value}")))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("announced", [2, 4], ids=["longer", "shorter"])
def test_a_body_that_is_not_as_long_as_announced_is_refused(announced: int) -> None:
    framer = BodyFramer(chunked=False, owed_bytes=announced)
    with pytest.raises(httpx.LocalProtocolError):
        framer.frame(b"abc") + framer.end()


def test_a_request_cannot_have_two_framings() -> None:
    both = request(("Content-Length", "3"), ("Transfer-Encoding", "chunked"))
    with pytest.raises(httpx.LocalProtocolError):
        BodyFramer.of(both)
