"""WebSockets in memory: a dial whose peers play scripts.

A script is an async function that is given the peer's end of a WebSocket. When it returns, the
connection stays open, and says nothing more.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs
import orjson
import trio

from codexrelay.backends.websocket import (
    BROKEN,
    NORMAL,
    Closed,
    Dial,
    Handshake,
    Message,
    Opened,
    Refused,
    Unreachable,
)
from codexrelay.protocol.raw import JsonObject


@attrs.define(eq=False)
class Peer:
    """The other end of one WebSocket."""

    handshake: Handshake
    #: What the relay has sent, and the script has not read.
    _inbox: deque[str] = attrs.field(factory=deque)
    #: What the script has sent, and the relay has not received.
    outbox: deque[Message] = attrs.field(factory=deque)
    #: All messages of the relay.
    asked: list[JsonObject] = attrs.field(factory=list)
    closed: Closed | None = None
    #: The relay has dropped the connection; else it was closed with this code by it.
    was_dropped: bool = False
    closed_by_relay: int | None = None
    #: Times of pings; and whether they are answered.
    pings: list[float] = attrs.field(factory=list)
    answers_pings: bool = True
    #: Whether a close frame is answered.
    answers_closes: bool = True
    #: Seconds that taking a message takes.
    slow_s: float = 0.0
    changed: trio.Event = attrs.field(factory=trio.Event)
    #: Set when the relay is gone.
    left: trio.Event = attrs.field(factory=trio.Event)
    is_received: bool = False

    def stir(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def message(self) -> JsonObject:
        """Wait for the relay's next message."""
        while not self._inbox:
            await self.changed.wait()
        value: JsonObject = orjson.loads(self._inbox.popleft())
        return value

    def say(self, *messages: Message | JsonObject) -> None:
        """Send messages, all at once."""
        for message in messages:
            sent = orjson.dumps(message).decode() if isinstance(message, dict) else message
            self.outbox.append(sent)
        self.stir()

    def close(self, code: int = BROKEN, reason: str = "") -> None:
        """Close the connection behind what was said."""
        self.closed = self.closed or Closed(code, reason)
        self.stir()


@attrs.define(eq=False)
class FakeFrames:
    """See `FrameStream`."""

    _peer: Peer

    async def send(self, data: Message) -> None:
        await trio.sleep(self._peer.slow_s)
        if self._peer.closed is not None:
            raise self._peer.closed
        assert isinstance(data, str)
        self._peer._inbox.append(data)
        self._peer.asked.append(orjson.loads(data))
        self._peer.stir()

    async def receive(self) -> Message:
        peer = self._peer
        if peer.is_received:
            raise trio.BusyResourceError("two tasks receive")
        peer.is_received = True
        try:
            await trio.lowlevel.checkpoint()
            while not peer.outbox:
                if peer.closed is not None:
                    raise peer.closed
                await peer.changed.wait()
            return peer.outbox.popleft()
        finally:
            peer.is_received = False

    def ready(self) -> Sequence[Message]:
        found = list(self._peer.outbox)
        self._peer.outbox.clear()
        return found

    async def ping(self) -> None:
        peer = self._peer
        peer.pings.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        while not peer.answers_pings:
            if peer.closed is not None:
                raise peer.closed
            await peer.changed.wait()

    @property
    def closed(self) -> Closed | None:
        return self._peer.closed

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        await trio.lowlevel.checkpoint()
        if self._peer.closed is None:
            self._peer.closed_by_relay = code
            if not self._peer.answers_closes:
                await trio.sleep_forever()
            self._peer.close(code, reason)

    async def aclose(self) -> None:
        self._peer.was_dropped = self._peer.closed is None
        self._peer.close()
        await trio.lowlevel.checkpoint()


Script: TypeAlias = Callable[[Peer], Awaitable[None]]


@attrs.define(eq=False)
class FakeDial:
    """Answers one handshake after the other; a script accepts it."""

    answers: list[Script | Refused | Unreachable]
    #: Headers of an answer that accepts.
    headers: dict[str, str] = attrs.field(factory=dict)
    #: Seconds until a handshake is answered; infinite: only its time limit ends it.
    takes_s: float = 0.0
    #: Seconds that taking a message takes.
    slow_s: float = 0.0
    handshakes: list[Handshake] = attrs.field(factory=list)
    peers: list[Peer] = attrs.field(factory=list)
    #: Dials that have not been left.
    open: int = 0

    @asynccontextmanager
    async def dial(self, handshake: Handshake) -> AsyncIterator[Opened | Refused | Unreachable]:
        self.handshakes.append(handshake)
        self.open += 1
        try:
            await trio.sleep(min(self.takes_s, handshake.within_s))
            if self.takes_s > handshake.within_s:
                yield Unreachable(f"no answer within {handshake.within_s} s")
                return
            answer = self.answers.pop(0)
            if isinstance(answer, Refused | Unreachable):
                yield answer
                return
            peer = Peer(handshake, slow_s=self.slow_s)
            self.peers.append(peer)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(answer, peer)
                    yield Opened(frames=FakeFrames(peer), headers=self.headers)
                    nursery.cancel_scope.cancel()
            finally:
                if peer.closed is None:
                    peer.was_dropped = True
                peer.close()
                peer.left.set()
        finally:
            self.open -= 1

    @property
    def asked(self) -> list[JsonObject]:
        """All messages of the relay, connection after connection."""
        return [message for peer in self.peers for message in peer.asked]


def as_dial(fake: FakeDial) -> Dial:
    """Return the fake as what it stands for."""
    return fake.dial


FOREVER = math.inf
