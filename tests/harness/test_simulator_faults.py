"""Every fault of the simulator, as a client's socket meets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio
from trio.testing import memory_stream_pair

from codexrelay.protocol.raw import get_object
from harness.simulator import FAULTS, Simulator
from harness.simulator.faults import INSTEAD, WITHIN
from tests.fakes.simulated import events_of, raw_request, request, simulated, user

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from harness.simulator import Seen
    from tests.fakes.simulated import SignedIn

_HELLO: Final = request(user("hello"))


def test_a_fault_stands_in_one_table_only() -> None:
    assert not INSTEAD.keys() & WITHIN.keys()
    assert set(FAULTS) == INSTEAD.keys() | WITHIN.keys()


async def faulty(fault: str) -> tuple[httpx.Response, Seen]:
    """Return the answer to a request that meets `fault`, and its record."""
    async with simulated(Simulator()) as client:
        client.simulator.queue_faults(fault)
        answer = await client.post(_HELLO)
        return answer, client.simulator.seen[0]


ANSWERS: Final[dict[str, tuple[int, str]]] = {
    "429": (429, "usage_limit_reached"),
    "429plain": (429, "rate_limit_exceeded"),
    "401": (401, "token_expired"),
    "400": (400, "Instructions are not valid"),
    "403html": (403, "<title>403 Forbidden</title>"),
    "500": (500, "server_error"),
    "503": (503, "server_is_overloaded"),
}


@pytest.mark.parametrize(
    ("fault", "status", "words"), [(name, *told) for name, told in ANSWERS.items()], ids=ANSWERS
)
async def test_faults_that_answer_instead_of_the_model(fault: str, status: int, words: str) -> None:
    answer, seen = await faulty(fault)
    assert answer.status_code == seen.status == status
    assert words in answer.text
    assert (seen.fault, seen.finished) == (fault, True)


async def test_429_tells_when_it_resets_and_429plain_when_to_come_back() -> None:
    limited, _ = await faulty("429")
    throttled, _ = await faulty("429plain")
    assert limited.json()["error"]["resets_in_seconds"] == 3600
    assert limited.headers["x-codex-primary-used-percent"] == "100"
    assert "retry-after" not in limited.headers
    assert throttled.headers["retry-after"] == "2"


STREAMS: Final = {
    "failed": ["response.output_text.delta", "response.failed"],
    "failed_early": ["response.in_progress", "response.failed"],
    "error_event": ["response.output_text.delta", "error"],
    "error_early": ["response.in_progress", "error", "response.failed"],
    "limit_event": ["response.in_progress", "error"],
    "eof": ["response.content_part.added", "response.output_text.delta"],
}


@pytest.mark.parametrize(("fault", "names"), STREAMS.items(), ids=STREAMS)
async def test_faults_that_end_a_stream_cleanly(fault: str, names: list[str]) -> None:
    answer, seen = await faulty(fault)
    events = events_of(answer.content)
    assert [event["type"] for event in events][-len(names) :] == names
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (seen.status, seen.finished) == (200, True)


async def test_a_limit_event_carries_the_reset_and_the_headers() -> None:
    answer, _ = await faulty("limit_event")
    event = events_of(answer.content)[-1]
    assert event["status_code"] == 429
    assert get_object(event, "error")["resets_in_seconds"] == 3600
    assert get_object(event, "headers")["X-Codex-Primary-Used-Percent"] == "100"


async def test_garbage_stands_between_whole_events_and_the_stream_goes_on() -> None:
    answer, _ = await faulty("garbage")
    before, garbage, after = answer.content.partition(b"<html>")
    assert events_of(before)[-1]["type"] == "response.output_text.delta"
    assert b'data: {"type":"response.output_text.delta",\n\n' in garbage + after
    assert b"event: response.completed\n" in after


@pytest.mark.parametrize(
    ("fault", "key", "left"), [("no_usage", "usage", None), ("no_output", "output", [])]
)
async def test_faults_that_only_empty_the_terminal_event(
    fault: str, key: str, left: object
) -> None:
    answer, _ = await faulty(fault)
    response = get_object(events_of(answer.content)[-1], "response")
    assert response["status"] == "completed"
    assert response.get(key) == left
    assert (key in response) is (left is not None)


BROKEN: Final = {"drop": httpx.ReadError, "cut": httpx.RemoteProtocolError}


@pytest.mark.parametrize(("fault", "error"), BROKEN.items(), ids=BROKEN)
async def test_faults_that_break_the_connection_after_the_first_delta(
    fault: str, error: type[httpx.TransportError]
) -> None:
    async with simulated(Simulator()) as client:
        client.simulator.queue_faults(fault)
        received = bytearray()
        async with streamed(client) as answer:
            with pytest.raises(error):
                await read_into(received, answer)
        after = await client.post(_HELLO)
    assert b"event: response.output_text.delta\n" in received
    assert received.endswith(b"\n\n") is (fault == "drop")
    assert client.simulator.seen[0].finished
    assert after.status_code == 200


async def test_drop_early_closes_before_any_header() -> None:
    async with simulated(Simulator()) as client:
        client.simulator.queue_faults("drop_early")
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(_HELLO)
    assert client.simulator.seen[0].status is None


SILENT: Final = {"hang_early": None, "hang_first": b"", "hang": b"response.output_text.delta"}


@pytest.mark.parametrize(("fault", "last"), SILENT.items(), ids=SILENT)
async def test_faults_that_fall_silent_last_until_the_client_leaves(
    fault: str, last: bytes | None, autojump_clock: trio.testing.MockClock
) -> None:
    simulator = Simulator()
    simulator.queue_faults(fault)
    ours, theirs = memory_stream_pair()
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(simulator.serve_connection, theirs)
        await ours.send_all(raw_request(simulator, _HELLO))
        with trio.move_on_after(3600) as an_hour:
            while True:
                received += await ours.receive_some()
        await ours.aclose()
    (seen,) = simulator.seen
    assert an_hour.cancelled_caught
    assert (b"HTTP/1.1 200" in received) is (last is not None)
    assert (last or b"") in received
    assert (b"event: " in received) is bool(last)
    assert (seen.left_at_s, seen.finished) == (trio.current_time(), False)
    assert autojump_clock.autojump_threshold == 0


async def test_faults_are_met_in_order_and_by_main_requests_only() -> None:
    title = request({"role": "developer", "content": "Write a title."}, user("hello"))
    async with simulated(Simulator()) as client:
        client.simulator.queue_faults("503", "429plain")
        answers = [await client.post(body) for body in (title, _HELLO, title, _HELLO, _HELLO)]
    assert [answer.status_code for answer in answers] == [200, 503, 200, 429, 200]


async def test_a_refused_request_leaves_the_fault_to_the_next() -> None:
    async with simulated(Simulator()) as client:
        client.simulator.queue_faults("503")
        refused = await client.post(_HELLO | {"store": True})
        answer = await client.post(_HELLO)
    assert (refused.status_code, answer.status_code) == (400, 503)


async def test_a_fault_can_be_part_of_the_prompt() -> None:
    async with simulated(Simulator()) as client:
        answers = [await client.post(request(user("[sim fault=500] go"))) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [500, 500]


def test_an_unknown_fault_is_refused_and_none_is_queued() -> None:
    simulator = Simulator()
    with pytest.raises(ValueError, match="no fault is called 'flood'; known: "):
        simulator.queue_faults("500", "flood")
    assert simulator.next_fault() is None


def streamed(client: SignedIn) -> AbstractAsyncContextManager[httpx.Response]:
    """Send a model request and stream its answer."""
    url = client.simulator.api_base_url + "/responses"
    return client.http.stream("POST", url, json=_HELLO, headers=client.headers)


async def read_into(received: bytearray, answer: httpx.Response) -> None:
    async for block in answer.aiter_raw():
        received += block
