"""Every fault of the simulator, as a client's socket meets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio
from trio.testing import memory_stream_pair

from codexrelay.protocol.raw import get_object
from harness.simulator import FAULTS, SimulatedAccount, Simulator
from harness.simulator.accounts import some_accounts
from harness.simulator.faults import INSTEAD, OF_CONNECTIONS, OF_HANDSHAKES, OF_MESSAGES, WITHIN
from tests.fakes.simulated import events_of, raw_request, request, simulated, user

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from harness.simulator import Seen
    from tests.fakes.simulated import SignedIn

_HELLO: Final = request(user("hello"))


def test_a_fault_stands_in_one_table_only() -> None:
    tables = (INSTEAD, WITHIN, OF_MESSAGES, OF_HANDSHAKES, OF_CONNECTIONS)
    names = [name for table in tables for name in table]
    assert len(set(names)) == len(names)
    assert set(names) == FAULTS


async def faulty(fault: str) -> tuple[httpx.Response, Seen]:
    """Return the answer to a request that meets `fault`, and its record."""
    async with simulated(Simulator()) as client:
        client.simulator.queue_faults(fault)
        answer = await client.post(_HELLO)
        return answer, client.simulator.seen[0]


ANSWERS: Final[dict[str, tuple[int, str]]] = {
    "429": (429, "usage_limit_reached"),
    "429short": (429, "usage_limit_reached"),
    "429plain": (429, "rate_limit_exceeded"),
    "no_codex": (429, "usage_not_included"),
    "deactivated": (402, "deactivated_workspace"),
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


async def test_429short_resets_at_a_whole_second_that_has_not_passed() -> None:
    limited, _ = await faulty("429short")
    assert limited.json()["error"]["resets_in_seconds"] in (1, 2)
    assert limited.json()["error"]["resets_at"] == int(limited.headers["x-codex-primary-reset-at"])
    assert limited.headers["x-codex-primary-used-percent"] == "100"


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
    "throttle_event": ["response.in_progress", "response.failed"],
    "eof": ["response.content_part.added", "response.output_text.delta"],
}


@pytest.mark.parametrize(("fault", "names"), STREAMS.items(), ids=STREAMS)
async def test_faults_that_end_a_stream_cleanly(fault: str, names: list[str]) -> None:
    answer, seen = await faulty(fault)
    events = events_of(answer.content)
    assert [event["type"] for event in events][-len(names) :] == names
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (seen.status, seen.finished) == (200, True)


@pytest.mark.parametrize(
    ("fault", "code"),
    [("failed_early", "server_is_overloaded"), ("throttle_event", "rate_limit_exceeded")],
)
async def test_a_failure_before_any_output_has_its_code(fault: str, code: str) -> None:
    answer, _ = await faulty(fault)
    error = get_object(get_object(events_of(answer.content)[-1], "response"), "error")
    assert error["code"] == code
    assert ("Please try again in 2s." in str(error["message"])) is (fault == "throttle_event")


async def test_a_limit_tells_of_the_account_that_asked() -> None:
    accounts = (SimulatedAccount("a", plan="pro"), SimulatedAccount("b", plan="team"))
    async with simulated(Simulator(accounts=accounts)) as client:
        client.simulator.limit("b", after=5, resets_in_s=60)
        client.simulator.queue_faults("limit_event", "429", account="b")
        event = events_of((await client.as_account("b").post(_HELLO)).content)[-1]
        refused = await client.as_account("b").post(_HELLO)
    for error in (get_object(event, "error"), refused.json()["error"]):
        assert error["plan_type"] == "team"
        assert error["resets_in_seconds"] in (59, 60)
    assert get_object(event, "headers")["X-Codex-Plan-Type"] == "team"


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


EARLY: Final = {"drop_early": httpx.RemoteProtocolError, "reset_early": httpx.ReadError}


@pytest.mark.parametrize(("fault", "error"), EARLY.items(), ids=EARLY)
async def test_faults_that_break_the_connection_before_any_header(
    fault: str, error: type[httpx.TransportError]
) -> None:
    async with simulated(Simulator()) as client:
        client.simulator.queue_faults(fault)
        with pytest.raises(error):
            await client.post(_HELLO)
        after = await client.post(_HELLO)
    (seen, _) = client.simulator.seen
    assert (seen.status, seen.fault, seen.finished) == (None, fault, True)
    assert after.status_code == 200


async def test_reset_sending_breaks_the_connection_while_the_body_is_sent() -> None:
    large = request(user("x" * 32_000_000))  # more than the buffers of both sides take
    async with simulated(Simulator(accounts=some_accounts(2))) as client:
        client.simulator.queue_faults("reset_sending", account="sim-1")
        before = await client.as_account("sim-2").post(_HELLO)
        port = httpx.URL(client.simulator.base_url).port
        assert port is not None
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(raw_request(client.simulator, large))
        after = await client.post(_HELLO)
    seen = client.simulator.seen[1]
    assert (seen.account, seen.fault, seen.body) == ("sim-1", "reset_sending", None)
    assert (seen.status, seen.finished) == (None, True)
    assert (before.status_code, after.status_code) == (200, 200)


async def test_reset_sending_in_a_prompt_resets_when_the_request_is_here() -> None:
    async with simulated(Simulator()) as client:
        with pytest.raises(httpx.ReadError):
            await client.post(request(user("[sim fault=reset_sending] go")))


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


async def test_faults_of_an_account_are_met_by_its_own_requests_before_anybodys() -> None:
    async with simulated(Simulator(accounts=some_accounts(2))) as client:
        other = client.as_account("sim-2")
        client.simulator.queue_faults("500")
        client.simulator.queue_faults(
            "503", "429plain", account=client.simulator.account("sim-2").account_id
        )
        answers = [await one.post(_HELLO) for one in (other, client, other, client, other)]
    assert [answer.status_code for answer in answers] == [503, 500, 429, 200, 200]


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
    with pytest.raises(ValueError, match="no account is called 'nobody'"):
        simulator.queue_faults("500", account="nobody")
    assert simulator.next_fault(simulator.account("sim-1")) is None


def streamed(client: SignedIn) -> AbstractAsyncContextManager[httpx.Response]:
    """Send a model request and stream its answer."""
    url = client.simulator.api_base_url + "/responses"
    return client.http.stream("POST", url, json=_HELLO, headers=client.headers)


async def read_into(received: bytearray, answer: httpx.Response) -> None:
    async for block in answer.aiter_raw():
        received += block
