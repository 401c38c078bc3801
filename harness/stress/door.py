"""The door before the sign-in service: every call goes through it, and may be held up in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import h11
import httpx
import trio

from codexrelay.protocol.raw import get_text, parse_object
from harness.simulator.loopback import HOST
from harness.stress.books import Books, Call

_RECEIVE_BYTES = 64 * 1024


@attrs.define(eq=False, kw_only=True)
class Door:
    """One program's way to the sign-in service.

    Serve it with `url = await nursery.start(door.serve)`.
    """

    by: str
    books: Books
    #: Base URL of the sign-in service.
    issuer_url: str
    #: Speaks to the sign-in service; shared.
    http: httpx.AsyncClient
    #: What is waited for before the issuer looks at a token, and before its answer leaves.
    before: Callable[[Call], Awaitable[None]]
    after: Callable[[Call], Awaitable[None]]

    async def serve(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started with the base URL."""
        listeners = await trio.open_tcp_listeners(0, host=HOST)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._serve_call, listeners)
            task_status.started(f"http://{HOST}:{listeners[0].socket.getsockname()[1]}")

    async def _serve_call(self, stream: trio.SocketStream) -> None:
        """Serve the one call of a connection."""
        connection = h11.Connection(h11.SERVER)
        try:
            async with stream:
                body = await _body(stream, connection)
                token = get_text(parse_object(body), "refresh_token") or ""
                call = self.books.arrive(self.by, token)
                if await self._has_left(stream, call):
                    call.dropped = True
                    return
                answer = await self.http.post(
                    f"{self.issuer_url}/oauth/token",
                    content=body,
                    headers={"content-type": "application/json"},
                )
                self.books.decide(call, answer.status_code, parse_object(answer.content))
                await self.after(call)
                await stream.send_all(_answer(connection, answer.status_code, answer.content))
                call.answered = True
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            return  # the caller was killed: what the issuer has done is in the books

    async def _has_left(self, stream: trio.SocketStream, call: Call) -> bool:
        """Wait before the issuer looks at the token; tell whether the caller left meanwhile."""
        left = False

        async def watch(scope: trio.CancelScope) -> None:
            nonlocal left
            try:
                left = not await stream.receive_some(1)
            except trio.BrokenResourceError:
                left = True
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            await self.before(call)
            nursery.cancel_scope.cancel()
        return left


async def _body(stream: trio.SocketStream, connection: h11.Connection) -> bytes:
    """Return the body of the request.

    Raises:
        h11.RemoteProtocolError: the caller left within it.
    """
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body)
        elif not isinstance(event, h11.Request):
            raise h11.RemoteProtocolError("no request")


def _answer(connection: h11.Connection, status: int, content: bytes) -> bytes:
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(content))),
        ("connection", "close"),
    ]
    events = (
        h11.Response(status_code=status, headers=headers),
        h11.Data(data=content),
        h11.EndOfMessage(),
    )
    return b"".join(connection.send(event) or b"" for event in events)
