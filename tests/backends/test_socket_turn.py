"""Whole turns over WebSockets: where the ladder leads, and what the client sees of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import trio

from codexrelay.backends.backend import SocketTurn, UpstreamRequest
from codexrelay.backends.codex.backend import CodexBackend
from codexrelay.backends.codex.headers import passed_on
from codexrelay.backends.codex.sockets.pool import open_sockets
from codexrelay.backends.websocket import BROKEN, Refused
from codexrelay.protocol.raw import dump
from codexrelay.protocol.responses_stream import ResponsesStream
from codexrelay.relay.active import ActiveTurns
from codexrelay.relay.budgets import Budgets
from codexrelay.relay.climb import Wish
from codexrelay.relay.instances import Instance, Instances
from codexrelay.relay.leg import Leg
from codexrelay.relay.mover import BodyMover
from codexrelay.relay.reply import StreamedReply
from codexrelay.relay.turn import Ending, Relay, Turn, run_turn
from tests.fakes.client import FakeClient
from tests.fakes.sockets import FakeDial, Peer, as_dial
from tests.fakes.turn_scripts import COMPLETED, CREATED, ITEM, NOW_UNIX_S, TEXT
from tests.fakes.upstream import lending, wall_clock
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from codexrelay.protocol.raw import JsonObject
    from tests.fakes.sockets import Script

BUDGETS = Budgets(connect_s=5, headers_s=20, first_event_s=30, silence_s=40, turn_s=1000)
GOOD = (CREATED, TEXT, ITEM, COMPLETED)
SPENT: JsonObject = {
    "type": "error",
    "status": 429,
    "error": {"type": "usage_limit_reached", "message": "spent", "resets_in_seconds": 3600},
}
UNAUTHORIZED: JsonObject = {"type": "error", "status": 401, "error": {"message": "no"}}
OVERLOADED: JsonObject = {"type": "error", "status": 503, "error": {"message": "busy"}}


def text_of(event: bytes) -> str:
    return event.partition(b"data: ")[2].strip().decode()


def saying(*messages: bytes | JsonObject, then: int | None = None) -> Script:
    """Answer each message with these, the bytes being events; then close with the code."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.message()
            peer.say(*(text_of(m) if isinstance(m, bytes) else m for m in messages))
            if then is not None:
                await trio.sleep(0.1)
                peer.close(then)

    return script


@attrs.define(eq=False)
class Scene:
    fake: FakeDial
    relay: Relay
    posted: list[bytes]

    async def turn(self, client: FakeClient | None = None) -> tuple[Ending, FakeClient]:
        client = client or FakeClient()
        body: JsonObject = {"model": "m", "input": [{"role": "user", "content": "hi"}]}
        socket = SocketTurn(session="s", from_socket=True)

        def request_for(_account_id: str, *, stripped: bool) -> UpstreamRequest:
            return UpstreamRequest(path="/responses", body=dump(body), content=body, socket=socket)

        async def served(_account_id: str, _turn_state: str | None) -> None:
            await trio.lowlevel.checkpoint()

        answer = ResponsesStream(now_unix_s=NOW_UNIX_S, model="m", created_unix_s=int(NOW_UNIX_S))
        leg = Leg(
            request_for=request_for,
            wish=Wish(route=self.relay.instances.members, model="m"),
            reply=StreamedReply(answer),
            passed_on=passed_on,
            served=served,
        )
        return await run_turn(Turn(leg=leg, request_id="req_1"), client, self.relay), client


@asynccontextmanager
async def scene(
    *answers: Script | Refused, accounts: Sequence[str] = ("a",), http: bytes | int = b"".join(GOOD)
) -> AsyncIterator[Scene]:
    fake = FakeDial(list(answers))
    posted: list[bytes] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        posted.append(request.content)
        await trio.lowlevel.checkpoint()
        if isinstance(http, int):
            return httpx.Response(http, json={"error": {"message": "no"}})
        return httpx.Response(200, content=http)

    async with open_sockets(as_dial(fake), block=BUDGETS.block) as sockets:
        backend = CodexBackend(
            transport=httpx.MockTransport(answer),
            base_url=httpx.URL("https://backend.test/codex"),
            connect_s=5.0,
            wall_clock=wall_clock,
            sockets=sockets,
        )
        instance = Instance(lender=lending(*accounts), backend=backend, budgets=BUDGETS)
        relay = Relay(
            instances=Instances((instance,)),
            mover=BodyMover(),
            active=ActiveTurns(),
            keep_alive_s=15.0,
            wall_clock=wall_clock,
        )
        yield Scene(fake, relay, posted)
        assert (sockets.busy, instance.lender.leased, len(relay.active)) == (0, 0, 0)
    assert fake.open == 0


def ends(client: FakeClient) -> list[bytes]:
    names = [line[7:] for line in client.body.split(b"\n") if line.startswith(b"event: ")]
    return [n for n in names if n in (b"response.completed", b"response.failed", b"error")]


@in_virtual_time
async def test_a_turn_over_a_socket_is_served_as_over_http() -> None:
    async with scene(saying(*GOOD)) as it:
        ending, client = await it.turn()
    assert client.body == b"".join(GOOD)
    assert ending.record.tried[0].via == "websocket"
    assert it.posted == []


