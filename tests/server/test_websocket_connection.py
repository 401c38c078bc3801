"""A client's WebSocket, at a real socket."""

from __future__ import annotations

import base64
import contextlib
import gc
import hashlib
import json
import logging
import os
import socket
import struct
import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from quart import Response, websocket
from trio_websocket import ConnectionClosed, open_websocket_url, wrap_client_stream

from codexrelay.server.asgi import RelayApp
from codexrelay.server.client_socket import client_socket
from codexrelay.server.tcp import Patience
from codexrelay.server.websocket_stream import MESSAGE_LIMIT_BYTES
from tests.fakes.live_server import PATIENCE_S, PATIENT, LiveServer, RawClient, serving
from tests.server.test_framing import MASK, deflated, frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = base64.b64encode(b"0123456789abcdef").decode()
ACCEPT = base64.b64encode(
    hashlib.sha1(KEY.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
)
TEXT, PING, CLOSE = 0x81, 0x89, 0x88
OPEN_FILES = "/proc/self/fd"
#: Of 50 WebSockets each. Twenty were run by hand; one more never told anything new.
ROUNDS = 5
#: Kernel buffers of both sides, and more.
MUCH_BYTES = 2**20


@attrs.define(eq=False)
class Seen:
    """What became of the views."""

    here: int = 0
    left: trio.Event = attrs.field(factory=trio.Event)
    go: trio.Event = attrs.field(factory=trio.Event)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def app(seen: Seen) -> RelayApp:
    return application(seen)


def application(seen: Seen) -> RelayApp:
    app = RelayApp(__name__)

    @app.websocket("/echo")
    async def echo() -> None:
        client = client_socket()
        await client.accept()
        while True:
            message = await client.receive()
            await client.send_messages([message.encode() if isinstance(message, str) else message])

    @app.websocket("/quart")
    async def echo_by_quart() -> None:
        while True:
            await websocket.send(await websocket.receive())

    @app.websocket("/silent")
    async def say_nothing() -> None:
        await client_socket().accept()
        seen.here += 1
        try:
            await trio.sleep_forever()
        finally:
            seen.here -= 1
            seen.left.set()

    @app.websocket("/tasks")
    async def have_tasks() -> None:
        await client_socket().accept()
        seen.here += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(trio.sleep_forever)
                await client_socket().receive()
        finally:
            seen.here -= 1
            seen.left.set()

    @app.websocket("/flood")
    async def flood() -> None:
        client = client_socket()
        await client.accept()
        seen.here += 1
        try:
            while True:
                await client.send_messages([b"y" * 65536] * 16)
        finally:
            seen.here -= 1
            seen.left.set()

    @app.websocket("/many")
    async def send_many() -> None:
        client = client_socket()
        await client.accept()
        await client.send_messages([b"%d" % number for number in range(200)])
        await client.send_messages([])
        await client.send_messages([b"z" * 70000, "\N{SNOWMAN}".encode()])
        await client.receive()

    @app.websocket("/length")
    async def tell_length() -> None:
        client = client_socket()
        await client.accept()
        while True:
            await client.send_messages([b"%d" % len(await client.receive())])

    @app.websocket("/close")
    async def close() -> None:
        client = client_socket()
        await client.accept()
        await client.close(1001, "bye")
        await client.close(1000)
        await client.send_messages([b"never sent"])
        await trio.lowlevel.checkpoint()
        seen.left.set()

    @app.websocket("/fail")
    async def fail() -> None:
        await client_socket().accept()
        raise LookupError("nobody foresaw this")

    @app.websocket("/fail-before")
    async def fail_before() -> None:
        raise LookupError("nobody foresaw this")

    @app.websocket("/end")
    async def end() -> None:
        await client_socket().accept()

    @app.websocket("/refuse")
    async def refuse() -> Response:
        return Response('{"error":{}}', 401, content_type="application/json")

    @app.websocket("/on-go")
    async def wait_for_the_test() -> None:
        client = client_socket()
        await client.accept()
        await seen.go.wait()
        await client.send_messages([b"%d" % len(await client.receive()) for _ in range(20)])

    return app


def handshake(path: str, *more: str, without: str = "") -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
    ]
    kept = [line for line in lines if not (without and line.startswith(without))]
    return "\r\n".join([*kept, *more, "", ""]).encode()


