"""One attempt over a WebSocket: what goes up, what comes back, and when it goes over HTTP."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import pytest
import trio
import trio.testing

from codexrelay.backends.backend import Head, SocketTurn, UpstreamRequest
from codexrelay.backends.codex.backend import CodexBackend
from codexrelay.backends.codex.headers import request_headers
from codexrelay.backends.codex.sockets import pool as pools
from codexrelay.backends.codex.sockets.attempt import MAX_MESSAGE_BYTES
from codexrelay.backends.codex.sockets.connection import MAX_AGE_S
from codexrelay.backends.codex.sockets.pool import Sockets, open_sockets
from codexrelay.backends.websocket import BROKEN, Refused, Unreachable
from codexrelay.protocol import frames
from codexrelay.protocol.faults import Fault, FaultKind, Reached
from codexrelay.protocol.raw import JsonObject, dump, get_list
from tests.fakes.cancel_at_step import CancelAtStep
from tests.fakes.sockets import FOREVER, FakeDial, Peer, as_dial
from tests.fakes.tokens import an_account
from tests.fakes.virtual_time import in_virtual_time
from tests.fakes.wall_clock import NOW_UNIX_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from codexrelay.backends.backend import Attempt
    from codexrelay.protocol.raw import Json
    from tests.fakes.sockets import Script

USER: Final[JsonObject] = {"type": "message", "role": "user", "content": "hi"}
ANSWER: Final[JsonObject] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "hello", "annotations": []}],
}
CREATED: Final[JsonObject] = {"type": "response.created", "response": {"id": "resp_1"}}
DELTA: Final[JsonObject] = {"type": "response.output_text.delta", "delta": "hello"}
ITEM: Final[JsonObject] = {"type": "response.output_item.done", "item": ANSWER}
COMPLETED: Final[JsonObject] = {"type": "response.completed", "response": {"id": "resp_1"}}
LIMITS: Final[JsonObject] = {"type": "codex.rate_limits", "rate_limits": {}}
TURN: Final = (CREATED, DELTA, ITEM, COMPLETED)
CONNECTION_LIMIT: Final[JsonObject] = {
    "type": "error",
    "status": 400,
    "error": {"code": "websocket_connection_limit_reached", "message": "60 minutes"},
}
NOT_FOUND: Final[JsonObject] = {
    "type": "error",
    "status": 400,
    "error": {"code": "previous_response_not_found", "message": "not found"},
}
USAGE_LIMIT: Final[JsonObject] = {
    "type": "error",
    "status": 429,
    "error": {"type": "usage_limit_reached", "message": "spent", "resets_in_seconds": 60},
    "headers": {"x-codex-primary-used-percent": "100"},
}
OVER_HTTP: Final = b"data: over http\n\n"


def event(message: JsonObject) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (str(message["type"]).encode(), dump(message))


def named(response_id: str, *messages: JsonObject) -> tuple[JsonObject, ...]:
    """Return messages whose response has another id."""
    return tuple({**m, "response": {"id": response_id}} if "response" in m else m for m in messages)


def saying(*messages: JsonObject) -> Script:
    """Answer every message with the same ones."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.message()
            peer.say(*messages)

    return script


