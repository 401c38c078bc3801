"""Requests whose body comes piece by piece."""

from __future__ import annotations

import httpx
import trio


class Pieces(httpx.AsyncByteStream):
    """A request's body that comes piece by piece, and needs no closing when it is not read on."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = iter(pieces)

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


def posting(url: str, body: Pieces, length: int | None) -> httpx.Request:
    """Return a POST of `body`; without a `length` it goes out in chunks."""
    framing = ("Transfer-Encoding", "chunked")
    if length is not None:
        framing = ("Content-Length", str(length))
    return httpx.Request("POST", url, stream=body, headers=[("Host", "relay"), framing])
