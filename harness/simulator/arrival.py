"""A request as the rules see it: parsed, recorded, and dated."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING

import attrs
import trio
import zstandard

from codexrelay.protocol.raw import is_object, parse
from harness.simulator.seen import Seen

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject


class RefusedError(Exception):
    """The request is turned away with a status and a JSON body."""

    def __init__(self, status: int, body: JsonObject) -> None:
        super().__init__(f"refused with {status}")
        self.status = status
        self.body = body


@attrs.frozen
class HttpRequest:
    """A request that has arrived whole."""

    method: str
    target: str
    #: Names in lower case.
    headers: tuple[tuple[str, str], ...] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """Return the first value of the header `name` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)

    def query(self, name: str) -> str | None:
        """Return the first value of a query parameter, or None."""
        values = urllib.parse.parse_qs(self.target.partition("?")[2]).get(name, [])
        return values[0] if values else None

    def parsed(self) -> Json:
        """Return the body as JSON, a form as an object; None if it is neither.

        Codex CLI with a ChatGPT login compresses its bodies with zstd.
        """
        try:
            plain = _decompressed(self.body, self.header("content-encoding"))
            if (self.header("content-type") or "").startswith("application/x-www-form-urlencoded"):
                return dict(urllib.parse.parse_qsl(plain.decode("ascii")))
            return parse(plain)
        except (ValueError, zstandard.ZstdError):
            return None


@attrs.frozen
class Arrival:
    """One request: what was sent, what it says, its record, and when."""

    http: HttpRequest
    seen: Seen
    now_unix_s: float

    @property
    def bearer(self) -> str | None:
        """The token of `authorization: Bearer …`, or None."""
        scheme, _, token = (self.http.header("authorization") or "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" and token else None

    def json_object(self) -> JsonObject:
        """Return the body.

        Raises:
            RefusedError: it is no JSON object.
        """
        if not is_object(self.seen.body):
            raise RefusedError(400, {"detail": "The body is no JSON object"})
        return self.seen.body


def arrived(request: HttpRequest, *, now_unix_s: float) -> Arrival:
    """Return the request that has just arrived, with a new record of it."""
    seen = Seen(
        method=request.method,
        path=request.target,
        headers=list(request.headers),
        body=request.parsed(),
        arrived_at_s=trio.current_time(),
    )
    return Arrival(request, seen, now_unix_s)


def _decompressed(body: bytes, encoding: str | None) -> bytes:
    if encoding == "zstd":
        # Not `decompress`: it wants the size in the frame's header, which a streaming client omits.
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return body
