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
from tests.fakes.client_socket import response_id, talking
from tests.fakes.relay import Beside, eventually, relaying
from tests.fakes.simulated import request, user

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.backends.codex.sockets.pool import Sockets
    from codexrelay.protocol.raw import JsonObject
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


async def test_the_key_acts_while_the_relay_runs_and_off_closes_what_is_idle(
    tmp_path: Path,
) -> None:
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
            if mode == "off":
                await eventually(lambda: not relay.simulator.sockets[0].open)
                assert relay.simulator.sockets[0].client_code == 1000
        assert sockets_of(relay) is kept
        assert [seen.socket for seen in messages(relay)] == [1, 2]


async def test_off_leaves_a_turn_under_way_alone(tmp_path: Path) -> None:
    async with relaying(tmp_path, Simulator(pace_s=0.002), backend=ON) as relay:
        settings = relay.services.current.settings
        codex = attrs.evolve(settings.backends.openai_codex, websocket="off")
        backends = attrs.evolve(settings.backends, openai_codex=codex)
        async with relay.open_turn({**request(user("[sim deltas=50]")), "stream": True}) as turn:
            await eventually(lambda: bool(messages(relay)))
            await adopt(relay.services, attrs.evolve(settings, backends=backends))
            assert b"event: response.completed" in await turn.to_the_end()
        await eventually(lambda: not relay.simulator.sockets[0].open)


# Which account a session goes on with.


def _with(strategy: str) -> CodexBackendSettings:
    extra = ON.extra
    managed = attrs.evolve(extra.codex.managed_oauth, selection_strategy=strategy)
    return attrs.evolve(
        ON, extra=attrs.evolve(extra, codex=attrs.evolve(extra.codex, managed_oauth=managed))
    )


def conversation(*said: str) -> JsonObject:
    """Return a request of one session; what it has said so far, and no answers."""
    return {**request(*map(user, said)), "prompt_cache_key": "k", "stream": True}


@pytest.mark.parametrize("strategy", ["round-robin", "random", "first-available"])
async def test_a_session_stays_with_the_account_of_its_open_connection(
    strategy: str, tmp_path: Path
) -> None:
    simulator = Simulator(accounts=some_accounts(3))
    settings = _with(strategy)
    async with relaying(tmp_path, simulator, backend=settings) as relay, talking(relay) as talk:
        warm = await talk.turn([user("base")], generate=False)
        for text in ("one", "two"):
            warm = await talk.turn([user(text)], previous_response_id=response_id(warm))
        assert len(simulator.sockets) == 1
        assert len(set(relay.accounts_asked)) == 1
        assert [len(get_list(seen.body, "input")) for seen in messages(relay)] == [1, 1, 1]


async def test_sessions_are_still_spread_over_the_accounts(tmp_path: Path) -> None:
    simulator = Simulator(accounts=some_accounts(3))
    async with relaying(tmp_path, simulator, backend=ON) as relay:
        for key in "abc" * 2:
            await relay.post("/v1/responses", {**conversation("hi"), "prompt_cache_key": key})
        assert len(simulator.sockets) == 3
        assert {socket.account for socket in simulator.sockets} == {"sim-1", "sim-2", "sim-3"}


@pytest.mark.parametrize("known", [True, False], ids=["known before", "met on the way"])
async def test_when_that_account_is_spent_another_one_is_asked_in_full(
    tmp_path: Path, *, known: bool
) -> None:
    simulator = Simulator(accounts=some_accounts(2))
    async with relaying(tmp_path, simulator, backend=ON) as relay:
        await relay.post("/v1/responses", conversation("one"))
        [first] = messages(relay)
        assert first.account is not None
        simulator.limit(first.account)
        if known:  # one of two other sessions meets the limit
            for key in ("l", "m"):
                await relay.post("/v1/responses", {**conversation("x"), "prompt_cache_key": key})
        asked = len(messages(relay))
        answer = await relay.post("/v1/responses", conversation("one", "two"))
        assert "event: response.completed" in answer.text
        assert len(messages(relay)) == asked + (1 if known else 2)
        last = messages(relay)[-1]
        assert last.account != first.account
        assert (last.previous_response_id, last.body["input"]) == (
            None,
            [user("one"), user("two")],
        )
        # And it stays there, although the other connection is still good.
        assert (simulator.sockets[0].open, simulator.sockets[0].account) == (True, first.account)
        await relay.post("/v1/responses", conversation("one", "two"))
        assert messages(relay)[-1].socket == last.socket


async def test_a_token_that_is_refused_on_an_open_connection_is_refreshed_unseen(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path, backend=ON) as relay:
        await relay.post("/v1/responses", conversation("one"))
        relay.simulator.expire("sim-1")
        answer = await relay.post("/v1/responses", conversation("one"))
        assert "event: response.completed" in answer.text
        assert (len(relay.refreshes), posts(relay)) == (1, [])
        assert [seen.socket for seen in messages(relay)] == [1, 1, 2]
        await eventually(lambda: not relay.simulator.sockets[0].open)


async def test_a_disabled_account_is_not_asked_for_the_connection_it_has(tmp_path: Path) -> None:
    simulator = Simulator(accounts=some_accounts(2))
    async with relaying(tmp_path, simulator, backend=ON) as relay:
        await relay.post("/v1/responses", conversation("one"))
        [first] = messages(relay)
        settings = relay.services.current.settings
        other = next(a.name for a in simulator.accounts if a.name != first.account)
        codex = settings.backends.openai_codex
        managed = attrs.evolve(codex.extra.codex.managed_oauth, accounts=(other,))
        extra = attrs.evolve(
            codex.extra, codex=attrs.evolve(codex.extra.codex, managed_oauth=managed)
        )
        codex = attrs.evolve(codex, extra=extra)
        backends = attrs.evolve(settings.backends, openai_codex=codex)
        await adopt(relay.services, attrs.evolve(settings, backends=backends))
        await relay.post("/v1/responses", conversation("one"))
        assert messages(relay)[-1].account == other


async def test_each_instance_has_connections_of_its_own(tmp_path: Path) -> None:
    simulator = Simulator(accounts=some_accounts(2))
    beside = [Beside(accounts={"b": "sim-2"}, settings=ON)]
    async with relaying(
        tmp_path, simulator, backend=ON, accounts={"a": "sim-1"}, beside=beside
    ) as relay:
        for _ in range(2):
            for model in ("openai-codex.1:gpt-5.5", "openai-codex.2:gpt-5.5"):
                await relay.post("/v1/responses", {**conversation("one"), "model": model})
        assert [seen.account for seen in messages(relay)] == ["sim-1", "sim-2"] * 2
        assert [seen.socket for seen in messages(relay)] == [1, 2, 1, 2]
