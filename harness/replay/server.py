"""A backend on a socket of 127.0.0.1 that knows cassettes and nothing else."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import trio

from codexrelay.protocol.raw import dump
from harness.cassettes.model import Interaction
from harness.cassettes.performance import Chunk, Performance, performance_of
from harness.replay.frames import FrameScript, script_of
from harness.replay.ledger import TRACKS, Ledger, Miss
from harness.replay.matching import WEBSOCKET, key_of
from harness.replay.pace import Pace
from harness.replay.steps import steps_of
from harness.replay.websocket import serve_websocket
from harness.simulator.arrival import arrived
from harness.simulator.loopback import Loopback
from harness.simulator.steps import reply
from harness.simulator.wire import SWITCHED, is_upgrade

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject
    from harness.replay.ledger import Taken
    from harness.replay.matching import Key
    from harness.simulator.arrival import HttpRequest
    from harness.simulator.connection import Takeover
    from harness.simulator.seen import Seen
    from harness.simulator.steps import Answer

#: From a recorded answer, and how many of its method and path have been played with this one, to
#: what is played: where faults are laid over it.
Change: TypeAlias = Callable[[Interaction, int], Performance]

#: What a request gets that nobody has recorded. No client repeats it for long.
MISS_STATUS: Final = 400
#: The sign-in service's is another: a relay must not take its account for refused.
REFRESH_MISS_STATUS: Final = 503
MISS_CODE: Final = "cassette_miss"


def as_recorded(interaction: Interaction, _count: int) -> Performance:
    """Change nothing."""
    return performance_of(interaction)


def ignore_miss(_text: str) -> None:
    """Tell nobody of a miss; the ledger knows."""


def miss_answer(miss: Miss) -> tuple[int, JsonObject]:
    """Return status and body of the answer to a request that nobody has recorded."""
    status = REFRESH_MISS_STATUS if miss.is_refresh else MISS_STATUS
    error: JsonObject = {
        "message": miss.text,
        "type": "invalid_request_error",
        "param": None,
        "code": MISS_CODE,
    }
    return status, {"error": error}


@attrs.define(eq=False, repr=False, kw_only=True)
class ReplayServer(Loopback):
    """Serves what the cassettes of a ledger hold.

    Start it with `base_url = await nursery.start(server.serve)`. It serves both tracks: as a
    backend to a relay, and as a relay to a client.
    """

    ledger: Ledger
    pace: Pace = attrs.field(factory=Pace)
    change: Change = as_recorded
    #: Told of each request that nobody has recorded, and of the nearest that somebody has.
    on_miss: Callable[[str], object] = ignore_miss

    def answer_to(self, request: HttpRequest) -> tuple[Seen, Answer]:
        """Return the record of a request that has arrived whole, and the steps of its answer."""
        seen = arrived(request, now_unix_s=time.time()).seen
        taken = self.ledger.take(*keys_of(request))
        if isinstance(taken, Miss):
            self.on_miss(taken.text)
            return seen, reply(*miss_answer(taken))
        return seen, self._answer_of(taken, request.method)

    def upgrade(self, request: HttpRequest) -> Takeover | None:
        """Return who plays a WebSocket, if the request asks for one and one was recorded for it."""
        if not is_upgrade(request.headers):
            return None
        keys = keys_of(attrs.evolve(request, method=WEBSOCKET))
        if not self.ledger.knows(*keys):
            return None
        seen = arrived(request, now_unix_s=time.time()).seen
        taken = self.ledger.take(*keys)
        if isinstance(taken, Miss):
            self.on_miss(taken.text)
            status, error = miss_answer(taken)
            body = (Chunk(0.0, dump(error)),)
            script = FrameScript(Performance(status=status, chunks=body))
        else:
            performance = self.change(taken.recording.interaction, taken.count)
            script = script_of(
                self.ledger,
                taken,
                pace=self.pace,
                change=self.change,
                performance=performance,
            )
        return functools.partial(self._serve_websocket, request, seen, script)

    async def _serve_websocket(
        self,
        request: HttpRequest,
        seen: Seen,
        script: FrameScript,
        stream: trio.abc.Stream,
        early: bytes,
    ) -> None:
        def missed(text: str) -> None:
            told = f"{request.method} {request.path}: {text}"
            self.ledger.note(told)
            self.on_miss(told)

        seen.status = script.performance.status
        seen.finished = await serve_websocket(stream, early, request.headers, script, missed)
        if not seen.finished:
            seen.left_at_s = trio.current_time()
        if seen.status == SWITCHED and script.unheard and not self.ledger.repeat:
            never = f"recorded messages that never came: {script.unheard}"
            self.ledger.note(f"{request.method} {request.path}: {never}")
        self._changed(seen)

    def _answer_of(self, taken: Taken, method: str) -> Answer:
        performance = self.change(taken.recording.interaction, taken.count)
        gate = functools.partial(self.ledger.until_begun, taken.recording)
        return steps_of(performance, self.pace, gate, method=method)


def keys_of(request: HttpRequest) -> tuple[Key, ...]:
    """Return the keys that a request has, one for each track that it may belong to."""
    first, *others = TRACKS
    key = key_of(first, request.method, request.target, headers=request.headers, body=request.body)
    return (key, *(attrs.evolve(key, track=track) for track in others))
