"""A simulator is put back as it was, so that one run leaves the next one nothing."""

from __future__ import annotations

import attrs

from codexrelay.protocol.raw import get_list, parse_object
from harness.simulator import Simulator
from harness.simulator.seen import Seen, seen_from
from tests.fakes.simulated import request, simulated, user

HELLO = request(user("hello"))


async def test_a_reset_forgets_what_was_seen_and_what_was_to_go_wrong() -> None:
    async with simulated(Simulator()) as client:
        control = f"{client.simulator.base_url}/_sim"
        await client.http.post(f"{control}/faults", json=["500", "eof"])
        await client.http.post(f"{control}/limit", json={"account": "sim-1", "after": 0})
        refused = await client.post(HELLO)
        condition = {"account": "sim-1", "condition": "deactivated"}
        assert (await client.http.post(f"{control}/condition", json=condition)).status_code == 200
        told = await client.http.post(f"{control}/reset", json={"pace_s": 0.001})
        assert refused.status_code == 429
        assert get_list(parse_object(told.content), "accounts") == ["sim-1"]
        assert client.simulator.seen == []
        assert client.simulator.pace_s == 0.001
        # With the token of before.
        assert (await client.events(HELLO))[-1]["type"] == "response.completed"


async def test_a_reset_makes_expired_tokens_good_again_and_no_revoked_ones() -> None:
    async with simulated(Simulator()) as client:
        client.simulator.expire("sim-1")
        assert (await client.post(HELLO)).status_code == 401
        client.simulator.reset()
        assert (await client.post(HELLO)).status_code == 200
        client.simulator.revoke("sim-1")
        client.simulator.reset()
        assert (await client.post(HELLO)).status_code == 401


async def test_a_reset_without_a_body_leaves_the_pace_alone() -> None:
    async with simulated(Simulator(pace_s=0.002)) as client:
        told = await client.http.post(f"{client.simulator.base_url}/_sim/reset")
        assert told.status_code == 200
        assert client.simulator.pace_s == 0.002


async def test_a_window_that_is_used_up_is_followed_by_one_that_is_not() -> None:
    now_unix_s = 1_795_000_000.0
    async with simulated(Simulator(wall_clock=lambda: now_unix_s)) as client:
        used_up = {"account": "sim-1", "after": 9, "used": 9, "resets_in_s": 5}
        await client.http.post(f"{client.simulator.base_url}/_sim/limit", json=used_up)
        assert (await client.post(HELLO)).status_code == 429
        now_unix_s += 6
        assert (await client.post(HELLO)).status_code == 200


def test_what_was_seen_can_be_read_back_with_secrets_masked_and_times_moved() -> None:
    seen = Seen(
        method="POST",
        path="/backend-api/codex/responses",
        headers=[("authorization", "Bearer secret"), ("x-one", "1")],
        body={"model": "gpt-5.5"},
        arrived_at_s=10.0,
        account="one",
        fault="eof",
        status=200,
        left_at_s=11.0,
    )
    back = seen_from(seen.as_json(), later_s=5.0)
    assert attrs.asdict(back) == attrs.asdict(seen) | {
        "headers": [("authorization", "(not kept)"), ("x-one", "1")],
        "arrived_at_s": 15.0,
        "left_at_s": 16.0,
    }
