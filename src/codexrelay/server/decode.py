"""Request bodies: read within a limit, decompressed within the same limit, parsed.

Agents compress what they send (Codex CLI zstd when it is signed in with an account; wire notes 2),
and what is small on the wire may be large: no decoder here writes more than the limit.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, TypeAlias

import zstandard

from codexrelay.errors import RequestError
from codexrelay.protocol.raw import is_object, kind_of, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from codexrelay.protocol.raw import JsonObject
    from codexrelay.server.asked import Asked

#: Codings one upon the other. More than one is seen nowhere; a limit keeps a list from being work.
_MAX_CODINGS: Final = 3
#: Gzip members or zstd frames of one body; each costs a copy of what follows it.
_MAX_PARTS: Final = 64
#: How far a frame may look back (RFC 9659), and so how much memory it may ask for.
_ZSTD_WINDOW_BYTES: Final = 8 * 2**20
_BLOCK_BYTES: Final = 65536
_CUT: Final = "it ends too early"
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW_DEFLATE: Final = -zlib.MAX_WBITS


class _BrokenError(Exception):
    """The data is not what its coding says."""


class _TooLargeError(Exception):
    """The data decodes to more than the limit."""


async def read_body(asked: Asked, *, max_bytes: int) -> bytes:
    """Return the request's body, decoded.

    A body that announces more than `max_bytes` is refused without being read, one that turns out
    to be larger as soon as it is; `max_bytes` holds for the bytes on the wire and after decoding.

    Raises:
        RequestError: 413 too large, 415 a coding we do not know, 400 broken data.
    """
    data = await asked.read(max_bytes=max_bytes)
    if data is None:
        raise _too_large(max_bytes)
    codings = asked.values("content-encoding")
    return decode(data, ",".join(codings), max_bytes=max_bytes) if codings else data


def decode(data: bytes, encoding: str | None, *, max_bytes: int) -> bytes:
    """Undo the codings of a `Content-Encoding` header, the last one first.

    Raises:
        RequestError: see `read_body`.
    """
    codings = [name.strip().lower() for name in (encoding or "").split(",")]
    codings = [name for name in codings if name not in ("", "identity")]
    unknown = next((name for name in codings if name not in _DECODERS), None)
    if unknown is not None or len(codings) > _MAX_CODINGS:
        told = f"the content encoding {unknown!r}" if unknown else "so many content encodings"
        raise RequestError(
            message=f"codexrelay does not decode {told}; send one of {', '.join(_DECODERS)}, "
            "or no Content-Encoding",
            code="unsupported_content_encoding",
            status=415,
        )
    for name in reversed(codings):
        try:
            data = _DECODERS[name](data, max_bytes)
        except _TooLargeError:
            raise _too_large(max_bytes) from None
        except _BrokenError as error:
            raise RequestError(
                message=f"the request body is no valid {name} data: {error}",
                code="invalid_content_encoding",
            ) from None
    return data


def parse_body(data: bytes) -> JsonObject:
    """Parse a request body, which must be a JSON object.

    Raises:
        RequestError: 400; the message says where the text stops being JSON, and quotes none of it.
    """
    try:
        value = parse(data)
    except ValueError as error:
        told = "it is empty" if not data.strip() else str(error)
        raise RequestError(
            message=f"The request body is not valid JSON: {told}. Send one JSON object.",
            code="invalid_json",
        ) from None
    if not is_object(value):
        raise RequestError(
            message=f"The request body must be a JSON object, not {kind_of(value)}.",
            code="invalid_json",
        )
    return value


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(
        message=f"The request body is larger than {max_bytes} bytes (server.max_body_bytes).",
        code="request_too_large",
        status=413,
    )


# A *part* is what may stand several times in a row: a gzip member, a zstd frame. A part decoder
# takes data and a limit, and returns the decoded first part and what follows it.


def _inflate_part(data: bytes, max_bytes: int, wbits: int) -> tuple[bytes, bytes]:
    decoder = zlib.decompressobj(wbits)
    try:
        decoded = decoder.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise _BrokenError(str(error)) from None
    if len(decoded) > max_bytes:
        raise _TooLargeError
    if not decoder.eof:
        raise _BrokenError(_CUT)
    return decoded, decoder.unused_data


def _gunzip_part(data: bytes, max_bytes: int) -> tuple[bytes, bytes]:
    decoded, rest = _inflate_part(data, max_bytes, _GZIP)
    return decoded, rest.lstrip(b"\0")  # gzip pads with zeros


def _zstd_part(data: bytes, max_bytes: int) -> tuple[bytes, bytes]:
    decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    try:
        # zstandard's reader is bounded and does not notice a frame that was cut; its decompressobj
        # notices and is not bounded. So: first count, keeping nothing, then decode.
        _count(decoder.stream_reader(data), max_bytes)
        frame = decoder.decompressobj()
        decoded = frame.decompress(data)
    except zstandard.ZstdError as error:
        raise _BrokenError(str(error)) from None
    if not frame.eof:
        raise _BrokenError(_CUT)
    return decoded, frame.unused_data


def _count(reader: zstandard.ZstdDecompressionReader, max_bytes: int) -> None:
    scratch, counted = bytearray(_BLOCK_BYTES), 0
    while length := reader.readinto(scratch):
        counted += length
        if counted > max_bytes:
            raise _TooLargeError


def _all_parts(data: bytes, max_bytes: int, part: _PartDecoder) -> bytes:
    decoded: list[bytes] = []
    for _ in range(_MAX_PARTS):
        piece, data = part(data, max_bytes)
        decoded.append(piece)
        max_bytes -= len(piece)
        if not data:
            return b"".join(decoded)
    raise _BrokenError(f"it has more than {_MAX_PARTS} parts")


def _gunzip(data: bytes, max_bytes: int) -> bytes:
    return _all_parts(data, max_bytes, _gunzip_part)


def _unzstd(data: bytes, max_bytes: int) -> bytes:
    return _all_parts(data, max_bytes, _zstd_part)


def _inflate(data: bytes, max_bytes: int) -> bytes:
    # HTTP's `deflate` is zlib's format (RFC 9110, 8.4.1.2); some clients leave its header out.
    try:
        decoded, rest = _inflate_part(data, max_bytes, _ZLIB)
    except _BrokenError:
        decoded, rest = _inflate_part(data, max_bytes, _RAW_DEFLATE)
    if rest:
        raise _BrokenError("something follows it")
    return decoded


_PartDecoder: TypeAlias = "Callable[[bytes, int], tuple[bytes, bytes]]"
_DECODERS: Final[Mapping[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate,
    "zstd": _unzstd,
}
