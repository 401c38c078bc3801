"""How the simulator treats connections: pace, clients that leave, many at once, a clean end."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

import pytest
import trio
from trio.testing import memory_stream_pair

from harness.simulator import Simulator
from tests.fakes.simulated import raw_request, request, simulated, user

if TYPE_CHECKING:
    from harness.simulator import Seen

_HELLO: Final = request(user("hello"))
_FIFTY: Final = request(user("[sim deltas=50] go"))
_END_OF_BODY: Final = b"0\r\n\r\n"


async def read_answer(stream: trio.abc.ReceiveStream) -> bytes:
    """Read one answer that is sent in chunks."""
    received = bytearray()
    while not received.endswith(_END_OF_BODY):
        block = await stream.receive_some()
        assert block, "closed in the middle of an answer"
        received += block
    return bytes(received)


async def test_deltas_are_paced(autojump_clock: trio.testing.MockClock) -> None:
    simulator = Simulator(pace_s=0.02)
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(simulator.serve_connection, theirs)
        await ours.send_all(raw_request(simulator, _FIFTY))
        await read_answer(ours)
        assert trio.current_time() == pytest.approx(50 * 0.02)
        await ours.aclose()
    assert autojump_clock.autojump_threshold == 0


async def test_a_client_that_leaves_is_noticed_between_two_deltas(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ended: list[Seen] = []
    simulator = Simulator(pace_s=1.0, on_ended=ended.append)
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(simulator.serve_connection, theirs)
        await ours.send_all(raw_request(simulator, _FIFTY))
        await trio.sleep(10.5)
        await ours.aclose()
    (seen,) = simulator.seen
    assert (seen.left_at_s, seen.finished) == (10.5, False)
    assert trio.current_time() == 10.5
    assert ended == [seen]
    assert autojump_clock.autojump_threshold == 0


async def test_a_client_that_leaves_after_the_last_byte_has_not_left_early() -> None:
    async with simulated(Simulator()) as client:
        for _ in range(20):
            stream = await trio.open_tcp_stream("127.0.0.1", port_of(client.simulator))
            async with stream:
                await stream.send_all(raw_request(client.simulator, _HELLO))
                await read_answer(stream)
        await client.simulator.wait_until(lambda: all(seen.ended for seen in client.simulator.seen))
    assert [seen.left_at_s for seen in client.simulator.seen] == [None] * 20


async def test_a_client_that_stops_reading_holds_the_answer_up_and_may_leave() -> None:
    flood = request(user("[sim deltas=200000] go"))
    async with simulated(Simulator()) as client:
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(client.simulator))
        async with stream:
            await stream.send_all(raw_request(client.simulator, flood))
            await stream.receive_some(1)
        await client.simulator.wait_until(lambda: client.simulator.seen[0].ended)
    assert not client.simulator.seen[0].finished


async def test_a_connection_serves_request_after_request_also_sent_ahead() -> None:
    simulator = Simulator()
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(simulator.serve_connection, theirs)
        await ours.send_all(raw_request(simulator, _HELLO) * 2)
        received = b""
        while received.count(_END_OF_BODY) < 2:
            received += await ours.receive_some()
        await ours.send_all(raw_request(simulator, _HELLO))
        await read_answer(ours)
        await ours.aclose()
    assert [seen.finished for seen in simulator.seen] == [True] * 3


async def test_a_client_that_waits_for_100_continue_is_invited() -> None:
    simulator = Simulator()
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(simulator.serve_connection, theirs)
        head, blank, body = raw_request(simulator, _HELLO).partition(b"\r\n\r\n")
        await ours.send_all(head + b"\r\nexpect: 100-continue" + blank)
        assert (await ours.receive_some()).startswith(b"HTTP/1.1 100 ")
        await ours.send_all(body)
        assert (await read_answer(ours)).startswith(b"HTTP/1.1 200 ")
        await ours.aclose()


@pytest.mark.parametrize(
    "sent", [b"", b"POST /responses HTTP/1.1\r\n", b"\x16\x03\x01 hello\r\n\r\n"]
)
async def test_whoever_sends_no_whole_request_is_let_go(sent: bytes) -> None:
    simulator = Simulator()
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(simulator.serve_connection, theirs)
        await ours.send_all(sent)
        await ours.send_eof()
    assert simulator.seen == []


async def test_many_clients_are_served_at_once() -> None:
    async with simulated(Simulator()) as client:

        async def ask() -> None:
            stream = await trio.open_tcp_stream("127.0.0.1", port_of(client.simulator))
            async with stream:
                await stream.send_all(raw_request(client.simulator, _HELLO))
                await read_answer(stream)

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(ask)
    assert [seen.finished for seen in client.simulator.seen] == [True] * 100


async def test_cancelling_leaves_no_task_and_no_listener() -> None:
    tasks_before = trio.lowlevel.current_statistics().tasks_living
    simulator = Simulator()
    simulator.queue_faults("hang")
    async with trio.open_nursery() as nursery:
        await nursery.start(simulator.serve)
        async with await trio.open_tcp_stream("127.0.0.1", port_of(simulator)) as stream:
            await stream.send_all(raw_request(simulator, _HELLO))
            with trio.fail_after(60):
                await simulator.wait_until(
                    lambda: bool(simulator.seen) and simulator.seen[0].status == 200
                )
            nursery.cancel_scope.cancel()
    assert trio.lowlevel.current_statistics().tasks_living == tasks_before
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", port_of(simulator)))


def test_there_is_no_base_url_before_it_serves() -> None:
    with pytest.raises(RuntimeError, match="does not serve yet"):
        _ = Simulator().base_url


async def test_urls_are_those_a_relay_is_configured_with() -> None:
    async with simulated(Simulator()) as client:
        base_url = client.simulator.base_url
        assert base_url == f"http://127.0.0.1:{port_of(client.simulator)}"
        assert client.simulator.api_base_url == f"{base_url}/backend-api/codex"
        assert client.simulator.issuer_url == base_url


def port_of(simulator: Simulator) -> int:
    return int(simulator.base_url.rpartition(":")[2])
