"""A whole relay that is recorded: both tracks, and the relay none the wiser."""

from __future__ import annotations

import gzip
import os
import stat
import sys
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from codexrelay.protocol.raw import dump
from harness.simulator import Simulator
from tests.fakes.recorded import recording
from tests.fakes.relay import ask, ask_chat

if TYPE_CHECKING:
    from pathlib import Path

    from harness.cassettes.model import Interaction

HELLO = "Hello from the simulated backend."
PATHS = ("/v1/responses", "/v1/chat/completions")


def turns(interactions: tuple[Interaction, ...]) -> list[Interaction]:
    return [one for one in interactions if one.request.method == "POST"]


async def test_both_tracks_of_a_turn_are_kept_and_tied_together(tmp_path: Path) -> None:
    async with recording(tmp_path) as recorded:
        answer = await recorded.relay.post("/v1/responses", ask("hello"))
    cassette = recorded.cassette
    assert cassette.about.complete
    assert cassette.about.origin == "simulator"
    (client,) = turns(cassette.track("client"))
    (upstream,) = recorded.upstream_of(client)
    assert client.request.uri == "http://relay/v1/responses"
    assert len(client.response.body) == len(answer.content)
    assert upstream.request.uri == "http://openai-codex/backend-api/codex/responses"
    assert HELLO.encode() in upstream.response.body
    for one in (client, upstream):
        assert (one.response.status, one.response.stream.end) == (200, "eof")
        assert one.response.stream.complete
    # One block in, one block out.
    assert len(client.response.stream.ends) <= len(upstream.response.stream.ends)


async def test_what_the_relay_asks_for_itself_has_no_cause(tmp_path: Path) -> None:
    async with recording(tmp_path) as recorded:
        await recorded.relay.post("/v1/responses", ask("hello"))
        await recorded.relay.until_at_rest()
        with trio.fail_after(60):
            await recorded.relay.simulator.wait_until(
                lambda: any("/models" in seen.path for seen in recorded.relay.simulator.seen)
            )
    questions = [one for one in recorded.cassette.interactions if "/models" in one.request.uri]
    assert [one.caused_by for one in questions] == [None]


async def test_a_token_that_is_repaired_shows_three_requests_and_no_token(tmp_path: Path) -> None:
    simulator = Simulator()
    async with recording(tmp_path, simulator) as recorded:
        old = simulator.tokens("sim-1")
        simulator.expire("sim-1")
        answer = await recorded.relay.post(
            "/v1/responses",
            ask("hello"),
            headers={"authorization": "Bearer my-very-own-client-key"},
        )
        assert answer.status_code == 200
        new = simulator.tokens("sim-1")
    upstream = [
        one for one in recorded.cassette.track("upstream") if "/models" not in one.request.uri
    ]
    (client,) = turns(recorded.cassette.track("client"))
    assert [one.request.uri.rpartition("/")[2] for one in upstream] == [
        "responses",
        "token",
        "responses",
    ]
    assert [one.response.status for one in upstream] == [401, 200, 200]
    # The refresh is started by the request, and belongs to the process.
    assert [one.caused_by for one in upstream] == [client.number, None, client.number]
    assert all(one.response.stream.complete for one in upstream)
    written = recorded.path.read_bytes()
    for secret in (
        old.access_token,
        old.refresh_token,
        new.access_token,
        new.refresh_token,
        "my-very-own-client-key",
    ):
        assert secret.encode() not in written


async def test_parallel_turns_are_not_mixed(tmp_path: Path) -> None:
    async with recording(tmp_path, Simulator(pace_s=0.001)) as recorded:

        async def turn(number: int) -> None:
            path = PATHS[number % 2]
            body = (ask, ask_chat)[number % 2](f"[sim text=answer{number}]")
            answer = await recorded.relay.post(path, body)
            assert answer.status_code == 200

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(turn, number)
    clients = turns(recorded.cassette.track("client"))
    assert len(clients) == 6
    for client in clients:
        (upstream,) = recorded.upstream_of(client)
        (said,) = [n for n in range(6) if f"[sim text=answer{n}]".encode() in client.request.body]
        assert f"answer{said}".encode() in client.response.body
        assert f"answer{said}".encode() in upstream.response.body


