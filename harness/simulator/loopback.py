"""A socket of 127.0.0.1 before whatever decides: what all simulated services have in common."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs
import trio

from harness.simulator.connection import Connection, Takeover
from harness.simulator.seen import Seen

if TYPE_CHECKING:
    from harness.simulator.arrival import HttpRequest
    from harness.simulator.steps import Answer

HOST: Final = "127.0.0.1"
#: Load tests connect hundreds of clients at once.
BACKLOG: Final = 1024


def _ignore(_: Seen) -> None:
    """Do nothing with a request that has ended."""


# Without slots, so that it can stand beside a class that has some.
@attrs.define(eq=False, repr=False, kw_only=True, slots=False)
class Loopback(abc.ABC):
    """Listens and serves. Start it with `base_url = await nursery.start(it.serve)`."""

    #: 0 lets the system choose.
    port: int = 0
    #: Called when a request has ended: answered to the end, or left by its client.
    on_ended: Callable[[Seen], object] = _ignore
    _base_url: str | None = attrs.field(default=None, init=False)
    #: Set, and replaced, whenever a record changes.
    _change: trio.Event = attrs.field(factory=trio.Event, init=False)

    @abc.abstractmethod
    def answer_to(self, request: HttpRequest) -> tuple[Seen, Answer]:
        """Return the record of a request that has arrived whole, and the steps of its answer."""

    def cut_off(self, request: HttpRequest) -> Seen | None:  # noqa: ARG002  (for those who do)
        """Return the record of a request to be reset while it arrives; None: let it arrive."""
        return None

    def upgrade(self, request: HttpRequest) -> Takeover | None:  # noqa: ARG002  (for those who do)
        """Return who takes the connection over with this request; None: it stays HTTP."""
        return None

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
            await Connection(stream, self.cut_off, self._answer, self._changed, self.upgrade).run()

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT`.

        Raises:
            RuntimeError: it does not serve yet, so there is no port.
        """
        if self._base_url is None:
            raise RuntimeError("the simulator does not serve yet: start `serve` first")
        return self._base_url

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition`, which is about what was seen, is true.

        The deadline is the caller's.
        """
        while not condition():
            await self._change.wait()

    def _answer(self, request: HttpRequest) -> tuple[Seen, Answer]:
        seen, answer = self.answer_to(request)
        self._notify()
        return seen, answer

    def _changed(self, seen: Seen) -> None:
        if seen.ended:
            self.on_ended(seen)
        self._notify()

    def _notify(self) -> None:
        self._change.set()
        self._change = trio.Event()
