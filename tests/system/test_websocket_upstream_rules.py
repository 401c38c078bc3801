"""What is promised of the WebSockets to the backend: a whole relay before the simulated backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from codexrelay.protocol.raw import get_list, is_object
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.client_socket import response_id, talking
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.relay import ask, ask_chat, eventually
from tests.fakes.simulated import user
from tests.fakes.wall_clock import WallClock
from tests.system.test_websocket_rules import (
    asked_for,
    ends,
    handshakes,
    posts,
    relay_over,
    text_of,
    turns,
)

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.protocol.raw import Json
    from tests.fakes.relay import LiveRelay
    from tests.system.test_websocket_rules import Mode


def said_in(relay: LiveRelay, number: int = -1) -> list[Json]:
    """Return the input that stood in the message or body itself."""
    body = turns(relay)[number].body
    assert is_object(body)
    return get_list(body, "input")


# --- which turns go over one


@pytest.mark.parametrize(
    ("mode", "over_http", "over_socket"), [("off", "POST", "POST"), ("auto", "POST", "WS")]
)
async def test_off_asks_for_none_and_auto_for_the_turns_of_clients_that_speak_it(
    tmp_path: Path, mode: Mode, over_http: str, over_socket: str
) -> None:
    async with relay_over(mode, tmp_path) as relay:
        assert (await relay.post("/v1/responses", ask())).status_code == 200
        assert (await relay.post("/v1/chat/completions", ask_chat())).status_code == 200
        async with talking(relay) as talk:
            await talk.turn()
        methods = [seen.method for seen in turns(relay)]
        assert methods == [over_http, over_http, over_socket]
        assert len(handshakes(relay)) == (over_socket == "WS")


@pytest.mark.parametrize("stream", [True, False])
async def test_on_takes_one_for_every_turn_chat_and_whole_answers_too(
    tmp_path: Path, *, stream: bool
) -> None:
    async with relay_over("on", tmp_path) as relay:
        for path, body in (
            ("/v1/responses", ask("[sim text=Hello]", stream=stream)),
            ("/v1/chat/completions", ask_chat("[sim text=Hello]", stream=stream)),
        ):
            answer = await relay.post(path, body)
            assert answer.status_code == 200
            assert "Hello" in answer.text
        async with talking(relay) as talk:
            assert text_of(await talk.turn("[sim text=Hello]")) == "Hello"
        assert {seen.method for seen in turns(relay)} == {"WS"}
        assert posts(relay) == []


# --- one connection for each account, bearer and session


async def test_each_session_has_a_connection_of_its_own(tmp_path: Path) -> None:
    async with (
        relay_over("auto", tmp_path) as relay,
        talking(relay, session="a") as one,
        talking(relay, session="b") as other,
    ):
        for _ in range(2):
            await one.turn()
            await other.turn()
        assert [seen.socket for seen in turns(relay)] == [1, 2, 1, 2]


@pytest.mark.parametrize("refreshed", ["when it is refused", "beforehand"])
async def test_a_new_bearer_has_a_new_connection(tmp_path: Path, refreshed: str) -> None:
    clock = WallClock()
    simulator = Simulator(wall_clock=clock)
    [account] = simulator.accounts
    async with relay_over("auto", tmp_path, simulator) as relay, talking(relay) as talk:
        first = response_id(await talk.turn([user("hello")]))
        if refreshed == "beforehand":
            clock.now_unix_s += account.token_lifetime_s - 200.0  # it is still good
        else:
            simulator.expire(account.name)
        messages = await talk.turn([user("on")], previous_response_id=first)
        assert ends(messages) == ["response.completed"]
        bearers = [seen.header("authorization") for seen in handshakes(relay)]
        assert len(set(bearers)) == len(bearers) == 2
        assert len(asked_for(turns(relay)[-1])) == 3


# --- going on


async def test_a_strict_prefix_goes_as_an_id_and_what_is_new(tmp_path: Path) -> None:
    async with relay_over("auto", tmp_path) as relay, talking(relay) as talk:
        messages = await talk.turn([user("hello")])
        first = response_id(messages)
        items = [m["item"] for m in messages if m["type"] == "response.output_item.done"]
        # By the id, and in full: it is the same.
        second = response_id(await talk.turn([user("on")], previous_response_id=first))
        assert (turns(relay)[-1].previous_response_id, said_in(relay)) == (first, [user("on")])
        await talk.turn([user("hello"), *items, user("again")])
        assert turns(relay)[-1].previous_response_id is None, "it is not behind the second answer"
        assert said_in(relay) == [user("hello"), *items, user("again")]
        await talk.turn([user("more")], previous_response_id=second)
        assert turns(relay)[-1].previous_response_id is None
        assert len(said_in(relay)) == 5
        assert len(handshakes(relay)) == 1


@pytest.mark.parametrize("changed", ["history", "instructions", "tools", "reasoning"])
async def test_an_edited_history_and_changed_fields_go_in_full(
    tmp_path: Path, changed: str
) -> None:
    async with relay_over("auto", tmp_path) as relay, talking(relay) as talk:
        messages = await talk.turn([user("hello")])
        items = [m["item"] for m in messages if m["type"] == "response.output_item.done"]
        begin = user("hullo" if changed == "history" else "hello")
        fields: dict[str, Json] = {
            "instructions": {"instructions": "be brief"},
            "tools": {"tools": [{"type": "function", "name": "f", "parameters": {}}]},
            "reasoning": {"reasoning": {"effort": "high"}},
        }.get(changed, {})  # type: ignore[assignment]
        await talk.turn([begin, *items, user("on")], **fields)
        assert turns(relay)[-1].previous_response_id is None
        assert said_in(relay) == [begin, *items, user("on")]
        # And what changes nothing goes on, by what was said in full.
        more = [m["item"] for m in await talk.turn("[sim text=x]") if "item" in m]
        assert more


@pytest.mark.parametrize("fault", ["connection_limit", "previous_not_found"])
async def test_what_the_backend_forgets_is_sent_in_full_over_a_new_connection_unseen(
    tmp_path: Path, fault: str
) -> None:
    async with relay_over("auto", tmp_path) as relay, talking(relay) as talk:
        first = response_id(await talk.turn([user("hello")]))
        relay.simulator.queue_faults(fault)
        messages = await talk.turn([user("on")], previous_response_id=first)
        assert ends(messages) == ["response.completed"]
        assert [m["type"] for m in messages].count("response.created") == 1
        assert [seen.socket for seen in turns(relay)] == [1, 1, 2]
        assert turns(relay)[-1].previous_response_id is None
        assert len(said_in(relay)) == 3
        assert posts(relay) == []


# --- while idle


async def test_a_warm_connection_answers_pings(tmp_path: Path) -> None:
    async with relay_over("auto", tmp_path, Simulator(ping_every_s=0.01)) as relay:
        async with talking(relay) as talk:
            await talk.turn()
            [socket] = relay.simulator.sockets
            known = socket.pongs
            await eventually(lambda: socket.pongs > known + 1)
            await talk.turn()
        assert len(handshakes(relay)) == 1


@pytest.mark.parametrize("code", [1000, 1001, 1012, None])
async def test_a_connection_closed_while_idle_costs_nothing(
    tmp_path: Path, code: int | None
) -> None:
    async with relay_over("auto", tmp_path) as relay, talking(relay) as talk:
        first = response_id(await talk.turn([user("hello")]))
        relay.simulator.close_sockets(code)
        await eventually(lambda: not relay.simulator.sockets[0].open)
        messages = await talk.turn([user("on")], previous_response_id=first)
        assert ends(messages) == ["response.completed"]
        assert [seen.method for seen in turns(relay)] == ["WS", "WS"]
        assert len(said_in(relay)) == 3


# --- falling back


@pytest.mark.parametrize(
    "faults",
    [
        ["upgrade426"],
        ["upgrade400"],
        ["upgrade404"],
        ["upgrade403html"],
        ["upgrade500"],
        ["upgrade503"],
        ["upgrade_drop"],
        ["upgrade_reset"],
        ["close1000_early"],
        ["close1009_early"],
        ["close1011_early"],
        ["close1000_created"],
        ["close1011_created"],
        ["drop_created"],
        ["close1011_created", "upgrade500"],
        ["connection_limit", "connection_limit", "connection_limit"],
        ["connection_limit", "close1011_created"],
    ],
    ids=" ".join,
)
async def test_after_two_handshakes_at_most_a_turn_goes_over_http_unseen(
    tmp_path: Path, faults: list[str]
) -> None:
    async with relay_over("auto", tmp_path) as relay, talking(relay) as talk:
        relay.simulator.queue_faults(*faults)
        messages = await talk.turn("[sim text=Hello]")
        assert ends(messages) == ["response.completed"]
        assert text_of(messages) == "Hello"
        assert [m["type"] for m in messages].count("response.created") == 1
        assert len(handshakes(relay)) <= 2
        assert len(posts(relay)) == 1


async def test_after_426_no_handshake_is_tried_for_a_while(tmp_path: Path) -> None:
    async with relay_over("auto", tmp_path, Simulator(websockets=False)) as relay:
        for session in ("a", "b", "c"):
            async with talking(relay, session=session) as talk:
                assert ends(await talk.turn()) == ["response.completed"]
        assert len(handshakes(relay)) == 1
        assert len(posts(relay)) == 3


async def test_a_handshake_that_is_not_answered_is_given_up(tmp_path: Path) -> None:
    async with relay_over("auto", tmp_path) as relay, talking(relay) as talk:
        relay.simulator.queue_faults("upgrade_hang")
        await talk.create()
        await eventually(lambda: len(handshakes(relay)) == 1)
        await talk.leave()
        await relay.until_left(handshakes(relay)[0])
        await relay.until_at_rest()


@pytest.mark.parametrize("mode", ["off", "auto"])
@pytest.mark.parametrize("fault", ["429", "401", "429plain", "limit_event"])
async def test_a_refusal_before_output_enters_the_same_ladder(
    tmp_path: Path, mode: Mode, fault: str
) -> None:
    simulator = Simulator(accounts=some_accounts(2))
    async with relay_over(mode, tmp_path, simulator) as relay, talking(relay) as talk:
        simulator.queue_faults(fault)
        messages = await talk.turn("[sim text=Hello]")
        assert ends(messages) == ["response.completed"]
        assert text_of(messages) == "Hello"
        [first, second] = turns(relay)
        assert (first.account == second.account) == (fault == "401")
        assert len(relay.refreshes) == (fault == "401")


@pytest.mark.parametrize("fault", ["upgrade401", "upgrade429"])
async def test_so_does_a_refused_handshake_that_is_about_the_account(
    tmp_path: Path, fault: str
) -> None:
    simulator = Simulator(accounts=some_accounts(2))
    async with relay_over("auto", tmp_path, simulator) as relay, talking(relay) as talk:
        simulator.queue_faults(fault)
        assert ends(await talk.turn()) == ["response.completed"]
        one, two = handshakes(relay)
        assert (one.account == two.account) == (fault == "upgrade401")
        assert len(relay.refreshes) == (fault == "upgrade401")


@pytest.mark.parametrize("code", [1000, 1009, 1011])
async def test_a_close_after_output_is_one_terminal_event_and_no_second_call(
    tmp_path: Path, code: int
) -> None:
    async with relay_over("auto", tmp_path) as relay, talking(relay) as talk:
        messages = await talk.turn(f"[sim deltas=3] [sim fault=close{code}]")
        assert ends(messages) == ["response.failed"]
        assert len(turns(relay)) == 1
        assert text_of(await talk.turn("[sim text=good]")) == "good"
        assert turns(relay)[-1].socket != 1


async def test_two_turns_of_a_session_at_once_share_no_connection(tmp_path: Path) -> None:
    async with (
        relay_over("auto", tmp_path) as relay,
        talking(relay) as held,
        talking(relay) as talk,
    ):
        await held.create("[sim fault=hang]")
        await held.until("response.output_text.delta")
        with trio.fail_after(PATIENCE_S):
            assert text_of(await talk.turn("[sim text=beside]")) == "beside"
        one, two = turns(relay)
        assert one.socket != two.socket
        await held.leave()
        await relay.until_left(one)
