"""Listening, and stopping: the whole server at real sockets."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing
from quart import Response

from codexrelay.errors import ConfigError
from codexrelay.server import listen
from codexrelay.server.asgi import ClientSender, DeliveredResponse, RelayApp
from codexrelay.server.drain import Drain
from tests.fakes.live_server import PATIENCE_S, serving
from tests.fakes.virtual_time import in_virtual_time


@pytest.fixture
def app() -> RelayApp:
    app = RelayApp(__name__)
    app.gate, app.reached, app.cancelled = trio.Event(), trio.Event(), trio.Event()

    @app.get("/small")
    async def small() -> Response:
        return Response(b"ok")

    @app.get("/gate")
    async def gate() -> DeliveredResponse:
        async def deliver(client: ClientSender) -> None:
            try:
                app.reached.set()
                await app.gate.wait()
                await client.start(200, [(b"content-length", b"2")])
                await client.send(b"ok")
                await client.end()
            except trio.Cancelled:
                app.cancelled.set()
                raise

        return DeliveredResponse(deliver)

    @app.post("/early")
    async def early() -> DeliveredResponse:
        async def deliver(client: ClientSender) -> None:
            await client.start(413, [(b"content-length", b"2")])
            app.reached.set()
            await app.gate.wait()
            await client.send(b"ok")
            await client.end()

        return DeliveredResponse(deliver)

    @app.get("/flood")
    async def flood() -> DeliveredResponse:
        async def deliver(client: ClientSender) -> None:
            await client.start(200, [])
            app.reached.set()
            while True:
                await client.send(b"y" * 65536)

        return DeliveredResponse(deliver)

    return app


async def test_an_idle_connection_is_closed_at_once_when_the_drain_begins(app: RelayApp) -> None:
    async with serving(app, grace_s=1000) as server, server.connect() as client:
        await client.get("/small")
        await client.receive_response()
        server.drain.begin()
        assert await client.receive_rest() == b""
        await server.wait_returned()


async def test_a_connection_that_was_never_used_is_closed_at_once(app: RelayApp) -> None:
    async with serving(app, grace_s=1000) as server, server.connect() as client:
        server.drain.begin()
        assert await client.receive_rest() == b""
        await server.wait_returned()


async def test_a_client_that_keeps_its_side_open_does_not_hold_the_server_up(
    app: RelayApp,
) -> None:
    async with serving(app, grace_s=1000) as server, server.connect() as client:
        await client.get("/small")
        await client.receive_response()
        server.drain.begin()
        await server.wait_returned()


async def test_a_running_request_ends_in_peace_and_announces_the_close(app: RelayApp) -> None:
    async with serving(app, grace_s=1000) as server, server.connect() as client:
        await client.get("/gate")
        await app.reached.wait()
        server.drain.begin()
        assert server.drain.draining
        app.gate.set()
        answer = await client.receive_rest()
        await server.wait_returned()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close\r\n" in answer.lower()
    assert answer.endswith(b"\r\n\r\nok")
    assert not server.drain.expired.is_set()
    assert server.drain.ended.is_set()


async def test_an_answer_that_has_begun_before_its_request_was_complete_ends_in_peace(
    app: RelayApp,
) -> None:
    async with serving(app, grace_s=1000) as server, server.connect() as client:
        await client.send(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        await app.reached.wait()
        server.drain.begin()
        app.gate.set()
        assert await client.receive_response() == (413, b"ok")


async def test_nobody_is_accepted_while_draining(app: RelayApp) -> None:
    async with serving(app, grace_s=1000) as server, server.connect() as client:
        await client.get("/gate")
        await app.reached.wait()
        server.drain.begin()
        await trio.testing.wait_all_tasks_blocked()  # the accepting task has had its turn
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", server.port)
        app.gate.set()


async def test_requests_pipelined_behind_the_running_one_do_not_hold_the_server_up(
    app: RelayApp,
) -> None:
    async with serving(app, grace_s=1000) as server, server.connect() as client:
        await client.get("/gate")
        await client.get("/gate")
        await app.reached.wait()
        server.drain.begin()
        app.gate.set()
        assert (await client.receive_rest()).count(b"HTTP/1.1 200 ") == 1
    await server.wait_returned()


async def test_turns_are_told_when_the_grace_is_over(app: RelayApp) -> None:
    async with serving(app, grace_s=0.01) as server, server.connect() as client:
        await client.get("/gate")
        await app.reached.wait()
        server.drain.begin()
        with trio.fail_after(PATIENCE_S):
            await server.drain.expired.wait()
        app.gate.set()  # what a turn does when it is told
        assert (await client.receive_rest()).endswith(b"ok")
        await server.wait_returned()


@pytest.mark.parametrize("path", ["/gate", "/flood"], ids=["silent", "stalled by its client"])
async def test_a_cancelled_server_is_gone_at_once(app: RelayApp, path: str) -> None:
    async with serving(app, grace_s=1000) as server, server.connect() as client:
        await client.get(path)
        await app.reached.wait()
        await trio.sleep(0.05)  # the flood has filled the kernel's buffers
        server.scope.cancel()
        await server.wait_returned()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_the_server_speaks_ipv6(app: RelayApp) -> None:
    async with serving(app, host="::1") as server:
        assert server.url.startswith("http://[::1]:")
        async with await trio.open_tcp_stream("::1", server.port) as stream:
            await stream.send_all(b"GET /small HTTP/1.1\r\nHost: [::1]\r\n\r\n")
            with trio.fail_after(PATIENCE_S):
                assert (await stream.receive_some(12)) == b"HTTP/1.1 200"


async def test_a_port_in_use_is_a_problem_of_the_configuration(app: RelayApp) -> None:
    async with serving(app) as server:
        with pytest.raises(ConfigError) as caught:
            await listen.serve(app, host="127.0.0.1", port=server.port, drain=Drain(grace_s=0))
    (problem,) = caught.value.problems
    assert problem.where == "server.port"
    assert f"port {server.port} on 127.0.0.1 is in use" in problem.what
    assert "set another port" in problem.what


@pytest.mark.parametrize("host", ["192.0.2.1", "not a host"])
async def test_an_address_of_nobody_is_a_problem_of_the_configuration(
    app: RelayApp, host: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        await listen.serve(app, host=host, port=0, drain=Drain(grace_s=0))
    (problem,) = caught.value.problems
    assert problem.where == "server.host"
    assert repr(host) in problem.what


async def test_the_application_is_started_and_stopped() -> None:
    app, story = RelayApp(__name__), []

    @app.before_serving
    async def started() -> None:
        story.append("started")

    @app.after_serving
    async def stopped() -> None:
        story.append("stopped")

    async with serving(app):
        assert story == ["started"]
    assert story == ["started", "stopped"]


# --- the timetable alone, in virtual time ---------------------------------------------------------


class Connection:
    """Implements `drain.Drainable`: writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def close_if_idle(self) -> None:
        self.told.append(("close", trio.current_time()))

    def cut(self) -> None:
        self.told.append(("cut", trio.current_time()))


@in_virtual_time
async def test_the_grace_then_the_finish_then_the_cut() -> None:
    drain, connection = Drain(grace_s=20, finish_s=5), Connection()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain.see_out)
        with drain.holds(connection):
            await trio.sleep(1000)
            drain.begin()
            await drain.expired.wait()
            assert trio.current_time() == pytest.approx(1020)
            await trio.sleep(6)
    assert connection.told == [
        ("close", pytest.approx(1000)),
        ("cut", pytest.approx(1025)),
    ]


async def test_a_connection_accepted_in_the_last_moment_is_told_at_once() -> None:
    drain, connection = Drain(grace_s=20), Connection()
    drain.begin()
    with drain.holds(connection):
        assert [what for what, _ in connection.told] == ["close"]


@in_virtual_time
async def test_what_is_cancelled_with_the_server_is_cut() -> None:
    drain, connection = Drain(grace_s=20), Connection()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain.see_out)
        with drain.holds(connection):
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
    assert [what for what, _ in connection.told] == ["cut"]
