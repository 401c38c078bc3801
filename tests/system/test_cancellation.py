"""The client leaves: whatever the turn was doing, upstream is left too, and nothing stays behind.

`relaying` itself checks at its end that no turn, lease or upstream connection is left.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import TYPE_CHECKING, Final

import pytest
import trio

from codexrelay.backends.codex.settings import CodexBackendSettings, CodexSettings, ExtraSettings
from harness.simulator import SimulatedAccount, Simulator
from tests.fakes import responses_events as events
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.relay import ask, ask_chat, eventually, post_bytes, relaying, with_accounts
from tests.fakes.scripted_server import Caller, serving
from tests.fakes.simulated import user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from codexrelay.protocol.raw import JsonObject
    from tests.fakes.relay import LiveRelay

#: Milliseconds are promised; a busy machine is forgiven much.
_PROMPTLY_S: Final = 5.0
_HEAD: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
_RESPONSES: Final = "/v1/responses"
_CHAT: Final = "/v1/chat/completions"
_WAYS: Final = [(_RESPONSES, ask), (_CHAT, ask_chat)]

both_protocols = pytest.mark.parametrize(("path", "asking"), _WAYS, ids=["responses", "chat"])
streamed_and_whole = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def behind(url: str) -> CodexBackendSettings:
    return CodexBackendSettings(api_base_url=url)


async def at_rest(relay: LiveRelay) -> None:
    await relay.until_at_rest(within_s=_PROMPTLY_S)


@both_protocols
@streamed_and_whole
@pytest.mark.parametrize("fault", ["hang_early", "hang_first", "hang"])
async def test_while_the_backend_is_silent(
    tmp_path: Path, path: str, asking: Callable[..., JsonObject], stream: bool, fault: str
) -> None:
    body = asking(f"[sim fault={fault}]", stream=stream)
    async with relaying(tmp_path) as relay:
        async with relay.open_turn(body, path=path) as turn:
            seen = await relay.until_asked()
            if stream and fault == "hang":
                await turn.until(b"Hello")
            burden = {
                "turns": 1,
                "leases": 1,
                "in line": 0,
                "upstream sockets": 0,
                "upstream connections": 1,
            }
            assert relay.burden == burden
            left_at_s = trio.current_time()
        await relay.until_left(seen)
        assert seen.left_at_s is not None
        assert seen.left_at_s - left_at_s < _PROMPTLY_S
        await at_rest(relay)
        assert len(relay.asked) == 1


@both_protocols
async def test_in_the_middle_of_a_stream(
    tmp_path: Path, path: str, asking: Callable[..., JsonObject]
) -> None:
    async with relaying(tmp_path, Simulator(pace_s=0.01)) as relay:
        async with relay.open_turn(asking("[sim deltas=100000]"), path=path) as turn:
            await turn.until(b"word 3")
        await relay.until_left(relay.asked[0], within_s=_PROMPTLY_S)
        await at_rest(relay)


async def test_in_the_middle_of_an_event(tmp_path: Path) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        whole = events.created() + events.text("Hello")
        await caller.send(_HEAD + chunk(whole) + chunk(events.text("half")[:40]))
        await caller.left()

    async with (
        serving(script) as upstream,
        relaying(tmp_path, backend=behind(upstream.url)) as relay,
    ):
        async with relay.open_turn(ask()) as turn:
            await turn.until(b"Hello")
        await upstream.until_open(0)
        await at_rest(relay)


async def test_while_a_refresh_is_waited_for(tmp_path: Path) -> None:
    release = trio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        await release.wait()
        await caller.send(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n")

    simulator = Simulator(accounts=(SimulatedAccount("work", expired=True),))
    async with serving(script) as issuer:
        extra = ExtraSettings(codex=CodexSettings(oauth_issuer=issuer.url))
        backend = CodexBackendSettings(extra=extra)
        async with relaying(tmp_path, simulator, backend=backend) as relay:
            async with relay.open_turn(ask()):
                await issuer.until_open(1)
                assert relay.burden["turns"] == 1
            await eventually(lambda: relay.burden["turns"] == 0, within_s=_PROMPTLY_S)
            assert issuer.open == 1, "the refresh belongs to the process and goes on"
            assert relay.asked == []
            release.set()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux drops connects to a full backlog")
async def test_while_connecting(tmp_path: Path) -> None:
    with _port_that_does_not_answer() as url:
        async with relaying(tmp_path, backend=behind(url)) as relay:
            async with relay.open_turn(ask()):
                await eventually(lambda: relay.burden["leases"] == 1)
                assert relay.burden["turns"] == 1
            await at_rest(relay)


async def test_while_the_client_itself_takes_nothing(tmp_path: Path) -> None:
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
        relaying(tmp_path, backend=behind(upstream.url)) as relay,
    ):
        async with relay.open_turn(ask(), receive_buffer_bytes=4096):
            await _until_steady(lambda: sent_bytes)
            assert upstream.open == 1
        await upstream.until_open(0)
        await at_rest(relay)
    assert sent_bytes < 64 * 2**20, "what a client does not take is not read from upstream"


async def test_in_a_retry_wait(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        async with relay.open_turn(ask("[sim fault=500]")):
            seen = await relay.until_asked()
            with trio.fail_after(PATIENCE_S):
                await relay.simulator.wait_until(lambda: seen.finished)
        await at_rest(relay)
        # The wait is short: on a slow machine the second attempt may have begun before.
        assert all(one.ended for one in relay.asked)


async def test_in_line_for_an_account(tmp_path: Path) -> None:
    backend = with_accounts(max_concurrent_turns=1)
    async with relaying(tmp_path, backend=backend) as relay:
        async with relay.open_turn(ask("[sim fault=hang]")) as held:
            await held.until(b"Hello")
            async with relay.open_turn(ask()), relay.open_turn(ask_chat(), path=_CHAT):
                await eventually(lambda: relay.in_line() == 2)
            await eventually(lambda: relay.in_line() == 0, within_s=_PROMPTLY_S)
            assert relay.burden["leases"] == relay.burden["turns"] == 1
        await at_rest(relay)
        assert len(relay.asked) == 1


async def test_while_the_first_in_line_is_given_the_account(tmp_path: Path) -> None:
    backend = with_accounts(max_concurrent_turns=1)
    async with relaying(tmp_path, backend=backend) as relay:
        async with relay.open_turn(ask("[sim fault=hang]")) as held:
            await held.until(b"Hello")
            async with relay.open_turn(ask("[sim fault=hang]")) as second:
                await eventually(lambda: relay.in_line() == 1)
                held.reset()
                second.reset()  # both leave at once: whoever is third must not wait for them
                answer = await relay.post("/v1/responses", ask())
                assert b"response.completed" in answer.content
        await at_rest(relay)


async def test_while_it_rests_for_an_account_that_was_asked_too_fast(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        relay.simulator.set_condition("sim-1", "throttled", wait_s=25)
        async with relay.open_turn(ask()):
            await relay.until_asked()
            await eventually(lambda: relay.in_line() == 1)
        await at_rest(relay)
        assert len(relay.asked) == 1


async def test_while_it_waits_for_a_quota(tmp_path: Path) -> None:
    backend = with_accounts(max_rate_limit_wait_seconds=600.0)
    async with relaying(tmp_path, backend=backend) as relay:
        relay.simulator.limit("sim-1", resets_in_s=300)
        for path, body in ((_RESPONSES, ask()), (_CHAT, ask_chat())):
            async with relay.open_turn(body, path=path):
                await eventually(lambda: relay.in_line() == 1)
            await at_rest(relay)
        # A client that cannot be shown life is told at once.
        answer = await relay.post(_RESPONSES, ask(stream=False))
        assert answer.status_code == 429
        assert len(relay.asked) == 1


async def test_while_it_learns_which_plans_have_the_model(tmp_path: Path) -> None:
    catalogue_asked, answer_now = trio.Event(), trio.Event()

    async def script(caller: Caller) -> None:
        while head := await caller.request():
            if head.startswith(b"GET"):
                catalogue_asked.set()
                await answer_now.wait()
                catalogue = b'{"models":[{"slug":"gpt-5.5","available_in_plans":["pro"]}]}'
                length = b"content-length: %d\r\n\r\n" % len(catalogue)
                await caller.send(b"HTTP/1.1 200 X\r\n" + length + catalogue)
                continue
            body = (
                b'{"detail":"The model is not supported when using Codex with a ChatGPT account"}'
            )
            length = b"content-length: %d\r\n\r\n" % len(body)
            await caller.send(b"HTTP/1.1 400 X\r\n" + length + body)

    async with (
        serving(script) as upstream,
        relaying(tmp_path, backend=behind(upstream.url)) as relay,
    ):
        async with relay.open_turn(ask()):
            await catalogue_asked.wait()
        left = await relay.journal("last", state="client")
        assert left["state"] == "client left"
        # The question is the relay's own: its answer serves whoever comes next.
        answer_now.set()
        await eventually(lambda: relay.services.catalogue.plans_offering("gpt-5.5") == {"pro"})
        await at_rest(relay)


async def test_in_a_compaction(tmp_path: Path) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.left()

    body: JsonObject = {"model": "gpt-5.5", "input": [user("hello")]}
    async with (
        serving(script) as upstream,
        relaying(tmp_path, backend=behind(upstream.url)) as relay,
    ):
        async with relay.open_turn(body, path="/v1/responses/compact"):
            await upstream.until_open(1)
        await upstream.until_open(0)
        await at_rest(relay)


async def test_in_the_middle_of_its_own_request(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        async with relay.connect() as client:
            await client.send(post_bytes("/v1/responses", ask())[:-5])
        await at_rest(relay)
        assert relay.asked == []


async def test_a_client_that_closes_its_sending_side_counts_as_gone(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay, relay.open_turn(ask("[sim fault=hang]")) as turn:
        await turn.until(b"Hello")
        await turn.stream.send_eof()
        await relay.until_left(relay.asked[0], within_s=_PROMPTLY_S)
        await at_rest(relay)


async def test_a_client_that_breaks_the_connection_counts_as_gone(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay, relay.open_turn(ask("[sim fault=hang]")) as turn:
        await turn.until(b"Hello")
        turn.reset()
        await relay.until_left(relay.asked[0], within_s=_PROMPTLY_S)
        await at_rest(relay)


async def test_one_that_leaves_disturbs_no_other(tmp_path: Path) -> None:
    async with (
        relaying(tmp_path, Simulator(pace_s=0.002)) as relay,
        relay.open_turn(ask("[sim deltas=50]")) as stays,
    ):
        for _ in range(5):
            async with relay.open_turn(ask("[sim deltas=50]")) as leaves:
                await leaves.until(b"word 0")
        assert b'"type":"response.completed"' in await stays.to_the_end()


async def test_a_client_that_takes_nothing_disturbs_no_other(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        huge = ask("[sim deltas=200000]")
        async with relay.open_turn(huge, receive_buffer_bytes=4096):
            await relay.until_asked()
            for _ in range(3):
                answer = await relay.post("/v1/responses", ask())
                assert b"response.completed" in answer.content
            await eventually(lambda: relay.burden["turns"] == 1)
        await relay.until_left(relay.asked[0], within_s=_PROMPTLY_S)


@contextlib.contextmanager
def _port_that_does_not_answer() -> Iterator[str]:
    """Yield the URL of a port whose queue of waiting connections is full."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def _until_steady(reading: Callable[[], int]) -> None:
    """Wait until a number that has grown stands still."""
    last = 0
    with trio.fail_after(PATIENCE_S):
        while not last or reading() != last:
            last = reading()
            await trio.sleep(0.1)
