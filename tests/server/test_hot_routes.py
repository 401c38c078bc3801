"""The routes that carry turns, below quart: what a client sees is what quart would send it."""

from __future__ import annotations

import gzip
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import structlog
import trio

from codexrelay.config.settings import ServerSettings
from codexrelay.protocol.capabilities import HEADER
from codexrelay.protocol.long_input import LONG_BYTES
from codexrelay.protocol.raw import dump
from codexrelay.server.app import create_app
from codexrelay.server.drain import Drain
from tests.fakes.exchange import (
    FakeExchange,
    Sent,
    answer_below_quart,
    answer_through_quart,
    serve,
)
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.relay import ask, ask_chat, eventually, relaying
from tests.fakes.simulated import user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from codexrelay.protocol.raw import JsonObject
    from codexrelay.server.asgi import RelayApp
    from tests.fakes.relay import LiveRelay

HOST: Final = (b"host", b"localhost")
MAX_BYTES: Final = 2000
CHAT: Final = "/v1/chat/completions"


def sent(
    body: JsonObject | bytes, *headers: tuple[bytes, bytes], path: str = "/v1/responses"
) -> Sent:
    data = body if isinstance(body, bytes) else dump(body)
    return Sent(path=path, body=data, headers=(HOST, *headers))


@asynccontextmanager
async def app_before(folder: Path) -> AsyncIterator[tuple[RelayApp, LiveRelay]]:
    async with relaying(folder, server=ServerSettings(max_body_bytes=MAX_BYTES)) as relay:
        yield create_app(relay.services), relay


AT_FAULT: Final = {
    "no JSON": (sent(b"{no"), 400),
    "nothing": (sent(b""), 400),
    "an array": (sent(b"[]"), 400),
    "no JSON for Chat": (sent(b"{no", path=CHAT), 400),
    "no input": (sent({"model": "gpt-5.5"}), 400),
    "no messages": (sent({"model": "gpt-5.5"}, path=CHAT), 400),
    "a model that is none": (sent(ask() | {"model": 7}), 400),
    "another answer's id": (sent(ask(previous_response_id="resp_1")), 400),
    "too large": (sent(b"x" * (MAX_BYTES + 1)), 413),
    "too large when it is decoded": (
        sent(gzip.compress(b"x" * (MAX_BYTES + 1)), (b"content-encoding", b"gzip")),
        413,
    ),
    "a coding that nobody knows": (sent(b"{}", (b"content-encoding", b"br")), 415),
    "broken data": (sent(b"{}", (b"content-encoding", b"gzip")), 400),
    "two codings in two headers": (
        sent(b"{}", (b"content-encoding", b"gzip"), (b"Content-Encoding", b"br")),
        415,
    ),
    "a capability that is none": (sent(ask(), (HEADER.encode(), b"magic=on")), 400),
    "an instance that is not there": (sent(ask(model="openai-codex.7:gpt-5.5")), 400),
    "a foreign host": (Sent(body=dump(ask()), headers=((b"host", b"evil.example"),)), 403),
    "a host that is no name": (Sent(body=dump(ask()), headers=((b"host", b"\xff"),)), 403),
    "two hosts": (sent(ask(), HOST), 403),
    "no host": (Sent(body=dump(ask()), headers=()), 403),
    "a foreign origin": (sent(ask(), (b"origin", b"http://evil.example")), 403),
    "a slash too many": (sent(b"{no", path="//v1//responses/"), 400),
    "a path without a version": (sent(b"{no", path="/responses"), 400),
    "Codex CLI's path": (sent(b"{no", path="/backend-api/codex/responses"), 400),
}


async def test_a_request_at_fault_gets_the_same_bytes_on_both_ways(tmp_path: Path) -> None:
    async with app_before(tmp_path) as (app, relay):
        for what, (request, status) in AT_FAULT.items():
            below = await answer_below_quart(app, request)
            assert below == await answer_through_quart(app, request), what
            assert below.status == status, what
        assert relay.asked == []


async def test_a_client_without_a_key_gets_the_same_bytes_on_both_ways(tmp_path: Path) -> None:
    keyed = ServerSettings(client_keys=("key-1",))
    async with relaying(tmp_path, server=keyed) as relay:
        app, request = create_app(relay.services), sent(ask())
        below = await answer_below_quart(app, request)
        assert below == await answer_through_quart(app, request)
        assert below.status == 401
        known = sent(ask(), (b"authorization", b"Bearer key-1"))
        assert (await answer_below_quart(app, known)).status == 200


