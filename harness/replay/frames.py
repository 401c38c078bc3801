"""A recorded WebSocket, played: which frame is due, and whether what came is what was recorded.

A message that comes in is said when all messages that had gone out before it have gone out again,
and so long after the last of them as in the recording. Pings and pongs are left to the connection.

All WebSockets to one path are asked for alike. So which recording one of them plays is known when
its first message comes: it is the first of them that was begun with that message.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay.backends.websocket import BROKEN, NO_CODE, NORMAL, Closed, Message
from codexrelay.protocol.raw import get_text, is_object, parse
from harness.cassettes.model import Frame
from harness.cassettes.performance import Performance
from harness.replay.filled import fits
from harness.replay.matching import Key, key_of, nearest
from harness.replay.pace import Pace
from harness.replay.steps import Gate

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject
    from harness.cassettes.model import Interaction
    from harness.replay.ledger import Ledger, Recording, Taken
    from harness.replay.server import Change

#: The close code of what was never recorded: against the policy.
MISS_CODE: Final = 1008
#: That of a text that is no UTF-8, and of a message that is larger than is taken.
_NO_TEXT_CODE: Final = 1007
_TOO_LARGE_CODE: Final = 1009
#: A close frame has 125 bytes, two of them for the code.
_MAX_REASON_BYTES: Final = 123
_SAID: Final = frozenset({"text", "bin", "close"})
#: What of a message names a response that was told before.
_REFERENCES: Final = ("previous_response_id", "response_id")


def _tell_nobody(_text: str) -> None:
    """Leave a miss to whoever sees the close code."""


@attrs.define(eq=False)
class FrameScript:
    """One WebSocket's recorded frames, and how far they have been played."""

    performance: Performance
    pace: Pace = attrs.field(factory=Pace)
    #: Asked before each message where the pace is causal.
    gate: Gate | None = None
    #: Texts of the recording may be filler; see `filled`.
    filled: bool = False
    #: Returns what is to be played, given the first message that came.
    choose: Callable[[Message], Performance] | None = None
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
        self._play(self.performance)

    def _play(self, performance: Performance) -> None:
        self.performance = performance
        self._frames = said_in(performance.frames)
        self._out = tuple(frame for frame in self._frames if frame.direction == "out")

    @property
    def is_played(self) -> bool:
        """Whether nothing is left to say."""
        return all(frame.direction == "out" for frame in self._frames[self._done :])

    @property
    def is_silent(self) -> bool:
        """Whether the other side is gone without a word: it answers no ping either."""
        return self.performance.end == "idle" and self.is_played

    @property
    def unheard(self) -> int:
        """How many of the messages that went out in the recording have not come."""
        messages = sum(frame.kind != "close" for frame in self._out)
        return messages - len(self._heard_at_s)

    def hear(self, data: Message) -> str | None:
        """Take the next message that goes out; return why it is a miss, or None."""
        place = len(self._heard_at_s)
        if place == 0 and self._done == 0 and self.choose is not None:
            self._play(self.choose(data))
        if place >= len(self._out):
            if self.performance.end != "eof":
                return None  # nobody listens any more
            return f"{place} messages were recorded, and one more came"
        frame = self._out[place]
        if frame.kind == "close":
            return f"message {place + 1} came, where the WebSocket was closed in the recording"
        differing = _difference(frame, data, filled=self.filled) or self._misled(frame, data)
        if differing:
            return f"message {place + 1} is not the recorded one: {differing}"
        self._heard_at_s.append(trio.current_time())
        self._change.set()
        self._change = trio.Event()
        return None

    def _misled(self, recorded: Frame, data: Message) -> str | None:
        """Say which response a message names that is not the one it should; None: none.

        Ids vary from run to run, but one that was told here in the recording is told again.
        """
        if b"response_id" not in recorded.data:
            return None
        there, here = _object(recorded.data), _object(_bytes(data))
        before = self._frames[: self._frames.index(recorded)]
        for name in _REFERENCES:
            was, now = get_text(there, name), get_text(here, name)
            if was is None or was == now:
                continue
            told = f'"{was}"'.encode()
            if any(frame.direction == "in" and told in frame.data for frame in before):
                return f"{name}: recorded {was} asked {now}"
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

    def due(self) -> Frame | None:
        """Return the next frame that comes in, if it is due by now; it is not done with by that."""
        for place, frame in enumerate(self._frames[self._done :], self._done):
            if frame.direction == "in":
                waits = self.pace.causal and self.gate is not None
                is_due = not waits and self._due_at_s(place) <= trio.current_time()
                return frame if is_due else None
            if len(self._heard_at_s) < self._outs_before(place + 1):
                return None
        return None

    def take_due(self) -> None:
        """Be done with the frame that is due."""
        while self._frames[self._done].direction == "out":
            self._done += 1
        self._done += 1

    async def _until_heard(self) -> None:
        wanted = self._outs_before(self._done + 1)
        while len(self._heard_at_s) < wanted:
            await self._change.wait()

    async def _until_due(self, frame: Frame) -> None:
        if self.pace.causal and self.gate is not None:
            await self.gate(frame.at_s)
        await trio.sleep_until(self._due_at_s(self._done))

    def _outs_before(self, place: int) -> int:
        return sum(frame.direction == "out" for frame in self._frames[:place])

    def _due_at_s(self, place: int) -> float:
        """Return when a frame that comes in is due; all that goes out before it has been heard."""
        heard = self._outs_before(place)
        told_s = self._out[heard - 1].at_s if heard else 0.0
        since_s = self._heard_at_s[heard - 1] if heard else self.began_s
        return since_s + self.pace.offset_s(max(0.0, self._frames[place].at_s - told_s))