def saying_in_turn(*answers: tuple[JsonObject, ...] | int) -> Script:
    """Answer each message with the next ones; a number closes with that code."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.message()
            if isinstance(answer, int):
                peer.close(answer, "so it is")
            else:
                peer.say(*answer)

    return script


async def silent(peer: Peer) -> None:
    await trio.lowlevel.checkpoint()


@attrs.define(eq=False)
class Scene:
    fake: FakeDial
    sockets: Sockets
    backend: CodexBackend
    #: What went over HTTP.
    posted: list[JsonObject]

    def request(
        self, *items: Json, turn: SocketTurn | None = None, **fields: Json
    ) -> tuple[UpstreamRequest, SocketTurn]:
        turn = turn or SocketTurn(session="s", from_socket=True)
        body: JsonObject = {"model": "m", "input": list(items) or [USER], "stream": True, **fields}
        headers = request_headers(
            {}, session_id="id-1", turn_state=None, accept="text/event-stream"
        )
        request = UpstreamRequest(
            path="/responses", body=dump(body), content=body, headers=headers, socket=turn
        )
        return request, turn

    @asynccontextmanager
    async def attempting(
        self,
        *items: Json,
        turn: SocketTurn | None = None,
        token: str = "access-1",
        account: str = "work",
        **fields: Json,
    ) -> AsyncIterator[Attempt]:
        request, _ = self.request(*items, turn=turn, **fields)
        async with self.backend.attempt(request, an_account(account, token=token)) as attempt:
            yield attempt

    async def ask(self, *items: Json, **more: object) -> Outcome:
        """Ask, and read to the end or to a fault."""
        turn = more.get("turn") or SocketTurn(session="s", from_socket=True)
        more["turn"] = turn
        async with self.attempting(*items, **more) as attempt:  # type: ignore[arg-type]
            head = await attempt.send()
            outcome = Outcome(head, turn)  # type: ignore[arg-type]
            if isinstance(head, Head):
                while isinstance(got := await attempt.receive(), bytes) and got:
                    outcome.blocks.append(got)
                if isinstance(got, Fault):
                    outcome.fault = got
            outcome.reached = attempt.reached
            return outcome


@attrs.define
class Outcome:
    head: Head | Fault
    turn: SocketTurn
    blocks: list[bytes] = attrs.field(factory=list)
    fault: Fault | None = None
    reached: Reached = Reached.NOT_SENT

    @property
    def body(self) -> bytes:
        return b"".join(self.blocks)


@asynccontextmanager
async def scene(
    *answers: Script | Refused | Unreachable,
    takes_s: float = 0.0,
    slow_s: float = 0.0,
    headers: dict[str, str] | None = None,
    **backend: object,
) -> AsyncIterator[Scene]:
    """Give a backend; at the end no connection may be left that was not idle."""
    fake = FakeDial(list(answers), headers=headers or {}, takes_s=takes_s, slow_s=slow_s)
    posted: list[JsonObject] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        posted.append(json.loads(request.content))
        await trio.lowlevel.checkpoint()
        return httpx.Response(200, content=OVER_HTTP, headers={"x-http": "1"})

    async with open_sockets(as_dial(fake), block="backends.openai_codex") as sockets:
        made = CodexBackend(
            transport=httpx.MockTransport(answer),
            base_url=httpx.URL("https://backend.test/codex"),
            connect_s=5.0,
            wall_clock=lambda: NOW_UNIX_S,
            sockets=sockets,
            **backend,  # type: ignore[arg-type]
        )
        yield Scene(fake, sockets, made, posted)
        assert sockets.busy == 0
    assert fake.open == 0
    assert all(peer.left.is_set() for peer in fake.peers)


# What goes up, and what comes back.


@in_virtual_time
async def test_each_message_is_one_event_and_the_text_is_unchanged() -> None:
    async with scene(saying(LIMITS, *TURN), headers={"x-codex-turn-state": "t"}) as it:
        outcome = await it.ask()
    assert outcome.head == Head(status=200, headers={"x-codex-turn-state": "t"})
    assert outcome.body == b"".join(map(event, (LIMITS, *TURN)))
    assert len(outcome.blocks) == 1, "what is there comes in one block"
    assert (outcome.turn.via, outcome.reached) == ("websocket", Reached.SENT)
    assert it.posted == []


@in_virtual_time
async def test_the_message_is_the_body_of_the_same_request_over_http() -> None:
    async with scene(saying(*TURN)) as it:
        await it.ask(USER, tools=[{"type": "function", "name": "f"}], store=False)
    assert it.fake.asked == [
        {
            "type": "response.create",
            "model": "m",
            "input": [USER],
            "stream": True,
            "tools": [{"type": "function", "name": "f"}],
            "store": False,
        }
    ]


@in_virtual_time
async def test_the_handshake_has_the_headers_of_codex_in_its_order() -> None:
    async with scene(saying(*TURN)) as it:
        await it.ask()
    (handshake,) = it.fake.handshakes
    assert str(handshake.url) == "https://backend.test/codex/responses"
    assert handshake.within_s == 5.0
    assert [name for name, _ in handshake.headers] == [
        "chatgpt-account-id",
        "authorization",
        "user-agent",
        "originator",
        "openai-beta",
        "version",
        "x-codex-beta-features",
        "x-client-request-id",
        "session-id",
        "thread-id",
    ]
    assert dict(handshake.headers)["openai-beta"] == "responses_websockets=2026-02-06"
    assert dict(handshake.headers)["authorization"] == "Bearer access-1"


@in_virtual_time
async def test_a_lite_model_is_named_in_the_metadata_and_not_in_the_handshake() -> None:
    lite = "x-openai-internal-codex-responses-lite"
    async with scene(saying(*TURN)) as it:
        request, _ = it.request()
        request = attrs.evolve(request, headers=(*request.headers, (lite, "true")))
        async with it.backend.attempt(request, an_account()) as attempt:
            await attempt.send()
            assert await attempt.receive()
    assert lite not in dict(it.fake.handshakes[0].headers)
    key = "ws_request_header_x_openai_internal_codex_responses_lite"
    assert it.fake.asked[0]["client_metadata"] == {key: "true"}


@pytest.mark.parametrize(
    ("identity", "metadata", "expected"),
    [
        ("codex", {"a": "b"}, {"a": "b", "x-codex-ws-stream-request-start-ms": "1000000000"}),
        ("relay", {"a": "b"}, {"a": "b"}),
        ("codex", None, None),
    ],
    ids=["under the name of codex", "under the relay's name", "no metadata"],
)
@in_virtual_time
async def test_the_start_is_told_as_codex_tells_it(
    identity: str, metadata: JsonObject | None, expected: JsonObject | None
) -> None:
    given = {} if metadata is None else {"client_metadata": metadata}
    async with scene(saying(*TURN), identity=identity) as it:
        it.backend = attrs.evolve(it.backend, wall_clock=lambda: 1_000_000.0)
        await it.ask(USER, **given)
    assert it.fake.asked[0].get("client_metadata") == expected


@pytest.mark.parametrize("name", ["completed", "incomplete", "failed", "done"])
@in_virtual_time
async def test_a_terminal_event_ends_the_answer_and_frees_the_connection(name: str) -> None:
    end: JsonObject = {"type": f"response.{name}", "response": {"id": "resp_1"}}
    async with scene(saying(CREATED, DELTA, end, DELTA)) as it, it.attempting() as attempt:
        await attempt.send()
        assert await attempt.receive() == b"".join(map(event, (CREATED, DELTA, end)))
        assert it.sockets.idle == 1, "free before the end is read"
        again = await it.ask()
        assert again.head == Head(status=200, headers={})
        assert await attempt.receive() == b""
    assert len(it.fake.handshakes) == 1


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize(
    "end",
    [
        {"type": "error", "error": {"code": "boom", "message": "no"}},
        {"type": "response.cancelled", "response": {"id": "resp_1"}},
    ],
    ids=["error without status", "cancelled"],
)
@in_virtual_time
async def test_an_end_behind_which_more_may_come_ends_the_answer_and_the_connection(
    end: JsonObject, *, begun: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        peer.say(*([CREATED] if begun else []), end)
        await trio.sleep(0.1)
        peer.say({"type": "response.failed", "response": {"id": "resp_1"}})

    async with scene(script, saying(*TURN)) as it:
        outcome = await it.ask()
        assert (it.sockets.idle, it.fake.peers[0].was_dropped) == (0, True)
        assert (await it.ask()).body == b"".join(map(event, TURN))
    assert outcome.body == (event(CREATED) if begun else b"") + event(end)
    assert outcome.fault is None
    assert it.posted == []


@in_virtual_time
async def test_a_warm_connection_tells_of_its_handshake_only_what_lasts() -> None:
    told = {
        "x-reasoning-included": "true",
        "x-codex-turn-state": "t",
        "x-codex-primary-used-percent": "7",
        "openai-model": "m",
    }
    async with scene(saying(*TURN), headers=told) as it:
        assert (await it.ask()).head == Head(status=200, headers=told)
        warm = (await it.ask()).head
    assert warm == Head(status=200, headers={"x-reasoning-included": "true"})


_OTHER: Final[JsonObject] = {"type": "response.function_call_arguments.delta", "delta": "{"}


@pytest.mark.parametrize(
    "said",
    [
        [DELTA] * 3,
        [DELTA, _OTHER, DELTA],
        [_OTHER, '{"type": "response.output_text.delta", "delta": "ü"}', _OTHER],
        [DELTA, '{"delta":"a","type":"response.output_text.delta"}'],
        [DELTA, '{"type":"response.output_text.delta",\r\n"delta":"a"}', DELTA],
        ['{"type":"response.output_text.delta",\n"delta":"a"}'],
        ['{"type":"response.output_text.delta.but.another"}', LIMITS, _OTHER],
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
@in_virtual_time
async def test_a_run_of_deltas_is_told_as_each_of_them_is(
    said: list[JsonObject | str], *, at_once: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        peer.say(CREATED)
        await trio.sleep(1)
        for message in said:
            peer.say(message)
            await trio.sleep(0 if at_once else 1)
        await trio.sleep(1)
        peer.say(COMPLETED)

    async with scene(script) as it:
        outcome = await it.ask()
    texts = [m.encode() if isinstance(m, str) else dump(m) for m in (CREATED, *said, COMPLETED)]
    assert outcome.body == b"".join(map(frames.as_event, texts))


@in_virtual_time
async def test_a_binary_message_behind_deltas_is_no_delta() -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        peer.say(CREATED)
        await trio.sleep(1)
        peer.say(DELTA, DELTA, b'{"type":"response.output_text.delta"')

    async with scene(script) as it:
        outcome = await it.ask()
    assert outcome.body == event(CREATED) + event(DELTA) * 2
    assert outcome.fault is not None


@in_virtual_time
async def test_large_and_broken_up_texts_come_through() -> None:
    big = {"type": "response.output_text.delta", "delta": "x" * 5_000_000}
    lines = '{"type":"response.output_text.delta",\n"delta":"a"}'

    async def script(peer: Peer) -> None:
        await peer.message()
        peer.say(CREATED, big, lines, COMPLETED)

    async with scene(script) as it:
        outcome = await it.ask()
    assert event(big) in outcome.body
    assert b'data: {"type":"response.output_text.delta",\ndata: "delta":"a"}\n\n' in outcome.body


@in_virtual_time
async def test_a_binary_message_is_a_fault_and_the_connection_goes() -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        peer.say(CREATED, b"\x00")

    async with scene(script) as it:
        outcome = await it.ask()
        assert it.sockets.idle == 0
    assert outcome.fault is not None
    assert (outcome.body, outcome.fault.kind) == (event(CREATED), FaultKind.BROKEN)
    assert outcome.fault.reached is Reached.SENT


# Turns never mix.


@in_virtual_time
async def test_what_comes_while_no_turn_runs_is_dropped() -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        peer.say(*TURN)
        await trio.sleep(1)
        peer.say(DELTA, COMPLETED)
        await peer.message()
        peer.say(*named("resp_2", *TURN))

    async with scene(script) as it:
        await it.ask()
        await trio.sleep(2)
        outcome = await it.ask()
    assert outcome.body == b"".join(map(event, named("resp_2", *TURN)))


@in_virtual_time
async def test_late_events_of_the_turn_before_are_dropped_until_the_response_begins() -> None:
    second = named("resp_2", LIMITS, *TURN)
    async with scene(saying_in_turn(TURN, (DELTA, COMPLETED, *second))) as it:
        await it.ask()
        outcome = await it.ask()
    assert outcome.body == b"".join(map(event, second))


@in_virtual_time
async def test_a_failure_without_a_beginning_is_the_turns_own() -> None:
    failed: JsonObject = {"type": "response.failed", "response": {"id": "resp_2"}}
    async with scene(saying_in_turn(TURN, (failed,))) as it:
        await it.ask()
        outcome = await it.ask()
    assert outcome.body == event(failed)


@in_virtual_time
async def test_another_turn_of_the_session_goes_over_http_meanwhile() -> None:
    async with scene(saying_in_turn((CREATED,))) as it, it.attempting() as first:
        await first.send()
        outcome = await it.ask()
        assert (outcome.body, outcome.turn.via) == (OVER_HTTP, "http")
    assert len(it.fake.handshakes) == 1


@in_virtual_time
async def test_each_account_and_each_session_has_a_connection_of_its_own() -> None:
    async with scene(saying(*TURN), saying(*TURN), saying(*TURN)) as it:
        await it.ask()
        await it.ask(account="other")
        await it.ask(turn=SocketTurn(session="t", from_socket=True))
        assert it.sockets.idle == 3
    assert len(it.fake.handshakes) == 3


@in_virtual_time
async def test_a_burst_of_turns_goes_over_to_a_new_connection_when_the_old_one_is_too_old() -> None:
    async with scene(saying(*TURN), saying(*TURN)) as it:
        items: list[Json] = [USER]
        for _ in range(40):
            outcome = await it.ask(*items)
            assert outcome.body == b"".join(map(event, TURN))
            items += [SAID, NEXT]
            await trio.sleep(MAX_AGE_S / 30)
        first, second = it.fake.peers
        assert (len(first.asked), len(second.asked)) == (30, 10)
        assert first.closed_by_relay == 1000
    # Only what is new, but for the first of each.
    sent = [len(get_list(asked, "input")) for asked in it.fake.asked]
    assert sent == [1, *[1] * 29, 61, *[1] * 9]


@in_virtual_time
async def test_the_state_of_a_turn_goes_into_the_handshake() -> None:
    async with scene(saying(*TURN)) as it:
        request, _ = it.request()
        request = attrs.evolve(request, headers=(*request.headers, ("x-codex-turn-state", "t")))
        async with it.backend.attempt(request, an_account()) as attempt:
            await attempt.send()
            assert await attempt.receive()
    assert dict(it.fake.handshakes[0].headers)["x-codex-turn-state"] == "t"


@in_virtual_time
async def test_a_new_bearer_gets_a_new_connection_and_the_old_one_closes() -> None:
    async with scene(saying(*TURN), saying(*TURN)) as it:
        await it.ask()
        await it.ask(token="access-2")
        with trio.fail_after(1):
            await it.fake.peers[0].left.wait()
        assert it.fake.peers[0].closed_by_relay == 1000
        assert it.sockets.idle == 1


@in_virtual_time
async def test_a_bearer_that_is_replaced_in_a_turn_leaves_the_turn_alone() -> None:
    async with scene(saying_in_turn((CREATED,)), saying(*TURN)) as it:
        async with it.attempting() as first:
            await first.send()
            await it.ask(token="access-2")
            await trio.sleep(1)
            assert not it.fake.peers[0].left.is_set()
            it.fake.peers[0].say(DELTA, COMPLETED)
            assert await first.receive() == event(CREATED)
            assert await first.receive() == event(DELTA) + event(COMPLETED)
        await it.fake.peers[0].left.wait()


# Going on from the turn before.

NEXT: Final[JsonObject] = {"type": "message", "role": "user", "content": "and now?"}
#: As a client sends it back.
SAID: Final[JsonObject] = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "hello"}],
}


async def second_message(*items: Json, script: Script | None = None, **fields: Json) -> JsonObject:
    """Return what goes up for `items` after a turn of one item, answered with one."""
    async with scene(*[script or saying(*TURN)] * 2) as it:
        await it.ask()
        await it.ask(*items, **fields)
    return it.fake.asked[1]


@in_virtual_time
async def test_what_goes_on_is_sent_as_the_new_items_only() -> None:
    message = await second_message(USER, SAID, NEXT)
    assert (message["previous_response_id"], message["input"]) == ("resp_1", [NEXT])


@in_virtual_time
async def test_nothing_new_may_be_sent() -> None:
    message = await second_message(USER, SAID)
    assert (message["previous_response_id"], message["input"]) == ("resp_1", [])


@pytest.mark.parametrize(
    ("items", "fields"),
    [
        ([{**USER, "content": "ho"}, SAID, NEXT], {}),
        ([USER, NEXT], {}),
        ([NEXT], {}),
        ([USER, SAID, NEXT], {"model": "n"}),
        ([USER, SAID, NEXT], {"tools": []}),
    ],
    ids=["edited", "without the answer", "compacted", "another model", "other tools"],
)
@in_virtual_time
async def test_what_was_changed_goes_in_full(items: list[Json], fields: JsonObject) -> None:
    message = await second_message(*items, **fields)
    assert "previous_response_id" not in message
    assert message["input"] == items


@pytest.mark.parametrize(
    "end", ["response.failed", "response.incomplete", "error"], ids=lambda name: name
)
@in_virtual_time
async def test_after_a_turn_that_was_not_completed_everything_is_sent(end: str) -> None:
    message = await second_message(
        USER, SAID, NEXT, script=saying(CREATED, ITEM, {"type": end, "response": {"id": "resp_1"}})
    )
    assert "previous_response_id" not in message


@in_virtual_time
async def test_items_are_read_from_the_response_where_no_event_had_them() -> None:
    done: JsonObject = {"type": "response.completed", "response": {"id": "r", "output": [ANSWER]}}
    message = await second_message(USER, SAID, NEXT, script=saying(CREATED, done))
    assert (message["previous_response_id"], message["input"]) == ("r", [NEXT])


@in_virtual_time
async def test_after_a_turn_that_was_left_everything_is_sent_on_another_connection() -> None:
    async with scene(saying_in_turn(TURN, (CREATED,)), saying(*TURN)) as it:
        await it.ask()
        async with it.attempting(USER, SAID, NEXT) as attempt:
            await attempt.send()
        assert it.fake.peers[0].was_dropped
        await it.ask(USER, SAID, NEXT)
    assert "previous_response_id" not in it.fake.asked[2]
    assert len(it.fake.peers) == 2


# Warm-ups.


def a_warm_up() -> SocketTurn:
    return SocketTurn(session="s", from_socket=True, warm_up_id="resp_warm")


@in_virtual_time
async def test_a_warm_up_goes_up_and_the_next_turn_goes_on_from_it() -> None:
    async with scene(saying_in_turn((CREATED, COMPLETED), TURN)) as it:
        await it.ask(USER, turn=a_warm_up())
        await it.ask(USER, NEXT)
    warm_up, turn = it.fake.asked
    assert (warm_up["generate"], warm_up["input"]) == (False, [USER])
    assert (turn["previous_response_id"], turn["input"]) == ("resp_1", [NEXT])
    assert "generate" not in turn


@pytest.mark.parametrize(
    "why",
    [
        Refused(status=426, headers={}),
        Unreachable("nobody is there"),
        saying_in_turn(1011),
    ],
    ids=["refused", "unreachable", "closed"],
)
@in_virtual_time
async def test_a_warm_up_that_gets_no_socket_is_answered_here(
    why: Script | Refused | Unreachable,
) -> None:
    async with scene(why) as it:
        outcome = await it.ask(turn=a_warm_up())
    assert [name for name in outcome.body.split() if name.startswith(b"response.")] == [
        b"response.created",
        b"response.completed",
    ]
    assert b'"id":"resp_warm"' in outcome.body
    assert (it.posted, outcome.turn.via) == ([], "relay")


@in_virtual_time
async def test_a_warm_up_is_answered_here_where_sockets_are_off() -> None:
    async with scene(websocket="off") as it:
        outcome = await it.ask(turn=a_warm_up())
    assert b"response.completed" in outcome.body
    assert (it.posted, it.fake.handshakes) == ([], [])


# When a turn wants a WebSocket.


@pytest.mark.parametrize(
    ("mode", "from_socket", "expected"),
    [
        ("on", False, True),
        ("on", True, True),
        ("auto", True, True),
        ("auto", False, False),
        ("off", True, False),
        ("off", False, False),
    ],
)
@in_virtual_time
async def test_the_mode_says_which_turns_go_over_a_socket(
    mode: str, *, from_socket: bool, expected: bool
) -> None:
    async with scene(saying(*TURN), websocket=mode) as it:
        assert it.backend.takes_sockets(from_socket=from_socket) is expected
        outcome = await it.ask(turn=SocketTurn(session="s", from_socket=from_socket))
    assert outcome.turn.via == ("websocket" if expected else "http")
    assert len(it.fake.handshakes) == expected


@pytest.mark.parametrize(
    "changes", [{"path": "/responses/compact"}, {"method": "GET"}, {"socket": None}], ids=str
)
@in_virtual_time
async def test_everything_else_goes_over_http(changes: dict[str, object]) -> None:
    async with scene(websocket="on") as it:
        request, _ = it.request()
        request = attrs.evolve(request, **changes)  # type: ignore[arg-type]
        async with it.backend.attempt(request, an_account()) as attempt:
            assert isinstance(await attempt.send(), Head)
    assert it.fake.handshakes == []


@in_virtual_time
async def test_a_message_that_is_too_long_goes_over_http_without_a_handshake() -> None:
    async with scene() as it:
        outcome = await it.ask({**USER, "content": "x" * MAX_MESSAGE_BYTES})
    assert (outcome.body, it.fake.handshakes) == (OVER_HTTP, [])


@in_virtual_time
async def test_a_long_history_goes_on_as_a_short_message() -> None:
    long: JsonObject = {**USER, "content": "x" * (MAX_MESSAGE_BYTES - 1000)}
    async with scene(saying(*TURN)) as it:
        await it.ask(long)
        outcome = await it.ask(long, SAID, {**NEXT, "content": "y" * 2000})
        assert outcome.turn.via == "websocket"
        # Edited, it is too long; the connection, on which nothing was said, is what it was.
        outcome = await it.ask({**long, "role": "system"}, SAID, {**NEXT, "content": "y" * 2000})
        assert outcome.turn.via == "http"
        assert it.sockets.idle == 1
        outcome = await it.ask(long, SAID, {**NEXT, "content": "y" * 2000}, SAID, NEXT)
        assert outcome.turn.via == "websocket"
    assert it.fake.asked[2]["input"] == [NEXT]


# What a failing handshake leads to.


@pytest.mark.parametrize("status", [400, 403, 404, 405, 426, 500, 503])
@in_virtual_time
async def test_a_refused_handshake_leads_to_http_unseen(status: int) -> None:
    async with scene(Refused(status=status, headers={})) as it:
        outcome = await it.ask()
    assert (outcome.body, outcome.turn.via, outcome.turn.handshakes) == (OVER_HTTP, "http", 1)
    assert isinstance(outcome.head, Head)
    assert outcome.head.headers["x-http"] == "1"
    assert it.posted == [{"model": "m", "input": [USER], "stream": True}]


@pytest.mark.parametrize(
    ("refusal", "pause_s"),
    [
        (Refused(status=426, headers={}), pools.NONE_SPOKEN_S),
        (Refused(status=500, headers={}), pools.FAILED_S),
        (Unreachable("nobody"), pools.FAILED_S),
    ],
    ids=["426", "500", "unreachable"],
)
@in_virtual_time
async def test_a_failed_handshake_is_remembered_for_a_while(
    refusal: Refused | Unreachable, pause_s: float
) -> None:
    async with scene(refusal, saying(*TURN)) as it:
        await it.ask()
        await trio.sleep(pause_s - 1)
        assert not it.backend.takes_sockets(from_socket=True)
        assert (await it.ask()).turn.via == "http"
        await trio.sleep(2)
        assert it.backend.takes_sockets(from_socket=True)
        assert (await it.ask()).turn.via == "websocket"


@in_virtual_time
async def test_a_failed_handshake_does_not_touch_the_connections_that_are_there() -> None:
    async with scene(saying(*TURN), Refused(status=500, headers={})) as it:
        await it.ask()
        await it.ask(turn=SocketTurn(session="other", from_socket=True))
        assert (await it.ask()).turn.via == "websocket"


@pytest.mark.parametrize(
    ("status", "kind"), [(401, FaultKind.UNAUTHORIZED), (429, FaultKind.LIMITED)]
)
@in_virtual_time
async def test_a_handshake_refused_for_the_account_is_for_the_ladder(
    status: int, kind: FaultKind
) -> None:
    body = b'{"error":{"type":"usage_limit_reached","message":"no","resets_in_seconds":9}}'
    refused = Refused(status=status, headers={"x-codex-plan-type": "plus"}, body=body)
    async with scene(refused) as it:
        outcome = await it.ask()
        assert it.backend.takes_sockets(from_socket=True)
    assert isinstance(outcome.head, Fault)
    assert (outcome.head.kind, outcome.head.reached) == (kind, Reached.NOT_SENT)
    assert outcome.head.headers["x-codex-plan-type"] == "plus"
    assert it.posted == []


@in_virtual_time
async def test_a_handshake_that_hangs_costs_the_connect_budget() -> None:
    async with scene(takes_s=FOREVER) as it:
        began_at_s = trio.current_time()
        outcome = await it.ask()
        assert trio.current_time() - began_at_s == 5.0
    assert outcome.turn.via == "http"


@in_virtual_time
async def test_a_turn_has_two_handshakes() -> None:
    turn = SocketTurn(session="s", from_socket=True)
    refused = Refused(status=401, headers={}, body=b"{}")
    async with scene(refused, refused) as it:
        assert isinstance((await it.ask(turn=turn, token="a")).head, Fault)
        assert isinstance((await it.ask(turn=turn, token="b")).head, Fault)
        assert (await it.ask(turn=turn, token="c")).turn.via == "http"
    assert len(it.fake.handshakes) == 2


def test_why_turns_go_over_http_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        refused = Refused(status=426, headers={})
        async with scene(refused, refused, saying(*TURN)) as it:
            for _ in range(3):
                await it.ask()
                await trio.sleep(pools.NONE_SPOKEN_S + 1)

    in_virtual_time(main)()
    told = capsys.readouterr().out
    assert told.count("turns go over HTTP for a while") == 1
    assert "answered 426" in told
    assert told.count("turns use WebSockets again") == 1


# Errors that come as messages.


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("key", ["status", "status_code"])
@in_virtual_time
async def test_an_error_with_a_status_is_the_fault_of_that_answer(
    key: str, *, wrapped: bool
) -> None:
    message = {n: v for n, v in USAGE_LIMIT.items() if n not in ("status", "error")}
    error: JsonObject = {"error": USAGE_LIMIT["error"]}
    message |= {key: 429} | ({"body": error} if wrapped else error)
    async with scene(saying_in_turn((message,), TURN)) as it:
        outcome = await it.ask()
        assert isinstance(outcome.head, Fault)
        assert (outcome.head.kind, outcome.head.status) == (FaultKind.LIMITED, 429)
        assert outcome.head.error["message"] == "spent (try again in 60 s)"
        assert outcome.head.headers == {"x-codex-primary-used-percent": "100"}
        assert outcome.head.reached is Reached.SENT
        # The connection is as good as before.
        assert (await it.ask()).turn.via == "websocket"
    assert len(it.fake.handshakes) == 1


@in_virtual_time
async def test_a_connection_whose_bearer_is_refused_is_closed() -> None:
    unauthorized: JsonObject = {"type": "error", "status": 401, "error": {"message": "no"}}
    async with scene(saying(unauthorized)) as it:
        outcome = await it.ask()
        await it.fake.peers[0].left.wait()
    assert isinstance(outcome.head, Fault)
    assert outcome.head.kind is FaultKind.UNAUTHORIZED


@in_virtual_time
async def test_an_error_behind_notes_is_a_fault_too() -> None:
    async with scene(saying(LIMITS, USAGE_LIMIT)) as it:
        outcome = await it.ask()
    assert outcome.body == event(LIMITS)
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.LIMITED


@in_virtual_time
async def test_an_error_with_a_status_after_output_is_a_fault_and_ends_the_connection() -> None:
    async with scene(saying(CREATED, DELTA, USAGE_LIMIT)) as it:
        outcome = await it.ask()
        await it.fake.peers[0].left.wait()
        assert it.fake.peers[0].was_dropped
    assert outcome.body == event(CREATED) + event(DELTA)
    assert outcome.fault is not None


@in_virtual_time
async def test_a_connection_that_is_too_old_is_replaced_unseen() -> None:
    async with scene(saying_in_turn(TURN, (CONNECTION_LIMIT,)), saying(*TURN)) as it:
        await it.ask()
        outcome = await it.ask(USER, SAID, NEXT)
        assert outcome.body == b"".join(map(event, TURN))
    assert (outcome.turn.via, outcome.turn.handshakes) == ("websocket", 1)
    assert "previous_response_id" in it.fake.asked[1]
    assert "previous_response_id" not in it.fake.asked[2]
    assert it.fake.asked[2]["input"] == [USER, SAID, NEXT]
    assert it.posted == []


@in_virtual_time
async def test_two_connections_that_are_too_old_lead_to_http() -> None:
    limited = saying(CONNECTION_LIMIT)
    async with scene(limited, limited) as it:
        outcome = await it.ask()
    assert (outcome.body, outcome.turn.handshakes) == (OVER_HTTP, 2)


@in_virtual_time
async def test_a_connection_limit_behind_notes_is_as_unseen() -> None:
    async with scene(saying(LIMITS, CONNECTION_LIMIT), saying(*TURN)) as it:
        outcome = await it.ask()
    assert outcome.fault is None
    assert outcome.body.endswith(b"".join(map(event, TURN)))


@in_virtual_time
async def test_notes_of_one_connection_say_nothing_of_the_next_one() -> None:
    async with scene(saying(LIMITS, CONNECTION_LIMIT), saying_in_turn(1011)) as it:
        outcome = await it.ask()
    assert outcome.fault is None
    assert outcome.body.endswith(OVER_HTTP)


@in_virtual_time
async def test_a_connection_limit_in_the_response_is_a_break() -> None:
    async with scene(saying(CREATED, CONNECTION_LIMIT)) as it:
        outcome = await it.ask()
    assert outcome.fault is not None
    assert (outcome.fault.kind, outcome.fault.reached) == (FaultKind.BROKEN, Reached.SENT)
    assert outcome.turn.gives_up


@in_virtual_time
async def test_what_the_backend_has_forgotten_is_sent_again_in_full() -> None:
    async with scene(saying_in_turn(TURN, (NOT_FOUND,)), saying(*TURN)) as it:
        await it.ask()
        outcome = await it.ask(USER, SAID, NEXT)
        assert outcome.body == b"".join(map(event, TURN))
    assert it.fake.asked[2]["input"] == [USER, SAID, NEXT]
    assert it.fake.peers[1].asked == [it.fake.asked[2]]


@in_virtual_time
async def test_not_found_is_told_where_nothing_was_named() -> None:
    async with scene(saying(NOT_FOUND)) as it:
        outcome = await it.ask()
    assert isinstance(outcome.head, Fault)
    assert outcome.head.kind is FaultKind.REFUSED


# Breaks.


@in_virtual_time
async def test_a_warm_connection_that_was_closed_while_idle_costs_nothing() -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        peer.say(*TURN)
        await trio.sleep(1)
        peer.close(1001)

    async with scene(script, saying(*TURN)) as it:
        await it.ask()
        await trio.sleep(2)
        assert it.sockets.idle == 0
        outcome = await it.ask()
    assert (outcome.turn.via, outcome.turn.handshakes) == ("websocket", 1)


@pytest.mark.parametrize("code", [BROKEN, 1000, 1011])
@in_virtual_time
async def test_a_warm_connection_that_turns_out_dead_is_replaced_once(code: int) -> None:
    async with scene(saying_in_turn(TURN, code), saying(*TURN)) as it:
        await it.ask()
        outcome = await it.ask(USER, SAID, NEXT)
        assert outcome.body == b"".join(map(event, TURN))
    assert (outcome.turn.via, outcome.turn.handshakes) == ("websocket", 1)
    assert it.fake.asked[2]["input"] == [USER, SAID, NEXT]


@pytest.mark.parametrize("code", [1000, 1001, 1009, 1011])
@in_virtual_time
async def test_a_fresh_connection_closed_before_anything_leads_to_http(code: int) -> None:
    async with scene(saying_in_turn(code)) as it:
        outcome = await it.ask()
    assert (outcome.body, outcome.turn.handshakes) == (OVER_HTTP, 1)
    assert outcome.turn.gives_up


@in_virtual_time
async def test_a_message_that_breaks_off_half_way_leads_to_http() -> None:
    async def script(peer: Peer) -> None:
        await trio.sleep(1)
        peer.close(BROKEN)

    async with scene(script, slow_s=2) as it:
        outcome = await it.ask()
    assert outcome.body == OVER_HTTP


@in_virtual_time
async def test_a_peer_that_does_not_take_the_message_leads_to_http() -> None:
    async with scene(silent, slow_s=FOREVER) as it:
        outcome = await it.ask()
        assert it.fake.peers[0].was_dropped
    assert (outcome.body, outcome.turn.gives_up) == (OVER_HTTP, True)


@in_virtual_time
async def test_a_peer_that_vanishes_with_the_request_is_for_the_ladder() -> None:
    # It may be at work on it: only the ladder knows what a repeat may cost.
    async with scene(saying_in_turn(BROKEN)) as it:
        outcome = await it.ask()
    assert isinstance(outcome.head, Fault)
    assert (outcome.head.kind, outcome.head.reached) == (FaultKind.BROKEN, Reached.SENT)
    assert outcome.turn.gives_up


@pytest.mark.parametrize("code", [BROKEN, 1000, 1009, 1011])
@in_virtual_time
async def test_a_break_in_the_response_is_a_fault_and_the_repeat_goes_over_http(code: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        peer.say(CREATED)
        await trio.sleep(1)
        peer.close(code, "so it is")

    turn = SocketTurn(session="s", from_socket=True)
    async with scene(script) as it:
        outcome = await it.ask(turn=turn)
        assert outcome.fault is not None
        assert (outcome.fault.kind, outcome.reached) == (FaultKind.BROKEN, Reached.SENT)
        if code != BROKEN:
            assert f"{code} so it is" in outcome.fault.message
        assert (await it.ask(turn=turn)).turn.via == "http"
    assert len(it.fake.handshakes) == 1


@in_virtual_time
async def test_how_far_the_request_got_includes_what_http_did() -> None:
    async def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody")

    async with scene(Refused(status=500, headers={}), saying_in_turn(1011)) as it:
        it.backend = attrs.evolve(it.backend, transport=httpx.MockTransport(refuse))
        outcome = await it.ask()
        assert isinstance(outcome.head, Fault)
        assert outcome.head.reached is outcome.reached is Reached.NOT_SENT
        await trio.sleep(pools.FAILED_S)
        outcome = await it.ask()  # the WebSocket took it all
        assert isinstance(outcome.head, Fault)
        assert outcome.reached is Reached.SENT


# Leaving.


@pytest.mark.parametrize(
    "script",
    [
        pytest.param((silent, FOREVER), id="dialling"),
        pytest.param((silent, 0.0), id="silent"),
        pytest.param((saying(CREATED), 0.0), id="after the beginning"),
        pytest.param((saying(CREATED, DELTA), 0.0), id="in the middle"),
    ],
)
@in_virtual_time
async def test_a_turn_that_is_left_leaves_nothing_at_once(script: tuple[Script, float]) -> None:
    peer_script, takes_s = script
    async with scene(peer_script, takes_s=takes_s) as it:
        with trio.move_on_after(1) as scope:
            async with it.attempting() as attempt:
                await attempt.send()
                while True:
                    await attempt.receive()
        assert scope.cancelled_caught
        assert trio.current_time() == scope.deadline
        assert (it.fake.open, it.sockets.busy, it.sockets.idle) == (0, 0, 0)
        assert all(peer.was_dropped for peer in it.fake.peers)


def sweep(run: Callable[[trio.CancelScope], Awaitable[bool]]) -> int:
    """Run `run` with a cancellation at each step, until it ends before; return the steps."""
    for at in range(1, 200):

        async def main(at: int = at) -> bool:
            scope = trio.CancelScope()
            cancel = CancelAtStep(scope, at)
            trio.lowlevel.add_instrument(cancel)
            return await run(scope)

        if trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)):
            return at
    raise AssertionError("it never ends by itself")


def test_a_turn_may_be_left_at_every_step_and_the_next_one_is_clean() -> None:
    async def run(scope: trio.CancelScope) -> bool:
        scripts = [saying_in_turn(TURN, (LIMITS, *TURN), TURN), *([saying(*TURN)] * 3)]
        async with scene(*scripts) as it:
            with scope:
                await it.ask()
                await it.ask(USER, SAID, NEXT)
            assert it.sockets.busy == 0
            outcome = await it.ask()
            assert outcome.body.endswith(b"".join(map(event, TURN)))
            assert outcome.turn.via == "websocket"
        return not scope.cancelled_caught

    assert sweep(run) > 10


def test_a_stale_connection_may_be_left_at_every_step() -> None:
    async def run(scope: trio.CancelScope) -> bool:
        scripts = [saying_in_turn(TURN, 1000), *([saying(*TURN)] * 3)]
        async with scene(*scripts) as it:
            await it.ask()
            with scope:
                await it.ask()
            assert it.sockets.busy == 0
            assert (await it.ask()).body == b"".join(map(event, TURN))
        return not scope.cancelled_caught

    assert sweep(run) > 10
