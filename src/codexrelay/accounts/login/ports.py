"""The port that the issuer sends the browser to, on both addresses that `localhost` may mean."""

from __future__ import annotations

import contextlib
import errno
import re
from typing import TYPE_CHECKING, Final

import trio

from codexrelay.accounts.login.errors import LoginError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

#: The only one that the real issuer has registered for this client.
CALLBACK_PORT: Final = 1455
_IPV4: Final = "127.0.0.1"
_IPV6: Final = "::1"
#: How long another sign-in's listener may take to answer and to go.
_CANCEL_S: Final = 2.0
_LOOK_AGAIN_S: Final = 0.1
#: Ports the system chooses for IPv4 that may be taken on IPv6, one after the other.
_CHOICES: Final = 20
_BACKLOG: Final = 16
_SUCCESS: Final = re.compile(rb"HTTP/1\.[01] 2\d\d ")


class _TakenError(Exception):
    """Somebody else listens there."""


@contextlib.asynccontextmanager
async def callback_port(port: int) -> AsyncIterator[Sequence[trio.SocketListener]]:
    """Listen on `port` (0: one the system chooses) until the block ends.

    A port that another sign-in holds is asked for once, as Codex CLI does it: `GET /cancel`.

    Raises:
        LoginError: the port is not to be had; the text names the ways without it.
    """
    listeners = await _listeners(port)
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.socket.close()  # at once: nothing here may wait under a cancel


async def _listeners(port: int) -> list[trio.SocketListener]:
    with contextlib.suppress(_TakenError):
        return await _opened(port)
    if await _agrees_to_leave(port):
        with trio.move_on_after(_CANCEL_S):
            while True:
                with contextlib.suppress(_TakenError):
                    return await _opened(port)
                await trio.sleep(_LOOK_AGAIN_S)
    raise _not_to_be_had(port, "another program listens there")


async def _opened(port: int) -> list[trio.SocketListener]:
    """Return the listeners of one port.

    Raises:
        _TakenError: the port is taken, on either address: the browser might go to the other one.
        LoginError: the system does not let us have it.
    """
    for _ in range(_CHOICES):
        with contextlib.ExitStack() as undo:
            try:
                first = await _listener(_IPV4, port)
            except OSError as error:
                raise _not_to_be_had(port, error.strerror or "no reason given") from error
            undo.callback(first.socket.close)
            try:
                listeners = [first, await _listener(_IPV6, first.socket.getsockname()[1])]
            except _TakenError:
                if port:
                    raise
                continue
            except OSError:  # a machine without IPv6
                listeners = [first]
            undo.pop_all()
            return listeners
    raise _not_to_be_had(port, "no port is free on both addresses")


async def _listener(host: str, port: int) -> trio.SocketListener:
    try:
        [listener] = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _TakenError from error
        raise
    return listener


async def _agrees_to_leave(port: int) -> bool:
    """Ask the program on `port` to end its sign-in. One that waits for none knows no such address.

    Source: Codex CLI's own listener and OpenCode's (wire notes 1.1).
    """
    request = f"GET /cancel HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\n\r\n"
    with trio.move_on_after(_CANCEL_S), contextlib.suppress(OSError, trio.BrokenResourceError):
        async with await trio.open_tcp_stream(_IPV4, port) as stream:
            await stream.send_all(request.encode("ascii"))
            return _SUCCESS.match(await stream.receive_some(1024)) is not None
    return False


def _not_to_be_had(port: int, why: str) -> LoginError:
    return LoginError(
        f"port {port} cannot be used for the sign-in ({why}), and the sign-in service knows no "
        "other. End the other sign-in, or use `--device` (type a code at a page) or `--no-browser` "
        "(paste the address that the browser ends at)"
    )
