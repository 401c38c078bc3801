"""A client in memory: keeps what it was sent, and can be slow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Headers


@attrs.define(eq=False)
class FakeClient:
    #: Seconds that each `send` takes.
    slow_s: float = 0.0
    status: int | None = None
    headers: dict[bytes, bytes] = attrs.field(factory=dict)
    #: What was sent, with trio's time of each piece.
    sent: list[tuple[float, bytes]] = attrs.field(factory=list)
    ended: bool = False
    started_at_s: float | None = None

    @property
    def prompt(self) -> None:
        """See `relay.line.Client`."""

    async def start(self, status: int, headers: Headers) -> None:
        assert self.status is None, "started twice"
        self.status, self.headers = status, dict(headers)
        self.started_at_s = trio.current_time()
        await trio.lowlevel.checkpoint()

    async def send(self, data: bytes) -> None:
        assert self.status is not None
        assert not self.ended
        with trio.CancelScope(shield=True):  # writes are whole, as the server's are
            await trio.sleep(self.slow_s)
        self.sent.append((trio.current_time(), data))
        await trio.lowlevel.checkpoint()

    async def end(self) -> None:
        assert not self.ended, "ended twice"
        self.ended = True
        await trio.lowlevel.checkpoint()

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.sent)

    @property
    def json(self) -> dict[str, object]:
        value: dict[str, object] = json.loads(self.body)
        return value