@attrs.define(eq=False)
class ReplayedFrames:
    """A recorded WebSocket as a `FrameStream`, in memory."""

    script: FrameScript
    #: Told of a message that nobody has recorded.
    on_miss: Callable[[str], object] = _tell_nobody
    #: A larger message that comes in closes the WebSocket, as its receiver would.
    max_message_bytes: float = math.inf
    _closed: Closed | None = attrs.field(default=None, init=False)
    _over: trio.Event = attrs.field(factory=trio.Event, init=False)
    #: Ends the wait of whoever receives.
    _waiting: trio.CancelScope | None = attrs.field(default=None, init=False)

    async def send(self, data: Message) -> None:
        """Send a message; one that was not recorded closes the WebSocket with `MISS_CODE`."""
        await trio.lowlevel.checkpoint()
        if (closed := self.closed) is not None:
            raise closed
        if miss := self.script.hear(data):
            self.on_miss(miss)
            self._close(Closed(MISS_CODE, reason_of(miss)))

    async def receive(self) -> Message:
        """Return the next recorded message, when it is due."""
        with trio.CancelScope() as self._waiting:
            await trio.lowlevel.checkpoint()
            while self._closed is None:
                frame = await self.script.next()
                if frame is None:
                    await self._end()
                elif (closed := self._closed_by(frame)) is not None:
                    self._close(closed)
                else:
                    return _message(frame)
        if self._closed is None:  # cannot be: only `_close` cancels that scope
            raise Closed(BROKEN)
        raise self._closed

    def ready(self) -> Sequence[Message]:
        """Return the messages that are due."""
        found: list[Message] = []
        while self._closed is None and (frame := self.script.due()) is not None:
            if self._closed_by(frame) is not None:
                break  # `receive` tells of it
            self.script.take_due()
            found.append(_message(frame))
        return found

    async def ping(self) -> None:
        """Ask whether somebody is there; waits for ever where nobody is."""
        await trio.lowlevel.checkpoint()
        if self.closed is None and self.script.is_silent:
            await self._over.wait()
        if (closed := self.closed) is not None:
            raise closed

    @property
    def closed(self) -> Closed | None:
        """How it was closed, by somebody here or by now in the recording."""
        if self._closed is not None:
            return self._closed
        if (frame := self.script.due()) is not None:
            return self._closed_by(frame)
        broken = self.script.performance.end in ("eof", "reset") and self._is_over
        return Closed(BROKEN) if broken else None

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close it."""
        await trio.lowlevel.checkpoint()
        self._close(Closed(code, reason))

    async def aclose(self) -> None:
        """Drop it."""
        self.drop()
        await trio.lowlevel.checkpoint()

    def drop(self) -> None:
        """Drop it, without a checkpoint."""
        self._close(Closed(BROKEN))

    @property
    def _is_over(self) -> bool:
        return self.script.is_played and not self.script.unheard

    async def _end(self) -> None:
        if self.script.performance.end in ("eof", "reset"):
            self._close(Closed(BROKEN))
        else:
            await trio.sleep_forever()

    def _close(self, closed: Closed) -> None:
        if self._closed is None:
            self._closed = closed
            self._over.set()
            if self._waiting is not None:
                self._waiting.cancel()

    def _closed_by(self, frame: Frame) -> Closed | None:
        """Return how a frame that comes in closes the WebSocket; None if it does not."""
        if frame.kind == "close":
            code = NO_CODE if frame.code is None else frame.code
            return Closed(code, frame.data.decode("utf-8", "replace"))
        if len(frame.data) > self.max_message_bytes:
            return Closed(_TOO_LARGE_CODE, "a message is too large")
        if frame.kind == "text" and not _is_text(frame.data):
            return Closed(_NO_TEXT_CODE, "a text is no UTF-8")
        return None


def script_of(
    ledger: Ledger, taken: Taken, *, pace: Pace, change: Change, performance: Performance
) -> FrameScript:
    """Return the script of a WebSocket that was asked for; its first message settles of which.

    `performance` is what `change` has made of the recording that was taken.
    """

    def choose(data: Message) -> Performance:
        before = taken.recording
        ledger.settle(taken, lambda one: begins_with(one.interaction, data, filled=ledger.filled))
        if taken.recording is before and taken.recording is first:
            return performance
        return change(taken.recording.interaction, taken.count)

    async def gate(at_s: float) -> None:
        await ledger.until_begun(taken.recording, at_s)

    first: Recording = taken.recording
    return FrameScript(performance, pace, gate, filled=ledger.filled, choose=choose)


def begins_with(interaction: Interaction, data: Message, *, filled: bool) -> bool:
    """Tell whether a WebSocket was recorded whose first frame is that message, going out."""
    frames = said_in(interaction.response.stream.frames)
    if not frames or frames[0].direction != "out" or frames[0].kind == "close":
        return False
    return _difference(frames[0], data, filled=filled) is None


def said_in(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Return the frames that say something: messages and closes."""
    return tuple(frame for frame in frames if frame.kind in _SAID)


