"""Backends of other kinds, through sockets: each client protocol on each wire; what goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import pytest
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from codexrelay.backends.codex.settings import BudgetSettings
from codexrelay.backends.openai.standing import Standing
from codexrelay.config.settings import ModelsSettings, ServerSettings
from codexrelay.protocol.raw import get_object, get_text, is_object, parse_object
from harness.openai_api import OpenAISimulator
from harness.openai_api.api import KEY, MODEL
from tests.fakes.chat_client import ChatClient
from tests.fakes.relay import ask, ask_chat, relaying
from tests.fakes.responses_client import ResponsesClient

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from typing import Any

    import httpx

    from codexrelay.protocol.raw import Json, JsonObject
    from harness.openai_api import Wire
    from tests.fakes.relay import LiveRelay

NAME: Final = f"local:{MODEL}"
WIRES: Final[tuple[Wire, ...]] = ("chat", "responses")
PATHS: Final = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}
SHELL: Final[JsonObject] = {
    "name": "bash",
    "parameters": {
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
    },
}
IN_CHAT: Final[Json] = [{"type": "function", "function": SHELL}]
IN_RESPONSES: Final[Json] = [{"type": "function", **SHELL}]
#: As often as the relay asks one backend in vain.
AGAIN: Final = 3

combined = pytest.mark.parametrize("wire", WIRES)
spoken_by_client = pytest.mark.parametrize("spoken", WIRES)


def running(
    folder: Path,
    api: OpenAISimulator,
    **more: Any,  # noqa: ANN401 - goes to `relaying`
) -> AbstractAsyncContextManager[LiveRelay]:
    return relaying(folder, others={"local": api}, **more)


async def post(relay: LiveRelay, spoken: Wire, text: str = "hello", **more: Json) -> httpx.Response:
    body = {"model": NAME, **more}
    asked = ask_chat(text, **body) if spoken == "chat" else ask(text, **body)
    return await relay.post(PATHS[spoken], asked)


def text_of(spoken: Wire, answer: httpx.Response, *, stream: bool) -> str:
    """Return what the model said, from an answer that is held against the SDK's types."""
    if spoken == "chat" and stream:
        chat = ChatClient()
        chat.read(answer.content)
        assert chat.done
        return "".join(delta.get("content") or "" for delta in chat.deltas)
    if spoken == "chat":
        completion = ChatCompletion.model_validate(answer.json())
        return completion.choices[0].message.content or ""
    if stream:
        client = ResponsesClient()
        client.read(answer.content)
        assert client.terminal is not None
        return "".join(e["delta"] for e in client.events if e["type"].endswith("text.delta"))
    return Response.model_validate(answer.json()).output_text


def forget_how_it_stood(relay: LiveRelay) -> None:
    """Let the backend be asked as if nothing had ever gone wrong."""
    relay.services.relay.others["local"].lender.standing = Standing()


# four combinations


@combined
@spoken_by_client
async def test_every_client_is_served_by_every_wire_streamed_and_whole(
    tmp_path: Path, wire: Wire, spoken: Wire
) -> None:
    api = OpenAISimulator(wire=wire)
    async with running(tmp_path, api) as relay:
        for stream in (True, False):
            answer = await post(relay, spoken, "[sim text=Hi]", stream=stream)
            assert answer.status_code == 200, answer.text
            assert text_of(spoken, answer, stream=stream) == "Hi"
            assert answer.headers["x-codexrelay-account"] == "local"
            assert answer.headers["x-codexrelay-attempts"] == "1"
        assert {turn.path for turn in api.turns} == {PATHS[wire]}
        for turn in api.turns:
            assert is_object(turn.body)
            assert (turn.body["model"], turn.body["stream"]) == (MODEL, True)
        assert relay.asked == [], "nothing goes to Codex"
        line = await relay.journal(answer.headers["x-codexrelay-request-id"])
        assert line["backend"] == "local"
        assert line["input_tokens"]


@combined
async def test_a_chat_client_gets_its_tool_call_and_goes_on(tmp_path: Path, wire: Wire) -> None:
    api = OpenAISimulator(wire=wire)
    async with running(tmp_path, api) as relay:
        text = "Run the shell command 'echo hi'"
        answer = await post(relay, "chat", text, tools=IN_CHAT, stream=False)
        message = answer.json()["choices"][0]["message"]
        [call] = message["tool_calls"]
        assert parse_object(call["function"]["arguments"].encode()) == {"command": "echo hi"}
        result: JsonObject = {"role": "tool", "tool_call_id": call["id"], "content": "hi"}
        history: list[Json] = [{"role": "user", "content": text}, message, result]
        answer = await post(relay, "chat", messages=history, tools=IN_CHAT, stream=False)
        assert answer.status_code == 200, answer.text


