"""What is noted of one request: bodies with their times, codings, limits."""

from __future__ import annotations

import gzip
import itertools
import zlib
from typing import TYPE_CHECKING

import pytest
import trio
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from harness.recording.codings import CodingError, decoded
from harness.recording.tape import Tape
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = b"the quick brown fox, over and over; " * 200
BLOCKS = (b"event: response.completed\n", b'data: {"type":"response.completed"}\n\n')


def raw_deflate(data: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeezer.compress(data) + squeezer.flush()


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "zstd": ("zstd", zstandard.ZstdCompressor().compress),
}


def tape(**more: object) -> Tape:
    given: dict[str, object] = {
        "track": "upstream",
        "number": 1,
        "began_at_s": 0.0,
        "method": "POST",
        "uri": "http://openai-codex/responses",
        "request_headers": (),
    }
    return Tape(**(given | more))  # type: ignore[arg-type]


@in_virtual_time
async def test_each_block_is_kept_with_its_time_and_its_end() -> None:
    noted = tape()
    await trio.sleep(0.25)
    noted.head(200, "OK", ())
    for block in BLOCKS:
        await trio.sleep(0.5)
        noted.receive(block)
    noted.end("eof")
    response = noted.taken().interaction().response
    assert response.head_at_s == 0.25
    assert response.stream.at_s == (0.75, 1.25)
    assert response.stream.ends == (len(BLOCKS[0]), len(response.body))
    assert response.body == b"".join(BLOCKS)
    assert response.stream.complete


@in_virtual_time
async def test_what_is_under_way_is_incomplete_even_if_all_of_it_is_there() -> None:
    noted = tape()
    noted.head(200, "OK", ())
    for block in BLOCKS:
        noted.receive(block)
    stream = noted.taken().interaction().response.stream
    assert (stream.complete, stream.end) == (False, "idle")


@in_virtual_time
async def test_only_the_first_word_about_the_end_counts() -> None:
    noted = tape()
    noted.end("reset")
    noted.end("closed-by-relay")
    assert noted.taken().interaction().response.stream.end == "reset"


@in_virtual_time
async def test_a_body_above_the_limit_is_cut_and_marked() -> None:
    noted = tape(max_body_bytes=10)
    noted.head(200, "OK", ())
    for block in (b"12345678", b"90ab", b"cdef"):
        noted.receive(block)
    noted.end("eof")
    response = noted.taken().interaction().response
    assert response.body == b"1234567890"
    assert response.stream.ends == (8, 10)
    assert not response.stream.complete


@pytest.mark.parametrize("coding", CODINGS)
@in_virtual_time
async def test_a_coding_is_taken_off_and_the_ends_count_what_was_decoded(coding: str) -> None:
    name, encode = CODINGS[coding]
    encoded = encode(TEXT)
    noted = tape(request_headers=(("content-encoding", name), ("content-length", "7")))
    noted.send(encoded)
    noted.head(200, "OK", (("content-encoding", name), ("x-other", "kept")))
    for start in range(0, len(encoded), 7):
        noted.receive(encoded[start : start + 7])
    noted.end("eof")
    one = noted.taken().interaction()
    assert one.request.body == one.response.body == TEXT
    assert one.request.coding == one.response.coding == name
    assert one.request.headers == (("content-length", str(len(TEXT))),)
    assert one.response.headers == (("x-other", "kept"),)
    ends = one.response.stream.ends
    assert ends[-1] == len(TEXT)
    assert all(a < b for a, b in itertools.pairwise(ends))
    assert len(ends) == len(one.response.stream.at_s)


@pytest.mark.parametrize("name", ["gzip", "br", "zstd, gzip"])
@in_virtual_time
async def test_what_cannot_be_decoded_is_kept_as_it_is(name: str) -> None:
    noted = tape()
    headers = (("content-encoding", name),)
    noted.head(200, "OK", headers)
    noted.receive(b"no such thing")
    noted.end("eof")
    response = noted.taken().interaction().response
    assert (response.body, response.coding) == (b"no such thing", None)
    assert response.headers == headers


@given(coding=st.sampled_from(sorted(CODINGS)), cuts=st.sets(st.integers(1, 60)))
def test_what_is_decoded_does_not_depend_on_the_blocks(coding: str, cuts: set[int]) -> None:
    name, encode = CODINGS[coding]
    encoded = encode(TEXT)
    edges = [0, *sorted(cut for cut in cuts if cut < len(encoded)), len(encoded)]
    blocks = [encoded[a:b] for a, b in itertools.pairwise(edges)]
    pieces = decoded(blocks, name, max_bytes=len(TEXT))
    assert len(pieces) == len(blocks)
    assert b"".join(pieces) == TEXT


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_members_and_frames_are_one_body(coding: str) -> None:
    name, encode = CODINGS[coding]
    assert b"".join(decoded([encode(b"one, ") + encode(b"two")], name, max_bytes=99)) == b"one, two"


@pytest.mark.parametrize("coding", CODINGS)
def test_a_small_body_that_decodes_to_a_large_one_is_not_decoded(coding: str) -> None:
    name, encode = CODINGS[coding]
    with pytest.raises(CodingError, match="too large"):
        decoded([encode(bytes(10_000_000))], name, max_bytes=100_000)
