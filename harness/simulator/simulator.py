"""The simulated backend on a socket of 127.0.0.1."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs
import trio

from harness.simulator import endpoints
from harness.simulator.arrival import Arrival
from harness.simulator.backend import SimulatedBackend
from harness.simulator.connection import Connection
from harness.simulator.seen import Seen

if TYPE_CHECKING:
    from harness.simulator.arrival import HttpRequest
    from harness.simulator.steps import Answer

HOST: Final = "127.0.0.1"
#: Load tests connect hundreds of clients at once.
BACKLOG: Final = 1024


def _ignore(_: Seen) -> None:
    """Do nothing with a request that has ended."""


@attrs.define(eq=False, repr=False, kw_only=True)
class Simulator(SimulatedBackend):
    """A simulated Codex backend and its sign-in service.

    Start it with `base_url = await nursery.start(simulator.serve)`. Whatever is inherited is
    synchronous and may be called while it serves.
    """

    #: 0 lets the system choose.
    port: int = 0
    #: Called when a request has ended: answered to the end, or left by its client.
    on_ended: Callable[[Seen], None] = _ignore
    _base_url: str | None = attrs.field(default=None, init=False)
    #: Set, and replaced, whenever a record changes.
    _change: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def serve(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started with the base URL, `http://127.0.0.1:PORT`."""
        listeners = await trio.open_tcp_listeners(self.port, host=HOST, backlog=BACKLOG)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self.serve_connection, listeners)
            self._base_url = f"http://{HOST}:{listeners[0].socket.getsockname()[1]}"
            task_status.started(self._base_url)

    async def serve_connection(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, which may be in memory, until either side closes it."""
        async with stream:
            await Connection(stream, self._cut_off, self._answer, self._changed).run()

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT`.

        Raises:
            RuntimeError: it does not serve yet, so there is no port.
        """
        if self._base_url is None:
            raise RuntimeError("the simulator does not serve yet: start `serve` first")
        return self._base_url

    @property
    def api_base_url(self) -> str:
        """What a relay is given as `api_base_url`."""
        return f"{self.base_url}/backend-api/codex"

    @property
    def issuer_url(self) -> str:
        """What a relay is given as `oauth_issuer`."""
        return self.base_url

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition`, which is about `seen`, is true. The deadline is the caller's."""
        while not condition():
            await self._change.wait()

    def _cut_off(self, request: HttpRequest) -> Seen | None:
        if not self.cuts_off:
            return None
        arrival = self._arrival(request)
        if not endpoints.cuts_off(self, arrival):
            return None
        self.seen.append(arrival.seen)
        return arrival.seen

    def _answer(self, request: HttpRequest) -> tuple[Seen, Answer]:
        arrival = self._arrival(request)
        self.seen.append(arrival.seen)
        answer = endpoints.answer(self, arrival)
        self._notify()
        return arrival.seen, answer

    def _arrival(self, request: HttpRequest) -> Arrival:
        seen = Seen(
            method=request.method,
            path=request.target,
            headers=list(request.headers),
            body=request.parsed(),
            arrived_at_s=trio.current_time(),
        )
        return Arrival(request, seen, self.wall_clock())

    def _changed(self, seen: Seen) -> None:
        if seen.ended:
            self.on_ended(seen)
        self._notify()

    def _notify(self) -> None:
        self._change.set()
        self._change = trio.Event()