@asynccontextmanager
async def upgraded(server: LiveServer, path: str, *more: str) -> AsyncIterator[RawClient]:
    async with server.connect() as client:
        await client.send(handshake(path, *more))
        head = await client.receive_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert b"sec-websocket-accept: " + ACCEPT in head
        yield client


def reset(client: RawClient) -> None:
    """Close without a word: unread bytes are destroyed on both sides."""
    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.stream.socket.close()


async def wait_for(event: trio.Event) -> None:
    with trio.fail_after(PATIENCE_S):
        await event.wait()


async def test_messages_go_both_ways(app: RelayApp) -> None:
    async with serving(app) as server, upgraded(server, "/echo") as client:
        await client.send(frame(TEXT, "é".encode()))
        assert await client.receive_until(b"\xa9") == b"\x81\x02\xc3\xa9"
        await client.send(frame(0x82, b"!"))
        assert await client.receive_until(b"!") == b"\x81\x01!"


async def test_quarts_own_object_works_too(app: RelayApp) -> None:
    url = "/quart"
    async with serving(app) as server, upgraded(server, url) as client:
        await client.send(frame(TEXT, b"a") + frame(0x82, b"b") + frame(0x82))
        assert await client.receive_until(b"\x82\x00") == b"\x81\x01a\x82\x01b\x82\x00"


async def test_many_texts_are_one_message_each_and_one_write(app: RelayApp) -> None:
    async with serving(app) as server:
        url = server.url.replace("http", "ws") + "/many"
        async with open_websocket_url(url) as client:
            numbers = [await client.get_message() for _ in range(200)]
            assert numbers == [str(number) for number in range(200)]
            assert await client.get_message() == "z" * 70000
            assert await client.get_message() == "\N{SNOWMAN}"


async def test_a_view_works_on_a_server_without_the_extension(app: RelayApp) -> None:
    async def plain(scope, receive, send) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        if scope["type"] == "websocket":
            scope["extensions"] = {}
        await app(scope, receive, send)

    async with serving(plain) as server, upgraded(server, "/many") as client:
        assert await client.receive_until(b"\x81\x03199")
        assert await client.receive_until("\N{SNOWMAN}".encode())


async def test_a_ping_is_answered_while_the_view_is_busy(app: RelayApp) -> None:
    async with serving(app) as server, upgraded(server, "/silent") as client:
        await client.send(frame(PING, b"one") + frame(PING, b"two") + frame(0x8A, b"unasked"))
        assert await client.receive_until(b"two") == b"\x8a\x03one\x8a\x03two"


