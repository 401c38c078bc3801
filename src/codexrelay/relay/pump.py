"""One task that moves the bytes of many committed streams, without waking a task for each event.

With a task per stream an event costs more than its receive and send: the selector reports the
socket, trio schedules the task, and the task registers again. The pump waits until a set of
descriptors of its own has something, asks it without waiting which streams are ready, and moves one
block of each. The more are ready, the smaller is the share of the wake-up.

Nothing of a turn's ownership is given up: it sleeps in its own task and scopes, and a deadline or a
cancel takes its stream out of the set at once. It is woken when something is not ordinary, which
its own task does then, in the way of `mover`: the terminal event, a slow client, an upstream that
has ended or broken off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import attrs
import outcome
import trio

from codexrelay.backends.backend import Source
from codexrelay.relay import mover
from codexrelay.relay.mover import Stream

if TYPE_CHECKING:
    from codexrelay.protocol.faults import Fault

#: Streams moved in one tick, one block each, before the other tasks get their turn. Of more that
#: are ready the set reports the others next time: it goes round.
STREAMS_PER_TICK: Final = 64


class ReadySet(Protocol):
    """Descriptors of which it tells which are readable; `select.epoll`, where there is one."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while one of the set is."""

    def register(self, fd: int, eventmask: int) -> None:
        """Take a descriptor in."""

    def unregister(self, fd: int) -> None:
        """Leave a descriptor out again."""

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """Return those that are ready, and for what, in turn; no more than `maxevents`."""


#: `select.EPOLLIN`, by the system's own definition. Errors and the end are reported with it.
READABLE: Final = 0x001

#: What is left to write for the client, None: nothing.
Left: TypeAlias = bytes | None


@attrs.define(eq=False)
class _Carried:
    """A stream in the pump's hands, and the task that sleeps meanwhile."""

    stream: Stream
    source: Source
    fd: int
    task: trio.lowlevel.Task


@attrs.define(eq=False)
class Pump:
    """Moves streams while `run` runs; otherwise it takes none."""

    _ready: ReadySet
    _carried: dict[int, _Carried] = attrs.field(factory=dict, init=False)
    _is_running: bool = attrs.field(default=False, init=False)

    async def run(self) -> None:
        """Move what is ready, until cancelled; then each stream goes on in its turn's own task."""
        self._is_running = True
        try:
            while True:
                # A checkpoint, so every other task gets its turn between two ticks.
                await trio.lowlevel.wait_readable(self._ready.fileno())
                self._tick(trio.current_time())
        finally:
            self._is_running = False
            for carried in tuple(self._carried.values()):
                self._give_back(carried, outcome.Value(None))

    async def carry(self, stream: Stream, source: Source) -> Left:
        """Move a stream as long as that is ordinary; return what is left to write.

        Nothing is lost and nothing is said twice: what was fed to the answer has been written, or
        is returned. Behind it the caller writes, receives or ends, and may come again. `b""` says
        that the client is slow, and that what it could not take goes with the next write. If this
        is cancelled, nothing was left.

        Raises:
            EventTooLargeError: as of `Answer.feed`.
        """
        if not self._is_running:
            return None
        # What the source has read already, the set knows nothing of.
        if (told := _step(stream, source, trio.current_time())) is not None:
            return told.left
        carried = _Carried(stream, source, source.fileno(), trio.lowlevel.current_task())
        self._ready.register(carried.fd, READABLE)
        self._carried[carried.fd] = carried

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._leave(carried)
            return trio.lowlevel.Abort.SUCCEEDED

        left: Left = await trio.lowlevel.wait_task_rescheduled(abort)
        return left

    def __len__(self) -> int:
        return len(self._carried)

    def _tick(self, now_s: float) -> None:
        for fd, events in self._ready.poll(0, STREAMS_PER_TICK):
            carried = self._carried.get(fd)
            if carried is None:  # cancelled since it was reported
                continue
            try:
                told = _step(carried.stream, carried.source, now_s)
            except Exception as error:  # noqa: BLE001 - the stream's border: raised in its own turn
                self._give_back(carried, outcome.Error(error))
                continue
            if told is not None:
                self._give_back(carried, outcome.Value(told.left))
            elif events != READABLE:
                # Its end, or an error, of which the source has said nothing: not to be asked about
                # it for ever.
                self._give_back(carried, outcome.Value(None))

    def _give_back(self, carried: _Carried, left: outcome.Outcome[Left]) -> None:
        """Wake the turn, once; from here on its own task has the stream."""
        # A client that is found gone may have cancelled it while its block was moved.
        if carried.fd in self._carried:
            self._leave(carried)
            trio.lowlevel.reschedule(carried.task, left)

    def _leave(self, carried: _Carried) -> None:
        # Before anybody closes the descriptor: its number is given out again.
        del self._carried[carried.fd]
        self._ready.unregister(carried.fd)


@attrs.define
class _NotOrdinary:
    """Something for the turn's own task."""

    left: Left


_ASK_IT: Final = _NotOrdinary(None)


def _step(stream: Stream, source: Source, now_s: float) -> _NotOrdinary | None:
    """Move one block; None if there is nothing else to do. No checkpoint, so it is never half done.

    Raises:
        EventTooLargeError: as of `Answer.feed`.
    """
    block = source.receive_now()
    if block is None:
        return _ASK_IT
    if not block:
        return None
    stream.silence.heard(now_s)
    answer = stream.answer
    out = answer.feed(block)
    if answer.terminal is not None:
        return _NotOrdinary(out)
    left = stream.line.write_now(out, now_s) if out else None
    if left is not None:
        return _NotOrdinary(left)
    # The set may have nothing more to tell of an answer that has ended with this block.
    return _ASK_IT if source.is_over else None


@attrs.frozen
class PumpMover:
    """Moves by the pump what can be, and the rest as `mover.BodyMover` does."""

    _pump: Pump

    async def move(self, stream: Stream) -> Fault | None:
        """See `Mover.move`."""
        return await mover.move(stream, self._next)

    async def _next(self, stream: Stream) -> bytes | Fault | None:
        """See `mover.Next`."""
        source = stream.attempt.source
        if source is not None and stream.line.is_prompt:
            stream.silence.heard(trio.current_time())
            left = await self._pump.carry(stream, source)
            stream.silence.rest()  # while the client takes its time, upstream is not silent
            if left is not None:
                return left
        return await mover.receive(stream)
