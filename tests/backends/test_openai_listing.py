"""A backend's own list of models: asked for once, kept for a minute, never in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import httpx
import pytest
import trio

from codexrelay.accounts.wire import RawAnswer
from codexrelay.backends.openai.listing import ANSWER_S, FAILED_S, GOOD_S, models_in
from tests.backends.test_openai_backend import KEY, open_backend
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from codexrelay.backends.openai.listing import Listing

MODELS: Final = b'{"object": "list", "data": [{"id": "qwen3"}, {"id": "phi"}]}'


@attrs.define(eq=False)
class Server(httpx.AsyncBaseTransport):
    """Answers a question for the models after some time."""

    body: bytes = MODELS
    status: int = 200
    takes_s: float = 0.0
    error: Exception | None = None
    asked: list[httpx.Request] = attrs.field(factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        await trio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        return httpx.Response(self.status, content=self.body)


def listing_of(server: Server) -> Listing:
    return open_backend("http://x:8000/v1/", server).listing


@in_virtual_time
async def test_the_models_are_asked_for_with_the_key_and_kept_for_a_minute() -> None:
    server = Server()
    listing = listing_of(server)
    assert await listing.listed() == ("qwen3", "phi")
    await trio.sleep(GOOD_S - 1)
    server.body = b'{"data": [{"id": "another"}]}'
    assert await listing.listed() == ("qwen3", "phi")
    [request] = server.asked
    assert (request.method, str(request.url)) == ("GET", "http://x:8000/v1/models")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert "content-type" not in request.headers
    await trio.sleep(1)
    assert await listing.listed() == ("another",)


@in_virtual_time
async def test_those_who_ask_at_a_time_share_one_answer() -> None:
    server, got = Server(takes_s=1.0), []
    listing = listing_of(server)

    async def ask() -> None:
        got.append(await listing.listed())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert got == [("qwen3", "phi")] * 5
    assert len(server.asked) == 1


@in_virtual_time
async def test_one_that_leaves_while_it_asks_costs_the_others_nothing() -> None:
    server, got = Server(takes_s=1.0), []
    listing = listing_of(server)

    async def ask() -> None:
        await trio.sleep(0.1)
        got.append(await listing.listed())

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.5):
            nursery.start_soon(ask)
            await listing.listed()
    assert got == [("qwen3", "phi")]


@in_virtual_time
async def test_an_answer_that_does_not_come_is_not_waited_for_by_anybody_for_long() -> None:
    server = Server(takes_s=3600)
    listing = listing_of(server)
    assert await listing.listed() == ()
    assert trio.current_time() == ANSWER_S
    assert await listing.listed() == ()
    assert (trio.current_time(), len(server.asked)) == (ANSWER_S, 1)
    await trio.sleep(FAILED_S)
    server.takes_s = 0
    assert await listing.listed() == ("qwen3", "phi")


@in_virtual_time
async def test_while_it_cannot_be_asked_its_last_word_stays() -> None:
    server = Server()
    listing = listing_of(server)
    await listing.listed()
    await trio.sleep(GOOD_S)
    server.error = httpx.ConnectError("nobody listens")
    assert await listing.listed() == ("qwen3", "phi")
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("status", "body", "models"),
    [
        (200, MODELS, ("qwen3", "phi")),
        (200, b'[{"id": "a"}, {"id": "a"}, {"id": 5}, "b", {"id": "x\\ny"}]', ("a",)),
        (200, b'{"models": [{"name": "a"}]}', ("a",)),
        (200, b'{"data": []}', ()),
        (200, b'{"data": null}', None),
        (200, b"<html>", None),
        (200, b"5", None),
        (401, MODELS, None),
    ],
    ids=["list", "bare list", "names", "none", "null", "page", "number", "401"],
)
def test_what_a_list_of_models_is(status: int, body: bytes, models: tuple[str, ...] | None) -> None:
    assert models_in(RawAnswer(status=status, body=body)) == models