@combined
async def test_a_responses_client_gets_its_tool_call_and_goes_on(
    tmp_path: Path, wire: Wire
) -> None:
    api = OpenAISimulator(wire=wire)
    async with running(tmp_path, api) as relay:
        text = "Run the shell command 'echo hi'"
        answer = await post(relay, "responses", text, tools=IN_RESPONSES, stream=False)
        output = answer.json()["output"]
        [call] = [item for item in output if item["type"] == "function_call"]
        assert parse_object(call["arguments"].encode()) == {"command": "echo hi"}
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "hi"}
        history = [{"role": "user", "content": text}, *output, result]
        answer = await post(relay, "responses", input=history, tools=IN_RESPONSES, stream=False)
        assert answer.status_code == 200, answer.text


# what reaches the backend


async def test_what_the_client_wrote_reaches_its_own_protocol_as_it_is(tmp_path: Path) -> None:
    for wire in WIRES:
        api = OpenAISimulator(wire=wire)
        async with running(tmp_path / wire, api) as relay:
            answer = await post(relay, wire, temperature=0.3, metadata={"a": "b"}, user="me")
            assert answer.status_code == 200, answer.text
            [turn] = api.turns
            assert is_object(turn.body)
            assert turn.body["temperature"] == 0.3
            assert turn.body["metadata"] == {"a": "b"}
            assert "instructions" not in turn.body
            assert "store" not in turn.body
            assert "include" not in turn.body


async def test_nothing_of_the_clients_headers_and_no_token_goes_out(tmp_path: Path) -> None:
    api = OpenAISimulator()
    async with running(tmp_path, api) as relay:
        headers = {
            "authorization": "Bearer of-the-client",
            "x-codex-turn-state": "secret",
            "originator": "codex_cli_rs",
            "cookie": "a=b",
        }
        answer = await relay.post(PATHS["chat"], ask_chat(model=NAME), headers=headers)
        assert answer.status_code == 200
        [turn] = api.turns
        assert turn.header("authorization") == f"Bearer {KEY}"
        told = {name for name, _ in turn.headers}
        assert told.isdisjoint({"x-codex-turn-state", "originator", "cookie", "chatgpt-account-id"})
        assert "of-the-client" not in str(turn.headers)


async def test_a_cache_key_is_made_where_responses_are_spoken_and_stays_the_same(
    tmp_path: Path,
) -> None:
    api = OpenAISimulator(wire="responses")
    async with running(tmp_path, api) as relay:
        for spoken in WIRES:
            await post(relay, spoken)
        await post(relay, "responses", prompt_cache_key="mine")
        keys = [turn.body["prompt_cache_key"] for turn in api.turns if is_object(turn.body)]
    assert keys[0] == keys[1], "one conversation, in either protocol"
    assert keys[2] == "mine"


async def test_an_earlier_answer_is_gone_on_from_where_responses_are_spoken(
    tmp_path: Path,
) -> None:
    api = OpenAISimulator(wire="responses")
    async with running(tmp_path, api) as relay:
        first = await post(relay, "responses", "one", stream=False)
        await post(relay, "responses", "two", previous_response_id=first.json()["id"])
        before, after = (turn.body for turn in api.turns)
        assert is_object(before)
        assert is_object(after)
        assert after["previous_response_id"] == first.json()["id"]
        assert after["prompt_cache_key"] == before["prompt_cache_key"], "it is the same session"
        refused = await relay.post(PATHS["responses"], ask("two", previous_response_id="resp_1"))
        assert refused.status_code == 400, "Codex keeps none"


async def test_the_reasoning_of_codex_stays_with_codex_when_the_session_goes_elsewhere(
    tmp_path: Path,
) -> None:
    api = OpenAISimulator(wire="responses")
    headers = {"x-session-id": "one"}
    async with running(tmp_path, api) as relay:
        asked = ask("Run the shell command 'echo hi'", stream=False, tools=IN_RESPONSES)
        codex = await relay.post(PATHS["responses"], asked, headers=headers)
        own, call = codex.json()["output"]
        assert own["encrypted_content"]
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "hi"}
        theirs: JsonObject = {"type": "reasoning", "summary": [], "encrypted_content": "theirs"}
        answer = await relay.post(
            PATHS["responses"],
            {"model": NAME, "input": [own, call, result, theirs]},
            headers=headers,
        )
        assert answer.headers["x-codexrelay-reasoning-stripped"] == "1"
        [turn] = api.turns
        assert is_object(turn.body)
        assert turn.body["input"] == [call, result, theirs]