async def test_a_relay_that_is_being_stopped_says_so_in_the_same_bytes(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        drain = Drain(grace_s=0.0)
        drain.begin()
        app = create_app(attrs.evolve(relay.services, drain=drain))
        below = await answer_below_quart(app, sent(ask()))
        assert below == await answer_through_quart(app, sent(ask()))
        assert below.status == 503
        assert (b"connection", b"close") in below.headers


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/responses", CHAT])
async def test_an_answer_is_the_same_but_for_its_ids(
    tmp_path: Path, path: str, *, stream: bool
) -> None:
    body = ask(stream=stream) if path != CHAT else ask_chat(stream=stream)
    async with relaying(tmp_path) as relay:
        app = create_app(relay.services)
        below = await answer_below_quart(app, sent(body, path=path))
        through = await answer_through_quart(app, sent(body, path=path))
    assert below.status == through.status == 200
    assert [name for name, _ in below.headers] == [name for name, _ in through.headers]
    assert below.body.count(b"\n") == through.body.count(b"\n")
    assert b"Hello" in below.body
    assert len(relay.asked) == 2


async def test_a_long_history_reaches_the_backend_whole(
    tmp_path: Path,
) -> None:
    items = [user(f'{number} grün "quoted"\n' * 500) for number in range(20)]
    body = {"model": "GPT-5.5", "tools": [], "input": [*items, user("[sim text=ok]")]}
    data = json.dumps(body, indent=1).encode()  # as no dump of ours would
    assert len(data) > LONG_BYTES
    async with relaying(tmp_path) as relay:
        answer = await answer_below_quart(create_app(relay.services), sent(data))
    assert answer.status == 200
    [asked] = relay.asked
    assert asked.body["input"] == body["input"]
    assert asked.body["model"] == "gpt-5.5"
    assert asked.body["store"] is False


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Sent(path="/v1/responses", method="GET"), 405),
        (Sent(path="/v1/responses", method="HEAD"), 405),
        (Sent(path="/v1/responses", method="OPTIONS"), 405),
        (Sent(path="/v1/nothing"), 404),
        (Sent(path="/v1/models", method="GET"), 200),
        (Sent(path="/healthz", method="GET"), 200),
    ],
    ids=lambda value: f"{value.method} {value.path}" if isinstance(value, Sent) else str(value),
)
async def test_all_else_goes_through_quart_although_there_is_an_exchange(
    tmp_path: Path, request_: Sent, status: int
) -> None:
    async with relaying(tmp_path) as relay:
        app, exchange = create_app(relay.services), FakeExchange(b"")
        answer = await answer_through_quart(app, request_, beside=exchange)
        assert answer.status == status
        assert not exchange.taken


def failing(error: Exception) -> Callable[[], str]:
    def new_id() -> str:
        raise error

    return new_id


@pytest.mark.parametrize(
    "error",
    [LookupError("gone wrong"), ExceptionGroup("several", [LookupError("gone wrong")])],
    ids=["one", "a group"],
)
async def test_what_nobody_foresaw_is_logged_and_told_in_the_same_bytes(
    tmp_path: Path, error: Exception
) -> None:
    async with relaying(tmp_path) as relay:
        app = create_app(attrs.evolve(relay.services, new_id=failing(error)))
        with structlog.testing.capture_logs() as logged:
            below = await answer_below_quart(app, sent(ask()))
        assert [(entry["event"], str(entry["exc_info"])) for entry in logged] == [
            ("unforeseen error in a request", "gone wrong")
        ]
        with structlog.testing.capture_logs() as logged:
            assert below == await answer_through_quart(app, sent(ask()))
        assert len(logged) == 1
    assert below.status == 500


async def test_an_error_behind_the_head_is_logged_and_the_response_is_not_completed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with relaying(tmp_path) as relay:
        exchange = FakeExchange(dump(ask()), breaks=LookupError("gone wrong"))
        exchange.arrives.set()
        await serve(create_app(relay.services), sent(ask()), exchange)
        await eventually(lambda: relay.burden == dict.fromkeys(relay.burden, 0))
    assert exchange.started
    assert not exchange.ended
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.messages == ["a response was cut by an unforeseen error"]


@pytest.mark.parametrize(
    ("phase", "text"),
    [
        ("its body", "hello"),
        ("the head", "[sim fault=hang_early]"),
        ("the first event", "[sim fault=hang_first]"),
        ("the middle", "[sim fault=hang]"),
    ],
)
async def test_a_client_that_leaves_ends_everything_in_every_phase(
    tmp_path: Path, phase: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with relaying(tmp_path) as relay, trio.open_nursery() as nursery:
        request = sent(ask(text))
        exchange, client, gone = FakeExchange(request.body), trio.CancelScope(), trio.Event()

        async def serve_until_it_leaves() -> None:
            with client:
                await serve(create_app(relay.services), request, exchange)
            gone.set()

        nursery.start_soon(serve_until_it_leaves)
        await eventually(lambda: exchange.taken)
        if phase != "its body":
            exchange.arrives.set()
            await eventually(lambda: bool(relay.asked))
        if phase == "the middle":
            await eventually(lambda: b"delta" in exchange.sent)
        client.cancel()
        with trio.fail_after(PATIENCE_S):
            await gone.wait()
        assert client.cancelled_caught
        await eventually(lambda: relay.burden == dict.fromkeys(relay.burden, 0))
        assert not exchange.ended
    assert caplog.records == []
