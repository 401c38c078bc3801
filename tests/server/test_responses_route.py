"""`POST /v1/responses` from the client's socket to the backend's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.simulator import Simulator
from tests.fakes.relay import ask, relaying
from tests.fakes.simulated import request, simulated, user
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_stream_is_the_backends_own_bytes(tmp_path: Path) -> None:
    body = request(user("[sim deltas=200]"), instructions="", prompt_cache_key="p", include=["reasoning.encrypted_content"])
    async with relaying(tmp_path, Simulator(wall_clock=WallClock())) as relay:
        answer = await relay.post("/v1/responses", body)
    assert answer.status_code == 200
    async with simulated(Simulator(wall_clock=WallClock())) as client:
        direct = await client.post(body)
    assert answer.content == direct.content
