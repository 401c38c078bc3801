"""A simulator that keeps what it sent, so that bytes can be compared at both ends of the relay."""

from __future__ import annotations

import attrs
import httptools
import trio

from harness.simulator import Simulator


@attrs.define(eq=False, repr=False, kw_only=True)
class TappedSimulator(Simulator):
    """A simulator that keeps the body of every answer, without its framing."""

    #: In the order in which the answers began.
    bodies: list[bytearray] = attrs.field(factory=list, init=False)

    async def serve_connection(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, and read along."""
        await super().serve_connection(_TappedStream(stream, _Bodies(self.bodies)))


@attrs.define(eq=False)
class _Bodies:
    """What httptools calls with the pieces of an answer."""

    bodies: list[bytearray]

    def on_message_begin(self) -> None:
        self.bodies.append(bytearray())

    def on_body(self, piece: bytes) -> None:
        self.bodies[-1] += piece


class _TappedStream(trio.abc.Stream):
    """A connection whose answers are parsed while they are sent."""

    def __init__(self, stream: trio.abc.Stream, bodies: _Bodies) -> None:
        self._stream = stream
        self._parser = httptools.HttpResponseParser(bodies)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._parser.feed_data(data)
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()
