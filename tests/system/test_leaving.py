"""Clients leave in every phase, on HTTP and on WebSockets; `make stress` sends a thousand."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio

from codexrelay.backends.codex.backend import CodexBackend
from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.backends.transports.direct import DirectTransport
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from harness.stress.leaving import PHASES, Left, leave, median_ms, p99_ms, rows_of
from tests.fakes.level import Level
from tests.fakes.relay import eventually, relaying
from tests.fakes.scripted_server import Caller, serving

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    from tests.fakes.relay import LiveRelay

CLIENTS = 100
AT_ONCE = 20
#: Milliseconds are promised; a busy machine is forgiven much.
PROMPTLY_MS = 2000.0


@pytest.mark.parametrize("websocket", ["off", "on", "auto"])
async def test_clients_that_leave_in_any_phase_leave_nothing_behind(
    tmp_path: Path, websocket: Literal["off", "on", "auto"]
) -> None:
    simulator = Simulator(accounts=some_accounts(2), pace_s=0.005)
    async with relaying(
        tmp_path, simulator, backend=CodexBackendSettings(websocket=websocket)
    ) as relay:
        before = Level.of(relay)
        rng = random.Random(8787)
        left = await leave(relay.url, simulator, clients=CLIENTS, at_once=AT_ONCE, rng=rng)
        assert left.problems == []
        # Every phase was met, or this has shown nothing.
        assert all(left.phases.values()), left.phases
        for delays_s in left.delays_s.values():
            assert delays_s
            assert median_ms(delays_s) < PROMPTLY_MS
        asked_over_sockets = {seen.is_message for seen in relay.asked if not seen.is_handshake}
        assert (
            asked_over_sockets == {"off": {False}, "on": {True}, "auto": {True, False}}[websocket]
        )
        await relay.until_at_rest()
        await _close_idle_connections(relay)
        await eventually(
            lambda: Level.of(relay).is_within(before), lambda: (before, Level.of(relay))
        )


async def _close_idle_connections(relay: LiveRelay) -> None:
    """Close what is kept for the next request: it is nobody's."""
    relay.simulator.close_sockets(1001)
    for member in relay.services.relay.instances.members:
        assert isinstance(member.backend, CodexBackend)
        assert isinstance(member.backend.transport, DirectTransport)
        await member.backend.transport.aclose()


async def test_a_relay_that_hangs_up_is_told_of_and_not_waited_for() -> None:
    async def script(caller: Caller) -> None:
        with suppress(trio.BrokenResourceError):
            await caller.request()

    async with serving(script) as relay:
        rng = random.Random(1)
        left = await leave(relay.url, Simulator(), clients=20, at_once=20, rng=rng, patience_s=0.2)
    assert left.clients == sum(left.phases.values()) == 20
    assert all("closed at b''" in told or "nothing happened" in told for told in left.problems)
    assert left.problems


def test_a_report_has_every_phase_and_the_delays_of_both_kinds_of_clients() -> None:
    left = Left(clients=2, delays_s={"HTTP": [0.001, 0.002, 0.009], "WebSocket": []})
    told = dict(rows_of(left))
    assert [label.strip() for label in told if label.startswith("  ")] == [
        phase.name for phase in PHASES
    ]
    assert told["backend left by clients on HTTP"] == "after 2.0 ms (median), 9.0 ms (p99), 3 times"
    assert p99_ms([]) == median_ms([]) == 0.0