@in_virtual_time
async def test_a_spent_account_gives_way_to_another_one_unseen() -> None:
    async with scene(saying(SPENT), saying(*GOOD), accounts=("a", "b")) as it:
        ending, client = await it.turn()
    assert client.body == b"".join(GOOD)
    assert [tried.account for tried in ending.record.tried] == ["a", "b"]
    bearers = [dict(handshake.headers)["authorization"] for handshake in it.fake.handshakes]
    assert bearers == ["Bearer access-a", "Bearer access-b"]


@in_virtual_time
async def test_the_handshake_of_a_spent_account_does_too() -> None:
    refused = Refused(status=429, headers={}, body=dump({"error": SPENT["error"]}))
    async with scene(refused, saying(*GOOD), accounts=("a", "b")) as it:
        ending, client = await it.turn()
    assert client.body == b"".join(GOOD)
    assert ending.account_id == "b"


@in_virtual_time
async def test_when_every_account_is_spent_the_client_is_told_so() -> None:
    async with scene(saying(SPENT), saying(SPENT), accounts=("a", "b")) as it:
        ending, client = await it.turn()
    assert client.status == 429
    assert client.json["error"]["type"] == "usage_limit_reached"  # type: ignore[index]
    assert it.posted == []
    assert ending.attempts == 2


@in_virtual_time
async def test_after_two_handshakes_the_turn_goes_over_http() -> None:
    spent = (saying(SPENT), saying(SPENT))
    async with scene(*spent, accounts=("a", "b", "c")) as it:
        ending, client = await it.turn()
    assert client.body == b"".join(GOOD)
    assert [tried.via for tried in ending.record.tried] == ["websocket", "websocket", "http"]
    assert len(it.posted) == 1


@in_virtual_time
async def test_an_overloaded_backend_is_asked_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        peer.say(OVERLOADED)
        await peer.message()
        peer.say(*map(text_of, GOOD))

    async with scene(script) as it:
        ending, client = await it.turn()
    assert client.body == b"".join(GOOD)
    assert (ending.attempts, len(it.fake.handshakes)) == (2, 1)


@pytest.mark.parametrize("code", [BROKEN, 1000, 1011])
@in_virtual_time
async def test_a_break_before_output_is_repeated_once_over_http(code: int) -> None:
    async with scene(saying(CREATED, then=code)) as it:
        ending, client = await it.turn()
    assert client.body == b"".join(GOOD)
    assert [tried.via for tried in ending.record.tried] == ["websocket", "http"]
    assert (len(it.posted), len(it.fake.handshakes)) == (1, 1)


@in_virtual_time
async def test_a_break_before_output_is_not_repeated_twice() -> None:
    async with scene(saying(CREATED, then=1011), http=CREATED) as it:
        _, client = await it.turn()
    assert client.status == 502
    assert len(it.posted) == 1


@pytest.mark.parametrize("code", [BROKEN, 1000, 1009, 1011])
@in_virtual_time
async def test_a_break_after_output_is_one_terminal_event_and_no_second_call(code: int) -> None:
    async with scene(saying(CREATED, TEXT, then=code)) as it:
        _, client = await it.turn()
    assert ends(client) == [b"response.failed"]
    assert client.body.startswith(CREATED + TEXT)
    assert (it.posted, len(it.fake.handshakes)) == ([], 1)


@in_virtual_time
async def test_an_error_message_after_output_is_one_terminal_event_and_no_second_call() -> None:
    async with scene(saying(CREATED, TEXT, SPENT), accounts=("a", "b")) as it:
        _, client = await it.turn()
    assert ends(client) == [b"response.failed"]
    assert (it.posted, len(it.fake.handshakes)) == ([], 1)


@in_virtual_time
async def test_a_peer_that_is_gone_ends_the_turn_before_its_silence_is_over() -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        peer.answers_pings = False
        await trio.sleep(19)  # the first ping comes at 25 s, its answer is due 20 s later
        peer.say(text_of(CREATED), text_of(TEXT))

    async with scene(script) as it:
        _, client = await it.turn()
        assert trio.current_time() == 45.0
    assert ends(client) == [b"response.failed"]


@in_virtual_time
async def test_a_silent_backend_is_given_up_when_the_head_is_due() -> None:
    async with scene(saying()) as it:
        _, client = await it.turn()
        assert trio.current_time() == BUDGETS.headers_s
        assert it.fake.peers[0].was_dropped
    assert ends(client) == [b"response.failed"]
    assert b"upstream_timeout_headers" in client.body
    assert it.posted == []


@in_virtual_time
async def test_a_slow_client_does_not_cost_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        peer.answers_pings = False  # the pong waits behind what the relay does not read
        for event in (CREATED, TEXT, ITEM, COMPLETED):
            peer.say(text_of(event))
            await trio.sleep(0.1)

    async with scene(script) as it:
        ending, client = await it.turn(FakeClient(slow_s=60.0))
    assert ends(client) == [b"response.completed"]
    assert ending.fault is None


@in_virtual_time
async def test_a_client_that_leaves_takes_the_connection_with_it_and_the_next_turn_is_clean() -> (
    None
):
    async with scene(saying(CREATED, TEXT), saying(*GOOD)) as it:
        with trio.move_on_after(10) as scope:
            await it.turn()
        assert scope.cancelled_caught
        assert trio.current_time() == 10
        assert it.fake.peers[0].was_dropped
        _, client = await it.turn()
    assert client.body == b"".join(GOOD)
