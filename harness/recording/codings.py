"""Content codings, taken off piece by piece so that it stays known when each byte came."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol

import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB_HEADER_BYTES: Final = 2
#: zstandard cannot be told to write less, so it is given little at a time: nothing that is worth
#: recording grows to more than a few megabytes out of this.
_ZSTD_STEP_BYTES: Final = 1024


class CodingError(Exception):
    """The data is not what its coding says, or decodes to more than the limit."""


class _Decoder(Protocol):
    def feed(self, data: bytes, max_bytes: int) -> bytes:
        """Return what `data` adds.

        Raises:
            CodingError: see there.
        """


class _Gzip:
    """Gzip with all its members."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_GZIP)

    def feed(self, data: bytes, max_bytes: int) -> bytes:
        out = bytearray()
        while data:
            out += _inflated(self._inner, data, max_bytes - len(out))
            if data := self._inner.unused_data.lstrip(b"\0"):  # gzip pads with zeros
                self._inner = zlib.decompressobj(_GZIP)
        return bytes(out)


class _Deflate:
    """HTTP's `deflate`, which is zlib's format; some leave its header out (RFC 9110, 8.4.1.2)."""

    def __init__(self) -> None:
        self._inner: zlib._Decompress | None = None
        #: What has come of the two bytes that may be a header.
        self._held = b""

    def feed(self, data: bytes, max_bytes: int) -> bytes:
        if self._inner is None:
            data = self._held + data
            if len(data) < _ZLIB_HEADER_BYTES:
                self._held = data
                return b""
            is_zlib = data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
            self._inner = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        out = _inflated(self._inner, data, max_bytes)
        if self._inner.unused_data:
            raise CodingError("something follows it")
        return out


def _inflated(inner: zlib._Decompress, data: bytes, max_bytes: int) -> bytes:
    try:
        out = inner.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise CodingError(str(error)) from None
    if len(out) > max_bytes:
        raise CodingError("it is too large")
    return out


class _Zstd:
    """Zstandard with all its frames."""

    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)

    def feed(self, data: bytes, max_bytes: int) -> bytes:
        out = bytearray()
        for start in range(0, len(data), _ZSTD_STEP_BYTES):
            try:
                out += self._inner.decompress(data[start : start + _ZSTD_STEP_BYTES])
            except zstandard.ZstdError as error:
                raise CodingError(str(error)) from None
            if len(out) > max_bytes:
                raise CodingError("it is too large")
        return bytes(out)


_DECODERS: Final[Mapping[str, Callable[[], _Decoder]]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "zstd": _Zstd,
}


def decoded(blocks: Sequence[bytes], coding: str, *, max_bytes: int) -> list[bytes]:
    """Return what each block adds to the decoded body; `b""` where it adds nothing yet.

    A body that is not all there is decoded as far as it goes.

    Raises:
        CodingError: the coding is not known, the data is not what it says, or there would be more
            than `max_bytes`.
    """
    if coding not in _DECODERS:
        raise CodingError(f"{coding!r} is not known")
    decoder, pieces = _DECODERS[coding](), list[bytes]()
    for block in blocks:
        pieces.append(decoder.feed(block, max_bytes))
        max_bytes -= len(pieces[-1])
    return pieces
