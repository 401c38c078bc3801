"""The simulated backend on a socket of 127.0.0.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from harness.simulator import endpoints
from harness.simulator.arrival import arrived
from harness.simulator.backend import SimulatedBackend
from harness.simulator.loopback import Loopback
from harness.simulator.messages import opened
from harness.simulator.websocket import SocketTalk

if TYPE_CHECKING:
    from harness.simulator.arrival import HttpRequest
    from harness.simulator.connection import Takeover
    from harness.simulator.seen import Seen
    from harness.simulator.steps import Answer


@attrs.define(eq=False, repr=False, kw_only=True)
class Simulator(SimulatedBackend, Loopback):
    """A simulated Codex backend and its sign-in service.

    Start it with `base_url = await nursery.start(simulator.serve)`. Whatever comes from
    `SimulatedBackend` is synchronous and may be called while it serves.
    """

    @property
    def api_base_url(self) -> str:
        """What a relay is given as `api_base_url`."""
        return f"{self.base_url}/backend-api/codex"

    @property
    def issuer_url(self) -> str:
        """What a relay is given as `oauth_issuer`."""
        return self.base_url

    def cut_off(self, request: HttpRequest) -> Seen | None:
        """Return the record of a request to be reset while it arrives; None: let it arrive."""
        if not self.cuts_off:
            return None
        arrival = arrived(request, now_unix_s=self.wall_clock())
        if not endpoints.cuts_off(self, arrival):
            return None
        self.seen.append(arrival.seen)
        return arrival.seen

    def upgrade(self, request: HttpRequest) -> Takeover | None:
        """Return who serves the WebSocket that a request is granted; None: it is granted none."""
        arrival = arrived(request, now_unix_s=self.wall_clock())
        if not endpoints.opens(self, arrival):
            return None
        rules = opened(self, arrival)
        self._changed(arrival.seen)
        return SocketTalk(rules, self._changed).run

    def answer_to(self, request: HttpRequest) -> tuple[Seen, Answer]:
        """Return the record of a request that has arrived whole, and the steps of its answer."""
        arrival = arrived(request, now_unix_s=self.wall_clock())
        self.seen.append(arrival.seen)
        return arrival.seen, endpoints.answer(self, arrival)