def reason_of(miss: str) -> str:
    """Return what a close frame can hold of why something is a miss."""
    short = " ".join(miss.split()).encode("ascii", "replace")
    if len(short) > _MAX_REASON_BYTES:
        short = short[: _MAX_REASON_BYTES - 3] + b"..."
    return short.decode("ascii")


def _message(frame: Frame) -> Message:
    return frame.data.decode() if frame.kind == "text" else frame.data


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _bytes(data: Message) -> bytes:
    return data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data


def _object(data: bytes) -> JsonObject:
    try:
        value = parse(data)
    except ValueError:
        return {}
    return value if is_object(value) else {}


def _difference(recorded: Frame, data: Message, *, filled: bool) -> str | None:
    """Say how a message differs from the recorded one, its ids and the like apart; None: not."""
    kind = "text" if isinstance(data, str) else "bin"
    if recorded.kind != kind:
        return f"recorded {recorded.kind} asked {kind}"
    asked = _bytes(data)
    if asked == recorded.data:
        return None
    here, there = _key(asked), _key(recorded.data)
    if here == there:
        return None
    if filled and here.raw is not None and fits(there.raw, here.raw):
        return None
    found = nearest(here, [there])
    return "\n".join(found.lines()) if found is not None else None


def _key(data: bytes) -> Key:
    return key_of("upstream", "GET", "/", body=data)
