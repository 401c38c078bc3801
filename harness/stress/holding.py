"""What a relay in a process of its own holds, as seen from outside."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio

from harness.simulator import Simulator

if TYPE_CHECKING:
    from harness.relay_process import RelayProcess

#: To let go of everything; clients that have closed are noticed within milliseconds.
_PATIENCE_S: Final = 20.0
_LOOK_AGAIN_S: Final = 0.05
_GAUGE: Final = "codexrelay_(running_turns|client_websockets) ([0-9.]+)"


@attrs.define(eq=False, repr=False, kw_only=True)
class CountingSimulator(Simulator):
    """A simulated backend that knows how many connections it has."""

    connections: int = attrs.field(default=0, init=False)

    async def serve_connection(self, stream: trio.abc.Stream) -> None:
        """See `Loopback`."""
        self.connections += 1
        try:
            await super().serve_connection(stream)
        finally:
            self.connections -= 1


@attrs.frozen(kw_only=True)
class Held:
    """What a relay holds."""

    turns: int
    #: WebSockets of clients.
    sockets: int
    #: Open files, without the connections that are kept for the backend; 0 where the system does
    #: not tell.
    files: int


async def held_by(relay: RelayProcess, simulator: CountingSimulator) -> Held:
    """Ask a relay, and the system, what it holds now."""
    async with httpx.AsyncClient(trust_env=False, timeout=None) as http:
        answer = await http.get(f"{relay.url}/metrics", headers={"connection": "close"})
    gauges = dict(re.findall(f"(?m)^{_GAUGE}$", answer.text))
    open_files = _open_files(relay.pid)
    return Held(
        turns=round(float(gauges["running_turns"])),
        sockets=round(float(gauges["client_websockets"])),
        files=open_files and open_files - simulator.connections,
    )


def _open_files(pid: int | None) -> int:
    folder = Path(f"/proc/{pid}/fd")
    return len(os.listdir(folder)) if folder.is_dir() else 0


async def problems_behind(
    relay: RelayProcess, simulator: CountingSimulator, before: Held
) -> list[str]:
    """Wait until a relay holds no more than before; say what it still holds if it does not."""
    now = before
    with trio.move_on_after(_PATIENCE_S):
        while True:
            now = await held_by(relay, simulator)
            if not now.turns and not now.sockets and now.files <= before.files:
                return []
            await trio.sleep(_LOOK_AGAIN_S)
    return [f"{before} before and {now} behind the last client"]
