"""One turn's attempt over a WebSocket, and over HTTP where that is better or all there is.

`send` returns when the first message has come, which is what the head is over HTTP. Until the first
event of the response nobody has seen anything, so that the attempt may begin again by itself:

- on a fresh WebSocket, in full: a warm connection turned out to be dead, the connection is too old
  for the backend, or the backend has forgotten what the request goes on from;
- over HTTP: no WebSocket can be had, the turn has had its two handshakes, another turn has the
  connection, the message is too long, or the peer closed it without a word to the request.

A connection that breaks later is a fault, for the ladder or for the client. A repeat goes over HTTP
then.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from codexrelay.accounts.account import Account
from codexrelay.accounts.wire import keep_to
from codexrelay.backends.backend import Attempt, Head, SocketTurn, UpstreamRequest
from codexrelay.backends.codex.headers import handshake_headers
from codexrelay.backends.codex.identity import Identity
from codexrelay.backends.codex.sockets.connection import Connection
from codexrelay.backends.codex.sockets.message import body_of
from codexrelay.backends.codex.sockets.pool import Sockets
from codexrelay.backends.http_attempt import CLEANUP_S, WRITE_S, HttpAttempt, HttpBackend
from codexrelay.backends.websocket import BROKEN, Closed, Handshake, Opened, Refused
from codexrelay.protocol import error_frames, events, faults, frames, warm_up
from codexrelay.protocol.continuation import Answered, Asked, digests_of
from codexrelay.protocol.faults import Fault, Reached
from codexrelay.protocol.raw import (
    JsonObject,
    get_list,
    get_object,
    get_text,
    is_object,
    parse,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from codexrelay.backends.websocket import Message

#: The backend refuses messages of 16 MiB with this code (wire notes 7).
TOO_BIG: Final = 1009
MAX_MESSAGE_BYTES: Final = 15 * 1024 * 1024
#: More do not help, and take the client's time.
MAX_HANDSHAKES: Final = 2
#: Refused handshakes that say something about the account, as over HTTP; any other may be about
#: WebSockets.
_ABOUT_THE_ACCOUNT: Final = frozenset({401, 429})
#: Refusals after which a connection's own bearer is of no use.
_ABOUT_THE_BEARER: Final = frozenset({401, 403})
#: An end that nobody has seen yet; over HTTP the answer would end behind it.
_CANCELLED: Final = "response.cancelled"
#: Ends behind which more may come, which the next turn would take for its own: an `error` is
#: followed by `response.failed` (recorded over HTTP).
_UNSURE: Final = frozenset({events.ERROR, _CANCELLED})
#: What a handshake's answer says of later turns too; its quota and its model are of the first.
_LASTING: Final = frozenset({"x-reasoning-included"})
#: Messages that are looked at, once the response has begun.
_NOTED: Final = events.TERMINAL | {events.ITEM_DONE, _CANCELLED}
#: Messages of a type that ends so only pass.
_DELTA: Final = ".delta"
#: How far a request got, least first.
_FAR: Final = (Reached.NOT_SENT, Reached.UNKNOWN, Reached.SENT)


class _Again(enum.Enum):
    """How the attempt begins again, unseen."""

    AFRESH = enum.auto()
    OVER_HTTP = enum.auto()


@attrs.define(eq=False)
class SocketAttempt:
    """See `Attempt`, and above."""

    #: For the URL, the headers and the refusals; and for the requests that go over HTTP.
    _backend: HttpBackend
    _identity: Identity
    #: None: there are none.
    _sockets: Sockets | None
    _request: UpstreamRequest
    _account: Account
    _turn: SocketTurn
    #: The connection that it has at present.
    _connection: Connection | None = attrs.field(default=None, init=False)
    #: Those that it has dropped.
    _dropped: list[Connection] = attrs.field(factory=list, init=False)
    #: What has taken over from the WebSocket.
    _other: Attempt | None = attrs.field(default=None, init=False)
    _reached: Reached = attrs.field(default=Reached.NOT_SENT, init=False)
    #: Made when it is first needed, as they cost something with a long history.
    _body: JsonObject | None = attrs.field(default=None, init=False)
    _asked: Asked | None = attrs.field(default=None, init=False)
    #: The message named what it goes on from.
    _goes_on: bool = attrs.field(default=False, init=False)
    #: A message of this request's has come; and its response has begun.
    _was_heard: bool = attrs.field(default=False, init=False)
    _has_begun: bool = attrs.field(default=False, init=False)
    #: Digests of the items that came.
    _output: list[bytes] = attrs.field(factory=list, init=False)
    #: Of the latest delta: most messages are as the one before.
    _deltas: frames.Kind | None = attrs.field(default=None, init=False)
    #: What was read and not received yet: bytes first, then the fault.
    _block: bytes = attrs.field(default=b"", init=False)
    _fault: Fault | None = attrs.field(default=None, init=False)

    async def __aenter__(self) -> SocketAttempt:
        """Open nothing: `send` does."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave nothing behind."""
        await self.close()

    @property
    def reached(self) -> Reached:
        """See `Attempt.reached`."""
        if self._other is None:
            return self._reached
        return max(self._reached, self._other.reached, key=_FAR.index)

    async def send(self) -> Head | Fault:
        """See `Attempt.send`."""
        while True:
            headers = await self._connect()
            if isinstance(headers, Fault):
                return self._noted(headers)
            if headers is None or not await self._say():
                return await self._otherwise()
            match await self._read():
                case _Again.AFRESH:
                    continue
                case _Again.OVER_HTTP:
                    return await self._otherwise()
                case Fault() as fault:
                    return fault
                case bytes() as block:
                    self._block = block
                    return Head(status=200, headers=headers)

    @property
    def is_whole(self) -> bool:
        """See `Attempt.is_whole`: not known."""
        return False

    @property
    def source(self) -> None:
        """See `Attempt.source`."""

    async def receive(self) -> bytes | Fault:
        """See `Attempt.receive`."""
        if self._block:
            block, self._block = self._block, b""
            return block
        if self._other is not None:
            return await self._other.receive()
        if self._fault is not None:
            return self._fault
        if self._connection is None:
            return b""
        result = await self._read()
        if not isinstance(result, _Again):
            return result
        # What came so far were notes beside the response; who waits for it need not know.
        again = await (self.send() if result is _Again.AFRESH else self._otherwise())
        return again if isinstance(again, Fault) else await self.receive()

    async def close(self) -> None:
        """Leave nothing behind: an answer that has not ended costs the connection."""
        self._drop()
        if self._dropped:
            with trio.move_on_after(CLEANUP_S, shield=True):
                for connection in self._dropped:
                    await connection.ended.wait()
        if isinstance(self._other, HttpAttempt):
            await self._other.close()

    async def _connect(self) -> dict[str, str] | Fault | None:
        """Get a connection: return its headers, as far as they are of this turn; None for none."""
        turn, sockets = self._turn, self._sockets
        if turn.gives_up or sockets is None:
            return None
        account, token = self._account.id, self._account.credentials.access_token
        mark = (token, self._identity)
        self._connection = sockets.warm(account, turn.session, mark)
        if self._connection is not None:
            await self._connection.at_rest()
            told = self._connection.headers
            return {name: told[name] for name in _LASTING & told.keys()}
        if (
            turn.handshakes >= MAX_HANDSHAKES
            or sockets.is_refused
            or sockets.is_busy(account, turn.session, mark)
            or len(self._request.body) > MAX_MESSAGE_BYTES
        ):
            return None
        turn.handshakes += 1
        connection = self._connection = sockets.open(account, turn.session, mark, self._handshake())
        await connection.dialled.wait()
        if isinstance(result := connection.result, Opened):
            sockets.welcomed()
            return result.headers
        self._drop()
        if not isinstance(result, Refused):
            sockets.failed(result.why if result is not None else "the handshake failed")
            return None
        if result.status in _ABOUT_THE_ACCOUNT:
            return self._backend.refusal(result.status, result.headers, result.body)
        sockets.failed(f"the handshake was answered {result.status}", status=result.status)
        return None

    def _handshake(self) -> Handshake:
        backend = self._backend
        url = backend.url(self._request.path)
        keep_to(backend.base_url, httpx.Request("GET", url))
        headers = handshake_headers(backend.headers(self._request, self._account))
        return Handshake(url=url, headers=headers, within_s=backend.connect_s)

    async def _say(self) -> bool:
        """Send the message; False: it goes over HTTP instead."""
        connection = self._connection
        assert connection is not None
        message = self._message_for(connection.answered)
        if len(message) > MAX_MESSAGE_BYTES:
            # Nothing was said on it.
            self._give_back(connection, connection.answered, connection.last_response_id)
            return False
        if connection.frames.closed is not None:
            return True  # reading tells how
        self._turn.via = "websocket"
        self._was_heard = False
        self._reached = max(self._reached, Reached.UNKNOWN, key=_FAR.index)
        connection.is_sending = True
        try:
            with trio.move_on_after(WRITE_S) as scope:
                await connection.frames.send(message.decode())
        except Closed:
            return True
        finally:
            connection.is_sending = False
        if scope.cancelled_caught:  # half a message is no request
            self._drop()
            self._turn.gives_up = True
            return False
        self._reached = Reached.SENT
        if self._asked is None:  # while the backend has to do
            self._asked = Asked.of(self._whole())
        return True

    def _whole(self) -> JsonObject:
        if self._body is None:
            now_unix_s = self._backend.wall_clock()
            self._body = body_of(self._request, self._identity, now_unix_s=now_unix_s)
        return self._body

    def _message_for(self, answered: Answered | None) -> bytes:
        body, generate = self._whole(), self._turn.warm_up_id is None
        self._goes_on = False
        if answered is not None:
            self._asked = self._asked or Asked.of(body)
            known = None if self._asked is None else answered.known_of(self._asked)
            if known is not None:
                self._goes_on = True
                return frames.create(
                    {**body, "input": get_list(body, "input")[known:]},
                    previous_response_id=answered.response_id,
                    generate=generate,
                )
        return frames.create(body, generate=generate)

    async def _otherwise(self) -> Head | Fault:
        """Go on over HTTP; what only warms the backend up is answered here instead."""
        turn = self._turn
        if turn.warm_up_id is None:
            turn.via = "http"
            self._other = HttpAttempt(self._backend, self._request, self._account)
        else:
            turn.via = "relay"
            self._other = _Answer(
                warm_up.answered(
                    turn.warm_up_id,
                    model=get_text(self._whole(), "model") or "",
                    created_unix_s=int(self._backend.wall_clock()),
                )
            )
        return await self._other.send()

    async def _read(self) -> bytes | Fault | _Again:
        """Wait for the next messages, and return them as events."""
        connection = self._connection
        assert connection is not None
        while True:
            connection.is_waiting = True
            try:
                first = await connection.frames.receive()
            except Closed as closed:
                return self._closed(connection, closed)
            finally:
                connection.is_waiting = False
            connection.heard += 1
            result = self._take(connection, first, connection.frames.ready())
            if result != b"":
                return result
            if self._connection is None:
                return b""

    def _take(
        self, connection: Connection, first: Message, more: Sequence[Message]
    ) -> bytes | Fault | _Again:
        """Return messages as events; the hot path."""
        taken: list[bytes] = []
        run: list[str] = []
        kind = self._deltas
        for message in (first, *more) if more else (first,):
            if kind is not None and isinstance(message, str) and message.startswith(kind.begin):
                run.append(message)
                continue
            if kind is not None and run:
                taken.append(kind.as_events(run))
                run = []
            if not isinstance(message, str):
                self._drop()
                told = "the backend sent a binary message, which is no event"
                return self._after(taken, self._broken(told))
            text = message.encode()
            name = frames.type_of(text)
            if not self._has_begun:
                if name.startswith("response."):
                    if connection.has_served and _is_late(name, text, connection):
                        continue
                    self._has_begun = name != events.METADATA
                self._was_heard = True
            if name in _NOTED:
                if name == events.ERROR:
                    refused = self._refused(connection, text)
                    if refused is not None:
                        return self._after(taken, refused)
                elif name == events.ITEM_DONE:
                    self._note_item(text)
                    taken.append(frames.as_event(text, name))
                    continue
                taken.append(frames.as_event(text, name))
                self._end(connection, name, text)
                break
            if self._has_begun and name.endswith(_DELTA):
                kind = self._deltas = frames.Kind.of(message)
            taken.append(frames.as_event(text, name))
        if kind is not None and run:
            taken.append(kind.as_events(run))
        return b"".join(taken)

    def _after(self, taken: list[bytes], then: Fault | _Again) -> bytes | Fault | _Again:
        """Return what came before a fault, which is received next; no one misses mere notes."""
        if not taken or isinstance(then, _Again):
            return then
        self._fault = then
        return b"".join(taken)

    def _note_item(self, text: bytes) -> None:
        try:
            self._output.extend(digests_of([parse_object(text).get("item")]))
        except ValueError:
            self._asked = None  # nothing can go on from what cannot be read

    def _end(self, connection: Connection, name: str, text: bytes) -> None:
        """The answer is complete: another turn may have the connection from now on."""
        if name in _UNSURE:
            self._drop()
            return
        answered = None
        try:
            response = get_object(parse_object(text), "response")
        except ValueError:
            response = {}
        response_id = get_text(response, "id")
        done = name in (events.COMPLETED, events.DONE)
        if done and response_id is not None and self._asked is not None:
            output = self._output or digests_of(get_list(response, "output"))
            answered = self._asked.answered(response_id, output)
        self._give_back(connection, answered, response_id)

    def _refused(self, connection: Connection, text: bytes) -> Fault | _Again | None:
        """Return what an error message means; None: it is an event as others are."""
        said = error_frames.read(text)
        if said is None:
            return None
        if said.code == error_frames.CONNECTION_LIMIT:
            self._drop()
            if not self._has_begun:
                self._reached = Reached.NOT_SENT  # it says that it has not begun
                return _Again.AFRESH
            self._turn.gives_up = True
            return self._broken("the backend has ended the WebSocket, which is too old for it")
        if said.code == error_frames.NOT_FOUND and self._goes_on and not self._has_begun:
            self._drop()
            self._reached = Reached.NOT_SENT
            return _Again.AFRESH
        if said.status is None:
            return None
        if self._has_begun:
            self._drop()  # the response may still have something to say
        else:
            if said.status in _ABOUT_THE_BEARER:
                connection.retire()
            self._give_back(connection, None, connection.last_response_id)
        return self._noted(self._backend.refusal(said.status, said.headers, said.body))

    def _closed(self, connection: Connection, closed: Closed) -> Fault | _Again:
        """Return what the end of the connection means, before that of the answer."""
        self._drop()
        turn = self._turn
        if not self._was_heard:
            if closed.code == TOO_BIG:
                self._reached = Reached.NOT_SENT
            elif connection.has_served:
                return _Again.AFRESH  # as with a kept connection over HTTP
            # A peer that says why it leaves has not begun; nor has one that had half a message. One
            # that vanished with a whole one may have, and the ladder knows what a repeat may cost.
            if closed.code != BROKEN or self._reached is not Reached.SENT:
                turn.gives_up = True
                return _Again.OVER_HTTP
        turn.gives_up = True
        if closed.code == BROKEN:
            return self._broken("the WebSocket to the backend broke")
        reason = f" {closed.reason}" if closed.reason else ""
        return self._broken(f"the backend closed the WebSocket: {closed.code}{reason}")

    def _give_back(
        self, connection: Connection, answered: Answered | None, response_id: str | None
    ) -> None:
        self._connection = None
        connection.give_back(answered, response_id=response_id)
        if self._sockets is not None:
            self._sockets.look()

    def _drop(self) -> None:
        """End the connection at once; `close` waits until it is gone."""
        if self._connection is not None:
            self._connection.drop()
            self._dropped.append(self._connection)
            self._connection = None

    def _broken(self, told: str) -> Fault:
        return self._noted(faults.broken(told))

    def _noted(self, fault: Fault) -> Fault:
        return attrs.evolve(fault, reached=self.reached)


@attrs.define(eq=False)
class _Answer:
    """An answer of the relay's own, in the place of an attempt."""

    _events: bytes
    reached: Reached = Reached.NOT_SENT

    async def send(self) -> Head | Fault:
        await trio.lowlevel.checkpoint()
        return Head(status=200, headers={})

    @property
    def is_whole(self) -> bool:
        """See `Attempt.is_whole`: not known."""
        return False

    @property
    def source(self) -> None:
        """See `Attempt.source`."""

    async def receive(self) -> bytes | Fault:
        await trio.lowlevel.checkpoint()
        answer, self._events = self._events, b""
        return answer


def _is_late(name: str, text: bytes, connection: Connection) -> bool:
    """Tell whether an event, before the response has begun, is of the one before.

    What comes first of a response is that it was created. Only a failure may come without.
    """
    if name in events.ANNOUNCEMENTS or name == events.METADATA:
        return False
    if name not in events.TERMINAL:
        return True
    value = parse(text)
    response_id = get_text(get_object(value, "response"), "id") if is_object(value) else None
    return response_id == connection.last_response_id is not None
