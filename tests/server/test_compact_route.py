"""`POST /v1/responses/compact`: the client's own compaction passes through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from codexrelay.backends.codex.settings import CodexBackendSettings
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.relay import relaying
from tests.fakes.scripted_server import serving
from tests.fakes.simulated import user

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.protocol.raw import JsonObject
    from harness.simulator import Seen
    from tests.fakes.relay import LiveRelay
    from tests.fakes.scripted_server import Caller

_BODY: Final[JsonObject] = {
    "model": "gpt-5.5",
    "instructions": "be brief",
    "input": [user("hello"), {"type": "an_item_of_tomorrow", "value": [1, None]}],
    "parallel_tool_calls": False,
    "prompt_cache_key": "p-1",
}


def compactions(relay: LiveRelay) -> list[Seen]:
    return [seen for seen in relay.simulator.seen if seen.path.endswith("/responses/compact")]


@pytest.mark.parametrize("prefix", ["/v1", "", "/backend-api/codex"])
async def test_it_passes_through(tmp_path: Path, prefix: str) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.post(f"{prefix}/responses/compact", _BODY)
        [seen] = compactions(relay)
    assert seen.body == _BODY
    assert seen.header("accept") == "application/json"
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-codex-plan-type"] == "plus"
    body = answer.json()
    assert body["object"] == "response.compaction"
    assert [item["type"] for item in body["output"]] == ["message", "compaction"]


async def test_it_climbs_the_ladder_like_a_turn(tmp_path: Path) -> None:
    simulator = Simulator(accounts=some_accounts(2))
    async with relaying(tmp_path, simulator) as relay:
        simulator.expire("sim-1")
        simulator.revoke("sim-2")
        answers = [await relay.post("/v1/responses/compact", _BODY) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        served = {seen.account for seen in compactions(relay) if seen.status == 200}
    assert served == {"sim-1"}


async def test_a_refusal_of_the_backend_is_told_in_the_openai_shape(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.post("/v1/responses/compact", _BODY | {"model": "gpt-0"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["message"].startswith("The backend's catalogue has no model 'gpt-0'")
    assert (error["type"], error["code"]) == ("invalid_request_error", "model_not_found")


@pytest.mark.parametrize("body", [b"<html><title>Edge</title></html>", b""], ids=["a page", "none"])
async def test_what_is_no_json_is_told_as_a_broken_backend(tmp_path: Path, body: bytes) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    async with (
        serving(script) as upstream,
        relaying(tmp_path, backend=CodexBackendSettings(api_base_url=upstream.url)) as relay,
    ):
        answer = await relay.post("/v1/responses/compact", _BODY)
    assert answer.status_code == 502
    assert answer.json()["error"]["type"] == "server_error"
