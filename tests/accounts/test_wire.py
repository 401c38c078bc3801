from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from codexrelay.accounts.wire import MAX_ANSWER_BYTES, exchange, keep_to, post

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Body(httpx.AsyncByteStream):
    """A body that tells whether it was closed."""

    def __init__(self, *chunks: bytes, ends: bool = True) -> None:
        self.chunks = chunks
        self.ends = ends
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            await trio.lowlevel.checkpoint()
            yield chunk
        if not self.ends:
            raise httpx.ReadError("reset")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed = True


class Answers(httpx.AsyncBaseTransport):
    """Answers with one body, and keeps what was sent."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.sent: list[bytes] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(await request.aread())
        return httpx.Response(201, stream=self.body)


def a_post() -> httpx.Request:
    return post("http://issuer.test/oauth/token", b"secret", content_type="application/json")


async def test_an_answer_comes_whole_and_its_body_is_closed() -> None:
    transport = Answers(Body(b"a", b"b"))
    answer = await exchange(transport, a_post())
    assert (answer.status, answer.body) == (201, b"ab")
    assert "ab" not in repr(answer)
    assert transport.sent == [b"secret"]
    assert transport.body.closed


async def test_what_is_posted_can_be_sent_once_only() -> None:
    request = a_post()
    assert request.headers["connection"] == "close"
    assert request.headers["content-length"] == "6"
    assert isinstance(request.stream, httpx.AsyncByteStream)
    assert b"".join([part async for part in request.stream]) == b"secret"
    with pytest.raises(httpx.StreamConsumed):
        [part async for part in request.stream]


async def test_what_is_longer_than_any_answer_is_cut() -> None:
    half = b"x" * (MAX_ANSWER_BYTES // 2 + 1)
    answer = await exchange(Answers(Body(half, half, half)), a_post())
    assert len(answer.body) == MAX_ANSWER_BYTES


async def test_an_answer_that_breaks_off_is_none_and_is_closed() -> None:
    transport = Answers(Body(b"a", ends=False))
    with pytest.raises(httpx.ReadError):
        await exchange(transport, a_post())
    assert transport.body.closed


async def test_a_caller_that_leaves_closes_the_answer() -> None:
    transport = Answers(Body(b"a", b"b"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await exchange(transport, a_post())
    assert scope.cancelled_caught
    assert transport.body.closed


@pytest.mark.parametrize(
    ("configured", "is_that_place"),
    [
        ("http://issuer.test", True),
        ("http://ISSUER.test:80/below/", True),
        ("https://issuer.test", False),
        ("http://issuer.test:81", False),
        ("http://issuer.test.evil.example", False),
        ("http://issuer.test@evil.example", False),
    ],
)
def test_a_token_leaves_for_the_configured_place_only(configured: str, is_that_place: bool) -> None:
    if is_that_place:
        keep_to(httpx.URL(configured), a_post())
        return
    with pytest.raises(AssertionError, match=r"a token was about to leave for issuer\.test"):
        keep_to(httpx.URL(configured), a_post())
