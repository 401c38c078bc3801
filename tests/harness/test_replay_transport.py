"""A cassette as a relay's upstream, in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import trio

from codexrelay.protocol.faults import Reached
from codexrelay.protocol.progress import Progress
from codexrelay.protocol.raw import parse
from harness.cassettes.performance import Performance, performance_of
from harness.replay.pace import Pace
from harness.replay.transport import ReplayTransport
from tests.fakes.replayed import BACKEND, ledger_of, recorded
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json
    from harness.cassettes.model import Interaction

URL = f"{BACKEND}/responses"


def request(value: Json = None, *, progress: Progress | None = None) -> httpx.Request:
    extensions = {} if progress is None else dict(progress.extensions)
    return httpx.Request("POST", URL, json=value, extensions=extensions)


def transport(*interactions: Interaction, pace: str = "1") -> ReplayTransport:
    return ReplayTransport(ledger_of(*interactions), pace=Pace.parse(pace))


async def heard(response: httpx.Response) -> list[tuple[float, bytes]]:
    """Return each block, and when it came."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return [(trio.current_time(), block) async for block in response.stream]


async def collect(response: httpx.Response, into: list[bytes]) -> None:
    """Put each block into `into`, whatever comes of the rest."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    async for block in response.stream:
        into.append(block)  # noqa: PERF401


CHUNKS = ((1.0, b"a"), (1.5, b"\xf0\x9f"), (1.5, b"\x98\x80"), (301.25, b"d"))


@in_virtual_time
async def test_borders_and_times_of_chunks_are_exact() -> None:
    began_at_s = trio.current_time()
    response = await transport(recorded(chunks=CHUNKS)).handle_async_request(request())
    assert trio.current_time() == began_at_s + 1.0
    blocks = await heard(response)

    assert [(at_s - began_at_s, block) for at_s, block in blocks] == list(CHUNKS)


@in_virtual_time
async def test_speed_divides_the_times() -> None:
    began_at_s = trio.current_time()
    response = await transport(recorded(chunks=CHUNKS), pace="5").handle_async_request(request())
    blocks = await heard(response)

    assert [at_s - began_at_s for at_s, _ in blocks] == [0.2, 0.3, 0.3, 60.25]


@in_virtual_time
async def test_an_instant_answer_takes_no_time_and_keeps_its_borders() -> None:
    began_at_s = trio.current_time()
    way = transport(recorded(chunks=CHUNKS), pace="instant")
    blocks = await heard(await way.handle_async_request(request()))

    assert [block for _, block in blocks] == [block for _, block in CHUNKS]
    assert trio.current_time() == began_at_s


@in_virtual_time
async def test_a_reset_comes_where_it_came() -> None:
    response = await transport(recorded(chunks=CHUNKS, end="reset")).handle_async_request(request())
    blocks: list[bytes] = []

    with pytest.raises(httpx.ReadError):
        await collect(response, blocks)

    assert b"".join(blocks) == b"a\xf0\x9f\x98\x80d"


@pytest.mark.parametrize("end", ["idle", "closed-by-relay"])
@in_virtual_time
async def test_what_went_silent_stays_silent(end: str) -> None:
    response = await transport(recorded(end=end)).handle_async_request(request())  # type: ignore[arg-type]

    with trio.move_on_after(86_400) as patience:
        await heard(response)

    assert patience.cancelled_caught


@in_virtual_time
async def test_an_answer_that_is_just_closed_is_broken_off() -> None:
    interaction = recorded()
    unframed = attrs.evolve(performance_of(interaction), framed=False)
    way = ReplayTransport(ledger_of(interaction), change=lambda *_: unframed)
    response = await way.handle_async_request(request())

    with pytest.raises(httpx.RemoteProtocolError, match="in the middle of its response"):
        await heard(response)


@in_virtual_time
async def test_a_connection_that_never_came_about_has_sent_nothing() -> None:
    progress = Progress()

    with pytest.raises(httpx.ConnectError):
        await transport(recorded(status=None, chunks=(), end="reset")).handle_async_request(
            request(progress=progress)
        )

    assert progress.is_unsent


@in_virtual_time
async def test_no_head_means_silence_after_the_request() -> None:
    progress = Progress()

    with trio.move_on_after(60) as patience:
        await transport(recorded(status=None, chunks=(), end="idle")).handle_async_request(
            request(progress=progress)
        )

    assert patience.cancelled_caught
    assert progress.reached is Reached.SENT


@in_virtual_time
async def test_a_read_timeout_of_the_request_fires() -> None:
    asked = request()
    asked.extensions["timeout"] = {"read": 20.0}
    response = await transport(recorded(chunks=CHUNKS)).handle_async_request(asked)

    with pytest.raises(httpx.ReadTimeout):
        await heard(response)

    assert trio.current_time() > 20


@in_virtual_time
async def test_cancelling_one_step_loses_nothing() -> None:
    response = await transport(recorded(chunks=CHUNKS)).handle_async_request(request())
    blocks = aiter(response.stream)  # type: ignore[arg-type]
    got = [await anext(blocks) for _ in range(3)]

    for _ in range(5):
        with trio.move_on_after(10):
            got.append(await anext(blocks))
    got.append(await anext(blocks))

    assert got == [block for _, block in CHUNKS]


@in_virtual_time
async def test_who_leaves_early_has_played_it() -> None:
    ledger = ledger_of(recorded(chunks=CHUNKS))
    response = await ReplayTransport(ledger).handle_async_request(request())
    await response.aclose()

    assert ledger.problems() == ()
    with pytest.raises(httpx.StreamClosed):
        await anext(aiter(response.stream))  # type: ignore[arg-type]


@in_virtual_time
async def test_what_was_not_recorded_is_an_error_that_names_the_nearest() -> None:
    told: list[str] = []
    way = ReplayTransport(ledger_of(recorded(asked={"n": 1})), on_miss=told.append)

    response = await way.handle_async_request(request({"n": 2}))

    assert response.status_code == 400
    body = parse(response.read())
    assert isinstance(body, dict)
    assert body["error"]["code"] == "cassette_miss"  # type: ignore[index, call-overload]
    assert told == [body["error"]["message"]]  # type: ignore[index, call-overload]
    assert "n: recorded 1 asked 2" in told[0]


@in_virtual_time
async def test_a_refresh_that_was_not_recorded_spends_no_token() -> None:
    asked = httpx.Request("POST", "https://auth.openai.com/oauth/token", json={"grant_type": "x"})

    response = await transport().handle_async_request(asked)

    assert response.status_code == 503


@in_virtual_time
async def test_equal_requests_at_once_get_their_answers_in_recorded_order() -> None:
    way = transport(*(recorded(n, asked={"n": 0}, chunks=((0.0, b"%d" % n),)) for n in (1, 2, 3)))
    got: list[bytes] = []

    async def ask() -> None:
        response = await way.handle_async_request(request({"n": 0}))
        got.append((await heard(response))[0][1])

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)

    assert sorted(got) == [b"1", b"2", b"3"]


@in_virtual_time
async def test_a_change_is_laid_over_what_was_recorded() -> None:
    asked: list[tuple[int, int]] = []

    def change(interaction: Interaction, count: int) -> Performance:
        asked.append((interaction.number, count))
        return attrs.evolve(performance_of(interaction), status=503)

    way = ReplayTransport(ledger_of(recorded(4), recorded(5)), change=change)
    answers = [(await way.handle_async_request(request())).status_code for _ in range(2)]

    assert answers == [503, 503]
    assert asked == [(4, 1), (5, 2)]


@in_virtual_time
async def test_a_causal_answer_waits_for_requests_and_not_for_time() -> None:
    title = recorded(1, asked={"n": 1}, chunks=((0.1, b"a"), (900.0, b"b")))
    task = recorded(2, asked={"n": 2}, began_at_s=600.0, chunks=((5.0, b"c"),))
    way = transport(title, task, pace="causal")
    began_at_s = trio.current_time()
    order: list[bytes] = []

    async def ask(n: int) -> None:
        response = await way.handle_async_request(request({"n": n}))
        await collect(response, order)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert order == [b"a"]
        nursery.start_soon(ask, 2)

    assert sorted(order[1:]) == [b"b", b"c"]
    assert trio.current_time() == began_at_s


@in_virtual_time
async def test_a_length_that_is_not_true_any_more_is_not_told() -> None:
    asked = (("content-length", "5"), ("transfer-encoding", "chunked"), ("x-request-id", "r"))
    whole, broken, wrong = (
        recorded(1, headers=asked),
        recorded(2, headers=(("content-length", "9"),), end="reset"),
        recorded(3, headers=(("content-length", "9"),)),
    )
    way = transport(whole, broken, wrong)
    told = [dict((await way.handle_async_request(request())).headers) for _ in range(3)]

    assert told == [{"content-length": "5", "x-request-id": "r"}, {"content-length": "9"}, {}]
