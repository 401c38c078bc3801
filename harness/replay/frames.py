"""A recorded WebSocket, played: which frame is due, and whether what came is what was recorded.

A message that comes in is said when all messages that had gone out before it have gone out again,
and so long after the last of them as in the recording. Pings and pongs are left to the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import trio

from harness.cassettes.model import Frame
from harness.cassettes.performance import Performance
from harness.recording.frames import BROKEN, NO_CODE, NORMAL, Closed
from harness.replay.matching import Key, key_of, nearest
from harness.replay.pace import Pace
from harness.replay.steps import Gate

#: The close code of what was never recorded: against the policy.
MISS_CODE: Final = 1008
#: A close frame has 125 bytes, two of them for the code.
_MAX_REASON_BYTES: Final = 123
_SAID: Final = frozenset({"text", "bin", "close"})


def _tell_nobody(_text: str) -> None:
    """Leave a miss to whoever sees the close code."""


@attrs.define(eq=False)
class FrameScript:
    """One WebSocket's recorded frames, and how far they have been played."""

    performance: Performance
    pace: Pace = attrs.field(factory=Pace)
    #: Asked before each message where the pace is causal.
    gate: Gate | None = None
    _frames: tuple[Frame, ...] = attrs.field(init=False)
    #: Those that go out.
    _out: tuple[Frame, ...] = attrs.field(init=False)
    #: How many frames are done with.
    _done: int = attrs.field(default=0, init=False)
    #: When each message that went out was heard, on trio's clock.
    _heard_at_s: list[float] = attrs.field(factory=list, init=False)
    #: Set, and replaced, whenever one is heard.
    _change: trio.Event = attrs.field(factory=trio.Event, init=False)
    #: When the handshake was asked for, on trio's clock.
    began_s: float = attrs.field(factory=trio.current_time, init=False)

    def __attrs_post_init__(self) -> None:
        self._frames = tuple(frame for frame in self.performance.frames if frame.kind in _SAID)
        self._out = tuple(frame for frame in self._frames if frame.direction == "out")

    @property
    def is_played(self) -> bool:
        """Whether nothing is left to say."""
        return all(frame.direction == "out" for frame in self._frames[self._done :])

    @property
    def unheard(self) -> int:
        """How many of the messages that went out in the recording have not come."""
        messages = sum(frame.kind != "close" for frame in self._out)
        return messages - len(self._heard_at_s)

    def hear(self, data: str | bytes) -> str | None:
        """Take the next message that goes out; return why it is a miss, or None."""
        place = len(self._heard_at_s)
        if place >= len(self._out):
            if self.performance.end != "eof":
                return None  # nobody listens any more
            return f"{place} messages were recorded, and one more came"
        frame = self._out[place]
        if frame.kind == "close":
            return f"message {place + 1} came, where the WebSocket was closed in the recording"
        if differing := _difference(frame, data):
            return f"message {place + 1} is not the recorded one: {differing}"
        self._heard_at_s.append(trio.current_time())
        self._change.set()
        self._change = trio.Event()
        return None

    async def next(self) -> Frame | None:
        """Return the next frame that comes in, when it is due; None when there are no more.

        Cancelling it loses nothing.
        """
        while self._done < len(self._frames):
            frame = self._frames[self._done]
            if frame.direction == "out":
                await self._until_heard()
            else:
                await self._until_due(frame)
            self._done += 1
            if frame.direction == "in":
                return frame
        return None

    async def _until_heard(self) -> None:
        wanted = sum(frame.direction == "out" for frame in self._frames[: self._done + 1])
        while len(self._heard_at_s) < wanted:
            await self._change.wait()

    async def _until_due(self, frame: Frame) -> None:
        if self.pace.causal and self.gate is not None:
            await self.gate(frame.at_s)
        heard = sum(before.direction == "out" for before in self._frames[: self._done])
        told_s = self._out[heard - 1].at_s if heard else 0.0
        since_s = self._heard_at_s[heard - 1] if heard else self.began_s
        await trio.sleep_until(since_s + self.pace.offset_s(max(0.0, frame.at_s - told_s)))


@attrs.define(eq=False)
class ReplayedFrames:
    """A recorded WebSocket as a `FrameStream`, in memory."""

    script: FrameScript
    #: Told of a message that nobody has recorded.
    on_miss: Callable[[str], object] = _tell_nobody
    _closed: Closed | None = attrs.field(default=None, init=False)
    #: Ends the wait of whoever receives.
    _waiting: trio.CancelScope | None = attrs.field(default=None, init=False)

    async def send(self, data: str | bytes) -> None:
        """Send a message; one that was not recorded closes the WebSocket with `MISS_CODE`."""
        await trio.lowlevel.checkpoint()
        if self._closed is not None:
            raise self._closed
        if miss := self.script.hear(data):
            self.on_miss(miss)
            self._close(Closed(MISS_CODE, reason_of(miss)))

    async def receive(self) -> str | bytes:
        """Return the next recorded message, when it is due."""
        with trio.CancelScope() as self._waiting:
            await trio.lowlevel.checkpoint()
            while self._closed is None:
                frame = await self.script.next()
                if frame is None:
                    await self._end()
                elif frame.kind == "close":
                    code = NO_CODE if frame.code is None else frame.code
                    self._close(Closed(code, frame.data.decode("utf-8", "replace")))
                else:
                    return _message(frame)
        if self._closed is None:  # cannot be: only `_close` cancels that scope
            raise Closed(BROKEN)
        raise self._closed

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close it."""
        await trio.lowlevel.checkpoint()
        self._close(Closed(code, reason))

    async def aclose(self) -> None:
        """Drop it."""
        self._close(Closed(BROKEN))
        await trio.lowlevel.checkpoint()

    async def _end(self) -> None:
        if self.script.performance.end in ("eof", "reset"):
            self._close(Closed(BROKEN))
        else:
            await trio.sleep_forever()

    def _close(self, closed: Closed) -> None:
        if self._closed is None:
            self._closed = closed
            if self._waiting is not None:
                self._waiting.cancel()


def reason_of(miss: str) -> str:
    """Return what a close frame can hold of why something is a miss."""
    short = " ".join(miss.split()).encode("ascii", "replace")
    if len(short) > _MAX_REASON_BYTES:
        short = short[: _MAX_REASON_BYTES - 3] + b"..."
    return short.decode("ascii")


def _message(frame: Frame) -> str | bytes:
    return frame.data.decode("utf-8", "replace") if frame.kind == "text" else frame.data


def _difference(recorded: Frame, data: str | bytes) -> str | None:
    """Say how a message differs from the recorded one, its ids and the like apart; None: not."""
    kind = "text" if isinstance(data, str) else "bin"
    if recorded.kind != kind:
        return f"recorded {recorded.kind} asked {kind}"
    asked = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if asked == recorded.data:
        return None
    here, there = _key(asked), _key(recorded.data)
    if here == there:
        return None
    found = nearest(here, [there])
    return "\n".join(found.lines()) if found is not None else None


def _key(data: bytes) -> Key:
    return key_of("upstream", "GET", "/", body=data)
