"""One WebSocket to the backend: its task dials, keeps it alive while nobody needs it, and ends it.

A turn borrows it alone, and then sends and receives in its own task: an event costs no switch of
tasks. In between its owner listens, so that a close is noticed and what nobody asked for is
dropped. Cancelling one turn's response is no use here: the backend may go on with it, and its
events would run into the next turn's. So a turn that is left drops the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import structlog
import trio

from codexrelay.backends.websocket import Closed, Dial, Handshake, Opened, Refused, Unreachable
from codexrelay.protocol.continuation import Answered

if TYPE_CHECKING:
    from codexrelay.backends.websocket import FrameStream

#: The backend closes after 60 minutes (wire notes 7); no turn is begun shortly before.
MAX_AGE_S: Final = 55 * 60.0
#: Without a turn for so long, it is closed.
MAX_IDLE_S: Final = 5 * 60.0
#: Between two pings, and what the answer to one may take. A peer that is gone without a word would
#: otherwise be noticed when the turn's budget of silence is over.
PING_EVERY_S: Final = 25.0
PONG_WITHIN_S: Final = 20.0
#: For the peer's part in a polite end.
CLOSE_S: Final = 2.0

_log = structlog.get_logger("codexrelay.websockets")


@attrs.define(eq=False, kw_only=True)
class Connection:
    """One WebSocket, borrowed by the turn that it is dialled for."""

    handshake: Handshake
    #: Bearer, and who it says it is: a turn with others needs another connection.
    mark: tuple[str, ...] = attrs.field(repr=False)
    _dial: Dial
    #: What became of the dialling; None: nothing yet, or it was given up.
    result: Opened | Refused | Unreachable | None = attrs.field(default=None, init=False)
    #: Set when `result` is final.
    dialled: trio.Event = attrs.field(factory=trio.Event, init=False)
    #: Set when nothing of it is left.
    ended: trio.Event = attrs.field(factory=trio.Event, init=False)
    #: A turn has it.
    is_taken: bool = attrs.field(default=True, init=False)
    #: It is about to end, whoever has it.
    is_dropped: bool = attrs.field(default=False, init=False)
    #: A turn has had it before.
    has_served: bool = attrs.field(default=False, init=False)
    #: What the backend knows at its end; None: the next turn begins anew.
    answered: Answered | None = attrs.field(default=None, init=False)
    #: Of the turn before.
    last_response_id: str | None = attrs.field(default=None, init=False)
    #: On trio's clock: since when no turn has it.
    idle_since_s: float = attrs.field(default=0.0, init=False)
    #: For the heartbeat, by whoever has it: a message is being sent; the next one is waited for; so
    #: many times something came.
    is_sending: bool = attrs.field(default=False, init=False)
    is_waiting: bool = attrs.field(default=False, init=False)
    heard: int = attrs.field(default=0, init=False)
    _opened_at_s: float = attrs.field(default=0.0, init=False)
    _retired: bool = attrs.field(default=False, init=False)
    _life: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _listening: trio.CancelScope | None = attrs.field(default=None, init=False)
    _at_rest: trio.Event = attrs.field(factory=trio.Event, init=False)
    _given_back: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._at_rest.set()

    @property
    def frames(self) -> FrameStream:
        """The open WebSocket."""
        assert isinstance(self.result, Opened)
        return self.result.frames

    @property
    def headers(self) -> dict[str, str]:
        """Of the answer that opened it."""
        assert isinstance(self.result, Opened)
        return self.result.headers

    @property
    def is_usable(self) -> bool:
        """Whether a turn may take it now."""
        return (
            not self.is_taken
            and not self._retired
            and self.frames.closed is None
            and trio.current_time() < self._opened_at_s + MAX_AGE_S
        )

    def take(self) -> None:
        """Give it to a turn; no checkpoint. The turn awaits `at_rest` before it touches it."""
        self.is_taken = True
        self._given_back = trio.Event()
        if self._listening is not None:
            self._listening.cancel()

    async def at_rest(self) -> None:
        """Wait until its owner has stopped listening; drop what came that nobody asked for."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._at_rest.is_set():
            await self._at_rest.wait()
        self.frames.ready()

    def give_back(self, answered: Answered | None, *, response_id: str | None) -> None:
        """Take it back from a turn whose answer has ended; `answered` is what it may go on from."""
        self.is_taken, self.has_served = False, True
        self.answered, self.last_response_id = answered, response_id
        self.idle_since_s = trio.current_time()
        self._given_back.set()

    def retire(self) -> None:
        """Close it as soon as no turn has it."""
        self._retired = True
        if self._listening is not None:
            self._listening.cancel()

    def drop(self) -> None:
        """End it at once; `ended` is set when it is done."""
        self.is_dropped = self._retired = True
        self._life.cancel()

    async def run(self) -> None:
        """Be the connection's task, from the dialling to the end."""
        try:
            with self._life:
                async with self._dial(self.handshake) as result:
                    self.result = result
                    self._opened_at_s = trio.current_time()
                    self.dialled.set()
                    if isinstance(result, Opened):
                        await self._live(result.frames)
        except Exception:  # noqa: BLE001 - a task border: other turns, and the relay, go on
            _log.exception("a WebSocket was ended by an unforeseen error")
        finally:
            self.dialled.set()
            self.ended.set()

    async def _live(self, frames: FrameStream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_alive, frames)
            while not (frames.closed or (self._retired and not self.is_taken)):
                if self.is_taken:
                    await self._given_back.wait()
                else:
                    await self._listen(frames)
            nursery.cancel_scope.cancel()
        with trio.move_on_after(CLOSE_S):
            await frames.close()

    async def _listen(self, frames: FrameStream) -> None:
        """Hear what the peer says to nobody, until a turn takes it or it is to be closed."""
        until_s = min(self.idle_since_s + MAX_IDLE_S, self._opened_at_s + MAX_AGE_S)
        self._at_rest = trio.Event()
        self.is_waiting = True
        try:
            with trio.CancelScope(deadline=until_s) as self._listening:
                while True:
                    await frames.receive()
                    self.heard += 1
        except Closed:
            self._retired = True
        finally:
            self._listening = None
            self.is_waiting = False
            self._at_rest.set()
        if not self.is_taken:
            self._retired = True

    async def _keep_alive(self, frames: FrameStream) -> None:
        """Ping, and drop a connection whose peer is gone: a turn that waits sees it broken.

        A turn whose client is slow does not read, so that a pong may wait behind what was sent:
        that is no sign. Nor is it while a long message goes out.
        """
        while True:
            await trio.sleep(PING_EVERY_S)
            if self.is_sending:
                continue
            heard = self.heard
            with trio.move_on_after(PONG_WITHIN_S) as pong:
                try:
                    await frames.ping()
                except Closed:
                    return
            if pong.cancelled_caught and self.is_waiting and self.heard == heard:
                await frames.aclose()
                return
