"""The upstream track: nothing that passes is delayed, joined, split or held back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import trio

from codexrelay.protocol.faults import Reached
from codexrelay.protocol.progress import Progress
from harness.recording.tape import Tape
from harness.recording.upstream_side import RecordedTransport
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from harness.cassettes.model import Headers, Interaction

URL = "http://127.0.0.1:4711/backend-api/codex/responses?a=b"
#: Seconds to wait, and what comes then.
PLAN = ((0.0, b"one"), (0.0, b"two"), (1.5, b"three\n\n"), (30.0, b"four"))


@attrs.define(eq=False)
class Body(httpx.AsyncByteStream):
    """Plays a plan; cancelling a step loses nothing."""

    plan: list[tuple[float, bytes | Exception]]
    closed: bool = False

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        if not self.plan:
            raise StopAsyncIteration
        seconds, what = self.plan[0]
        await trio.sleep(seconds)
        del self.plan[0]
        if isinstance(what, Exception):
            raise what
        return what

    async def aclose(self) -> None:
        self.closed = True


@attrs.define(eq=False)
class Backend(httpx.AsyncBaseTransport):
    """Answers every request with a plan, or with an error."""

    body: Body
    error: Exception | None = None
    patience_s: float = 0.0
    asked: list[httpx.Request] = attrs.field(factory=list)
    read: bytes = b""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for block in request.stream:
            self.read += block
        Progress.of(request).otherwise(Reached.SENT)
        await trio.sleep(self.patience_s)
        if self.error is not None:
            raise self.error
        return httpx.Response(
            200,
            headers=[(b"Content-Type", b"text/plain"), (b"x-two", b"1"), (b"x-two", b"2")],
            stream=self.body,
            extensions={"http_version": b"HTTP/1.1"},
        )


@attrs.define(eq=False)
class Shelf:
    """Takes the tapes that are begun."""

    tapes: list[Tape] = attrs.field(factory=list)

    def relay_asks(self, method: str, uri: str, headers: Headers) -> Tape:
        tape = Tape(
            track="upstream",
            number=len(self.tapes) + 1,
            began_at_s=0.0,
            method=method,
            uri=uri,
            request_headers=headers,
        )
        self.tapes.append(tape)
        return tape

    @property
    def last(self) -> Interaction:
        return self.tapes[-1].taken().interaction()


def playing(*plan: tuple[float, bytes | Exception], **more: object) -> Backend:
    return Backend(Body([*plan]), **more)  # type: ignore[arg-type]


def asking(progress: Progress | None = None, **more: object) -> httpx.Request:
    extensions = (progress or Progress()).extensions
    given: dict[str, object] = {"content": b"question"} | more
    return httpx.Request("POST", URL, extensions=extensions, **given)  # type: ignore[arg-type]


async def heard(transport: httpx.AsyncBaseTransport) -> Sequence[tuple[float, bytes]]:
    """Return the blocks of an answer, each with its time since the question."""
    began_s = trio.current_time()
    response = await transport.handle_async_request(asking())
    assert isinstance(response.stream, httpx.AsyncByteStream)
    blocks = [(trio.current_time() - began_s, block) async for block in response.stream]
    await response.aclose()
    return blocks


@in_virtual_time
async def test_blocks_come_as_and_when_they_come_without_the_recorder() -> None:
    plain = await heard(playing(*PLAN))
    shelf = Shelf()
    recorded = await heard(RecordedTransport("openai-codex", playing(*PLAN), shelf))
    assert recorded == plain
    response = shelf.last.response
    assert response.stream.at_s == tuple(at_s for at_s, _ in plain)
    assert response.stream.ends == (3, 6, 13, 17)
    assert response.stream.end == "eof"


@in_virtual_time
async def test_the_very_same_blocks_are_handed_on() -> None:
    block = b"not a copy" * 100
    transport = RecordedTransport("openai-codex", playing((0.0, block)), Shelf())
    assert (await heard(transport))[0][1] is block


@in_virtual_time
async def test_head_and_extensions_are_handed_on_as_they_are() -> None:
    backend, shelf = playing(), Shelf()
    response = await RecordedTransport("local", backend, shelf).handle_async_request(asking())
    assert response.headers.raw == [
        (b"Content-Type", b"text/plain"),
        (b"x-two", b"1"),
        (b"x-two", b"2"),
    ]
    assert response.extensions == {"http_version": b"HTTP/1.1"}
    assert shelf.last.response.headers[0] == ("content-type", "text/plain")


@in_virtual_time
async def test_a_backend_on_this_machine_goes_by_its_name_and_others_by_theirs() -> None:
    shelf = Shelf()
    transport = RecordedTransport("openai-codex.2", playing(), shelf)
    await transport.handle_async_request(asking())
    assert shelf.last.request.uri == "http://openai-codex.2/backend-api/codex/responses?a=b"
    assert dict(shelf.last.request.headers)["host"] == "openai-codex.2"
    await transport.handle_async_request(httpx.Request("GET", "https://chatgpt.com/x?y=z"))
    assert shelf.last.request.uri == "https://chatgpt.com/x?y=z"
    assert dict(shelf.last.request.headers)["host"] == "chatgpt.com"


@in_virtual_time
async def test_a_body_in_memory_stays_one_that_can_be_sent_twice() -> None:
    backend, request = playing(), asking()
    await RecordedTransport("local", backend, Shelf()).handle_async_request(request)
    assert backend.asked == [request]


@in_virtual_time
async def test_a_body_that_can_be_read_once_is_noted_while_it_leaves() -> None:
    async def once() -> AsyncIterator[bytes]:
        yield b"spent "
        yield b"by reading"

    backend, shelf, progress = playing(), Shelf(), Progress()
    request = asking(progress, content=once(), headers={"content-length": "16"})
    await RecordedTransport("local", backend, shelf).handle_async_request(request)
    assert backend.read == shelf.last.request.body == b"spent by reading"
    assert backend.asked[0].headers == request.headers
    assert progress.reached is Reached.SENT


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (httpx.ConnectError("refused"), "reset"),
        (httpx.RemoteProtocolError("no HTTP"), "reset"),
        (httpx.ConnectTimeout("nothing"), "idle"),
    ],
)
@in_virtual_time
async def test_an_answer_without_a_head_has_no_status(error: Exception, end: str) -> None:
    shelf = Shelf()
    transport = RecordedTransport("local", playing(error=error), shelf)
    with pytest.raises(type(error)):
        await transport.handle_async_request(asking())
    response = shelf.last.response
    assert (response.status, response.head_at_s, response.stream.end) == (None, None, end)
    assert shelf.last.request.body == b"question"


@pytest.mark.parametrize(
    ("error", "end"), [(httpx.ReadError("cut"), "reset"), (httpx.ReadTimeout("mum"), "idle")]
)
@in_virtual_time
async def test_a_body_that_breaks_off_says_how(error: Exception, end: str) -> None:
    shelf = Shelf()
    transport = RecordedTransport("local", playing((1.0, b"half"), (0.0, error)), shelf)
    with pytest.raises(type(error)):
        await heard(transport)
    response = shelf.last.response
    assert (response.body, response.stream.end) == (b"half", end)
    assert not response.stream.complete


@in_virtual_time
async def test_who_is_cancelled_while_waiting_for_the_head_has_given_it_up() -> None:
    shelf = Shelf()
    transport = RecordedTransport("local", playing(patience_s=60.0), shelf)
    with trio.move_on_after(1.0):
        await transport.handle_async_request(asking())
    response = shelf.last.response
    assert (response.status, response.stream.end) == (None, "closed-by-relay")


@in_virtual_time
async def test_closing_early_closes_what_is_behind_and_is_noted() -> None:
    backend, shelf = playing(*PLAN), Shelf()
    transport = RecordedTransport("local", backend, shelf)
    response = await transport.handle_async_request(asking())
    assert isinstance(response.stream, httpx.AsyncByteStream)
    assert await anext(aiter(response.stream)) == b"one"
    await response.aclose()
    assert backend.body.closed
    assert shelf.last.response.stream.end == "closed-by-relay"
    assert shelf.last.response.body == b"one"


@in_virtual_time
async def test_cancelling_a_step_loses_nothing() -> None:
    shelf = Shelf()
    transport = RecordedTransport("local", playing((2.0, b"slow"), (0.0, b"fast")), shelf)
    response = await transport.handle_async_request(asking())
    assert isinstance(response.stream, httpx.AsyncByteStream)
    blocks = aiter(response.stream)
    with trio.move_on_after(1.0) as scope:
        await anext(blocks)
    assert scope.cancelled_caught
    assert [block async for block in blocks] == [b"slow", b"fast"]
    assert shelf.last.response.stream.end == "eof"
