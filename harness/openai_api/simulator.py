"""The simulated API on a socket of 127.0.0.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from harness.openai_api import endpoints
from harness.openai_api.api import SimulatedApi
from harness.simulator.arrival import arrived
from harness.simulator.loopback import Loopback

if TYPE_CHECKING:
    from harness.simulator.arrival import HttpRequest
    from harness.simulator.seen import Seen
    from harness.simulator.steps import Answer


@attrs.define(eq=False, repr=False, kw_only=True)
class OpenAISimulator(SimulatedApi, Loopback):
    """A simulated OpenAI-compatible API.

    Start it with `base_url = await nursery.start(simulator.serve)`. Whatever comes from
    `SimulatedApi` is synchronous and may be called while it serves.
    """

    @property
    def api_base_url(self) -> str:
        """What a relay is given as `api_base_url`."""
        return f"{self.base_url}/v1"

    def answer_to(self, request: HttpRequest) -> tuple[Seen, Answer]:
        """Return the record of a request that has arrived whole, and the steps of its answer."""
        arrival = arrived(request, now_unix_s=self.wall_clock())
        self.seen.append(arrival.seen)
        return arrival.seen, endpoints.answer(self, arrival)
