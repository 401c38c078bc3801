"""The simulator over WebSockets: the same rules as over HTTP, each event one text message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio_websocket
from trio.testing import memory_stream_pair

from codexrelay.protocol.raw import get_object, get_text
from harness.simulator import SimulatedAccount, Simulator
from harness.simulator.accounts import some_accounts
from harness.simulator.faults import AT_MESSAGES, AT_REQUESTS, OF_CONNECTIONS, WITHIN
from harness.simulator.seen import seen_from
from tests.fakes.simulated import request, signed_in_headers, simulated, user
from tests.fakes.simulated_socket import PATH, Talk, asking, response_id, socket_to
from tests.fakes.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

_HELLO: Final = user("[sim text=Hello there]")
_TOOLS: Final[JsonObject] = {
    "type": "function",
    "name": "exec_command",
    "parameters": {
        "type": "object",
        "properties": {"cmd": {"type": "string"}},
        "required": ["cmd"],
    },
}


def types(events: list[JsonObject]) -> list[str]:
    return [str(event["type"]) for event in events]


def code(event: JsonObject) -> str | None:
    return get_text(get_object(event, "error"), "code")


async def test_the_events_are_those_of_http_behind_the_rate_limits() -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        events = await talk.ask(_HELLO)
    async with simulated(Simulator()) as client:
        over_http = await client.events(request(_HELLO))
    assert types(events) == ["codex.rate_limits", *types(over_http)]
    assert [event["sequence_number"] for event in events[1:]] == list(range(len(over_http)))


@in_virtual_time
async def test_a_conversation_goes_on_with_new_items_only() -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        warm = await talk.ask(generate=False, tools=[_TOOLS])
        first = await talk.ask(
            user("run it"), tools=[_TOOLS], previous_response_id=response_id(warm)
        )
        [call] = [e for e in first if get_object(e, "item").get("type") == "function_call"][-1:]
        output: JsonObject = {
            "type": "function_call_output",
            "call_id": get_object(call, "item")["call_id"],
            "output": "sunny",
        }
        last = await talk.ask(output, tools=[_TOOLS], previous_response_id=response_id(first))
    assert types(warm) == ["response.created", "response.completed"]
    assert "The command printed: sunny" in str(last[-1])
    handshake, *asked = simulator.seen
    assert (handshake.is_handshake, handshake.status, handshake.socket) == (True, 101, 1)
    assert [(seen.method, seen.socket, seen.finished, seen.status) for seen in asked] == [
        ("WS", 1, True, 200)
    ] * 3
    assert [seen.is_warm_up for seen in asked] == [True, False, False]
    assert asked[2].previous_response_id == response_id(first)
    assert asked[2].whole is not None
    kinds = [get_text(item, "type") for item in asked[2].whole["input"]]  # type: ignore[union-attr, arg-type]
    assert kinds == ["message", "reasoning", "function_call", "function_call_output"]
    assert not {"type", "generate", "previous_response_id"} & set(asked[2].whole)
    assert simulator.quota(simulator.accounts[0]).turns == 2


@in_virtual_time
async def test_only_the_latest_response_of_this_connection_can_be_gone_on_from() -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        first = response_id(await talk.ask(_HELLO))
        second = response_id(await talk.ask(_HELLO))
        [not_found] = await talk.ask(_HELLO, previous_response_id=first)
        good = await talk.ask(_HELLO, previous_response_id=second)
    async with socket_to(simulator) as other:
        [elsewhere] = await other.ask(_HELLO, previous_response_id=response_id(good))
        assert types(await other.ask(_HELLO))[-1] == "response.completed"
    for error, missing in ((not_found, first), (elsewhere, response_id(good))):
        assert (error["type"], error["status"]) == ("error", 400)
        assert error["error"] == {
            "message": f"Previous response with id '{missing}' not found.",
            "type": "invalid_request_error",
            "code": "previous_response_not_found",
            "param": "previous_response_id",
        }


@in_virtual_time
async def test_a_failed_turn_costs_the_response_that_it_went_on_from() -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        first = response_id(await talk.ask(_HELLO))
        simulator.queue_faults("503")
        [failed] = await talk.ask(_HELLO, previous_response_id=first)
        [not_found] = await talk.ask(_HELLO, previous_response_id=first)
    assert failed["status"] == 503
    assert code(not_found) == "previous_response_not_found"


@in_virtual_time
@pytest.mark.parametrize(
    ("fault", "status"),
    [("429", 429), ("401", 401), ("400", 400), ("403html", 403), ("500", 500), ("503", 503)],
)
async def test_a_refusal_is_one_message_with_its_status(fault: str, status: int) -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        simulator.queue_faults(fault)
        [error] = await talk.ask(_HELLO)
        after = await talk.ask(_HELLO)
    assert (error["type"], error["status"]) == ("error", status)
    assert "status_code" not in error
    assert get_text(get_object(error, "error"), "message")
    assert ("x-codex-primary-used-percent" in get_object(error, "headers")) is (status == 429)
    assert types(after)[-1] == "response.completed"
    assert [seen.fault for seen in simulator.seen] == [None, fault, None]


@in_virtual_time
@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"type": "response.cancel"}, "Unknown message type: 'response.cancel'"),
        ({**asking(_HELLO), "store": True}, "Store must be set to false"),
        ({**asking(_HELLO), "stream": False}, "Stream must be set to true"),
        ({**asking(_HELLO), "temperature": 1}, "Unsupported parameter: temperature"),
        ({**asking(_HELLO), "input": "hello"}, "Input must be a list"),
        ({**asking(_HELLO), "generate": "no"}, "Generate must be a boolean"),
    ],
)
async def test_what_is_wrong_with_a_message_is_told_and_the_socket_stays(
    message: JsonObject, told: str
) -> None:
    async with socket_to(Simulator()) as talk:
        await talk.send(message)
        [error] = await talk.rest()
        assert (error["status"], get_object(error, "error")["message"]) == (400, told)
        await talk.connection.send_message("{no json")
        [error] = await talk.rest()
        assert error["status"] == 400
        await talk.send({"type": "response.processed", "response_id": "resp_1"})
        assert types(await talk.ask(_HELLO, stream=True))[-1] == "response.completed"


@in_virtual_time
async def test_a_second_message_in_flight_is_refused_and_the_first_goes_on() -> None:
    simulator = Simulator(pace_s=1)
    async with socket_to(simulator) as talk:
        await talk.send(asking(_HELLO))
        await trio.sleep(0.5)
        await talk.send(asking(_HELLO))
        events = await talk.rest()
        refused = events.pop()
        assert (refused["status"], code(refused)) == (400, "response_in_progress")
        assert types(await talk.rest())[-1] == "response.completed"
    assert [seen.status for seen in simulator.seen] == [101, 200, 400]


@in_virtual_time
async def test_a_client_that_leaves_is_noticed_also_while_nothing_is_said() -> None:
    simulator = Simulator(pace_s=100)
    async with socket_to(simulator) as talk:
        await talk.send(asking(_HELLO))
        await trio.sleep(7.5)
    assert simulator.seen[1].left_at_s == 7.5
    assert not simulator.seen[1].finished
    [socket] = simulator.sockets
    assert (socket.closed_at_s, socket.client_code, socket.own_code) == (7.5, None, None)


@in_virtual_time
async def test_a_client_that_leaves_behind_the_terminal_event_has_not_left_early() -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        await talk.ask(_HELLO)
        await talk.connection.aclose(1000)
    assert (simulator.seen[1].left_at_s, simulator.seen[1].finished) == (None, True)
    [socket] = simulator.sockets
    assert (socket.client_code, socket.own_code, simulator.closers) == (1000, 1000, {})


@in_virtual_time
@pytest.mark.parametrize("name", ["1000", "1009", "1011"])
@pytest.mark.parametrize(("where", "before"), [("_early", 1), ("_created", 2), ("", 6)])
async def test_a_close_frame_comes_where_it_was_asked_for(
    name: str, where: str, before: int
) -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        simulator.queue_faults(f"close{name}{where}")
        await talk.send(asking(_HELLO))
        for _ in range(before):
            await talk.next()
        reason = await talk.closed()
        assert reason is not None
        assert reason.code == int(name)
    assert simulator.seen[1].finished


@in_virtual_time
@pytest.mark.parametrize(
    ("fault", "closes_with"),
    [
        ("drop", None),
        ("drop_created", None),
        ("drop_early", None),
        ("reset_early", None),
        ("reset_sending", None),
        ("cut", None),
        ("eof", 1000),
    ],
)
async def test_the_other_breaks_end_the_connection(fault: str, closes_with: int | None) -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        simulator.queue_faults(fault)
        await talk.send(asking(_HELLO))
        reason = await talk.closed()
    frame = None if reason is None or reason.code == 1006 else reason.code
    assert frame == closes_with
    assert (simulator.seen[1].fault, simulator.seen[1].ended) == (fault, True)


@in_virtual_time
@pytest.mark.parametrize("fault", ["hang_early", "hang_first", "hang"])
async def test_pings_are_answered_through_a_silence(fault: str) -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        simulator.queue_faults(fault)
        await talk.send(asking(_HELLO))
        for _ in range(3):
            await trio.sleep(100)
            await talk.connection.ping()
    assert simulator.sockets[0].pings == 3
    assert simulator.seen[1].left_at_s == 300


@in_virtual_time
@pytest.mark.parametrize(("fault", "events"), [("half_open_early", 1), ("half_open", 6)])
async def test_a_half_open_connection_answers_nothing_and_notices_the_end(
    fault: str, events: int
) -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        simulator.queue_faults(fault)
        await talk.send(asking(_HELLO))
        for _ in range(events):
            await talk.next()
        with trio.move_on_after(1000) as waited:
            await talk.connection.ping()
        assert waited.cancelled_caught
    assert simulator.seen[1].left_at_s == 1000


@in_virtual_time
async def test_an_old_connection_takes_no_more_messages() -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        await talk.ask(_HELLO)
        await trio.sleep(3600)
        [limit] = await talk.ask(_HELLO)
        [again] = await talk.ask(_HELLO)
    assert code(limit) == code(again) == "websocket_connection_limit_reached"
    assert limit["status"] == 400


@in_virtual_time
async def test_faults_of_the_connection_come_before_the_message_is_read() -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        first = response_id(await talk.ask(_HELLO))
        simulator.queue_faults("previous_not_found")
        [lost] = await talk.ask(_HELLO, previous_response_id=first)
        assert types(await talk.ask(_HELLO))[-1] == "response.completed"
        simulator.queue_faults("connection_limit")
        [limit] = await talk.ask(_HELLO)
    assert code(lost) == "previous_response_not_found"
    assert code(limit) == "websocket_connection_limit_reached"
    faults = [seen.fault for seen in simulator.seen if seen.fault is not None]
    assert faults == ["previous_not_found", "connection_limit"]


@in_virtual_time
async def test_large_late_and_binary_events() -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        simulator.queue_faults("oversized", "late", "binary")
        large = await talk.ask(_HELLO)
        assert types(large)[-1] == "response.completed"
        assert max(len(str(event)) for event in large) > 4 * 2**20
        assert types(await talk.ask(_HELLO))[-1] == "response.completed"
        await talk.send(asking(_HELLO))
        late = await talk.next()
        assert (late["type"], late["delta"]) == ("response.output_text.delta", "too late")
        messages = [await talk.connection.get_message() for _ in range(6)]
        assert [type(message) for message in messages] == [str] * 5 + [bytes]


@in_virtual_time
async def test_only_text_up_to_sixteen_mebibytes_is_taken() -> None:
    async with socket_to(Simulator()) as talk:
        await talk.connection.send_message(b"{}")
        reason = await talk.closed()
        assert reason is not None
        assert reason.code == 1003
    async with socket_to(Simulator()) as talk:
        await talk.connection.send_message("x" * (16 * 2**20 + 1))
        reason = await talk.closed()
        assert reason is not None
        assert reason.code == 1009


@in_virtual_time
async def test_the_simulator_pings_and_counts_the_pongs() -> None:
    simulator = Simulator(ping_every_s=20)
    async with socket_to(simulator) as talk:
        await trio.sleep(100)
        assert types(await talk.ask(_HELLO))[-1] == "response.completed"
    assert simulator.sockets[0].pongs == 6


@in_virtual_time
async def test_all_sockets_can_be_closed_or_reset_from_outside() -> None:
    simulator = Simulator()
    for code_, told in ((1012, 1012), (None, 1006)):
        async with socket_to(simulator) as talk:
            await talk.ask(_HELLO)
            simulator.close_sockets(code_)
            reason = await talk.closed()
            assert (1006 if reason is None else reason.code) == told
    with pytest.raises(ValueError, match="no code 7"):
        simulator.close_sockets(7)


async def _refused(
    simulator: Simulator, *, account: str | None = None, headers: dict[str, str] | None = None
) -> int:
    """Return the status with which the handshake is refused."""
    status = 0
    try:
        async with socket_to(simulator, account=account, headers=headers):
            status = 101
    except* trio_websocket.ConnectionRejected as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            [error] = error.exceptions
        assert isinstance(error, trio_websocket.ConnectionRejected)
        status = error.status_code
    return status


@in_virtual_time
async def test_bearer_account_and_beta_are_checked_at_the_handshake() -> None:
    simulator = Simulator(accounts=some_accounts(2))
    two = signed_in_headers(simulator, "sim-2")
    assert await _refused(simulator, headers={"authorization": "Bearer nobody"}) == 401
    mixed = {"chatgpt-account-id": two["chatgpt-account-id"]}
    assert await _refused(simulator, headers=mixed) == 403
    assert await _refused(simulator, headers={"openai-beta": "responses=experimental"}) == 400
    simulator.set_condition("sim-1", "unauthorized")
    assert await _refused(simulator) == 401
    simulator.set_condition("sim-1", None)
    async with socket_to(simulator) as talk:
        simulator.expire("sim-1")
        [error] = await talk.ask(_HELLO)
        assert (error["status"], code(error)) == (401, "token_expired")


@in_virtual_time
@pytest.mark.parametrize(
    ("fault", "status"),
    [("upgrade426", 426), ("upgrade404", 404), ("upgrade500", 500), ("upgrade400", 400)],
)
async def test_a_handshake_can_be_refused_while_other_faults_wait(fault: str, status: int) -> None:
    simulator = Simulator()
    simulator.queue_faults("503", fault)
    assert await _refused(simulator) == status
    async with socket_to(simulator) as talk:
        [error] = await talk.ask(_HELLO)
        assert error["status"] == 503
    refused, opened, _ = simulator.seen
    assert (refused.is_handshake, refused.fault, refused.socket) == (True, fault, None)
    assert (opened.fault, opened.socket) == (None, 1)


@in_virtual_time
async def test_without_websockets_every_handshake_is_426() -> None:
    assert await _refused(Simulator(websockets=False)) == 426


@in_virtual_time
async def test_the_handshake_is_answered_as_the_backend_does() -> None:
    simulator = Simulator()
    headers = {"x-codex-turn-state": "mine", "x-codex-routing-hint": "model=gpt-5.5"}
    async with socket_to(simulator, headers=headers) as talk:
        told = {name.decode(): value.decode() for name, value in talk.connection.handshake_headers}
    assert told["x-codex-turn-state"] == "mine"
    assert told["openai-model"] == "gpt-5.5"
    assert told["x-models-etag"] == simulator.models_etag
    assert told["x-reasoning-included"] == "true"
    assert "sec-websocket-extensions" not in told


async def test_what_only_a_websocket_meets_waits_while_http_goes_on() -> None:
    simulator = Simulator(accounts=(SimulatedAccount("a"),))
    simulator.queue_faults("close1011", "503")
    async with simulated(simulator) as client:
        assert (await client.post(request(_HELLO))).status_code == 503
        asked = request(user("[sim fault=close1011][sim text=fine]"))
        assert types(await client.events(asked))[-1] == "response.completed"
    async with socket_to(simulator) as talk:
        await talk.send(asking(_HELLO))
        reason = await talk.closed()
        assert reason is not None
        assert reason.code == 1011


@in_virtual_time
@pytest.mark.parametrize("fault", sorted(AT_MESSAGES - OF_CONNECTIONS))
async def test_no_fault_leaves_anything_running(fault: str) -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        await talk.send(asking(user(f"[sim fault={fault}] hello")))
        with trio.move_on_after(1):
            await talk.closed()
    [_, seen] = simulator.seen
    assert seen.ended
    assert (seen.fault, simulator.closers) == (fault, {})
    assert fault in AT_REQUESTS or seen.is_message


def test_every_fault_within_a_stream_is_one_of_both_transports() -> None:
    assert set(WITHIN) <= AT_REQUESTS


async def test_another_process_can_ask_for_the_sockets_and_close_them() -> None:
    simulator = Simulator()
    async with socket_to(simulator) as talk:
        first = response_id(await talk.ask(_HELLO))
        await talk.ask(_HELLO, previous_response_id=first)
        async with simulated(simulator) as client:
            control = f"{simulator.base_url}/_sim"
            [socket] = (await client.http.get(f"{control}/sockets")).json()
            told = (await client.http.get(f"{control}/seen")).json()
            seen = [seen_from(one) for one in told if "/_sim/" not in one["path"]]
            closed = await client.http.post(f"{control}/close", json={"code": 1001})
            wrong = await client.http.post(f"{control}/close", json={"code": 7})
        reason = await talk.closed()
    assert (socket["number"], socket["asked"], socket["closed_at_s"]) == (1, 2, None)
    assert [(one.transport, one.socket, one.is_handshake) for one in seen] == [
        ("ws", 1, True),
        ("ws", 1, False),
        ("ws", 1, False),
    ]
    assert seen[2].previous_response_id == first
    assert seen[2].request == simulator.seen[2].whole != seen[2].body
    assert (closed.status_code, wrong.status_code) == (200, 400)
    assert reason is not None
    assert reason.code == 1001


@in_virtual_time
async def test_the_tokens_are_those_of_all_messages_that_led_there() -> None:
    async with socket_to(Simulator()) as talk:
        first = await talk.ask(user("[sim text=fine] " + "x" * 40_000))
        second = await talk.ask(user("[sim text=fine]"), previous_response_id=response_id(first))
    usage = get_object(get_object(second[-1], "response"), "usage")
    assert isinstance(usage["input_tokens"], int)
    assert usage["input_tokens"] > 10_000


async def test_it_is_found_below_any_base_url_on_a_socket() -> None:
    simulator = Simulator()
    async with simulated(simulator):
        stream = await trio.open_tcp_stream("127.0.0.1", int(simulator.base_url.rpartition(":")[2]))
        headers = {"openai-beta": "responses_websockets=2026-02-06"}
        headers |= signed_in_headers(simulator, "sim-1")
        async with trio.open_nursery() as nursery:
            connection = await trio_websocket.wrap_client_stream(
                nursery,
                stream,
                "backend",
                "/v1/responses?client_version=1",
                extra_headers=[(k.encode(), v.encode()) for k, v in headers.items()],
            )
            simulator.queue_faults("drop_created")
            await connection.send_message('{"type": "response.processed"}')
            await connection.send_message(
                '{"type":"response.create","model":"gpt-5.5","store":false,"input":[]}'
            )
            await Talk(connection).closed()
            await trio.aclose_forcefully(stream)
    assert simulator.sockets[0].processed == 1
    assert (simulator.seen[-1].fault, simulator.seen[-1].finished) == ("drop_created", True)
    assert simulator.seen[-1].left_at_s is None


@in_virtual_time
async def test_whoever_speaks_no_websocket_is_let_go() -> None:
    simulator = Simulator()
    ours, theirs = memory_stream_pair()
    headers = {
        "openai-beta": "responses_websockets=2026-02-06",
        **signed_in_headers(simulator, "sim-1"),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(simulator.serve_connection, theirs)
        await ours.send_all(
            f"GET {PATH} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            f"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"{lines}\r\n".encode()
            + b"\xff\xff\xff not a frame"
        )
        got = b""
        while data := await ours.receive_some():
            got += data
    assert got.startswith(b"HTTP/1.1 101 ")
    assert not simulator.sockets[0].open
