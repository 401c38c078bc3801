"""What a client on a WebSocket is promised, whatever the backend is spoken to over.

Each test runs a whole relay before the simulated backend, both over loopback; `off` is a backend
that is asked over HTTP, `auto` and `on` one that is asked over WebSockets.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs
import pytest
import trio

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.cli.process import adopt
from codexrelay.config.settings import ServerSettings
from codexrelay.protocol import frames
from codexrelay.protocol.raw import dump, get_list, get_object, is_object, parse_object
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.cli.test_serve import posix_only
from tests.cli.test_serve import serving as serving_process
from tests.fakes.client_socket import SESSION, kinds, response_id, talking
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.overheard import Overheard
from tests.fakes.relay import ask, eventually, relaying
from tests.fakes.scripted_server import serving
from tests.fakes.simulated import user
from tests.fakes.websocket_server import agreement, frame

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from codexrelay.protocol.raw import Json, JsonObject
    from harness.simulator.seen import Seen
    from tests.fakes.client_socket import SocketTalk
    from tests.fakes.relay import LiveRelay, RawClient
    from tests.fakes.scripted_server import Caller

Mode: TypeAlias = Literal["off", "auto", "on"]

#: Of the backend's two sides: HTTP, and a WebSocket.
both = pytest.mark.parametrize("mode", ["off", "auto"])
every = pytest.mark.parametrize("mode", ["off", "auto", "on"])

_PATHS: Final = ("/v1/responses", "/responses", "/backend-api/codex/responses")
_KEY: Final = "a-client-key-of-enough-characters"
_BASE_PROMPT: Final[JsonObject] = {
    "type": "message",
    "role": "developer",
    "content": [{"type": "input_text", "text": "base prompt"}],
}
_SHELL: Final[JsonObject] = {
    "type": "function",
    "name": "exec_command",
    "strict": False,
    "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}},
}
#: What belongs to a message, and to no body of HTTP.
_OF_MESSAGES: Final = {"type", "generate", "previous_response_id"}
_MIB: Final = 2**20


def relay_over(
    mode: Mode,
    folder: Path,
    simulator: Simulator | None = None,
    **more: Any,  # noqa: ANN401 - goes to `relaying`
) -> AbstractAsyncContextManager[LiveRelay]:
    return relaying(folder, simulator, backend=CodexBackendSettings(websocket=mode), **more)


def turns(relay: LiveRelay) -> list[Seen]:
    """Return what the backend was asked for, over whatever; no handshakes and no warm-ups."""
    return [seen for seen in relay.asked if seen.method != "GET" and not seen.is_warm_up]


def handshakes(relay: LiveRelay) -> list[Seen]:
    return [seen for seen in relay.asked if seen.method == "GET"]


def posts(relay: LiveRelay) -> list[Seen]:
    return [seen for seen in relay.asked if seen.method == "POST"]


def asked_for(seen: Seen) -> list[Json]:
    """Return the whole input that the backend was to answer, by whatever parts it came."""
    assert is_object(seen.request)
    return get_list(seen.request, "input")


def output_of(messages: list[JsonObject]) -> list[Json]:
    return get_list(get_object(messages[-1], "response"), "output")


def text_of(messages: list[JsonObject]) -> str:
    """Return the text that was told in pieces."""
    return "".join(str(m["delta"]) for m in messages if m["type"] == "response.output_text.delta")


def ends(messages: list[JsonObject]) -> list[str]:
    terminal = {"response.completed", "response.failed", "response.incomplete", "error"}
    return [kind for kind in kinds(messages) if kind in terminal]


# --- one message is one event


@pytest.mark.parametrize(
    "text",
    [
        "[sim deltas=50]",
        '[sim text=Größe \u2028 "\U0001f600"]',
        "[sim think] [sim text=Hello]",
        "[sim refusal]",
        "[sim incomplete]",
        "[sim fault=failed]",
        "[sim fault=error_event]",
        "[sim fault=no_usage] [sim deltas=2]",
        "[sim fault=no_output] [sim deltas=2]",
        "[sim fault=oversized] [sim deltas=2]",
    ],
)
@both
async def test_each_event_is_one_message_with_the_text_of_the_backend(
    tmp_path: Path, mode: Mode, text: str
) -> None:
    overheard = Overheard()
    async with (
        relay_over(mode, tmp_path, around=overheard.around) as relay,
        talking(relay) as talk,
    ):
        await talk.create(text)
        got: list[str | bytes] = []
        with trio.fail_after(PATIENCE_S):
            while not got or parse_object(got[-1])["type"] not in (
                *("response.completed", "response.incomplete", "response.failed", "error"),
            ):
                got.append(await talk.socket.get_message())
        # Behind the end comes nothing: the next thing heard is the next answer's.
        assert kinds(await talk.turn("[sim text=next]"))[0] in (
            *("codex.rate_limits", "response.created"),
        )
    assert got == overheard.texts[: len(got)]
    assert len(got) > 3


#: As no backend of today writes them, and nobody has to: spaces, an unknown event, fields
#: that are unknown, escapes that could be written otherwise, and a terminal event that lacks much.
_ODD: Final = (
    '{ "type" : "response.created","response":{"id":"resp_1","x-new":[1.50,1e2]}}',
    '{"sequence_number":1,"type":"response.brand_new","b":"\\u00e9\\/\U0001f600"}',
    '{"type":"response.output_text.delta","item_id":"m","output_index":0,"delta":"Hi \u2028"}',
    '{"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"m"}}',
    '{"type":"codex.rate_limits", "plan_type":"plus"}',
    '{"response":{"id":"resp_1","output":[]},"type":"response.completed"}',
)


@pytest.mark.parametrize("end", ["", "\n", " "], ids=["plain", "line break", "space"])
@both
async def test_an_event_is_not_written_anew_however_it_is_written(
    tmp_path: Path, mode: Mode, end: str
) -> None:
    texts = [text + end for text in _ODD]

    async def script(caller: Caller) -> None:
        head = await caller.head()
        if head.startswith(b"POST"):
            data = [frames.as_event(text.encode()) for text in texts]
            await caller.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"".join(data))
        elif b"upgrade: websocket" in head.lower():
            await caller.send(agreement(head) + b"".join(frame(text.encode()) for text in texts))
            await caller.left()

    backend = CodexBackendSettings(websocket=mode)
    async with (
        serving(script) as upstream,
        relaying(tmp_path, backend=attrs.evolve(backend, api_base_url=upstream.url)) as relay,
        talking(relay) as talk,
    ):
        await talk.create()
        with trio.fail_after(PATIENCE_S):
            got = [await talk.socket.get_message() for _ in texts]
        assert got == texts


@pytest.mark.parametrize("body", [ask("[sim deltas=20] [sim think]", stream=True)])
async def test_an_http_client_gets_the_texts_of_a_websocket_as_events(
    tmp_path: Path, body: JsonObject
) -> None:
    overheard = Overheard()
    async with relay_over("on", tmp_path, around=overheard.around) as relay:
        answer = await relay.post("/v1/responses", body)
    lines = answer.content.split(b"\n")
    texts = [line.removeprefix(b"data: ").decode() for line in lines if line[:6] == b"data: "]
    assert texts == overheard.texts
    assert posts(relay) == []


# --- the handshake


async def _status(relay: LiveRelay, path: str, *more: str, host: str = "localhost") -> int:
    """Return the status that the request for a WebSocket is answered with."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"host: {host}",
        "connection: keep-alive, Upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        *more,
    ]
    async with relay.connect() as client:
        await client.send("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        return int((await _until(client, b"\r\n")).split()[1])


async def _until(client: RawClient, end: bytes) -> bytes:
    got = b""
    with trio.fail_after(PATIENCE_S):
        while end not in got:
            block = await client.stream.receive_some()
            assert block, got
            got += bytes(block)
    return got


@pytest.mark.parametrize("path", _PATHS)
async def test_host_origin_and_key_are_checked_as_over_http(tmp_path: Path, path: str) -> None:
    key = f"authorization: Bearer {_KEY}"
    server = ServerSettings(client_keys=(_KEY,))
    async with relay_over("off", tmp_path, server=server) as relay:
        assert await _status(relay, path, key) == 101
        assert await _status(relay, path, f"x-api-key: {_KEY}") == 101
        assert await _status(relay, path, key, host="example.org") == 403
        assert await _status(relay, path, key, "origin: https://example.org") == 403
        assert await _status(relay, path, key, "origin: null") == 403
        assert await _status(relay, path, key, "origin: http://localhost") == 101
        assert await _status(relay, path, "authorization: Bearer no-key-of-the-relays") == 401
        assert await _status(relay, path) == 401
        assert await _status(relay, "/v1/chat/completions", key) in (404, 405)
        await eventually(lambda: relay.services.totals.client_sockets == 0)
    assert relay.simulator.seen == []


async def test_a_key_that_was_taken_back_is_good_for_no_further_turn(tmp_path: Path) -> None:
    server = ServerSettings(client_keys=(_KEY,))
    async with (
        relay_over("off", tmp_path, server=server) as relay,
        talking(relay, headers={"authorization": f"Bearer {_KEY}"}) as talk,
    ):
        assert ends(await talk.turn()) == ["response.completed"]
        settings = relay.services.current.settings
        other = attrs.evolve(settings.server, client_keys=("another-key-of-enough-characters",))
        await adopt(relay.services, attrs.evolve(settings, server=other))
        [told] = await talk.turn()
        assert (told["type"], told["status"]) == ("error", 401)
        assert len(turns(relay)) == 1


# --- errors


@pytest.mark.parametrize(
    ("fault", "status"), [("400", 400), ("429", 429), ("no_codex", 403), ("503", 503)]
)
@both
async def test_an_error_before_output_is_one_message_and_the_socket_stays_usable(
    tmp_path: Path, mode: Mode, fault: str, status: int
) -> None:
    async with relay_over(mode, tmp_path) as relay, talking(relay) as talk:
        [told] = await talk.turn(f"[sim fault={fault}]")
        assert list(told) == ["type", "status", "error", "headers"]
        assert (told["type"], told["status"]) == ("error", status)
        error = get_object(told, "error")
        assert {"message", "type", "code", "param"} <= error.keys()
        assert error["message"]
        headers = get_object(told, "headers")
        assert all(isinstance(value, str) for value in headers.values())
        if status in (400, 503):
            assert ends(await talk.turn()) == ["response.completed"]
        else:  # the only account is spent, or has no Codex
            assert kinds(await talk.turn()) == ["error"]


@pytest.mark.parametrize(
    "said",
    [
        *("", "hello", "[]", "null", '"response.create"', "{", '{"type":"response.create"'),
        '{"model":"gpt-5.5","input":"hello"}',
        '{"type":"session.update"}',
        '{"type":null}',
        '{"type":"response.create"}',
        '{"type":"response.create","model":"gpt-5.5"}',
        '{"type":"response.create","model":7,"input":"hello"}',
        '{"type":"response.create","model":"gpt-5.5","input":7}',
        '{"type":"response.create","model":"gpt-5.5","input":"x","generate":"no"}',
        '{"type":"response.create","model":"gpt-5.5","input":"x","previous_response_id":7}',
        '{"type":"response.create","model":"gpt-5.5","input":"x","stream":1}',
        '{"type":"response.create","model":"gpt-5.5","input":[' + "[" * 2000 + "]" * 2000 + "]}",
    ],
    ids=range(18),
)
async def test_a_malformed_message_is_a_400_and_asks_nobody(tmp_path: Path, said: str) -> None:
    async with relay_over("auto", tmp_path) as relay, talking(relay) as talk:
        await talk.say(said)
        told = await talk.next()
        assert (told["type"], told["status"]) == ("error", 400)
        assert relay.asked == []
        assert ends(await talk.turn()) == ["response.completed"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x82\x80\x00\x00\x00\x00", 1003),  # a binary message
        (b"\x81\x02{}", 1002),  # no mask
        (b"\x83\x80\x00\x00\x00\x00", 1002),  # no such opcode
        (b"\xf1\x80\x00\x00\x00\x00", 1002),  # reserved bits
        (b"\x80\x80\x00\x00\x00\x00", 1002),  # goes on from nothing
        (b"\x81\x81\x00\x00\x00\x00\xff", 1007),  # no UTF-8
    ],
    ids=["binary", "unmasked", "opcode", "reserved", "fragment", "utf-8"],
)
async def test_a_malformed_frame_closes_with_its_code(
    tmp_path: Path, sent: bytes, code: int
) -> None:
    request = (
        "GET /v1/responses HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n"
        "upgrade: websocket\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with relay_over("auto", tmp_path) as relay, relay.connect() as client:
        await client.send(request.encode())
        await _until(client, b"\r\n\r\n")
        await client.send(sent)
        got = b""
        with trio.fail_after(PATIENCE_S):
            while block := await client.stream.receive_some():
                got += bytes(block)
        assert got[0] == 0x88, got
        assert int.from_bytes(got[2:4]) == code


async def test_to_response_processed_nothing_is_said_before_within_and_behind_a_turn(
    tmp_path: Path,
) -> None:
    async with (
        relay_over("auto", tmp_path, Simulator(pace_s=0.001)) as relay,
        talking(relay) as talk,
    ):
        processed: JsonObject = {"type": "response.processed", "response_id": "resp_x"}
        await talk.say(processed)
        await talk.create("[sim deltas=20]")
        await talk.until("response.output_text.delta")
        await talk.say(processed)
        assert ends(await talk.until_end()) == ["response.completed"]
        await talk.say(processed)
        assert ends(await talk.turn()) == ["response.completed"]
        assert sum(socket.processed for socket in relay.simulator.sockets) == 0


# --- sizes


async def test_a_message_of_16_mib_is_taken_and_goes_over_http(tmp_path: Path) -> None:
    message = {"type": "response.create", "model": "gpt-5.5", "input": [user("")]}
    room = 16 * _MIB - len(dump(message))
    async with relay_over("auto", tmp_path) as relay, talking(relay) as talk:
        await talk.say(dump(message | {"input": [user("x" * room)]}).decode())
        assert ends(await talk.until_end()) == ["response.completed"]
        [seen] = turns(relay)
        assert (seen.method, handshakes(relay)) == ("POST", [])
        assert is_object(seen.body)
        assert not _OF_MESSAGES & seen.body.keys()
        await talk.say("x" * (16 * _MIB + 1))
        assert await talk.close_code() == 1009


# --- several messages


@both
async def test_a_second_message_leaves_the_turn_under_way_untouched(
    tmp_path: Path, mode: Mode
) -> None:
    async with (
        relay_over(mode, tmp_path, Simulator(pace_s=0.002)) as relay,
        talking(relay) as talk,
    ):
        await talk.create("[sim deltas=30]")
        await talk.until("response.output_text.delta")
        await talk.create("[sim text=second]")
        first = await talk.until_end()
        assert ends(first) == ["response.completed"]
        assert "second" not in text_of(first)
        assert text_of(await talk.until_end()) == "second"
        assert len(turns(relay)) == 2


async def test_a_ping_is_answered_while_idle_and_within_a_turn(tmp_path: Path) -> None:
    async with relay_over("auto", tmp_path) as relay, talking(relay) as talk:
        with trio.fail_after(PATIENCE_S):
            await talk.socket.ping(b"idle")
            await talk.create("[sim fault=hang]")
            await talk.until("response.output_text.delta")
            await talk.socket.ping(b"within a turn")
        await talk.leave()


@every
async def test_two_turns_of_a_session_at_once_never_mix(tmp_path: Path, mode: Mode) -> None:
    texts: dict[str, str] = {}

    async def one(relay: LiveRelay, name: str) -> None:
        async with talking(relay) as talk:
            messages = await talk.turn(f"[sim text={name * 40}]")
            texts[name] = text_of(messages)

    async with relay_over(mode, tmp_path, Simulator(pace_s=0.002)) as relay:
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(one, relay, name)
        assert texts == {name: name * 40 for name in "abc"}
        # At no time were there two turns on one WebSocket.
        assert all(seen.status in (101, 200) for seen in relay.asked)


# --- warm-ups


async def test_a_warm_up_before_a_backend_over_http_makes_no_call_at_all(tmp_path: Path) -> None:
    async with relay_over("off", tmp_path) as relay, talking(relay) as talk:
        created, completed = await talk.turn([_BASE_PROMPT], generate=False)
        assert kinds([created, completed]) == ["response.created", "response.completed"]
        ids = {get_object(told, "response")["id"] for told in (created, completed)}
        assert len(ids) == 1
        assert output_of([completed]) == []
        assert relay.simulator.seen == []
        messages = await talk.turn([user("hello")], previous_response_id=response_id([completed]))
        assert ends(messages) == ["response.completed"]
        [seen] = turns(relay)
        assert asked_for(seen) == [_BASE_PROMPT, user("hello")]
        assert is_object(seen.body)
        assert not _OF_MESSAGES & seen.body.keys()


async def test_a_warm_up_goes_to_a_websocket_and_the_turn_goes_on_there(tmp_path: Path) -> None:
    simulator = Simulator(accounts=some_accounts(3))
    async with relay_over("auto", tmp_path, simulator) as relay, talking(relay) as talk:
        warm = await talk.turn([_BASE_PROMPT], generate=False)
        assert output_of(warm) == []
        assert [seen.is_warm_up for seen in relay.asked] == [False, True]
        await talk.turn([user("hello")], previous_response_id=response_id(warm))
        assert len(handshakes(relay)) == 1, "the warm WebSocket was not used"
        [seen] = turns(relay)
        assert is_object(seen.body)
        assert seen.body["input"] == [user("hello")]
        assert seen.previous_response_id == response_id(warm)


async def test_a_warm_up_for_which_no_websocket_can_be_had_is_answered_all_the_same(
    tmp_path: Path,
) -> None:
    simulator = Simulator(websockets=False)
    async with relay_over("auto", tmp_path, simulator) as relay, talking(relay) as talk:
        first = await talk.turn([_BASE_PROMPT], generate=False)
        again = await talk.turn([_BASE_PROMPT], generate=False)
        assert kinds(first) == kinds(again) == ["response.created", "response.completed"]
        assert len(relay.asked) == len(handshakes(relay)) == 1
        await talk.turn([user("hello")], previous_response_id=response_id(first))
        assert [asked_for(seen) for seen in turns(relay)] == [[_BASE_PROMPT, user("hello")]]


# --- what a request goes on from


async def _call(talk: SocketTalk) -> tuple[str, list[Json], JsonObject]:
    """Let the model think and call a tool: return the answer's id, its items, and the result."""
    messages = await talk.turn(
        [user("[sim think] Run the shell command 'echo hi'")], tools=[_SHELL]
    )
    items = [m["item"] for m in messages if m["type"] == "response.output_item.done"]
    call = next(i for i in items if is_object(i) and i["type"] == "function_call")
    assert is_object(call)
    return (
        response_id(messages),
        items,
        {"type": "function_call_output", "call_id": call["call_id"], "output": "hi\n"},
    )


@both
async def test_an_id_is_good_on_a_new_socket_with_its_reasoning(tmp_path: Path, mode: Mode) -> None:
    async with relay_over(mode, tmp_path) as relay:
        async with talking(relay) as talk:
            first, items, result = await _call(talk)
            await talk.leave()
        async with talking(relay) as talk:
            messages = await talk.turn([result], tools=[_SHELL], previous_response_id=first)
        assert ends(messages) == ["response.completed"]
        got = asked_for(turns(relay)[-1])
        assert got[1:] == [*items, result]
        assert any(i["encrypted_content"] for i in got if is_object(i) and i["type"] == "reasoning")


@both
async def test_an_id_is_good_when_the_backends_connection_is_gone(
    tmp_path: Path, mode: Mode
) -> None:
    async with relay_over(mode, tmp_path) as relay, talking(relay) as talk:
        first, items, result = await _call(talk)
        relay.simulator.close_sockets(1012)
        await eventually(lambda: not any(socket.open for socket in relay.simulator.sockets))
        messages = await talk.turn([result], tools=[_SHELL], previous_response_id=first)
        assert ends(messages) == ["response.completed"]
        assert asked_for(turns(relay)[-1])[1:] == [*items, result]
        assert turns(relay)[-1].previous_response_id is None
        assert len(turns(relay)) == 2, "a connection that was closed while idle costs nothing"


@both
async def test_an_id_is_good_on_another_account(tmp_path: Path, mode: Mode) -> None:
    simulator = Simulator(accounts=some_accounts(2))
    async with relay_over(mode, tmp_path, simulator) as relay, talking(relay) as talk:
        first, items, result = await _call(talk)
        maker = turns(relay)[0].account
        assert maker is not None
        simulator.limit(maker)
        messages = await talk.turn([result], tools=[_SHELL], previous_response_id=first)
        assert ends(messages) == ["response.completed"]
        last = turns(relay)[-1]
        assert last.account != maker
        # What only its maker can read stays behind.
        readable = [i for i in items if is_object(i) and i["type"] != "reasoning"]
        assert asked_for(last)[1:] == [*readable, result]


@every
async def test_an_unknown_id_and_one_of_another_session_get_the_recorded_error_and_no_call(
    tmp_path: Path, mode: Mode
) -> None:
    async with relay_over(mode, tmp_path) as relay:
        async with talking(relay, session="another") as talk:
            known = response_id(await talk.turn())
        before = len(relay.simulator.seen)
        async with talking(relay, session=SESSION) as talk:
            for id_ in (known, "resp_fake", ""):
                assert await talk.turn(previous_response_id=id_) == [
                    {
                        "type": "error",
                        "status": 400,
                        "error": {
                            "type": "invalid_request_error",
                            "code": "previous_response_not_found",
                            "message": f"Previous response with id '{id_}' not found.",
                            "param": "previous_response_id",
                        },
                    }
                ]
            asked = [seen.path for seen in relay.simulator.seen[before:]]
            assert not any(path.endswith("/responses") for path in asked)
            assert ends(await talk.turn()) == ["response.completed"]


@pytest.mark.parametrize("fault", ["upgrade426", "close1011_created", "drop_created", "none"])
async def test_a_body_over_http_has_nothing_that_belongs_to_a_message(
    tmp_path: Path, fault: str
) -> None:
    mode: Mode = "off" if fault == "none" else "auto"
    async with relay_over(mode, tmp_path) as relay, talking(relay) as talk:
        if fault != "none":
            relay.simulator.queue_faults(fault)
        first = response_id(await talk.turn([user("hello")], generate=True, stream=True))
        await talk.turn([user("on")], previous_response_id=first)
        assert posts(relay)
        for seen in posts(relay):
            assert is_object(seen.body)
            assert not _OF_MESSAGES & seen.body.keys()
            assert seen.header("accept") == "text/event-stream"
            for name, value in seen.headers:
                assert not name.startswith("sec-websocket")
                assert name not in ("upgrade", "openai-beta") or "websocket" not in value


# --- the end


@every
async def test_a_client_that_leaves_ends_the_upstream_turn_and_the_next_one_is_clean(
    tmp_path: Path, mode: Mode
) -> None:
    async with relay_over(mode, tmp_path, Simulator(pace_s=0.001)) as relay:
        async with talking(relay) as talk:
            first = response_id(await talk.turn("[sim text=first]"))
            await talk.create("[sim deltas=100000]", previous_response_id=first)
            await talk.until("response.output_text.delta")
            left = turns(relay)[-1]
            await talk.leave()
            await relay.until_left(left)
        await relay.until_at_rest()
        async with talking(relay) as talk:
            messages = await talk.turn("[sim text=second]", previous_response_id=first)
            assert kinds(messages).count("response.created") == 1
            assert text_of(messages) == "second"
        assert len(turns(relay)) == 3


@every
async def test_a_break_after_output_is_one_terminal_event_and_no_second_call(
    tmp_path: Path, mode: Mode
) -> None:
    async with relay_over(mode, tmp_path) as relay, talking(relay) as talk:
        for fault in ("drop", "eof", "cut"):
            asked = len(turns(relay))
            messages = await talk.turn(f"[sim deltas=3] [sim fault={fault}]")
            assert ends(messages) == ["response.failed"]
            assert len(turns(relay)) == asked + 1
        assert text_of(await talk.turn("[sim text=good]")) == "good"


@both
async def test_a_relay_that_stops_ends_the_turn_and_closes_idle_sockets(
    tmp_path: Path, mode: Mode
) -> None:
    server = ServerSettings(drain_grace_s=1000)
    async with (
        relay_over(mode, tmp_path, Simulator(pace_s=0.002), server=server) as relay,
        talking(relay, session="idle") as idle,
        talking(relay) as talk,
    ):
        await idle.turn()
        await talk.create("[sim deltas=50]")
        await talk.until("response.output_text.delta")
        relay.drain.begin()
        assert await idle.close_code() == 1001
        assert ends(await talk.until_end()) == ["response.completed"]
        assert await talk.close_code() == 1001
        with trio.fail_after(PATIENCE_S):
            await relay.stopped.wait()
        await eventually(lambda: not any(socket.open for socket in relay.simulator.sockets))


@posix_only
async def test_a_process_that_is_told_to_stop_ends_the_turn_and_itself(tmp_path: Path) -> None:
    simulator = Simulator(pace_s=0.005)
    simulator.write_store(tmp_path / "accounts")
    async with serving_process(tmp_path, simulator) as child:
        relay = _Remote(await child.url())
        async with talking(relay, session="idle") as idle, talking(relay) as talk:  # type: ignore[arg-type]
            await idle.turn()
            await talk.create("[sim deltas=60]")
            await talk.until("response.output_text.delta")
            os.kill(child.process.pid, signal.SIGTERM)
            assert ends(await talk.until_end()) == ["response.completed"]
            assert await talk.close_code() == 1001
            assert await idle.close_code() == 1001
            assert await child.ended() == 0


@attrs.frozen
class _Remote:
    url: str
