"""The client track: messages pass as they are and when they are, HTTP and WebSocket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import pytest
import trio

from codexrelay.server.client_socket import FRAMES
from harness.recording.client_side import RecordedApp
from harness.recording.tape import Tape
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from harness.cassettes.model import Headers

Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
HTTP = {
    "type": "http",
    "method": "POST",
    "raw_path": b"/v1/responses",
    "query_string": b"a=%20b",
    "headers": [(b"Host", b"127.0.0.1:8787"), (b"X-Two", b"1"), (b"x-two", b"2")],
}
WEBSOCKET = {**HTTP, "type": "websocket"}
ASKED = ({"type": "http.request", "body": b"question", "more_body": False},)
HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", b"text/plain")]}
ANSWER = (
    (0.5, HEAD),
    (0.0, {"type": "http.response.body", "body": b"one", "more_body": True}),
    (20.0, {"type": "http.response.body", "body": b"two", "more_body": True}),
    (0.0, {"type": "http.response.body", "body": b"", "more_body": False}),
)


@attrs.define(eq=False)
class Shelf:
    """Takes the one tape that is begun."""

    tapes: list[Tape] = attrs.field(factory=list)

    def client_asks(self, method: str, uri: str, headers: Headers) -> Tape:
        tape = Tape(
            track="client",
            number=1,
            began_at_s=0.0,
            method=method,
            uri=uri,
            request_headers=headers,
        )
        self.tapes.append(tape)
        return tape

    def client_is_done(self, tape: Tape) -> None:
        assert tape is self.tapes[-1]


async def played(
    scope: dict[str, Any], asked: tuple[Any, ...], answer: tuple[Any, ...], shelf: Shelf | None
) -> list[tuple[float, Any]]:
    """Run an application, recorded or not; return what was sent, and when."""
    sent: list[tuple[float, Any]] = []
    waiting = list(asked)

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append((trio.current_time(), message))
        await trio.sleep(1.0)  # a client that takes its time

    async def app(_: Message, receive: Receive, send: Send) -> None:
        while waiting:
            await receive()
        for seconds, message in answer:
            await trio.sleep(seconds)
            await send(message)

    began_s = trio.current_time()
    whole: Any = app if shelf is None else RecordedApp(app, shelf)
    await whole(scope, receive, send)
    return [(at_s - began_s, message) for at_s, message in sent]


@in_virtual_time
async def test_messages_leave_as_and_when_they_leave_without_the_recorder() -> None:
    plain = await played(HTTP, ASKED, ANSWER, None)
    shelf = Shelf()
    recorded = await played(HTTP, ASKED, ANSWER, shelf)
    assert recorded == plain
    assert all(one is other for (_, one), (_, other) in zip(recorded, plain, strict=True))
    one = shelf.tapes[0].taken().interaction()
    assert one.request.uri == "http://relay/v1/responses?a=%20b"
    assert one.request.headers == (("host", "relay"), ("x-two", "1"), ("x-two", "2"))
    assert one.request.body == b"question"
    assert one.response.head_at_s == 0.5
    # When the relay sends it; a slow client makes the next one late.
    assert one.response.stream.at_s == (1.5, 22.5)
    assert one.response.stream.ends == (3, 6)
    assert (one.response.stream.end, one.response.stream.complete) == ("eof", True)


@in_virtual_time
async def test_an_answer_without_its_end_was_cut_by_the_relay() -> None:
    shelf = Shelf()
    await played(HTTP, ASKED, ANSWER[:2], shelf)
    stream = shelf.tapes[0].taken().interaction().response.stream
    assert (stream.end, stream.complete) == ("reset", False)


@in_virtual_time
async def test_a_body_that_the_server_keeps_to_itself_is_not_recorded() -> None:
    shelf = Shelf()
    await played(HTTP | {"method": "HEAD"}, ASKED, ANSWER, shelf)
    response = shelf.tapes[0].taken().interaction().response
    assert (response.body, response.stream.end, response.stream.complete) == (b"", "eof", True)


@in_virtual_time
async def test_the_frames_of_a_websocket_are_kept_in_both_directions() -> None:
    shelf = Shelf()
    asked = (
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "hällo", "bytes": None},
        {"type": "websocket.receive", "text": None, "bytes": b"\xff"},
    )
    answer = (
        (0.0, {"type": "websocket.accept", "headers": ()}),
        (0.0, {"type": "websocket.send", "text": "yes", "bytes": None}),
        (0.0, {"type": "websocket.close", "code": 1000}),
    )
    await played(WEBSOCKET, asked, answer, shelf)
    one = shelf.tapes[0].taken().interaction()
    assert (one.request.method, one.response.status) == ("GET", 101)
    assert [(f.direction, f.kind, f.data, f.code) for f in one.response.stream.frames] == [
        ("out", "text", "hällo".encode(), None),
        ("out", "bin", b"\xff", None),
        ("in", "text", b"yes", None),
        ("in", "close", b"", 1000),
    ]
    assert (one.response.stream.end, one.response.stream.complete) == ("eof", True)


@in_virtual_time
async def test_many_texts_at_once_are_a_frame_each_and_leave_as_they_are() -> None:
    shelf, texts = Shelf(), [b'{"type":"a"}', b'{"type":"b"}']
    many = {"type": FRAMES, "texts": texts}
    answer = ((0.0, {"type": "websocket.accept", "headers": ()}), (2.0, many))

    sent = await played(WEBSOCKET, ({"type": "websocket.connect"},), answer, shelf)

    assert sent[-1][1] is many
    frames = shelf.tapes[0].taken().interaction().response.stream.frames
    assert [(f.at_s, f.direction, f.kind, f.data) for f in frames] == [
        (3.0, "in", "text", texts[0]),
        (3.0, "in", "text", texts[1]),
    ]


@pytest.mark.parametrize(
    ("code", "frames", "end"),
    [
        (1001, [("out", "close", b"bye", 1001)], "eof"),
        (1005, [("out", "close", b"bye", None)], "eof"),
        (1006, [], "closed-by-relay"),
    ],
)
def test_a_client_that_leaves_a_websocket_says_how(
    code: int, frames: list[object], end: str
) -> None:
    @in_virtual_time
    async def run() -> None:
        shelf = Shelf()
        tape = await left(shelf, {"type": "websocket.disconnect", "code": code, "reason": "bye"})
        assert [(f.direction, f.kind, f.data, f.code) for f in tape.frames] == frames
        assert tape.ended == end

    run()


async def left(shelf: Shelf, disconnect: Message) -> Tape:
    """Let a client leave a WebSocket that was accepted; return the tape."""

    async def receive() -> Message:
        return disconnect

    async def send(_: Message) -> None:
        pass

    async def app(_: Message, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", "headers": ()})
        await receive()

    whole: Any = RecordedApp(app, shelf)  # type: ignore[arg-type]
    await whole(WEBSOCKET, receive, send)
    return shelf.tapes[0]


@in_virtual_time
async def test_a_websocket_that_is_closed_before_it_was_accepted_was_refused() -> None:
    shelf = Shelf()
    answer = ((0.0, {"type": "websocket.close", "code": 1000}),)
    await played(WEBSOCKET, ({"type": "websocket.connect"},), answer, shelf)
    response = shelf.tapes[0].taken().interaction().response
    assert (response.status, response.stream.frames, response.stream.end) == (403, (), "eof")


@in_virtual_time
async def test_the_life_of_the_application_is_nobodys_request() -> None:
    shelf = Shelf()
    await played({"type": "lifespan"}, ({"type": "lifespan.startup"},), (), shelf)
    assert shelf.tapes == []