async def test_effort_and_tier_of_the_models_name_reach_the_backend(tmp_path: Path) -> None:
    api = OpenAISimulator()
    async with running(tmp_path, api) as relay:
        await post(relay, "chat", model=f"{NAME}?reasoning_effort=low")
        [turn] = api.turns
        assert is_object(turn.body)
        assert turn.body["reasoning_effort"] == "low"


async def test_a_default_backend_takes_what_names_none(tmp_path: Path) -> None:
    api = OpenAISimulator()
    async with running(tmp_path, api, default_backend="local") as relay:
        answer = await post(relay, "chat", model=MODEL)
        assert answer.status_code == 200, answer.text
        assert len(api.turns) == 1


# what goes wrong


@combined
@spoken_by_client
async def test_refusals_of_the_backend_reach_both_kinds_of_clients_as_openai_errors(
    tmp_path: Path, wire: Wire, spoken: Wire
) -> None:
    api = OpenAISimulator(wire=wire)
    async with running(tmp_path, api) as relay:
        for fault, status in (("400", 400), ("429later", 429), ("401", 401)):
            api.queue_faults(*[fault] * AGAIN)
            answer = await post(relay, spoken)
            assert answer.status_code == status, (fault, answer.text)
            error = get_object(parse_object(answer.content), "error")
            assert set(error) >= {"message", "type", "code", "param"}
            if status == 429:
                assert "retry-after" in answer.headers
            api.forget_faults()
            forget_how_it_stood(relay)


@combined
@spoken_by_client
async def test_a_stream_that_fails_after_its_first_output_ends_with_one_error(
    tmp_path: Path, wire: Wire, spoken: Wire
) -> None:
    api = OpenAISimulator(wire=wire)
    async with running(tmp_path, api) as relay:
        for fault in ("eof", "drop", "error", "cut"):
            api.queue_faults(fault)
            answer = await post(relay, spoken, "[sim deltas=5]")
            assert answer.status_code == 200
            if spoken == "chat":
                chat = ChatClient()
                chat.read(answer.content)
                assert chat.error is not None, fault
            else:
                assert answer.content.count(b"event: response.failed") == 1, fault
                assert b"response.completed" not in answer.content
            assert len(api.turns) == 1, "nothing is sent twice after the first output"
            api.seen.clear()


@combined
@spoken_by_client
async def test_faults_before_the_first_output_are_repaired_unseen(
    tmp_path: Path, wire: Wire, spoken: Wire
) -> None:
    api = OpenAISimulator(wire=wire)
    async with running(tmp_path, api) as relay:
        for fault in ("503", "reset_early", "error_first"):
            api.queue_faults(fault)
            answer = await post(relay, spoken, "[sim text=Hi]")
            assert answer.status_code == 200, (fault, answer.text)
            assert text_of(spoken, answer, stream=True) == "Hi", fault
            assert len(api.turns) == 2, fault
            api.seen.clear()


async def test_a_backend_that_is_not_there_is_a_502_that_says_where_it_should_be(
    tmp_path: Path,
) -> None:
    api = OpenAISimulator()
    async with running(tmp_path, api) as relay:
        other = relay.services.relay.others["local"]
        other.backend = attrs.evolve(
            other.backend, base_url=other.backend.base_url.copy_with(port=1)
        )
        answer = await post(relay, "chat")
        assert answer.status_code == 502
        assert "127.0.0.1:1" in answer.text
        health = (await relay.http.get("/healthz")).json()
        [told] = health["backends"]
        assert (told["name"], told["state"], told["wire"]) == ("local", "unwell", "chat")


@combined
@spoken_by_client
async def test_a_client_that_leaves_stops_the_backends_stream(
    tmp_path: Path, wire: Wire, spoken: Wire
) -> None:
    api = OpenAISimulator(wire=wire, pace_s=0.05)
    async with running(tmp_path, api) as relay:
        text = "[sim deltas=2000]"
        body = ask_chat(text, model=NAME) if spoken == "chat" else ask(text, model=NAME)
        async with relay.open_turn(body, path=PATHS[spoken]) as turn:
            await turn.until(b"delta", times=2)
        await relay.until_at_rest()
        [seen] = api.turns
        await api.wait_until(lambda: seen.ended)
        assert seen.left_at_s is not None


