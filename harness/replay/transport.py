"""The upstream of a relay that is a cassette: an httpx transport without any network."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterable, Callable, Iterator
from typing import TYPE_CHECKING, assert_never

import httpx
import trio

from codexrelay.backends.transports.exchange import Timeouts
from codexrelay.protocol.faults import Reached
from codexrelay.protocol.progress import Progress
from codexrelay.protocol.raw import dump
from harness.replay.ledger import Miss
from harness.replay.matching import key_of
from harness.replay.pace import Pace
from harness.replay.server import Change, as_recorded, ignore_miss, miss_answer
from harness.replay.steps import steps_of
from harness.simulator.steps import (
    Binary,
    Chunk,
    Close,
    CloseFrame,
    Cut,
    Deafen,
    End,
    Hang,
    Head,
    Pause,
    Reset,
    Step,
    Until,
    Wait,
)

if TYPE_CHECKING:
    from harness.replay.ledger import Ledger

_WHO = "the cassette"


class ReplayTransport(httpx.AsyncBaseTransport):
    """Answers requests as the upstream track of a ledger says, at the times of its pace.

    What is not recorded is answered with an error and never asked of anybody. One event loop only.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        pace: Pace = Pace(),  # noqa: B008 - frozen
        change: Change = as_recorded,
        on_miss: Callable[[str], object] = ignore_miss,
    ) -> None:
        """Make a transport; for the arguments see `ReplayServer`."""
        self._ledger = ledger
        self._pace = pace
        self._change = change
        self._on_miss = on_miss

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the recorded response at the time of its head.

        Raises:
            httpx.ConnectError: no head was recorded, and the connection broke.
            httpx.ReadTimeout: the request's own timeout is over.
        """
        began_at_s = trio.current_time()
        progress = Progress.of(request)
        progress.begin()
        body = await _body_of(request)
        taken = self._ledger.take(
            key_of(
                "upstream",
                request.method,
                str(request.url),
                headers=tuple((name.lower(), value) for name, value in request.headers.items()),
                body=body,
            )
        )
        if isinstance(taken, Miss):
            progress.follow(_sent)
            self._on_miss(taken.text)
            status, error = miss_answer(taken)
            await trio.lowlevel.checkpoint()
            return httpx.Response(
                status, headers={"content-type": "application/json"}, content=dump(error)
            )
        recording = taken.recording
        performance = self._change(recording.interaction, taken.count)
        if performance.status is not None or performance.end != "reset":
            progress.follow(_sent)
        gate = functools.partial(self._ledger.until_begun, recording)
        steps = steps_of(performance, self._pace, gate, method=request.method)
        player = _Player(steps, began_at_s, Timeouts.of(request).read_s)
        head = await player.until_head()
        return httpx.Response(
            head.status,
            headers=[
                (name.encode("ascii"), value.encode("latin-1")) for name, value in head.headers
            ],
            stream=_Body(player),
            extensions={"http_version": b"HTTP/1.1"},
        )


def _sent() -> Reached:
    return Reached.SENT


async def _body_of(request: httpx.Request) -> bytes:
    stream = request.stream
    if isinstance(stream, AsyncIterable):
        return b"".join([piece async for piece in stream])
    return b"".join(stream)


class _Player:
    """Performs the steps of one answer, for somebody who asks for the next piece of it.

    A step that is cancelled is performed once more: nothing is lost by it.
    """

    def __init__(self, steps: Iterator[Step], began_at_s: float, read_s: float) -> None:
        self._steps = steps
        self._began_at_s = began_at_s
        self._read_s = read_s
        #: The step that is being performed.
        self._now: Step | None = None
        self._headed = False

    async def until_head(self) -> Head:
        """Perform what comes before the head, and return it."""
        head = await self._next()
        assert isinstance(head, Head)  # without one, the end has raised already
        self._headed = True
        return head

    async def piece(self) -> bytes | None:
        """Perform what comes before the next piece of body, and return it; None at its end."""
        step = await self._next()
        return step.data if isinstance(step, Chunk) else None

    async def _next(self) -> Head | Chunk | End:
        with trio.move_on_after(self._read_s):
            while True:
                if self._now is None:
                    self._now = next(self._steps)
                    continue
                step = self._now
                await self._perform(step)
                if not isinstance(step, End):
                    self._now = None
                if isinstance(step, Head | Chunk | End):
                    return step
        raise httpx.ReadTimeout(f"{_WHO} said nothing for {self._read_s} s")

    async def _perform(self, step: Step) -> None:
        """Wait as long as `step` takes, or raise what it means to who listens."""
        match step:
            case Head() | Chunk() | End():
                await trio.lowlevel.checkpoint()
            case Until(at_s):
                await trio.sleep_until(self._began_at_s + at_s)
            case Wait(until):
                await until()
            case Pause(seconds):
                await trio.sleep(seconds)
            case Hang():
                await trio.sleep_forever()
            case Close() | Cut():
                await trio.lowlevel.checkpoint()
                where = "in the middle of its response" if self._headed else "without a response"
                raise httpx.RemoteProtocolError(f"{_WHO} closed the connection {where}")
            case Reset() if self._headed:
                await trio.lowlevel.checkpoint()
                raise httpx.ReadError(f"receiving from {_WHO} broke off, as recorded")
            case Reset():
                await trio.lowlevel.checkpoint()
                raise httpx.ConnectError(f"no connection to {_WHO}, as recorded")
            case Binary() | CloseFrame() | Deafen():
                raise AssertionError(f"{step!r} is a WebSocket's, and this is none")
            case _:
                assert_never(step)


class _Body(httpx.AsyncByteStream):
    """A response's body and its iterator: chunks as recorded, each at its time."""

    def __init__(self, player: _Player) -> None:
        self._player = player
        self._closed = False

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        if self._closed:
            raise httpx.StreamClosed
        piece = await self._player.piece()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Give the rest up. It counts as played."""
        self._closed = True
