"""Request bodies: codings, limits, and what is no JSON."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from quart import Response, request
from quart_trio import QuartTrio

from codexrelay.errors import RequestError
from codexrelay.server.asked import asked_over
from codexrelay.server.decode import decode, parse_body, read_body
from tests.fakes.live_server import serving

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20
LIMIT = MIB


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def zstd_streamed(data: bytes) -> bytes:
    """A frame that does not say how large its content is."""
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return compressor.compress(data) + compressor.flush()


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "gzip, padded with zeros": ("gzip", lambda data: gzip.compress(data) + bytes(9)),
    "gzip, two members": (
        "gzip",
        lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:]),
    ),
    "deflate": ("deflate", zlib.compress),
    "deflate without zlib's header": ("deflate", raw_deflate),
    "zstd": ("zstd", zstd),
    "zstd without content size": ("zstd", zstd_streamed),
    "zstd, two frames": ("zstd", lambda data: zstd(data[:7]) + zstd_streamed(data[7:])),
}
encoders = pytest.mark.parametrize(("name", "encode"), list(ENCODERS.values()), ids=list(ENCODERS))


@encoders
@given(data=st.binary(max_size=2000))
def test_what_was_encoded_comes_back(
    name: str, encode: Callable[[bytes], bytes], data: bytes
) -> None:
    assert decode(encode(data), name, max_bytes=LIMIT) == data


@encoders
def test_the_limit_is_the_last_size_that_passes(
    name: str, encode: Callable[[bytes], bytes]
) -> None:
    data = b"0123456789" * 100
    assert decode(encode(data), name, max_bytes=1000) == data
    with pytest.raises(RequestError) as caught:
        decode(encode(data), name, max_bytes=999)
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")


@encoders
def test_a_bomb_is_stopped_without_being_expanded(
    name: str, encode: Callable[[bytes], bytes]
) -> None:
    bomb = encode(bytes(256 * MIB if name == "zstd" else 64 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError) as caught:
            decode(bomb, name, max_bytes=LIMIT)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.status == 413
    assert peak_bytes < 4 * MIB + 2 * len(bomb)


@encoders
@pytest.mark.parametrize("cut", [1, 5, 20], ids="{} bytes are missing".format)
def test_data_that_was_cut_is_refused(
    name: str, encode: Callable[[bytes], bytes], cut: int
) -> None:
    encoded = encode(b"0123456789" * 10).rstrip(b"\0")
    with pytest.raises(RequestError) as caught:
        decode(encoded[:-cut], name, max_bytes=LIMIT)
    assert (caught.value.status, caught.value.code) == (400, "invalid_content_encoding")


@encoders
@given(data=st.binary(max_size=300))
def test_any_data_gives_bytes_within_the_limit_or_a_request_error(
    name: str, encode: Callable[[bytes], bytes], data: bytes
) -> None:
    for tried in (data, encode(data)[:-1] + data, data + encode(data)):
        with contextlib.suppress(RequestError):
            assert len(decode(tried, name, max_bytes=1000)) <= 1000


def test_a_zstd_frame_may_not_ask_for_a_large_window() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(b"x") + compressor.flush()
    with pytest.raises(RequestError) as caught:
        decode(data, "zstd", max_bytes=LIMIT)
    assert caught.value.status == 400


def test_endless_empty_members_are_refused() -> None:
    with pytest.raises(RequestError) as caught:
        decode(gzip.compress(b"") * 1000, "gzip", max_bytes=LIMIT)
    assert caught.value.status == 400


def test_a_list_of_codings_is_undone_from_its_end() -> None:
    data = zstd(gzip.compress(b"{}"))
    assert decode(data, "gzip, ZSTD", max_bytes=LIMIT) == b"{}"


@pytest.mark.parametrize("encoding", [None, "", "identity", " Identity , ,identity"])
def test_identity_changes_nothing(encoding: str | None) -> None:
    assert decode(b"{}", encoding, max_bytes=LIMIT) == b"{}"


def test_an_unknown_coding_is_refused_by_name_with_those_that_are_known() -> None:
    with pytest.raises(RequestError) as caught:
        decode(b"{}", "gzip, br", max_bytes=LIMIT)
    assert caught.value.status == 415
    assert "'br'" in caught.value.message
    assert "zstd" in caught.value.message


def test_a_long_list_of_codings_is_refused() -> None:
    with pytest.raises(RequestError) as caught:
        decode(b"", "gzip, gzip, gzip, gzip", max_bytes=LIMIT)
    assert caught.value.status == 415


# --- reading --------------------------------------------------------------------------------------


@pytest.fixture
def app() -> QuartTrio:
    app = QuartTrio(__name__)
    app.config["MAX_CONTENT_LENGTH"] = None

    @app.post("/")
    async def size() -> Response:
        try:
            return Response(str(len(await read_body(asked_over(request), max_bytes=100_000))))
        except RequestError as error:
            return Response(error.code, status=error.status)

    return app


def post(body: bytes, *headers: str) -> bytes:
    return "\r\n".join(["POST / HTTP/1.1", "Host: x", *headers, "", ""]).encode() + body


async def test_a_body_is_read_and_decoded(app: QuartTrio) -> None:
    body = zstd(b"a" * 50_000)
    async with serving(app) as server, server.connect() as client:
        await client.send(post(body, f"Content-Length: {len(body)}", "Content-Encoding: zstd"))
        assert await client.receive_response() == (200, b"50000")


async def test_a_chunked_body_is_read(app: QuartTrio) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.send(post(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "Transfer-Encoding: chunked"))
        assert await client.receive_response() == (200, b"5")


async def test_an_empty_body_is_read(app: QuartTrio) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.send(post(b"", "Content-Length: 0"))
        assert await client.receive_response() == (200, b"0")


async def test_a_body_that_announces_too_much_is_refused_without_being_read(
    app: QuartTrio,
) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.send(post(b"", "Content-Length: 100001"))
        assert await client.receive_response() == (413, b"request_too_large")


async def test_a_chunked_body_that_turns_out_too_large_is_refused_while_it_comes(
    app: QuartTrio,
) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.send(
            post(b"186A1\r\n" + bytes(100_001) + b"\r\n", "Transfer-Encoding: chunked")
        )
        assert await client.receive_response() == (413, b"request_too_large")


async def test_a_body_that_decodes_to_too_much_is_refused(app: QuartTrio) -> None:
    body = gzip.compress(bytes(100_001))
    async with serving(app) as server, server.connect() as client:
        await client.send(post(body, f"Content-Length: {len(body)}", "Content-Encoding: gzip"))
        assert await client.receive_response() == (413, b"request_too_large")


# --- parsing --------------------------------------------------------------------------------------


@given(value=st.dictionaries(st.text(), st.none() | st.booleans() | st.text() | st.integers(0, 9)))
def test_an_object_is_parsed(value: dict[str, object]) -> None:
    assert parse_body(orjson.dumps(value)) == value


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"secret-word": ', "line 1 column"),
        (b'{\n"secret-word": 1,}', "line 2 column"),
        (b'{"secret-word": "\xff"}', "not valid JSON"),
        (b"", "it is empty"),
        (b"  \n", "it is empty"),
        (b'["secret-word"]', "not an array"),
        (b"null", "not null"),
    ],
)
def test_what_is_no_object_is_refused_with_its_place_and_not_quoted(data: bytes, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_body(data)
    assert (caught.value.status, caught.value.param) == (400, None)
    assert told in caught.value.message
    assert "secret-word" not in caught.value.message


def test_endless_nesting_is_refused() -> None:
    with pytest.raises(RequestError):
        parse_body(b'{"a":' * 100_000)