async def test_compression_is_accepted_and_not_used_by_us(app: RelayApp) -> None:
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    async with serving(app) as server, server.connect() as client:
        await client.send(handshake("/echo", offer))
        head = await client.receive_until(b"\r\n\r\n")
        assert b"\r\nsec-websocket-extensions: permessage-deflate\r\n" in head
        window = zlib.compressobj(wbits=-15)
        for _ in range(2):
            await client.send(frame(0xC1, deflated(b"again " * 20, window)))
            assert await client.receive_until(b"again " * 20) == b"\x81\x78" + b"again " * 20


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", "permessage-deflate"),
        ("Permessage-Deflate ; client_max_window_bits=9", None),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            'permessage-deflate; server_max_window_bits="10"',
            "permessage-deflate; server_max_window_bits=10",
        ),
        ("permessage-deflate; server_max_window_bits", ""),
        ("permessage-deflate; client_max_window_bits=abc", ""),
        ("permessage-deflate; client_max_window_bits=16", ""),
        ("permessage-deflate; unknown", ""),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", ""),
        ("x-webkit-deflate-frame", ""),
        ("permessage-deflate; unknown, other, permessage-deflate", "permessage-deflate"),
    ],
)
async def test_only_offers_that_can_be_kept_are_accepted(
    app: RelayApp, offer: str, answer: str | None
) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.send(handshake("/echo", f"Sec-WebSocket-Extensions: {offer}"))
        head = (await client.receive_until(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 101 ")
        if answer is None:
            answer = "permessage-deflate; client_max_window_bits=9"
        _, _, rest = head.partition("sec-websocket-extensions: ")
        assert rest.partition("\r\n")[0] == answer


async def test_bytes_behind_the_handshake_wait_for_the_view(app: RelayApp) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.send(handshake("/echo") + frame(TEXT, b"eager"))
        await client.receive_until(b"\r\n\r\n")
        assert await client.receive_until(b"eager") == b"\x81\x05eager"


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (handshake("/echo", without="Sec-WebSocket-Key"), 400),
        (handshake("/echo", "Sec-WebSocket-Key: c2hvcnQ=", without="Sec-WebSocket-Key"), 400),
        (handshake("/echo", "Sec-WebSocket-Key: ~~~", without="Sec-WebSocket-Key"), 400),
        (handshake("/echo", f"Sec-WebSocket-Key: {KEY}"), 400),
        (handshake("/echo").replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (handshake("/echo", without="Sec-WebSocket-Version"), 426),
        (handshake("/echo").replace(b"Version: 13", b"Version: 8"), 426),
    ],
    ids=["no key", "short key", "no base64", "two keys", "HTTP/1.0", "no version", "old version"],
)
async def test_a_bad_handshake_is_refused(app: RelayApp, request_head: bytes, status: int) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.send(request_head)
        head, _, body = (await client.receive_rest()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nconnection: close" in head.lower()
        assert b"\r\nsec-websocket-version: 13" in head.lower()
        assert json.loads(body)["error"]["code"] == "bad_handshake"


async def test_a_view_may_refuse_and_the_connection_ends(app: RelayApp) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.send(handshake("/refuse"))
        head, _, body = (await client.receive_rest()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 401 ")
        assert head.lower().count(b"connection: ") == 1
        assert b"\r\nconnection: close" in head
        assert body == b'{"error":{}}'


async def test_a_view_that_fails_before_it_accepts_is_a_500(
    app: RelayApp, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(app) as server, server.connect() as client:
        await client.send(handshake("/fail-before"))
        assert (await client.receive_rest()).startswith(b"HTTP/1.1 500 ")
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]


async def test_a_view_that_fails_closes_with_1011(
    app: RelayApp, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(app) as server, upgraded(server, "/fail") as client:
        assert await client.receive_rest() == b"\x88\x02" + (1011).to_bytes(2)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]


async def test_a_view_that_ends_closes_with_1000(app: RelayApp) -> None:
    async with serving(app) as server, upgraded(server, "/end") as client:
        assert await client.receive_rest() == b"\x88\x02" + (1000).to_bytes(2)


async def test_nothing_follows_a_close_frame_of_ours_and_the_view_ends_in_peace(
    app: RelayApp, seen: Seen
) -> None:
    async with serving(app) as server, upgraded(server, "/close") as client:
        assert await client.receive_rest() == b"\x88\x05" + (1001).to_bytes(2) + b"bye"
        await wait_for(seen.left)


async def test_a_close_frame_is_answered_and_the_view_is_cancelled(
    app: RelayApp, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(app) as server, upgraded(server, "/silent") as client:
        await client.send(frame(CLOSE, (3001).to_bytes(2) + b"enough") + b"\x00\xff")
        assert await client.receive_rest() == b"\x88\x02" + (3001).to_bytes(2)
        await wait_for(seen.left)
    assert not caplog.records


@pytest.mark.parametrize("path", ["/silent", "/tasks", "/flood", "/echo"])
@pytest.mark.parametrize("how", ["close", "reset", "half"])
async def test_a_client_that_leaves_cancels_the_view(
    app: RelayApp, seen: Seen, caplog: pytest.LogCaptureFixture, path: str, how: str
) -> None:
    """With nothing to read or write, and blocked in a write. Only the end of `serving` waits."""
    caplog.set_level(logging.INFO)
    async with serving(app) as server:
        async with upgraded(server, path) as client:
            if path == "/flood":
                await client.receive_until(b"y" * 65536)
            if how == "reset":
                reset(client)
            elif how == "half":
                await client.stream.send_eof()
                with trio.fail_after(PATIENCE_S):
                    while await client.stream.receive_some(2**20):
                        pass
        if path != "/echo":
            await wait_for(seen.left)
        assert seen.here == 0
    assert not caplog.records


async def test_a_client_that_leaves_overtakes_its_own_messages(app: RelayApp, seen: Seen) -> None:
    async with serving(app) as server:
        async with upgraded(server, "/silent") as client:
            await client.send(frame(TEXT, b"unwanted") * 100)
            await trio.testing.wait_all_tasks_blocked()
            assert seen.here == 1
        await wait_for(seen.left)


async def test_a_close_frame_of_a_client_that_does_not_read_ends_a_blocked_view(
    app: RelayApp, seen: Seen
) -> None:
    async with serving(app) as server, upgraded(server, "/flood") as client:
        await client.receive_until(b"y" * 65536)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert seen.here == 1
        await client.send(frame(CLOSE, (1000).to_bytes(2)))
        await wait_for(seen.left)


async def test_a_client_that_does_not_read_is_given_up(app: RelayApp, seen: Seen) -> None:
    patience = attrs.evolve(PATIENT, write_s=0.05)
    async with serving(app, patience=patience) as server, upgraded(server, "/flood"):
        await wait_for(seen.left)


async def test_messages_nobody_takes_stop_the_client(app: RelayApp, seen: Seen) -> None:
    async with serving(app) as server, upgraded(server, "/on-go") as client:
        message, sent = frame(TEXT, b"m" * MUCH_BYTES), 0

        async def send() -> None:
            nonlocal sent
            for _ in range(20):
                await client.stream.send_all(message)
                sent += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert sent < 15
            seen.go.set()
        assert await client.receive_until(b"%d" % MUCH_BYTES)


async def test_a_message_of_the_limit_passes_and_one_byte_more_is_1009(app: RelayApp) -> None:
    payload = bytes(MESSAGE_LIMIT_BYTES)  # masking makes it the mask, repeated
    masked = MASK * (MESSAGE_LIMIT_BYTES // 4)
    head = b"\x82\xff" + len(payload).to_bytes(8) + MASK
    async with serving(app) as server, upgraded(server, "/length") as client:
        await client.send(head + masked)
        told = b"%d" % MESSAGE_LIMIT_BYTES
        assert await client.receive_until(told)
        await client.send(b"\x82\xff" + (len(payload) + 1).to_bytes(8) + MASK + b"more")
        end = await client.receive_rest()
        assert end[:1] == b"\x88"
        assert end[2:4] == (1009).to_bytes(2)


async def test_a_long_message_is_refused_at_once_and_the_connection_ends(app: RelayApp) -> None:
    """With the whole of it, a close frame and more in the block, as trio-websocket sends it."""
    async with serving(app, patience=Patience(linger_s=0.05)) as server, server.connect() as raw:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                client = await wrap_client_stream(nursery, raw.stream, "localhost", "/echo")
                with contextlib.suppress(ConnectionClosed):  # which may be told meanwhile already
                    await client.send_message("q" * (MESSAGE_LIMIT_BYTES + 2**20))
                with pytest.raises(ConnectionClosed) as closed:
                    await client.get_message()
    assert closed.value.reason.code == 1009


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0x83), 1002),
        (b"\x81\x01a", 1002),
        (frame(0xC1, b"a"), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(CLOSE, b"\x01"), 1002),
        (frame(0x09), 1002),
    ],
    ids=["opcode", "mask", "compressed", "no UTF-8", "close code", "fragmented ping"],
)
async def test_a_broken_frame_closes_and_cancels(
    app: RelayApp, seen: Seen, caplog: pytest.LogCaptureFixture, data: bytes, code: int
) -> None:
    async with serving(app) as server, upgraded(server, "/silent") as client:
        await client.send(data + frame(TEXT, b"too late"))
        end = await client.receive_rest()
        assert end[:1] == b"\x88"
        assert end[2:4] == code.to_bytes(2)
        assert len(end) == 2 + end[1]
        await wait_for(seen.left)
    assert not caplog.records


async def test_a_client_that_says_nothing_is_asked_and_then_cut(
    app: RelayApp, seen: Seen, mock_clock: trio.testing.MockClock
) -> None:
    patience = attrs.evolve(PATIENT, ping_s=15.0, silence_s=45.0)
    async with serving(app, patience=patience) as server, upgraded(server, "/silent") as client:
        for _ in range(4):  # longer than the silence, but the client answers
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(15.0)
            assert await client.receive_until(b"\x89\x00") == b"\x89\x00"
            await client.send(frame(0x8A))
            await trio.testing.wait_all_tasks_blocked(0.01)
        for _ in range(2):
            mock_clock.jump(15.0)
            assert await client.receive_until(b"\x89\x00") == b"\x89\x00"
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert seen.here == 1
        mock_clock.jump(15.0)
        await seen.left.wait()
        assert await client.receive_rest() == b""


async def test_a_drain_waits_for_a_websocket_and_cuts_it_in_the_end(
    app: RelayApp, seen: Seen
) -> None:
    async with serving(app, grace_s=0.05) as server:
        server.drain.finish_s = 0.05
        async with upgraded(server, "/silent") as client:
            server.drain.begin()
            await trio.testing.wait_all_tasks_blocked()
            assert seen.here == 1
            await client.send(frame(PING, b"still there"))
            assert await client.receive_until(b"there")
            await server.wait_returned()
    assert seen.left.is_set()


async def test_a_drain_ends_with_the_last_websocket(app: RelayApp) -> None:
    async with serving(app, grace_s=1000.0) as server, upgraded(server, "/echo") as client:
        server.drain.begin()
        await client.send(frame(TEXT, b"last"))
        assert await client.receive_until(b"last")
        await client.send(frame(CLOSE))
        assert await client.receive_rest() == b"\x88\x00"
        await client.stream.aclose()
        await server.wait_returned()


@given(st.lists(st.binary(max_size=60), max_size=4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_bytes_hang_a_connection_or_make_a_traceback(pieces: list[bytes], left: bool) -> None:
    seen = Seen()
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    async def run() -> None:
        with trio.fail_after(PATIENCE_S):
            async with serving(application(seen)) as server, upgraded(server, "/echo") as client:
                for piece in pieces:
                    await client.send(piece)
                if left:
                    await client.stream.aclose()
                else:
                    await client.send(frame(0x83))
                    await client.stream.send_eof()
                    await client.receive_rest()

    keep = Keep(logging.WARNING)
    logging.getLogger().addHandler(keep)
    try:
        trio.run(run)
    except* OSError:
        pass  # it was closed while the client still wrote
    finally:
        logging.getLogger().removeHandler(keep)
    assert not records


@pytest.mark.skipif(not os.path.isdir(OPEN_FILES), reason="the platform does not tell")
async def test_websockets_opened_and_dropped_leave_nothing(app: RelayApp, seen: Seen) -> None:
    async with serving(app) as server:
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        tasks, files = (
            trio.lowlevel.current_statistics().tasks_living,
            len(os.listdir(OPEN_FILES)),
        )
        for _ in range(ROUNDS):
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(open_and_drop, server, number)
        with trio.fail_after(PATIENCE_S):
            while seen.here:
                await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert len(os.listdir(OPEN_FILES)) == files


async def open_and_drop(server: LiveServer, number: int) -> None:
    async with upgraded(server, "/silent" if number % 2 else "/echo") as client:
        if number % 3 == 0:
            reset(client)
        elif number % 3 == 1:
            await client.send(frame(CLOSE))
