"""How a client's WebSocket ends: the client leaves, the relay stops, nobody says anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.config.settings import ServerSettings
from codexrelay.server import websocket
from codexrelay.server.drain import Drain
from codexrelay.server.incoming import Handshake
from harness.simulator import Simulator
from tests.fakes import responses_events as events
from tests.fakes.client_socket import kinds, response_id, talking
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.relay import eventually, with_accounts
from tests.fakes.scripted_server import Caller, serving
from tests.server.test_websocket_route import over_http

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fakes.relay import LiveRelay

#: Milliseconds are promised; a busy machine is forgiven much.
_PROMPTLY_S: Final = 5.0
_HEAD: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
_UPGRADE: Final = (
    b"GET /v1/responses HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\n"
    b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_MESSAGE: Final = b'{"type":"response.create","model":"gpt-5.5","input":"hello"}'
#: In one frame, with a mask of zeros.
_ASK: Final = bytes((0x81, 0x80 | len(_MESSAGE))) + bytes(4) + _MESSAGE
_LONG: Final = ServerSettings(drain_grace_s=1000)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def nothing_left(relay: LiveRelay) -> None:
    await relay.until_at_rest(within_s=_PROMPTLY_S)
    await eventually(lambda: relay.services.totals.client_sockets == 0, within_s=_PROMPTLY_S)


# --- the client leaves


@pytest.mark.parametrize("fault", ["hang_early", "hang_first", "hang"])
async def test_while_the_backend_is_silent(tmp_path: Path, fault: str) -> None:
    async with over_http(tmp_path) as relay:
        async with talking(relay) as talk:
            await talk.create(f"[sim fault={fault}]")
            seen = await relay.until_asked()
            if fault == "hang":
                await talk.until("response.output_text.delta")
            await talk.leave()
            await relay.until_left(seen, within_s=_PROMPTLY_S)
        await nothing_left(relay)
        assert len(relay.asked) == 1


async def test_in_the_middle_of_a_stream(tmp_path: Path) -> None:
    async with over_http(tmp_path, Simulator(pace_s=0.01)) as relay:
        async with talking(relay) as talk:
            await talk.create("[sim deltas=100000]")
            await talk.until("response.output_text.delta")
            await talk.leave()
            await relay.until_left(relay.asked[0], within_s=_PROMPTLY_S)
        await nothing_left(relay)


async def test_with_a_close_frame(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay:
        async with talking(relay) as talk:
            await talk.create("[sim fault=hang]")
            await talk.until("response.output_text.delta")
        await relay.until_left(relay.asked[0], within_s=_PROMPTLY_S)
        await nothing_left(relay)


async def test_in_line_for_an_account(tmp_path: Path) -> None:
    backend = with_accounts(max_concurrent_turns=1)
    async with over_http(tmp_path, backend=backend) as relay, talking(relay, session="a") as held:
        await held.create("[sim fault=hang]")
        await held.until("response.output_text.delta")
        async with talking(relay, session="b") as talk:
            await talk.create()
            await eventually(lambda: relay.in_line() == 1)
            await talk.leave()
            await eventually(lambda: relay.in_line() == 0, within_s=_PROMPTLY_S)
        assert len(relay.asked) == 1
        await held.leave()


async def test_while_it_takes_nothing(tmp_path: Path) -> None:
    sent_bytes = 0

    async def script(caller: Caller) -> None:
        nonlocal sent_bytes
        await caller.request()
        await caller.send(_HEAD + chunk(events.created()))
        block = chunk(events.text("x" * 60_000))
        while True:
            await caller.send(block)
            sent_bytes += len(block)

    async with (
        serving(script) as upstream,
        over_http(tmp_path, backend=CodexBackendSettings(api_base_url=upstream.url)) as relay,
    ):
        async with relay.connect(receive_buffer_bytes=4096) as client:
            await client.send(_UPGRADE + _ASK)
            await _until_steady(lambda: sent_bytes)
            assert upstream.open == 1
        await upstream.until_open(0)
        await nothing_left(relay)
    assert sent_bytes < 64 * 2**20, "what a client does not take is not read from upstream"


async def _until_steady(count: Callable[[], int]) -> None:
    before = -1
    with trio.fail_after(PATIENCE_S):
        while before != (now := count()) or not now:
            before = now
            await trio.sleep(0.2)


async def test_with_messages_that_wait_behind_the_turn(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay:
        async with talking(relay) as talk:
            await talk.create("[sim fault=hang]")
            await talk.until("response.output_text.delta")
            for _ in range(5):
                await talk.create("x" * 1000)
            await talk.leave()
            await relay.until_left(relay.asked[0], within_s=_PROMPTLY_S)
        await nothing_left(relay)
        assert len(relay.asked) == 1


async def test_the_sessions_next_turn_is_clean(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay:
        async with talking(relay) as talk:
            first = response_id(await talk.turn())
            await talk.create("[sim fault=hang]", previous_response_id=first)
            await talk.until("response.output_text.delta")
            await talk.leave()
        async with talking(relay) as talk:
            messages = await talk.turn("[sim text=on]", previous_response_id=first)
            assert kinds(messages)[0] == "response.created"
            assert kinds(messages)[-1] == "response.completed"


# --- the relay stops


async def test_idle_sockets_close_at_once_and_the_relay_ends(tmp_path: Path) -> None:
    async with over_http(tmp_path, server=_LONG) as relay, talking(relay) as talk:
        await talk.turn()
        relay.drain.begin()
        assert await talk.close_code() == 1001
        with trio.fail_after(PATIENCE_S):
            await relay.stopped.wait()


async def test_a_running_turn_ends_first(tmp_path: Path) -> None:
    async with (
        over_http(tmp_path, Simulator(pace_s=0.005), server=_LONG) as relay,
        talking(relay) as talk,
    ):
        await talk.create("[sim deltas=20]")
        await talk.until("response.output_text.delta")
        await talk.create()  # it is not begun any more
        relay.drain.begin()
        assert kinds(await talk.until_end())[-1] == "response.completed"
        assert await talk.close_code() == 1001
        with trio.fail_after(PATIENCE_S):
            await relay.stopped.wait()
        assert len(relay.asked) == 1


@pytest.mark.parametrize(("fault", "kind"), [("hang", "response.failed"), ("hang_early", "error")])
async def test_one_that_is_longer_than_the_grace_is_told_its_end(
    tmp_path: Path, fault: str, kind: str
) -> None:
    server = ServerSettings(drain_grace_s=0.1)
    async with over_http(tmp_path, server=server) as relay, talking(relay) as talk:
        await talk.create(f"[sim fault={fault}]")
        await relay.until_asked()
        if fault == "hang":
            await talk.until("response.output_text.delta")
        relay.drain.begin()
        messages = await talk.until_end()
        assert kinds(messages)[-1] == kind
        assert "being stopped" in str(messages[-1])
        assert await talk.close_code() == 1001
        with trio.fail_after(PATIENCE_S):
            await relay.stopped.wait()


# --- nobody says anything


class _Silent:
    """A socket of a client that says nothing."""

    async def receive(self) -> str:
        await trio.sleep_forever()
        raise AssertionError


class _Services:
    drain = Drain(grace_s=0.0)


async def test_a_socket_on_which_nothing_is_asked_is_closed_after_an_hour(
    autojump_clock: trio.testing.MockClock,
) -> None:
    handshake = Handshake(headers={}, in_header=())
    talk = websocket._Talk(_Silent(), handshake, _Services())  # type: ignore[arg-type]
    began_at_s = trio.current_time()
    end = await talk.run()
    assert trio.current_time() - began_at_s == websocket.IDLE_S
    assert (end.code, end.reason) == (1000, "nothing was asked for 60 minutes")
