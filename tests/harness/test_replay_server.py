"""A cassette as a backend on a socket."""

from __future__ import annotations

import gzip
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import trio

from codexrelay.protocol.raw import dump
from harness.cassettes.performance import performance_of
from harness.replay.pace import Pace
from harness.replay.server import Change, ReplayServer, as_recorded
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.no_tls import NO_TLS
from tests.fakes.replayed import ledger_of, recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codexrelay.protocol.raw import Json
    from harness.cassettes.model import Interaction

PATH = "/backend-api/codex/responses"


def post(value: Json = None, path: str = PATH) -> bytes:
    body = b"" if value is None else dump(value)
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (
        path.encode(),
        len(body),
        body,
    )


@asynccontextmanager
async def serving(
    *interactions: Interaction, pace: str = "instant", change: Change = as_recorded
) -> AsyncIterator[ReplayServer]:
    server = ReplayServer(ledger=ledger_of(*interactions), pace=Pace.parse(pace), change=change)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            yield server
            nursery.cancel_scope.cancel()


async def on_the_wire(server: ReplayServer, sent: bytes) -> bytes:
    """Return all that comes until the server closes, or rests for a while."""
    port = int(server.base_url.rpartition(":")[2])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(sent)
        got = bytearray()
        while data := await stream.receive_some():
            got += data
            if got.endswith(b"0\r\n\r\n"):
                break
    return bytes(got)


async def test_each_chunk_is_a_chunk_on_the_wire() -> None:
    async with serving(recorded(chunks=((0, b"ab"), (0, b"\xc3"), (0, b"\xa4cd")))) as server:
        got = await on_the_wire(server, post())

    assert got.endswith(b"\r\n\r\n2\r\nab\r\n1\r\n\xc3\r\n3\r\n\xa4cd\r\n0\r\n\r\n")


async def test_a_recorded_reset_is_one_on_the_wire() -> None:
    async with serving(recorded(chunks=((0, b"ab"),), end="reset")) as server:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await on_the_wire(server, post())

    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_an_answer_that_is_just_closed_has_no_last_chunk() -> None:
    interaction = recorded(chunks=((0, b"ab"),))
    unframed = attrs.evolve(performance_of(interaction), framed=False)
    async with serving(interaction, change=lambda *_: unframed) as server:
        got = await on_the_wire(server, post())

    assert got.endswith(b"2\r\nab\r\n")


async def test_silence_lasts_until_the_client_leaves() -> None:
    async with serving(recorded(status=None, chunks=(), end="idle")) as server:
        with trio.move_on_after(0.05) as patience:
            await on_the_wire(server, post())

    assert patience.cancelled_caught


async def test_both_tracks_are_served_and_keep_apart() -> None:
    client = recorded(1, track="client", uri="http://relay/v1/responses", chunks=((0, b"client"),))
    models = recorded(2, track="client", uri="http://relay/v1/models", method="GET")
    async with (
        serving(client, models, recorded(3, chunks=((0, b"upstream"),))) as server,
        httpx.AsyncClient(base_url=server.base_url, trust_env=False, verify=NO_TLS) as http,
    ):
        answers = [
            (await http.post("/v1/responses")).text,
            (await http.post(PATH)).text,
            (await http.get("/v1/models")).text,
        ]

    assert answers == ["client", "upstream", "hello"]
    assert server.ledger.problems() == ()


async def test_a_miss_is_an_error_that_clients_understand_and_the_connection_lives_on() -> None:
    told: list[str] = []
    async with (
        serving(recorded(asked={"n": 1})) as server,
        httpx.AsyncClient(base_url=server.base_url, trust_env=False, verify=NO_TLS) as http,
    ):
        server.on_miss = told.append
        missed = await http.post(PATH, json={"n": 2})
        found = await http.post(PATH, json={"n": 1})

    assert missed.status_code == 400
    assert missed.json()["error"]["code"] == "cassette_miss"
    assert missed.json()["error"]["message"] == told[0]
    assert found.text == "hello"


async def test_a_compressed_request_finds_what_was_recorded_plain() -> None:
    async with (
        serving(recorded(asked={"n": 1})) as server,
        httpx.AsyncClient(base_url=server.base_url, trust_env=False, verify=NO_TLS) as http,
    ):
        answer = await http.post(
            PATH, content=gzip.compress(dump({"n": 1})), headers={"content-encoding": "gzip"}
        )

    assert answer.text == "hello"


async def test_equal_requests_at_once_share_no_answer() -> None:
    times = 5
    tape = [recorded(n, asked={"n": 0}, chunks=((0, b"%d" % n),)) for n in range(1, times + 1)]
    got: list[str] = []

    async def ask(http: httpx.AsyncClient) -> None:
        got.append((await http.post(PATH, json={"n": 0})).text)

    async with (
        serving(*tape) as server,
        httpx.AsyncClient(base_url=server.base_url, trust_env=False, verify=NO_TLS) as http,
        trio.open_nursery() as nursery,
    ):
        for _ in range(times):
            nursery.start_soon(ask, http)

    assert sorted(got) == ["1", "2", "3", "4", "5"]
    assert server.ledger.problems() == ()


async def test_a_client_is_not_answered_before_the_recorded_time() -> None:
    clock = trio.lowlevel.current_clock()
    interaction = recorded(chunks=((0.03, b"a"), (0.06, b"b")))
    async with serving(interaction, pace="1") as server:
        began_at_s = clock.current_time()
        await on_the_wire(server, post())

    assert clock.current_time() - began_at_s >= 0.06


async def test_an_answer_has_no_body_where_http_has_none() -> None:
    """Other recorders keep the body that was not sent; and a fault may lay a status over one."""
    length = (("content-length", "5"),)
    asked = {"method": "HEAD", "headers": length}
    async with (
        serving(recorded(1, **asked), recorded(2, status=304)) as server,
        httpx.AsyncClient(base_url=server.base_url, trust_env=False, verify=NO_TLS) as http,
    ):
        head = await http.head(PATH)
        unchanged = await http.post(PATH)
        missed = await http.head("/elsewhere")

    assert (head.headers["content-length"], head.content) == ("5", b"")
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert (missed.status_code, missed.content) == (400, b"")


async def test_two_lengths_that_differ_are_both_left_out() -> None:
    lengths = (("content-length", "7"), ("content-length", "8"))
    async with serving(recorded(headers=lengths)) as server:
        got = await on_the_wire(server, post())

    assert got.endswith(b"5\r\nhello\r\n0\r\n\r\n")


async def test_a_header_goes_out_with_the_bytes_it_had() -> None:
    async with serving(recorded(headers=(("x-said", "caf\u00e9"),))) as server:
        got = await on_the_wire(server, post())

    assert b"x-said: caf\xe9\r\n" in got
