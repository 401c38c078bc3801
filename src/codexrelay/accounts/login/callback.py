"""The listener that the issuer sends the browser to.

It answers one address, believes nobody without the state, and shows no secret. The page waits for
the tokens, so that what it says is true when it stands there.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay.accounts.login.authorize import CALLBACK_PATH
from codexrelay.accounts.login.errors import LoginError
from codexrelay.accounts.login.pages import page
from codexrelay.accounts.login.redirect import NotOurs, read_redirect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.accounts.login.waiting import Waiting

_MAX_HEAD_BYTES: Final = 16 * 1024
#: A browser that has connected sends its request within this, or is let go.
_HEAD_S: Final = 10.0

_DONE: Final = page(
    200,
    title="Signed in",
    text="codexrelay has its tokens. You can close this window and go back to the terminal.",
)
_NOT_FOUND: Final = page(404, title="Not found", text="Nothing but a sign-in ends here.")
_FOREIGN_HOST: Final = page(
    403, title="Not here", text="This listener answers to localhost only, by that name."
)
_NOT_HTTP: Final = page(400, title="Not understood", text="This is no request of a browser.")


@attrs.frozen
class _Request:
    """What counts of a browser's request."""

    method: str
    path: str
    query: str = attrs.field(repr=False)
    host: str


async def serve_callback(listeners: Sequence[trio.SocketListener], waiting: Waiting) -> None:
    """Bring what browsers come back with to `waiting`, until cancelled. Closes the listeners."""
    port = listeners[0].socket.getsockname()[1]
    hosts = frozenset(f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]"))
    serve = functools.partial(_serve_browser, hosts=hosts, waiting=waiting)
    await trio.serve_listeners(serve, list(listeners))


async def _serve_browser(
    stream: trio.SocketStream, *, hosts: frozenset[str], waiting: Waiting
) -> None:
    async with stream:
        # The browser may leave at any point; another one may still come.
        with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(_HEAD_S) as budget:
            head = await _head(stream)
            if head is not None:
                budget.deadline = float("inf")  # the owner takes the time the sign-in has
                await _answer(stream, _parsed(head), hosts=hosts, waiting=waiting)


async def _answer(
    stream: trio.SocketStream,
    request: _Request | None,
    *,
    hosts: frozenset[str],
    waiting: Waiting,
) -> None:
    if request is None:
        return await stream.send_all(_NOT_HTTP)
    # A page elsewhere on the web could reach this port under a name of its own.
    if request.host.lower() not in hosts:
        return await stream.send_all(_FOREIGN_HOST)
    if request.method != "GET" or request.path != CALLBACK_PATH:
        return await stream.send_all(_NOT_FOUND)
    answer = read_redirect(request.query, state=waiting.state)
    if isinstance(answer, NotOurs):
        text = f"This answer cannot be used: {answer.why}. The right one is still waited for."
        return await stream.send_all(page(400, title="Not this sign-in", text=text))
    waiting.offer(answer)
    with waiting.browser():
        ending = await waiting.ending()
        if isinstance(ending, LoginError):
            return await stream.send_all(page(400, title="Not signed in", text=ending.message))
        return await stream.send_all(_DONE)


async def _head(stream: trio.SocketStream) -> bytes | None:
    """Return the request up to its blank line; None if the browser leaves before, or never ends."""
    head = bytearray()
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some(_MAX_HEAD_BYTES)
        head += data
        if not data or len(head) > _MAX_HEAD_BYTES:
            return None
    return bytes(head).partition(b"\r\n\r\n")[0]


def _parsed(head: bytes) -> _Request | None:
    """Return the request, None if it is no HTTP/1.1 with one Host."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    fields = [line.partition(":") for line in lines]
    hosts = [value.strip() for name, _, value in fields if name.lower() == "host"]
    if len(hosts) != 1:
        return None
    path, _, query = words[1].partition("?")
    return _Request(method=words[0], path=path, query=query, host=hosts[0])
