"""Responses over a WebSocket, from the client's messages to a backend over HTTP, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio
from structlog.testing import capture_logs

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.config.settings import ModelsSettings, ServerSettings
from codexrelay.protocol.raw import get_list, get_object, get_text, is_object, parse_object
from harness.openai_api import OpenAISimulator
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes import responses_events as events
from tests.fakes.client_socket import SESSION, kinds, response_id, talking
from tests.fakes.relay import ask, relaying
from tests.fakes.scripted_server import Caller, serving
from tests.fakes.simulated import user
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from typing import Any

    from codexrelay.protocol.raw import Json, JsonObject
    from tests.fakes.client_socket import SocketTalk
    from tests.fakes.relay import LiveRelay

#: The backend is spoken to over HTTP, whatever the client speaks.
_HTTP: Final = CodexBackendSettings(websocket="off")
_OVERHEARD: Final = {"type": "message", "role": "developer", "content": "base prompt"}
_SHELL: Final[JsonObject] = {
    "type": "function",
    "name": "exec_command",
    "strict": False,
    "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}},
}
_PATHS: Final = ("/v1/responses", "/responses", "/backend-api/codex/responses")


def over_http(
    folder: Path,
    simulator: Simulator | None = None,
    *,
    backend: CodexBackendSettings = _HTTP,
    **more: Any,  # noqa: ANN401 - goes to `relaying`
) -> AbstractAsyncContextManager[LiveRelay]:
    return relaying(folder, simulator, backend=attrs.evolve(backend, websocket="off"), **more)


def sent(relay: LiveRelay, number: int = -1) -> JsonObject:
    """Return the body of a request that the backend got."""
    body = relay.asked[number].body
    assert isinstance(body, dict)
    return body


def output(messages: list[JsonObject]) -> list[Json]:
    """Return the items of the response that the messages tell."""
    return get_list(get_object(messages[-1], "response"), "output")


# --- the handshake


@pytest.mark.parametrize("path", _PATHS)
async def test_a_turn_is_answered_at_each_path(tmp_path: Path, path: str) -> None:
    async with over_http(tmp_path) as relay, talking(relay, path) as talk:
        messages = await talk.turn("[sim text=Hello]")
    assert kinds(messages)[0] == "response.created"
    assert kinds(messages)[-1] == "response.completed"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"host": "evil.example"}, 403),
        ({"authorization": "Bearer wrong"}, 401),
        ({}, 401),
    ],
    ids=["origin", "host", "wrong key", "no key"],
)
async def test_the_checks_of_http_come_before_it(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    server = ServerSettings(client_keys=("key-of-sixteen-characters",))
    async with over_http(tmp_path, server=server) as relay:
        assert await _rejected(relay, headers) == status


async def test_a_right_key_is_let_in(tmp_path: Path) -> None:
    server = ServerSettings(client_keys=("key-of-sixteen-characters",))
    async with (
        over_http(tmp_path, server=server) as relay,
        talking(relay, headers={"authorization": "Bearer key-of-sixteen-characters"}) as talk,
    ):
        assert kinds(await talk.turn())[-1] == "response.completed"


async def test_capabilities_in_the_handshake_that_cannot_be_meant_are_refused(
    tmp_path: Path,
) -> None:
    async with over_http(tmp_path) as relay:
        assert await _rejected(relay, {"x-codexrelay-capabilities": "nonsense=1"}) == 400


async def test_a_get_without_an_upgrade_is_still_a_wrong_method(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay:
        answer = await relay.http.get("/v1/responses")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


async def _rejected(relay: LiveRelay, headers: dict[str, str]) -> int:
    """Return the status that a handshake is answered with."""
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    answer = await relay.http.get("/v1/responses", headers={**upgrade, **headers})
    assert get_object(parse_object(answer.content), "error")["message"]
    return answer.status_code


# --- the answer


@pytest.mark.parametrize(
    "text",
    [
        "[sim deltas=300]",
        "[sim refusal]",
        "[sim incomplete]",
        "[sim fault=failed]",
        "[sim think] [sim text=Hello]",
    ],
)
async def test_each_event_of_the_stream_is_one_message_unchanged(tmp_path: Path, text: str) -> None:
    body = ask(text, prompt_cache_key="p-1", instructions="")
    async with over_http(tmp_path, Simulator(wall_clock=WallClock())) as relay:
        stream = (await relay.post("/v1/responses", body)).content
    texts = [line[len(b"data: ") :] for line in stream.split(b"\n") if line.startswith(b"data: ")]
    async with (
        over_http(tmp_path / "again", Simulator(wall_clock=WallClock())) as relay,
        talking(relay) as talk,
    ):
        await talk.say({"type": "response.create", **body})
        got = [await talk.socket.get_message() for _ in texts]
    assert [message.encode() for message in got] == texts


async def test_an_event_of_several_megabytes_is_one_message(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        long = "x" * (3 * 2**20)
        messages = await talk.turn(f"[sim text={long}]")
    assert long in str(output(messages))


async def test_the_backend_gets_what_a_post_would_send(tmp_path: Path) -> None:
    body = ask("hi", tools=[_SHELL], prompt_cache_key="p-1", client_metadata={"turn_id": "t"})
    started = {"x-codex-ws-stream-request-start-ms": "1"}
    async with over_http(tmp_path) as relay:
        await relay.post("/v1/responses", body, headers={"session-id": SESSION})
        async with talking(relay) as talk:
            message = {"type": "response.create", **body, "generate": True}
            message["client_metadata"] = {"turn_id": "t", **started}
            await talk.say(message)
            await talk.until_end()
        first, second = relay.asked
    assert first.body == second.body
    names = [[name for name, _ in seen.headers] for seen in (first, second)]
    assert names[0] == names[1]
    assert not any("websocket" in value for _, value in second.headers)
    assert second.method == "POST"


async def test_what_a_message_says_is_newer_than_the_handshake(tmp_path: Path) -> None:
    lite = "ws_request_header_x_openai_internal_codex_responses_lite"
    headers = {"x-codex-window-id": "w:0", "originator": "codex_exec"}
    async with over_http(tmp_path) as relay, talking(relay, headers=headers) as talk:
        await talk.turn(client_metadata={"x-codex-window-id": "w:1", lite: "true"})
        await talk.turn()
        first, second = relay.asked
    assert first.header("x-codex-window-id") == "w:1"
    assert first.header("x-openai-internal-codex-responses-lite") == "true"
    assert second.header("x-codex-window-id") == "w:0"
    assert second.header("x-openai-internal-codex-responses-lite") is None
    assert sent(relay, 0)["client_metadata"] == {"x-codex-window-id": "w:1"}


async def test_tool_calls_go_the_relays_way_as_over_http(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        messages = await talk.turn(
            "Run the shell command 'echo hi'",
            tools=[_SHELL],
            codex_capabilities={"tool_text_format": "xml"},
        )
    assert "codex_capabilities" not in sent(relay)
    assert all(get_text(i, "type") != "function_call" for i in output(messages) if is_object(i))
    assert "echo hi" in str(output(messages))


async def test_a_turn_is_told_of_as_one_over_a_websocket(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        with capture_logs() as logs:
            await talk.turn()
            metrics = (await relay.http.get("/metrics")).text
        told = next(log for log in logs if log["event"] == "turn completed")
        line = await relay.journal("last")
    assert (told["protocol"], told["client_over"]) == ("responses", "websocket")
    assert line["client_over"] == "websocket"
    assert "codexrelay_client_websockets 1.0" in metrics


# --- errors


async def test_a_refusal_is_one_message_with_its_status_and_the_socket_goes_on(
    tmp_path: Path,
) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        [refused] = await talk.turn("[sim fault=bad_request]")
        assert kinds(await talk.turn())[-1] == "response.completed"
    assert refused["status"] == 400
    assert "status_code" not in refused
    assert set(refused) == {"type", "status", "error", "headers"}
    headers = get_object(refused, "headers")
    assert all(isinstance(value, str) for value in headers.values())
    assert headers["x-codexrelay-account"] == "sim-1"


async def test_a_spent_quota_says_when_to_come_back(tmp_path: Path) -> None:
    clock = WallClock()
    async with (
        over_http(tmp_path, Simulator(wall_clock=clock)) as relay,
        talking(relay) as talk,
    ):
        relay.simulator.limit("sim-1", resets_in_s=20.0)
        [refused] = await talk.turn()
    assert refused["status"] == 429
    assert get_object(refused, "error")["type"] == "usage_limit_reached"
    assert get_object(refused, "headers")["retry-after"] == "20"


async def test_a_fault_of_one_account_is_unseen_where_another_serves(tmp_path: Path) -> None:
    async with (
        over_http(tmp_path, Simulator(accounts=some_accounts(2))) as relay,
        talking(relay) as talk,
    ):
        relay.simulator.limit("sim-1")
        for _ in range(2):
            assert kinds(await talk.turn())[-1] == "response.completed"


async def test_a_stream_that_breaks_gets_its_one_terminal_event(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        messages = await talk.turn("[sim fault=eof]")
        assert kinds(messages)[0] == "response.created"
        assert kinds(messages)[-1] == "response.failed"
        assert kinds(await talk.turn("[sim text=again]"))[-1] == "response.completed"


async def test_what_follows_the_terminal_event_is_told_to_nobody(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        for _ in range(2):
            messages = await talk.turn("[sim fault=late]")
            assert kinds(messages)[0] == "response.created"
            assert kinds(messages)[-1] == "response.completed"
            # What comes late comes while the relay still reads the answer to its end.
            await relay.until_at_rest()


async def test_what_stands_behind_the_terminal_event_in_one_block_is_told_to_nobody(
    tmp_path: Path,
) -> None:
    async def script(caller: Caller) -> None:
        while await caller.request():
            whole = events.created() + events.text("Hi") + events.completed() + events.text("late")
            head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(whole)
            await caller.send(head + whole)

    async with (
        serving(script) as upstream,
        over_http(tmp_path, backend=CodexBackendSettings(api_base_url=upstream.url)) as relay,
        talking(relay) as talk,
    ):
        for _ in range(2):
            messages = await talk.turn()
            assert kinds(messages)[0] == "response.created"
            assert kinds(messages)[-1] == "response.completed"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        ('{"type":"response.append"}', "unknown_message_type"),
        ('{"type":"response.create"}', "missing_required_parameter"),
        ('{"type":"response.create","model":"gpt-5.5"}', "missing_required_parameter"),
        ('{"type":"response.create","model":7,"input":"x"}', "invalid_type"),
        ('{"type":"response.create","model":"gpt-5.5","input":[1]}', "invalid_type"),
        (
            '{"type":"response.create","model":"gpt-5.5","input":"x","background":true}',
            "unsupported_parameter",
        ),
    ],
)
async def test_a_malformed_message_is_refused_and_the_socket_goes_on(
    tmp_path: Path, message: str, code: str
) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        await talk.say(message)
        refused = await talk.next()
        assert (refused["type"], refused["status"]) == ("error", 400)
        assert get_object(refused, "error")["code"] == code
        assert relay.asked == []
        assert kinds(await talk.turn())[-1] == "response.completed"


async def test_a_binary_message_closes(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        await talk.say(b"{}")
        assert await talk.close_code() == 1003


async def test_a_message_over_the_limit_for_bodies_is_refused(tmp_path: Path) -> None:
    server = ServerSettings(max_body_bytes=1000)
    async with over_http(tmp_path, server=server) as relay, talking(relay) as talk:
        [refused] = await talk.turn("ä" * 500)
        assert refused["status"] == 413
        assert kinds(await talk.turn("a" * 500))[-1] == "response.completed"


async def test_what_nobody_foresaw_is_told_and_the_socket_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:

        async def fails(*_: object) -> None:
            await trio.lowlevel.checkpoint()
            raise ZeroDivisionError

        with monkeypatch.context() as patched, capture_logs() as logs:
            patched.setattr(type(relay.services.sessions), "begin_turn", fails)
            [refused] = await talk.turn()
        assert refused["status"] == 500
        assert any(log["event"].startswith("unforeseen error") for log in logs)
        assert kinds(await talk.turn())[-1] == "response.completed"


async def test_to_response_processed_nothing_is_said(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        first = response_id(await talk.turn())
        await talk.say({"type": "response.processed", "response_id": first})
        await talk.say({"type": "response.interrupt"})  # and to one that comes too late
        assert kinds(await talk.turn())[0] == "response.created"


# --- warm-ups


async def test_a_warm_up_is_answered_without_any_call(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        messages = await talk.turn([_OVERHEARD], generate=False)
        assert relay.asked == []
    assert kinds(messages) == ["response.created", "response.completed"]
    created, completed = (get_object(message, "response") for message in messages)
    assert created["id"] == completed["id"]
    assert (completed["status"], completed["output"]) == ("completed", [])
    assert get_object(completed, "usage")["total_tokens"] == 0


async def test_a_warm_up_needs_no_account(tmp_path: Path) -> None:
    async with over_http(tmp_path, signed_in=False) as relay, talking(relay) as talk:
        assert kinds(await talk.turn([], generate=False))[-1] == "response.completed"


async def test_a_turn_goes_on_from_a_warm_up(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        warm = response_id(await talk.turn([_OVERHEARD], generate=False))
        await talk.turn([user("[sim text=Hi]")], previous_response_id=warm)
        assert len(relay.asked) == 1
    body = sent(relay)
    assert body["input"] == [_OVERHEARD, user("[sim text=Hi]")]
    assert not {"type", "generate", "previous_response_id"} & set(body)


# --- going on from an earlier answer


async def _tool_call(talk: SocketTalk, **more: Json) -> tuple[str, list[Json], JsonObject]:
    """Let the model call a tool; return the response's id, its items, and the tool's result."""
    text = "[sim think] Run the shell command 'echo hi'"
    messages = await talk.turn([user(text)], tools=[_SHELL], **more)
    items = output(messages)
    call = next(i for i in items if is_object(i) and i["type"] == "function_call")
    told: JsonObject = {
        "type": "function_call_output",
        "call_id": call["call_id"],
        "output": "hi\n",
    }
    return response_id(messages), items, told


async def test_a_tool_loop_sends_only_what_is_new_and_the_backend_gets_all(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        warm = response_id(await talk.turn([_OVERHEARD], generate=False))
        first, items, told = await _tool_call(talk, previous_response_id=warm)
        messages = await talk.turn([told], tools=[_SHELL], previous_response_id=first)
        assert kinds(messages)[-1] == "response.completed"
        got = get_list(sent(relay), "input")
        assert got[0] == _OVERHEARD
        assert got[2:-1] == items
        assert got[-1] == told
        reasoning = next(item for item in got if is_object(item) and item["type"] == "reasoning")
        assert is_object(reasoning)
        assert reasoning["encrypted_content"]
        # And once more, from an older answer: its branch goes on from there.
        await talk.turn("another way", previous_response_id=warm)
        assert len(get_list(sent(relay), "input")) == 2


async def test_an_id_is_good_on_a_new_socket_too(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay:
        async with talking(relay) as talk:
            first, items, told = await _tool_call(talk)
        async with talking(relay) as talk:
            await talk.turn([told], tools=[_SHELL], previous_response_id=first)
    assert get_list(sent(relay), "input")[1:] == [*items, told]


async def test_an_id_is_good_on_another_account_without_what_only_its_maker_can_read(
    tmp_path: Path,
) -> None:
    async with (
        over_http(tmp_path, Simulator(accounts=some_accounts(2))) as relay,
        talking(relay) as talk,
    ):
        first, items, told = await _tool_call(talk)
        [maker] = relay.accounts_asked
        assert maker is not None
        relay.simulator.limit(maker)
        messages = await talk.turn([told], tools=[_SHELL], previous_response_id=first)
        assert kinds(messages)[-1] == "response.completed"
        assert relay.accounts_asked[-1] != maker
        readable = [i for i in items if is_object(i) and i["type"] != "reasoning"]
        assert get_list(sent(relay), "input")[1:] == [*readable, told]


async def test_an_unnamed_client_is_known_again_by_the_answer(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay:
        async with talking(relay, session=None) as talk:
            warm = response_id(await talk.turn([_OVERHEARD], generate=False))
            first = response_id(await talk.turn("hello", previous_response_id=warm))
        async with talking(relay, session=None) as talk:
            messages = await talk.turn("on", previous_response_id=first)
        assert kinds(messages)[-1] == "response.completed"
        assert sent(relay, 0)["prompt_cache_key"] == sent(relay, 1)["prompt_cache_key"]


def _not_found(response_id: str) -> JsonObject:
    """As the backend says it (recorded)."""
    return {
        "type": "error",
        "status": 400,
        "error": {
            "type": "invalid_request_error",
            "code": "previous_response_not_found",
            "message": f"Previous response with id '{response_id}' not found.",
            "param": "previous_response_id",
        },
    }


async def test_an_unknown_id_is_refused_in_the_backends_own_words(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        assert await talk.turn(previous_response_id="resp_x") == [_not_found("resp_x")]
        assert relay.asked == []
        assert len(relay.services.sessions) == 0
        assert kinds(await talk.turn())[-1] == "response.completed"


@pytest.mark.parametrize(
    ("own", "others"),
    [
        ({"session": "a"}, {"session": "b"}),
        (
            {"session": None, "headers": {"authorization": "Bearer key-a"}},
            {"session": None, "headers": {"authorization": "Bearer key-b"}},
        ),
        (
            {"session": "a", "headers": {"authorization": "Bearer key-a"}},
            {"session": None, "headers": {"authorization": "Bearer key-b"}},
        ),
    ],
    ids=["another session", "another client", "another client without a name"],
)
async def test_an_id_of_another_session_is_unknown(
    tmp_path: Path, own: dict[str, Any], others: dict[str, Any]
) -> None:
    async with (
        over_http(tmp_path) as relay,
        talking(relay, **own) as talk,
        talking(relay, **others) as other,
    ):
        first = response_id(await talk.turn())
        await other.turn()
        assert await other.turn(previous_response_id=first) == [_not_found(first)]
        assert len(relay.asked) == 2
        assert kinds(await talk.turn(previous_response_id=first))[-1] == "response.completed"


async def test_with_client_keys_one_name_is_one_session_for_each_key(tmp_path: Path) -> None:
    keys = ("first-key-of-sixteen", "second-key-of-sixteen")
    async with over_http(tmp_path, server=ServerSettings(client_keys=keys)) as relay:
        async with talking(relay, headers={"authorization": f"Bearer {keys[0]}"}) as talk:
            first = response_id(await talk.turn())
        async with talking(relay, headers={"authorization": f"Bearer {keys[1]}"}) as talk:
            assert await talk.turn(previous_response_id=first) == [_not_found(first)]


async def test_a_turn_that_failed_leaves_the_id_before_it_good(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        first = response_id(await talk.turn())
        failed = await talk.turn("[sim fault=eof]", previous_response_id=first)
        assert kinds(failed)[-1] == "response.failed"
        lost = response_id(failed)
        assert await talk.turn(previous_response_id=lost) == [_not_found(lost)]
        assert kinds(await talk.turn("on", previous_response_id=first))[-1] == "response.completed"
        assert len(get_list(sent(relay), "input")) == 3


async def test_a_post_goes_on_from_nothing(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay:
        answer = await relay.post("/v1/responses", ask(stream=False))
        first = answer.json()["id"]
        answer = await relay.post("/v1/responses", ask(previous_response_id=first))
        assert answer.status_code == 400
        async with talking(relay, session=None) as talk:
            assert await talk.turn(previous_response_id=first) == [_not_found(first)]


# --- several messages, several clients


async def test_a_second_message_waits_for_the_end_of_the_first(tmp_path: Path) -> None:
    async with over_http(tmp_path, Simulator(pace_s=0.002)) as relay, talking(relay) as talk:
        await talk.create("[sim text=first]")
        await talk.create("[sim text=second]")
        await talk.say("nonsense")
        await talk.create("[sim text=third]")
        await talk.create("[sim text=fourth]")
        first, second = await talk.until_end(), await talk.until_end()
        [refused] = await talk.until_end()
        third, fourth = await talk.until_end(), await talk.until_end()
    told = [str(output(messages)) for messages in (first, second, third, fourth)]
    for text, name in zip(told, ("first", "second", "third", "fourth"), strict=True):
        assert name in text
    assert refused["status"] == 400
    ids = {response_id(messages) for messages in (first, second, third, fourth)}
    assert len(ids) == 4


async def test_an_interrupt_ends_the_running_turn_only(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        await talk.create("[sim fault=hang]")
        created = await talk.until("response.created")
        await talk.until("response.output_text.delta")
        await talk.create("[sim text=next]")
        await talk.say({"type": "response.interrupt", "discard_partial_items": True})
        messages = await talk.until_end()
        response = get_object(messages[-1], "response")
        assert messages[-1]["type"] == "response.incomplete"
        assert response["id"] == get_object(created, "response")["id"]
        assert response["incomplete_details"] == {"reason": "interrupted"}
        await relay.until_left(relay.asked[0])
        assert "next" in str(output(await talk.until_end()))


async def test_an_interrupt_before_the_first_output_ends_the_turn_too(tmp_path: Path) -> None:
    async with over_http(tmp_path) as relay, talking(relay) as talk:
        await talk.create("[sim fault=hang_early]")
        await relay.until_asked()
        await talk.say({"type": "response.interrupt"})
        assert kinds(await talk.until_end()) == ["response.incomplete"]
        await relay.until_left(relay.asked[0])
        assert kinds(await talk.turn())[-1] == "response.completed"


async def test_two_clients_at_once_disturb_each_other_in_nothing(tmp_path: Path) -> None:
    answers: dict[str, str] = {}

    async def client(relay: LiveRelay, name: str) -> None:
        async with talking(relay, session=name) as talk:
            first = response_id(await talk.turn(f"[sim text={name}]"))
            for _ in range(3):
                said = f"[sim text={name} again]"
                messages = await talk.turn(said, previous_response_id=first)
                first = response_id(messages)
                answers[name] = answers.get(name, "") + str(output(messages))

    async with over_http(tmp_path, Simulator(pace_s=0.001)) as relay:
        async with trio.open_nursery() as nursery:
            for name in ("one", "two", "three"):
                nursery.start_soon(client, relay, name)
        await relay.until_at_rest()
    for name, told in answers.items():
        assert told.count(f"{name} again") == 3


# --- other backends


@pytest.mark.parametrize("wire", ["responses", "chat"])
async def test_another_kind_of_backend_is_gone_on_with_as_well(tmp_path: Path, wire: Any) -> None:  # noqa: ANN401
    local = OpenAISimulator(wire=wire)
    async with over_http(tmp_path, others={"local": local}) as relay, talking(relay) as talk:
        warm = await talk.turn([_OVERHEARD], model="local:local-model", generate=False)
        assert kinds(warm) == ["response.created", "response.completed"]
        assert local.seen == []
        first = await talk.turn(
            [user("[sim text=Hi]")],
            model="local:local-model",
            previous_response_id=response_id(warm),
        )
        assert kinds(first)[-1] == "response.completed"
        on = await talk.turn(
            [user("[sim text=Ho]")],
            model="local:local-model",
            previous_response_id=response_id(first),
        )
        assert kinds(on)[-1] == "response.completed"
        body = local.seen[-1].body
        assert isinstance(body, dict)
        assert not {"type", "generate", "previous_response_id"} & set(body)
        told = body["input" if wire == "responses" else "messages"]
        assert isinstance(told, list)
        assert len(told) == 4


async def test_a_session_goes_on_from_one_backend_to_another(tmp_path: Path) -> None:
    local = OpenAISimulator()
    async with over_http(tmp_path, others={"local": local}) as relay, talking(relay) as talk:
        first = response_id(await talk.turn("[sim text=Hi]", model="local:local-model"))
        messages = await talk.turn("[sim text=Ho]", previous_response_id=first)
        assert kinds(messages)[-1] == "response.completed"
        assert len(get_list(sent(relay), "input")) == 3


async def test_a_route_leads_on_to_the_next_backend(tmp_path: Path) -> None:
    routes = ModelsSettings(routes={"mine": ("gpt-5.5", "local:local-model")})
    local = OpenAISimulator()
    async with (
        over_http(tmp_path, others={"local": local}, models=routes) as relay,
        talking(relay) as talk,
    ):
        warm = response_id(await talk.turn([], model="mine", generate=False))
        relay.simulator.limit("sim-1")
        messages = await talk.turn("hello", model="mine", previous_response_id=warm)
        assert kinds(messages)[-1] == "response.completed"
    assert len(local.seen) == 1
