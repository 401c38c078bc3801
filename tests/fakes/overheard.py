"""What the backend says, heard in the relay's own seams: the texts of its events, as they came."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import httpx

from codexrelay.backends.websocket import FrameStream, Opened
from codexrelay.protocol import sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from codexrelay.backends.websocket import Closed, Dial, Handshake, Message, Refused, Unreachable
    from codexrelay.cli.process import World


@attrs.define(eq=False)
class Overheard:
    """The texts of all events of all answers; to be given to `relaying` as `around`."""

    texts: list[str] = attrs.field(factory=list)

    def around(self, world: World) -> World:
        return attrs.evolve(
            world,
            around_transport=lambda _name, transport: _Transport(transport, self.texts),
            around_dial=lambda _name, dial: _listening(dial, self.texts),
        )


@attrs.define(eq=False)
class _Transport(httpx.AsyncBaseTransport):
    _inner: httpx.AsyncBaseTransport
    _texts: list[str]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Body(response.stream, self._texts)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


@attrs.define(eq=False)
class _Body(httpx.AsyncByteStream):
    _inner: httpx.AsyncByteStream
    _texts: list[str]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        cutter = sse.EventCutter()
        async for block in self._inner:
            events = map(sse.read, sse.split(cutter.feed(block)))
            self._texts += [event.data.decode() for event in events if event is not None]
            yield block

    async def aclose(self) -> None:
        await self._inner.aclose()


def _listening(dial: Dial, texts: list[str]) -> Dial:
    @asynccontextmanager
    async def dialled(handshake: Handshake) -> AsyncIterator[Opened | Refused | Unreachable]:
        async with dial(handshake) as result:
            if isinstance(result, Opened):
                yield attrs.evolve(result, frames=_Frames(result.frames, texts))
            else:
                yield result

    return dialled


@attrs.define(eq=False)
class _Frames:
    _inner: FrameStream
    _texts: list[str]

    async def send(self, data: Message) -> None:
        await self._inner.send(data)

    async def receive(self) -> Message:
        return self._heard(await self._inner.receive())

    def ready(self) -> Sequence[Message]:
        return [self._heard(message) for message in self._inner.ready()]

    async def ping(self) -> None:
        await self._inner.ping()

    @property
    def closed(self) -> Closed | None:
        return self._inner.closed

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._inner.close(code, reason)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _heard(self, message: Message) -> Message:
        if isinstance(message, str):
            self._texts.append(message)
        return message
