"""How the relay stops: running turns end well or are told, nobody is kept waiting."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio
import trio.testing

from codexrelay.config.settings import ServerSettings
from codexrelay.protocol import sse
from codexrelay.protocol.raw import get_object, parse_object
from codexrelay.server.app import create_app
from harness.simulator import Simulator
from tests.fakes.chat_client import ChatClient
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.relay import ask, ask_chat, post_bytes, relaying

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.relay import LiveRelay

_LONG: Final = ServerSettings(drain_grace_s=1000)
_SHORT: Final = ServerSettings(drain_grace_s=0.1)


async def stopped(relay: LiveRelay, *, within_s: float = PATIENCE_S) -> None:
    with trio.fail_after(within_s):
        await relay.stopped.wait()


async def test_without_turns_it_stops_at_once(tmp_path: Path) -> None:
    async with relaying(tmp_path, server=_LONG) as relay:
        relay.drain.begin()
        await stopped(relay)


async def test_an_idle_connection_delays_nothing(tmp_path: Path) -> None:
    async with relaying(tmp_path, server=_LONG) as relay, relay.connect() as client:
        await client.send(post_bytes("/v1/responses", ask(stream=False)))
        assert (await client.receive_response())[0] == 200
        relay.drain.begin()
        assert await client.receive_rest() == b""
        await stopped(relay)


async def test_a_request_that_is_still_arriving_delays_nothing(tmp_path: Path) -> None:
    async with relaying(tmp_path, server=_LONG) as relay, relay.connect() as client:
        await client.send(post_bytes("/v1/responses", ask(), expect="100-continue")[:-9])
        await client.receive_until(b"\r\n\r\n")  # `100 Continue`: it has begun to arrive
        await trio.testing.wait_all_tasks_blocked()  # and is past the checks
        relay.drain.begin()
        assert await client.receive_rest() == b""
        await stopped(relay)
        assert relay.asked == []


async def test_a_running_stream_finishes_within_the_grace(tmp_path: Path) -> None:
    async with (
        relaying(tmp_path, Simulator(pace_s=0.005), server=_LONG) as relay,
        relay.open_turn(ask("[sim deltas=20]")) as turn,
    ):
        await turn.until(b"word 0")
        relay.drain.begin()
        assert b'"type":"response.completed"' in await turn.to_the_end()
        await stopped(relay)


@pytest.mark.parametrize("fault", ["hang", "hang_first"])
async def test_a_longer_stream_gets_its_terminal_event(tmp_path: Path, fault: str) -> None:
    server = ServerSettings(drain_grace_s=0.1, keep_alive_s=0.02)
    async with (
        relaying(tmp_path, server=server) as relay,
        relay.open_turn(ask(f"[sim fault={fault}]")) as turn,
    ):
        await turn.until(b": keep-alive")
        relay.drain.begin()
        last = sse.read(list(sse.split(await turn.to_the_end()))[-1])
        await relay.until_left(relay.asked[0])
        await stopped(relay)
    assert last is not None
    assert last.name == "response.failed"
    error = get_object(get_object(parse_object(last.data), "response"), "error")
    assert error["relay_code"] == "relay_shutting_down"


async def test_a_longer_chat_stream_gets_its_error_chunk(tmp_path: Path) -> None:
    async with (
        relaying(tmp_path, server=_SHORT) as relay,
        relay.open_turn(ask_chat("[sim fault=hang]"), path="/v1/chat/completions") as turn,
    ):
        await turn.until(b"Hello")
        relay.drain.begin()
        client = ChatClient()
        client.read(await turn.to_the_end())
        await stopped(relay)
    assert client.error is not None
    assert client.error["code"] == "relay_shutting_down"
    assert client.finish_reason is None


async def test_a_turn_without_any_output_is_told_as_an_http_error(tmp_path: Path) -> None:
    async with (
        relaying(tmp_path, server=_SHORT) as relay,
        relay.open_turn(ask("[sim fault=hang_early]")) as turn,
    ):
        await relay.until_asked()
        relay.drain.begin()
        body = parse_object(await turn.to_the_end())
        await stopped(relay)
    assert turn.status == 503
    assert get_object(body, "error")["code"] == "relay_shutting_down"


async def test_nobody_new_is_let_in_meanwhile(tmp_path: Path) -> None:
    async with (
        relaying(tmp_path, Simulator(pace_s=0.01), server=_LONG) as relay,
        relay.connect() as half,
        relay.open_turn(ask("[sim deltas=100000]")) as turn,
    ):
        await half.send(post_bytes("/v1/responses", ask())[:40])
        await turn.until(b"word 0")
        relay.drain.begin()
        assert await half.receive_rest() == b""
        with pytest.raises(httpx.ConnectError):
            await _ask_for_ever(relay)
        assert len(relay.asked) == 1
        assert relay.burden["turns"] == 1


async def _ask_for_ever(relay: LiveRelay) -> None:
    with trio.fail_after(PATIENCE_S):
        while True:  # until the accepting task has had its turn
            with contextlib.suppress(httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                await relay.http.get("/healthz")


async def test_a_request_that_arrives_in_the_last_moment_is_told_to_come_again(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path, server=_LONG) as relay:
        # Between the head of a request and its view there is no way in from outside.
        client = create_app(relay.services).test_client()
        relay.drain.begin()
        answer = await client.post("/v1/responses", json=ask())
        assert relay.asked == []
    assert answer.status_code == 503
    assert answer.headers["connection"] == "close"
    assert (await answer.get_json())["error"]["code"] == "relay_shutting_down"


async def test_a_client_that_takes_nothing_does_not_hold_the_stop_up(tmp_path: Path) -> None:
    server = ServerSettings(drain_grace_s=0)
    async with relaying(tmp_path, server=server) as relay:
        relay.drain.finish_s = 0.2
        huge = ask("[sim deltas=200000]")
        async with relay.open_turn(huge, receive_buffer_bytes=4096):
            await relay.until_asked()
            relay.drain.begin()
            await stopped(relay)
