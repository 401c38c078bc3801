"""The upstream WebSockets of a relay that are a cassette: a dial without any network."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay.backends.transports.websocket import MAX_MESSAGE_BYTES
from codexrelay.backends.websocket import Handshake, Opened, Refused, Unreachable
from codexrelay.protocol.raw import dump
from harness.replay.frames import ReplayedFrames, script_of
from harness.replay.ledger import Ledger, Miss
from harness.replay.matching import WEBSOCKET, key_of
from harness.replay.pace import Pace
from harness.replay.server import Change, as_recorded, ignore_miss, miss_answer
from harness.simulator.wire import SWITCHED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from harness.cassettes.model import Headers
    from harness.cassettes.performance import Performance
    from harness.replay.ledger import Taken

#: What says that there are no WebSockets here: the relay asks over HTTP then.
NO_WEBSOCKETS_STATUS: Final = 426
#: Of one connection.
_OF_THE_HANDSHAKE: Final = frozenset(
    {"connection", "upgrade", "sec-websocket-accept", "sec-websocket-extensions"}
)


@attrs.define(eq=False)
class ReplayDial:
    """Opens WebSockets as the upstream track of a ledger says, at the times of its pace.

    A handshake that nobody has recorded is refused with `NO_WEBSOCKETS_STATUS`; where others to the
    same place were recorded it is a violation too. One event loop only.
    """

    ledger: Ledger
    pace: Pace = attrs.field(factory=Pace)
    change: Change = as_recorded
    #: Told of each handshake and message that nobody has recorded.
    on_miss: Callable[[str], object] = ignore_miss
    #: A larger message closes the WebSocket, as the relay does with one from a network.
    max_message_bytes: float = MAX_MESSAGE_BYTES

    @asynccontextmanager
    async def __call__(self, handshake: Handshake) -> AsyncIterator[Opened | Refused | Unreachable]:
        """Open a WebSocket, or answer as was recorded; see `Dial`."""
        await trio.lowlevel.checkpoint()
        key = key_of("upstream", WEBSOCKET, str(handshake.url), headers=handshake.headers)
        if not self.ledger.knows(key):
            self.on_miss(
                f"no WebSocket to {key.path} was recorded: refused with {NO_WEBSOCKETS_STATUS}, "
                "so that the relay asks over HTTP"
            )
            yield _refused_as_unknown()
            return
        taken = self.ledger.take(key)
        if isinstance(taken, Miss):
            self.on_miss(taken.text)
            yield _refused_as_unknown(dump(miss_answer(taken)[1]))
            return
        performance = self.change(taken.recording.interaction, taken.count)
        with trio.move_on_after(handshake.within_s) as patience:
            await self._until_answered(performance)
        if patience.cancelled_caught:
            yield Unreachable(f"the cassette did not answer within {handshake.within_s} s")
        elif performance.status is None:
            yield Unreachable("no connection to the cassette, as recorded")
        elif performance.status != SWITCHED:
            headers = _by_name(performance.headers)
            yield Refused(status=performance.status, headers=headers, body=performance.body)
        else:
            async with self._opened(taken, performance) as opened:
                yield opened

    async def _until_answered(self, performance: Performance) -> None:
        await trio.sleep(self.pace.offset_s(performance.head_at_s))
        if performance.status is None and performance.end not in ("eof", "reset"):
            await trio.sleep_forever()

    @asynccontextmanager
    async def _opened(self, taken: Taken, performance: Performance) -> AsyncIterator[Opened]:
        script = script_of(
            self.ledger, taken, pace=self.pace, change=self.change, performance=performance
        )

        def missed(text: str) -> None:
            told = f"{taken.recording.key.asked}: {text}"
            self.ledger.note(told)
            self.on_miss(told)

        frames = ReplayedFrames(script, missed, self.max_message_bytes)
        try:
            yield Opened(frames=frames, headers=_by_name(performance.headers))
        finally:
            frames.drop()
            if script.unheard and not self.ledger.repeat:
                never = f"recorded messages that never came: {script.unheard}"
                self.ledger.note(f"{taken.recording}: {never}")


def _by_name(headers: Headers) -> dict[str, str]:
    return {name: value for name, value in headers if name not in _OF_THE_HANDSHAKE}


def _refused_as_unknown(body: bytes = b"") -> Refused:
    return Refused(
        status=NO_WEBSOCKETS_STATUS, headers={"content-type": "application/json"}, body=body
    )
