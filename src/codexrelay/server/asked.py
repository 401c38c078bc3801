"""What a client has asked, as the routes see it: headers that are read once, and a body to come.

It is the same whether quart has the request in its hands or an `Exchange` has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from quart.wrappers import Request, Websocket


class ReadBody(Protocol):
    """Reads the body of a request."""

    async def __call__(self, *, max_bytes: int) -> bytes | None:
        """Return the body as it was sent; None if it is larger than `max_bytes`.

        A body that announces more is not read at all.
        """


async def _no_body(*, max_bytes: int) -> bytes | None:  # noqa: ARG001 - named by the seam
    return b""


@attrs.define(eq=False)
class Asked:
    """The headers of a request, and its body."""

    #: As they were sent.
    pairs: Collection[tuple[bytes, bytes]] = attrs.field(repr=False)
    read: ReadBody = attrs.field(default=_no_body, repr=False)
    #: Lower-case names; of repeated headers the last one.
    headers: Mapping[str, str] = attrs.field(init=False, repr=False)

    #: A header was sent twice.
    _repeats: bool = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.pairs
        }
        self._repeats = len(self.headers) < len(self.pairs)

    def let_go(self) -> None:
        """Keep no header: whoever has read them keeps what is still of use."""
        self.pairs, self.headers = (), {}

    def values(self, name: str) -> list[str]:
        """Return every value that a header was sent with; `name` is in lower case."""
        if name not in self.headers:
            return []
        if not self._repeats:
            return [self.headers[name]]
        sent = name.encode("ascii")
        return [value.decode("latin-1") for each, value in self.pairs if each.lower() == sent]


def asked_over(request: Request) -> Asked:
    """Return what stands in a request of quart's."""
    return Asked(tuple(request.scope["headers"]), partial(_read_body, request))


def handshake_of(websocket: Websocket) -> Asked:
    """Return what stands in the request for a WebSocket."""
    return Asked(tuple(websocket.scope["headers"]))


async def _read_body(request: Request, *, max_bytes: int) -> bytes | None:
    """See `ReadBody`; one that turns out to be too large is left as soon as it does."""
    if (request.content_length or 0) > max_bytes:
        return None
    body = bytearray()
    async for chunk in request.body:
        body += chunk
        if len(body) > max_bytes:
            return None
    return bytes(body)
