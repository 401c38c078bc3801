"""Turns of HTTP clients over WebSockets to the backend: a whole relay before the simulator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio

from codexrelay.backends.codex.backend import CodexBackend
from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.cli.process import adopt
from codexrelay.protocol.raw import get_list
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.relay import eventually, relaying
from tests.fakes.simulated import request, user

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.backends.codex.sockets.pool import Sockets
    from harness.simulator import Seen
    from tests.fakes.relay import LiveRelay

ON: Final = CodexBackendSettings(websocket="on")


def sockets_of(relay: LiveRelay) -> Sockets:
    backend = relay.services.relay.instances.members[0].backend
    assert isinstance(backend, CodexBackend)
    assert backend.sockets is not None
    return backend.sockets


def messages(relay: LiveRelay) -> list[Seen]:
    return [seen for seen in relay.simulator.seen if seen.is_message]


def posts(relay: LiveRelay) -> list[Seen]:
    return [seen for seen in relay.asked if seen.method == "POST"]


async def test_a_conversation_goes_on_over_one_connection(tmp_path: Path) -> None:
    async with relaying(tmp_path, backend=ON) as relay:
        first = request(user("hello"), prompt_cache_key="k")
        answer = (await relay.post("/v1/responses", {**first, "stream": False})).json()
        assert answer["status"] == "completed"
        more = [*get_list(first, "input"), *answer["output"], user("and now?")]
        answer = await relay.post("/v1/responses", {**first, "input": more})
        assert "event: response.completed" in answer.text
        one, two = messages(relay)
        assert (two.previous_response_id is not None, two.body["input"]) == (
            True,
            [user("and now?")],
        )
        assert one.socket == two.socket
        assert posts(relay) == []


async def test_chat_goes_over_a_socket_too(tmp_path: Path) -> None:
    async with relaying(tmp_path, backend=ON) as relay:
        body = {"model": "gpt-5.5", "messages": [{"role": "user", "content": "hi"}]}
        answer = await relay.post("/v1/chat/completions", body)  # type: ignore[arg-type]
        assert answer.json()["choices"][0]["finish_reason"] == "stop"
        assert len(messages(relay)) == 1


async def test_http_clients_are_served_over_http_by_default(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        assert (await relay.post("/v1/responses", request(user("hi")))).status_code == 200
        assert (len(posts(relay)), messages(relay)) == (1, [])


@pytest.mark.parametrize(
    "fault",
    [
        "upgrade426",
        "upgrade404",
        "upgrade500",
        "upgrade_drop",
        "close1011_early",
        "close1009_early",
        "close1011_created",
        "drop_created",
        "connection_limit",
    ],
)
async def test_what_fails_before_output_is_not_seen_by_the_client(
    fault: str, tmp_path: Path
) -> None:
    simulator = Simulator()
    async with relaying(tmp_path, simulator, backend=ON) as relay:
        simulator.queue_faults(fault)
        answer = await relay.post("/v1/responses", request(user("hi")))
        assert answer.status_code == 200
        assert answer.text.count("event: response.created") == 1
        assert answer.text.count("event: response.completed") == 1
        assert len(posts(relay)) == (fault != "connection_limit")


async def test_a_limit_met_over_a_socket_rotates_to_another_account(tmp_path: Path) -> None:
    simulator = Simulator(accounts=some_accounts(2))
    async with relaying(tmp_path, simulator, backend=ON) as relay:
        simulator.queue_faults("429")
        answer = await relay.post("/v1/responses", request(user("hi")))
        assert answer.headers["x-codexrelay-attempts"] == "2"
        assert "event: response.completed" in answer.text
        assert len({seen.account for seen in messages(relay)}) == 2


async def test_a_client_that_leaves_ends_the_upstream_connection_at_once(tmp_path: Path) -> None:
    simulator = Simulator(pace_s=5.0)
    async with relaying(tmp_path, simulator, backend=ON) as relay:
        async with relay.open_turn({**request(user("hi")), "stream": True}):
            await eventually(lambda: bool(messages(relay)))
            began_at_s = trio.current_time()
        await relay.until_left(messages(relay)[0])
        assert trio.current_time() - began_at_s < 2.0
        await eventually(lambda: (sockets_of(relay).busy, sockets_of(relay).idle) == (0, 0))


async def test_the_key_acts_while_the_relay_runs_and_keeps_the_connections(tmp_path: Path) -> None:
    async with relaying(tmp_path, backend=ON) as relay:
        body = request(user("hi"), prompt_cache_key="k")
        await relay.post("/v1/responses", body)
        kept, settings = sockets_of(relay), relay.services.current.settings
        for mode, over_http in (("off", 1), ("on", 1)):
            codex = attrs.evolve(settings.backends.openai_codex, websocket=mode)
            backends = attrs.evolve(settings.backends, openai_codex=codex)
            await adopt(relay.services, attrs.evolve(settings, backends=backends))
            await relay.post("/v1/responses", body)
            assert len(posts(relay)) == over_http
        assert sockets_of(relay) is kept
        assert len({seen.socket for seen in messages(relay)}) == 1
