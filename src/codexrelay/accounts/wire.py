"""One call of the account code's own, which is no turn: a request, and its whole answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay import __version__
from codexrelay.protocol.progress import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

USER_AGENT: Final = f"codexrelay/{__version__}"
#: For the connection, through a proxy too: what hangs there has let nothing out, and is told so.
CONNECT_S: Final = 10.0
#: No answer that is understood is longer; what is beyond is not kept, and a cut fails to parse.
MAX_ANSWER_BYTES: Final = 1 << 20
_CLOSE_S: Final = 1.0
#: Nothing was sent when one of these is raised.
NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


@attrs.frozen(kw_only=True)
class RawAnswer:
    """What came back. May hold tokens."""

    status: int
    body: bytes = attrs.field(repr=False)


def post(
    url: str, body: bytes, *, content_type: str, progress: Progress | None = None
) -> httpx.Request:
    """Return a request that is sent once at most, on a connection of its own.

    The body can be read once only: a transport sends a request a second time when a kept connection
    breaks under it, and what is posted here is good for one call. `progress` tells how far it got.
    """
    timeout = {"connect": CONNECT_S, "read": None, "write": None, "pool": None}
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
        extensions={"timeout": timeout} | (progress or Progress()).extensions,
    )


def keep_to(configured: httpx.URL, request: httpx.Request) -> None:
    """See to it that a request with a token leads to the place that its owner has configured.

    Raises:
        AssertionError: it leads elsewhere, which is a bug; nothing has been sent.
    """
    if _origin(request.url) != _origin(configured):
        raise AssertionError(f"a token was about to leave for {request.url.host}")


def _origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port


async def exchange(
    transport: httpx.AsyncBaseTransport,
    request: httpx.Request,
    *,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> RawAnswer:
    """Send the request and read its answer, `max_bytes` of it. The deadline is the caller's.

    Nothing is left open when it ends, whichever way.

    Raises:
        httpx.RequestError: there is no answer, or it broke off.
    """
    response = await transport.handle_async_request(request)
    try:
        return RawAnswer(status=response.status_code, body=await _read(response, max_bytes))
    finally:
        with trio.move_on_after(_CLOSE_S, shield=True):
            await response.aclose()


def words(error: httpx.RequestError) -> str:
    """Return what one of `NOT_SENT` says: who could not be reached, and by which proxy.

    Such texts speak of hosts, proxies and certificates. Others may quote what was sent or read.
    """
    told = str(error) if isinstance(error, NOT_SENT) else ""
    return told or type(error).__name__


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk[: max_bytes - len(body)]
    return bytes(body)
