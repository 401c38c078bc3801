"""`GET /v1/responses` with an upgrade: Responses over a WebSocket, one turn after the other.

A message is a request, with all that it goes on from in its input (`incoming.receive_message`), and
from there on a turn as a POST makes it: the same session, legs, ladder and events. Each event is
one text message, whose text is the event's own. What a client does that cannot be meant is told in
one message with a status, and the WebSocket stays usable.

| closed with | why |
| --- | --- |
| 1000 | nothing was asked for `IDLE_S` seconds |
| 1001 | the relay is being stopped; a turn that runs comes to its end first |
| 1003 | a binary message |

What else closes it is the connection's business (`websocket_stream`).
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import structlog
import trio
from quart import websocket

from codexrelay.errors import RequestError, SessionLostError
from codexrelay.protocol import client_frames, frames, warm_up
from codexrelay.protocol.client_frames import Create, Interrupt
from codexrelay.protocol.openai_errors import error_object
from codexrelay.protocol.raw import dump, get_text
from codexrelay.relay.active import Interruption
from codexrelay.relay.turn import run_turn
from codexrelay.server import responses, turns
from codexrelay.server.asked import handshake_of
from codexrelay.server.client_socket import ClientSocket, client_socket
from codexrelay.server.incoming import Handshake, receive_message, refusal_of
from codexrelay.server.services import Services

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Headers
    from codexrelay.server.incoming import Incoming
    from codexrelay.server.turns import Begun

#: A client that is there keeps its connection for the next turn; one that is not has gone without a
#: word. As long as the backend keeps a connection at most (wire notes 7).
IDLE_S: Final = 3600.0
#: Messages that wait behind a running turn; further ones wait in the connection, which then is not
#: read. Real clients send none.
MAX_WAITING: Final = 2

_log = structlog.get_logger("codexrelay.websocket")


@attrs.frozen
class _End:
    """The WebSocket is to be closed."""

    code: int
    reason: str


_Said: TypeAlias = Create | RequestError | _End
_STOPPED: Final = _End(1001, "codexrelay is being stopped")
_IDLE: Final = _End(1000, f"nothing was asked for {IDLE_S / 60:.0f} minutes")
_BINARY: Final = _End(1003, "only text messages are taken here")


async def answer(services: Services) -> None:
    """Serve the current WebSocket until one side ends it.

    Raises:
        RequestError: the handshake says to the relay what cannot be meant; nothing was accepted.
    """
    handshake = Handshake.of(handshake_of(websocket))
    socket = client_socket()
    await socket.accept()
    talk = _Talk(socket, handshake, services)
    services.totals.client_sockets += 1
    try:
        with services.drain.holds(talk):
            end = await talk.run()
        await socket.close(end.code, end.reason)
    finally:
        services.totals.client_sockets -= 1


@attrs.define(eq=False)
class SocketClient:
    """A `line.Client`: each event of the answer becomes a message. A client that leaves cancels."""

    _socket: ClientSocket

    @property
    def prompt(self) -> None:
        """See `relay.line.Client`."""

    async def start(self, status: int, headers: Headers) -> None:
        """Do nothing: a message has no head."""

    async def send(self, data: bytes) -> None:
        """Send whole events, in one write. What is no JSON object is no event for a client."""
        texts = [text for text in frames.messages(data) if text.lstrip()[:1] == b"{"]
        await self._socket.send_messages(texts)

    async def end(self) -> None:
        """Do nothing: the WebSocket stays open."""


@attrs.define(eq=False)
class _Talk:
    """One client on its WebSocket. Its task runs the turns; a second one listens meanwhile."""

    _socket: ClientSocket
    _handshake: Handshake
    _services: Services
    #: What the client has said while a turn ran, in order.
    _waiting: deque[_Said] = attrs.field(factory=deque, init=False)
    #: The present wait for a message; None while a turn runs.
    _idle: trio.CancelScope | None = attrs.field(default=None, init=False)

    def close_if_idle(self) -> None:
        """See `Drainable`; without a turn there is nothing to wait for."""
        if self._idle is not None:
            self._idle.cancel()

    def cut(self) -> None:
        """See `Drainable`: the connection is cut by itself, and cancels this."""

    async def run(self) -> _End:
        """Answer until there is a reason to end it; cancelled when the client leaves."""
        while True:
            if self._services.drain.draining:
                return _STOPPED
            said = self._waiting.popleft() if self._waiting else await self._next()
            match said:
                case _End():
                    return said
                case RequestError():
                    await self._refuse(said)
                case Create():
                    await self._take(said)

    async def _next(self) -> _Said:
        """Wait for the client's next message that wants something."""
        with trio.CancelScope(deadline=trio.current_time() + IDLE_S) as self._idle:
            while (said := self._read(await self._socket.receive())) is None:
                pass
            self._idle = None  # no checkpoint since it came: it is answered, whatever begins now
            return said
        self._idle = None
        return _STOPPED if self._services.drain.draining else _IDLE

    def _read(self, message: str | bytes) -> _Said | None:
        """Return what a message wants; None: nothing that is answered."""
        said = self._parsed(message)
        # To an interrupt that comes too late there is nothing to say either.
        return said if isinstance(said, _Said) else None

    def _parsed(self, message: str | bytes) -> client_frames.Said | RequestError | _End:
        if isinstance(message, bytes):
            return _BINARY
        max_bytes = self._services.settings.max_body_bytes
        # As UTF-8 a character has four bytes at most, so that most messages are not counted.
        if len(message) * 4 > max_bytes and len(message.encode()) > max_bytes:
            return RequestError(
                message=f"The message is larger than {max_bytes} bytes (server.max_body_bytes).",
                code="request_too_large",
                status=413,
            )
        try:
            return client_frames.read(message)
        except RequestError as error:
            return error

    async def _take(self, create: Create) -> None:
        """Answer a message, and hear meanwhile whether the client interrupts that."""
        interruption = Interruption()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, interruption)
            try:
                await self._serve(create, interruption)
            except RequestError as error:
                await self._refuse(error)
            except Exception:  # noqa: BLE001 - the request border: the client is told, and may ask again
                _log.exception("unforeseen error in a message on a WebSocket")
                await self._refuse(_UNFORESEEN)
            nursery.cancel_scope.cancel()

    async def _listen(self, interruption: Interruption) -> None:
        """Take what the client says while a turn runs."""
        while len(self._waiting) < MAX_WAITING:
            # A cancelled wait loses no message, and behind it there is no checkpoint.
            said = self._parsed(await self._socket.receive())
            if isinstance(said, Interrupt):
                interruption.interrupt()
            elif isinstance(said, _Said):
                self._waiting.append(said)

    async def _serve(self, create: Create, interruption: Interruption) -> None:
        """Run the turn that a message makes.

        Raises:
            RequestError: it is no request, or none that can be sent; or the client may not talk to
                the relay any more.
        """
        services = self._services
        if (refusal := refusal_of(handshake_of(websocket), services)) is not None:
            raise refusal  # the owner has taken the key back since the handshake
        incoming = await receive_message(create, self._handshake, services)
        responses.check(incoming)  # what is no request begins no session
        begun = await turns.begin(incoming, services)
        if not create.generate and not _is_for_a_backend(incoming, services):
            await self._warm_up(incoming, begun)
            return
        turn = await responses.turn(incoming, begun, services)
        turn = attrs.evolve(turn, interruption=interruption)
        await run_turn(turn, SocketClient(self._socket), services.relay)

    async def _warm_up(self, incoming: Incoming, begun: Begun) -> None:
        """Answer what only warms a backend up; none is asked, and there is no turn."""
        services, framed = self._services, incoming.framed
        assert framed is not None
        assert framed.warm_up_id is not None
        told = warm_up.answered(
            framed.warm_up_id,
            model=get_text(incoming.body, "model") or "",
            created_unix_s=int(services.wall_clock()),
        )
        _log.debug("warm-up answered here", request=incoming.id, response=framed.warm_up_id)
        if (conversation := framed.conversation(())) is not None:
            with contextlib.suppress(SessionLostError):  # forgotten meanwhile
                await begun.session.answered(framed.warm_up_id, conversation)
        await self._socket.send_messages(frames.messages(told))

    async def _refuse(self, error: RequestError) -> None:
        await self._socket.send_messages([_refusal(error)])


_UNFORESEEN: Final = RequestError(
    message="codexrelay failed in a way nobody foresaw; its log has the details",
    type="server_error",
    code="internal_error",
    status=500,
)


def _refusal(error: RequestError) -> bytes:
    """Return the message that tells what is wrong with one of the client's."""
    told = error_object(error.message, type=error.type, code=error.code, param=error.param)
    if error.code == "previous_response_not_found":
        # The backend's own form (recorded); it has no headers.
        return dump({"type": "error", "status": error.status, "error": told})
    return frames.error(error.status, told, {})


def _is_for_a_backend(incoming: Incoming, services: Services) -> bool:
    """Tell whether a warm-up would reach one: over HTTP there is nothing to warm up."""
    if incoming.other is not None or incoming.further:
        return False  # nobody knows which of several backends the turn will go to
    instances = services.relay.instances.serving(incoming.choice.instance)
    return any(instance.backend.takes_sockets(from_socket=True) for instance in instances)