@pytest.mark.parametrize("path", PATHS)
async def test_a_client_that_leaves_still_stops_the_backend(tmp_path: Path, path: str) -> None:
    body = ask("[sim fault=hang]") if path == PATHS[0] else ask_chat("[sim fault=hang]")
    async with recording(tmp_path) as recorded:
        async with recorded.relay.open_turn(body, path=path) as turn:
            await turn.until(b"Hello")
        seen = await recorded.relay.until_asked()
        await recorded.relay.until_left(seen)
    (client,) = turns(recorded.cassette.track("client"))
    (upstream,) = recorded.upstream_of(client)
    for one in (client, upstream):
        stream = one.response.stream
        assert (stream.end, stream.complete) == ("closed-by-relay", False)
        assert b"Hello" in one.response.body


async def test_a_turn_that_fails_is_kept_with_its_attempts(tmp_path: Path) -> None:
    simulator = Simulator()
    simulator.queue_faults("503", "drop")
    async with recording(tmp_path, simulator) as recorded:
        answer = await recorded.relay.post("/v1/responses", ask("hello"))
        assert b"response.failed" in answer.content
    (client,) = turns(recorded.cassette.track("client"))
    assert client.response.stream.complete
    upstream = recorded.upstream_of(client)
    assert [one.response.status for one in upstream] == [503, 200]
    assert [one.response.stream.end for one in upstream] == ["eof", "reset"]
    assert [one.response.stream.complete for one in upstream] == [True, False]


async def test_a_backend_that_cannot_be_reached_is_kept_too(tmp_path: Path) -> None:
    async with recording(tmp_path) as recorded:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        await listeners[0].aclose()
        transport = recorded.recorder.around_transport("local", httpx.AsyncHTTPTransport())
        async with transport:
            with pytest.raises(httpx.ConnectError):
                await transport.handle_async_request(
                    httpx.Request("GET", f"http://127.0.0.1:{port}/v1/models")
                )
    (upstream,) = recorded.cassette.track("upstream")
    assert upstream.request.uri == "http://local/v1/models"
    assert (upstream.response.status, upstream.response.stream.end) == (None, "reset")
    assert upstream.caused_by is None


async def test_a_compressed_request_is_kept_decoded(tmp_path: Path) -> None:
    body = dump(ask("hello"))
    async with recording(tmp_path) as recorded:
        answer = await recorded.relay.http.post(
            "/v1/responses", content=gzip.compress(body), headers={"content-encoding": "gzip"}
        )
        assert answer.status_code == 200
    (client,) = turns(recorded.cassette.track("client"))
    assert (client.request.body, client.request.coding) == (body, "gzip")


async def test_a_refused_websocket_is_an_ordinary_interaction(tmp_path: Path) -> None:
    async with recording(tmp_path) as recorded:
        headers = {
            "connection": "upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
            "origin": "https://somewhere.example",
        }
        answer = await recorded.relay.http.get("/v1/responses", headers=headers)
        assert answer.status_code == 403
    (client,) = recorded.cassette.track("client")
    assert (client.request.method, client.response.status) == ("GET", 403)
    assert client.response.body == answer.content
    assert client.response.stream.end == "eof"


async def test_the_program_and_its_version_are_recognised(tmp_path: Path) -> None:
    async with recording(tmp_path) as recorded:
        headers = {"user-agent": "opencode/1.2.3 ai-sdk/provider-utils/4.0.0 runtime/bun/1.3.0"}
        await recorded.relay.post("/v1/responses", ask("hello"), headers=headers)
    about = recorded.cassette.about
    assert (about.client, about.client_version) == ("opencode", "1.2.3")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no modes")
async def test_the_cassette_is_for_its_owner_alone(tmp_path: Path) -> None:
    async with recording(tmp_path) as recorded:
        await recorded.relay.post("/v1/responses", ask("hello"))
    assert stat.S_IMODE(recorded.path.stat().st_mode) == 0o600
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
