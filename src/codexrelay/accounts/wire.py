"""One call of the account code's own, which is no turn: a request, and its whole answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

USER_AGENT: Final = f"codexrelay/{__version__}"
#: No answer that is understood is longer; what is beyond is not kept, and a cut fails to parse.
MAX_ANSWER_BYTES: Final = 1 << 20
_CLOSE_S: Final = 1.0


@attrs.frozen(kw_only=True)
class RawAnswer:
    """What came back. May hold tokens."""

    status: int
    body: bytes = attrs.field(repr=False)


def post(url: str, body: bytes, *, content_type: str) -> httpx.Request:
    """Return a request that is sent once at most, on a connection of its own.

    The body can be read once only: a transport sends a request a second time when a kept connection
    breaks under it, and what is posted here is good for one call.
    """
    return httpx.Request(
        "POST",
        url,
        headers={
            "accept": "application/json",
            "accept-encoding": "identity",
            # The next call may be a person's time away: a kept connection would break under it.
            "connection": "close",
            "content-length": str(len(body)),
            "content-type": content_type,
            "user-agent": USER_AGENT,
        },
        content=_once(body),
    )


async def exchange(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> RawAnswer:
    """Send the request and read its answer. The deadline is the caller's.

    Nothing is left open when it ends, whichever way.

    Raises:
        httpx.RequestError: there is no answer, or it broke off.
    """
    response = await transport.handle_async_request(request)
    try:
        return RawAnswer(status=response.status_code, body=await _read(response))
    finally:
        with trio.move_on_after(_CLOSE_S, shield=True):
            await response.aclose()


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk[: MAX_ANSWER_BYTES - len(body)]
    return bytes(body)