async def test_a_silent_backend_is_told_by_its_own_budget(tmp_path: Path) -> None:
    api = OpenAISimulator()
    budgets = BudgetSettings(headers_s=0.2)
    async with running(tmp_path, api, budgets=budgets) as relay:
        api.queue_faults("hang_early")
        answer = await post(relay, "chat", stream=False)
        assert answer.status_code == 504
        assert "backends.local.budgets.headers_s" in answer.text


# routes


async def test_a_route_goes_on_to_codex_and_says_so(tmp_path: Path) -> None:
    api = OpenAISimulator()
    models = ModelsSettings(routes={"coder": (NAME, "openai-codex:gpt-5.5")})
    async with running(tmp_path, api, models=models) as relay:
        for spoken in WIRES:
            forget_how_it_stood(relay)
            api.queue_faults("404")
            answer = await post(relay, spoken, "[sim text=Hi]", model="coder")
            assert answer.status_code == 200, answer.text
            assert text_of(spoken, answer, stream=True) == "Hi"
            line = await relay.journal(answer.headers["x-codexrelay-request-id"])
            assert (line["model"], line["backend"]) == ("gpt-5.5", "openai-codex")
            attempts: Any = line["attempts"]
            assert [(a["account"], a["model"]) for a in attempts] == [
                ("local", MODEL),
                ("sim-1", "gpt-5.5"),
            ]


async def test_a_route_goes_on_from_codex_to_another_backend(tmp_path: Path) -> None:
    api = OpenAISimulator()
    models = ModelsSettings(routes={"coder": ("openai-codex:gpt-5.5", NAME)})
    async with running(tmp_path, api, models=models) as relay:
        relay.simulator.limit("sim-1", resets_in_s=3600)
        for spoken in WIRES:
            answer = await post(relay, spoken, "[sim text=Hi]", model="coder")
            assert answer.status_code == 200, answer.text
            assert text_of(spoken, answer, stream=True) == "Hi"
            assert answer.headers["x-codexrelay-account"] == "local"
        # The second turn did not even ask the account that waits for its quota.
        assert [seen.status for seen in relay.asked] == [429]
        line = await relay.journal(answer.headers["x-codexrelay-request-id"])
        assert line["put_off"] == ["openai-codex:gpt-5.5"]


async def test_when_no_backend_of_a_route_serves_all_of_them_are_named(tmp_path: Path) -> None:
    api = OpenAISimulator()
    models = ModelsSettings(routes={"coder": (NAME, "openai-codex:gpt-5.5")})
    async with running(tmp_path, api, models=models) as relay:
        relay.simulator.limit("sim-1", resets_in_s=3600)
        api.queue_faults("403")
        answer = await post(relay, "responses", model="coder")
        assert answer.status_code == 429
        told = get_text(get_object(parse_object(answer.content), "error"), "message") or ""
        assert f"Also asked: local:{MODEL}" in told


async def test_a_request_that_the_first_backend_cannot_be_sent_begins_no_turn(
    tmp_path: Path,
) -> None:
    api = OpenAISimulator()
    async with running(tmp_path, api) as relay:
        for spoken, broken in (("chat", {"messages": 3}), ("responses", {"input": 3})):
            answer = await relay.post(PATHS[spoken], {"model": NAME, **broken})
            assert answer.status_code == 400
            assert answer.json()["error"]["type"] == "invalid_request_error"
        assert api.turns == []


# figures


async def test_figures_are_for_those_who_may_use_the_relay(tmp_path: Path) -> None:
    server = ServerSettings(client_keys=("client-key-0123456789",))
    async with relaying(tmp_path, server=server) as relay:
        assert (await relay.http.get("/metrics")).status_code == 401
        headers = {"authorization": "Bearer client-key-0123456789"}
        answer = await relay.http.get("/metrics", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        headers["host"] = "evil.example"
        assert (await relay.http.get("/metrics", headers=headers)).status_code == 403


async def test_figures_count_turns_by_backend_and_outcome(tmp_path: Path) -> None:
    api = OpenAISimulator()
    async with running(tmp_path, api) as relay:
        await post(relay, "chat", "[sim text=Hi]")
        await relay.post("/v1/responses", ask())
        api.queue_faults("400")
        await post(relay, "responses")
        told = (await relay.http.get("/metrics")).text.splitlines()
        for backend, protocol, outcome in (
            ("local", "chat", "completed"),
            ("openai-codex", "responses", "completed"),
            ("", "responses", "failed"),
        ):
            labels = f'backend="{backend}",outcome="{outcome}",protocol="{protocol}"'
            assert f"codexrelay_turns_total{{{labels}}} 1.0" in told
        assert "codexrelay_running_turns 0.0" in told
        assert any(line.startswith('codexrelay_tokens_total{backend="local"') for line in told)
