"""The strict OpenAI-compatible API: what it says, what it refuses, how it goes wrong."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio
from click.testing import CliRunner
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from codexrelay.protocol.raw import get_list, get_object, get_text, parse_object
from harness.__main__ import main
from harness.openai_api import FAULTS, OpenAISimulator, chat_checks, responses_checks
from harness.openai_api.api import KEY, MODEL
from harness.openai_api.faults import INSTEAD, WITHIN
from harness.simulator.seen import append_to
from tests.fakes.no_tls import NO_TLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from codexrelay.protocol.raw import Json, JsonObject

PARAMETERS: Final[JsonObject] = {
    "type": "object",
    "properties": {"command": {"type": "string"}},
    "required": ["command"],
}
FUNCTION: Final[JsonObject] = {"name": "bash", "parameters": PARAMETERS}
CHAT_TOOL: Final[JsonObject] = {"type": "function", "function": FUNCTION}
CALL: Final[JsonObject] = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "bash", "arguments": "{}"},
}
CALLED: Final[JsonObject] = {"role": "assistant", "content": None, "tool_calls": [CALL]}
ITEM: Final[JsonObject] = {
    "type": "function_call",
    "call_id": "call_1",
    "name": "bash",
    "arguments": "{}",
}


def user(text: str = "hello") -> JsonObject:
    return {"role": "user", "content": text}


def result(call_id: str = "call_1") -> JsonObject:
    return {"role": "tool", "tool_call_id": call_id, "content": "hi"}


def output(call_id: str = "call_1") -> JsonObject:
    return {"type": "function_call_output", "call_id": call_id, "output": "hi"}


def chat(*messages: Json, **fields: Json) -> JsonObject:
    return {"model": MODEL, "messages": list(messages) or [user()], **fields}


def responses(*items: Json, **fields: Json) -> JsonObject:
    return {"model": MODEL, "input": list(items) or [user()], **fields}


@asynccontextmanager
async def client_of(simulator: OpenAISimulator) -> AsyncIterator[httpx.AsyncClient]:
    async with trio.open_nursery() as nursery:
        await nursery.start(simulator.serve)
        with trio.fail_after(60):
            async with httpx.AsyncClient(
                base_url=simulator.api_base_url,
                headers={"authorization": f"Bearer {KEY}"},
                trust_env=False,
                verify=NO_TLS,
            ) as http:
                yield http
        nursery.cancel_scope.cancel()


async def asked(simulator: OpenAISimulator, body: JsonObject) -> httpx.Response:
    path = "/chat/completions" if simulator.wire == "chat" else "/responses"
    async with client_of(simulator) as http:
        return await http.post(path, json=body)


def chunks_of(answer: httpx.Response) -> list[JsonObject]:
    *events, done = [line for line in answer.text.split("\n\n") if line]
    assert done == "data: [DONE]"
    return [parse_object(event.removeprefix("data: ").encode()) for event in events]


async def test_a_chat_is_streamed_as_openai_streams_it() -> None:
    wish = chat(stream=True, stream_options={"include_usage": True})
    answer = await asked(OpenAISimulator(), wish)
    chunks = chunks_of(answer)
    parsed = [ChatCompletionChunk.model_validate(chunk) for chunk in chunks]
    assert [chunk.choices[0].finish_reason for chunk in parsed if chunk.choices][-1] == "stop"
    assert parsed[-1].usage is not None
    assert not parsed[-1].choices
    said = "".join(chunk.choices[0].delta.content or "" for chunk in parsed if chunk.choices)
    assert said == "Hello from the simulated backend."


async def test_usage_is_streamed_only_if_it_was_asked_for() -> None:
    answer = await asked(OpenAISimulator(), chat(stream=True))
    assert all("usage" not in chunk for chunk in chunks_of(answer))


async def test_a_chat_with_tools_gets_a_call_in_pieces() -> None:
    wish = chat(user("Run the shell command 'ls'"), tools=[CHAT_TOOL], stream=True)
    deltas = [
        ChatCompletionChunk.model_validate(chunk).choices[0]
        for chunk in chunks_of(await asked(OpenAISimulator(), wish))
    ]
    calls = [call for choice in deltas for call in choice.delta.tool_calls or ()]
    arguments = "".join((call.function and call.function.arguments) or "" for call in calls)
    assert len(calls) > 2
    assert json.loads(arguments) == {"command": "ls"}
    assert deltas[-1].finish_reason == "tool_calls"


async def test_a_chat_whose_tool_has_answered_gets_words_in_one_body() -> None:
    wish = chat(user(), CALLED, result(), tools=[CHAT_TOOL])
    whole = ChatCompletion.model_validate((await asked(OpenAISimulator(), wish)).json())
    assert whole.choices[0].message.content == "The command printed: hi"


async def test_a_whole_chat_answer_holds_its_calls_put_together() -> None:
    wish = chat(user("[sim parallel=2] Run the shell command 'ls'"), tools=[CHAT_TOOL])
    whole = ChatCompletion.model_validate((await asked(OpenAISimulator(), wish)).json())
    calls = whole.choices[0].message.tool_calls or []
    told = [call.function.arguments for call in calls if call.type == "function"]
    assert told == ['{"command":"ls"}'] * 2


@pytest.mark.parametrize("stream", [True, False])
async def test_responses_are_served_without_encrypted_reasoning(*, stream: bool) -> None:
    tool: JsonObject = {"type": "function", **FUNCTION}
    answer = await asked(OpenAISimulator(wire="responses"), responses(tools=[tool], stream=stream))
    last = answer.text.rstrip().rpartition("data: ")[2]
    told = parse_object(last.encode())
    response = Response.model_validate(told["response"] if stream else told)
    assert [item.type for item in response.output] == ["function_call"]
    assert "encrypted_content" not in answer.text


async def test_the_models_are_listed_for_who_has_the_key() -> None:
    async with client_of(OpenAISimulator(models=("a", "b"))) as http:
        listed = (await http.get("/models")).json()
        refused = await http.get("/models", headers={"authorization": "Bearer other"})
    assert [model["id"] for model in listed["data"]] == ["a", "b"]
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("wire", "path"),
    [("chat", "/responses"), ("responses", "/chat/completions"), ("chat", "/chat/completions/")],
)
async def test_paths_of_another_wire_are_unknown(wire: str, path: str) -> None:
    async with client_of(OpenAISimulator(wire=wire)) as http:  # type: ignore[arg-type]
        assert (await http.post(path, json=chat())).status_code == 404


@pytest.mark.parametrize(
    "header", ["chatgpt-account-id", "originator", "x-codex-turn-state", "openai-beta"]
)
async def test_headers_that_are_for_codex_alone_are_refused(header: str) -> None:
    async with client_of(OpenAISimulator()) as http:
        answer = await http.post("/chat/completions", json=chat(), headers={header: "x"})
    assert answer.status_code == 400
    assert header in answer.text


async def test_where_no_key_is_wanted_none_may_come() -> None:
    answer = await asked(OpenAISimulator(key=None), chat())
    assert answer.status_code == 400
    assert "key" in answer.json()["error"]["message"]


async def test_a_model_that_it_has_not_is_not_found() -> None:
    answer = await asked(OpenAISimulator(), chat() | {"model": "other"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


CHAT_PROBLEMS: Final[dict[str, tuple[JsonObject, str]]] = {
    "a field of Codex": (chat(instructions="x"), "instructions"),
    "an unknown role": (chat({"role": "critic", "content": "x"}), "'critic'"),
    "no messages": ({"model": MODEL, "messages": []}, "messages"),
    "a part of the other wire": (
        chat({"role": "user", "content": [{"type": "input_text", "text": "x"}]}),
        "'input_text'",
    ),
    "a message without content": (chat({"role": "user"}), "content is missing"),
    "a result of no call": (chat(user(), result()), "'call_1'"),
    "a result of another call": (chat(user(), CALLED, result("call_2")), "'call_2'"),
    "a result too many": (chat(user(), CALLED, result(), result()), "'call_1'"),
    "a call without a result": (chat(user(), CALLED, user()), "call_1"),
    "a last call without a result": (chat(user(), CALLED), "call_1"),
    "arguments that are no text": (
        chat(
            user(),
            CALLED | {"tool_calls": [CALL | {"function": {"name": "bash", "arguments": {}}}]},
            result(),
        ),
        "arguments as text",
    ),
    "a flat tool": (chat(tools=[{"type": "function", **FUNCTION}]), "unknown field"),
    "a custom tool": (chat(tools=[{"type": "custom", "custom": {}}]), "only functions"),
    "a tool without a name": (chat(tools=[{"type": "function", "function": {}}]), "name"),
    "an empty list of tools": (chat(tools=[]), "tools"),
    "a choice without tools": (chat(tool_choice="auto"), "tool_choice"),
    "a choice of nothing": (
        chat(tools=[CHAT_TOOL], tool_choice={"type": "function", "function": {"name": "other"}}),
        "tool_choice",
    ),
    "options of no stream": (chat(stream_options={"include_usage": True}), "stream_options"),
}


@pytest.mark.parametrize(("body", "words"), CHAT_PROBLEMS.values(), ids=CHAT_PROBLEMS)
def test_what_is_wrong_with_a_chat_is_said(body: JsonObject, words: str) -> None:
    assert words in (chat_checks.problem_of(body) or "")


def test_a_chat_of_every_role_and_part_is_fine() -> None:
    parts: list[Json] = [
        {"type": "text", "text": "x"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
    ]
    messages: list[Json] = [
        {"role": "system", "content": "x"},
        {"role": "developer", "content": "x"},
        {"role": "user", "content": parts},
        CALLED,
        result(),
        {"role": "assistant", "content": "x"},
        user(),
    ]
    body = chat(*messages, tools=[CHAT_TOOL], tool_choice="required", parallel_tool_calls=True)
    assert chat_checks.problem_of(body) is None


RESPONSES_PROBLEMS: Final[dict[str, tuple[JsonObject, str]]] = {
    "a field of a chat": (responses(messages=[]), "messages"),
    "something kept": (responses(previous_response_id="resp_1"), "previous_response_id"),
    "a tool of a chat": (responses(tools=[CHAT_TOOL]), "tool of a chat"),
    "a tool of Codex": (responses(tools=[{"type": "local_shell"}]), "'local_shell'"),
    "an item of Codex": (responses({"type": "additional_tools", "tools": []}), "additional_tools"),
    "an output of no call": (responses(user(), output()), "'call_1'"),
    "an output before its call": (responses(output(), ITEM), "'call_1'"),
    "a call without an output": (responses(user(), ITEM), "call_1"),
    "an output of another kind": (
        responses(ITEM, output() | {"type": "custom_tool_call_output"}),
        "'call_1'",
    ),
    "a part of the other wire": (
        responses({"role": "user", "content": [{"type": "text", "text": "x"}]}),
        "'text'",
    ),
    "an unknown role": (responses({"role": "tool", "content": "x"}), "'tool'"),
    "no input": ({"model": MODEL}, "input"),
}


@pytest.mark.parametrize(("body", "words"), RESPONSES_PROBLEMS.values(), ids=RESPONSES_PROBLEMS)
def test_what_is_wrong_with_a_responses_request_is_said(body: JsonObject, words: str) -> None:
    assert words in (responses_checks.problem_of(body) or "")


def test_a_responses_request_with_pairs_is_fine() -> None:
    assert responses_checks.problem_of(responses(user(), ITEM, output(), user())) is None


async def test_a_refusal_says_what_is_wrong() -> None:
    answer = await asked(OpenAISimulator(), chat(instructions="x"))
    assert answer.status_code == 400
    assert "instructions" in answer.json()["error"]["message"]


def test_a_fault_stands_in_one_table_only() -> None:
    assert not INSTEAD.keys() & WITHIN.keys()
    assert set(FAULTS) == INSTEAD.keys() | WITHIN.keys()


@pytest.mark.parametrize("wire", ["chat", "responses"])
@pytest.mark.parametrize(
    "fault", sorted(set(FAULTS) - {"hang", "hang_early", "hang_first", "slow"})
)
async def test_a_fault_spoils_one_answer_of_either_wire(wire: str, fault: str) -> None:
    simulator = OpenAISimulator(wire=wire)  # type: ignore[arg-type]
    simulator.queue_faults(fault)
    body = chat(stream=True) if wire == "chat" else responses(stream=True)
    path = "/chat/completions" if wire == "chat" else "/responses"
    async with client_of(simulator) as http:
        good = True
        try:
            spoilt = await http.post(path, json=body)
            good = spoilt.status_code == 200 and (
                "[DONE]" in spoilt.text or "response.completed" in spoilt.text
            )
            good = good and "<html>" not in spoilt.text
        except httpx.TransportError:
            good = False
        healed = await http.post(path, json=body)
    assert not good
    assert healed.status_code == 200
    assert [turn.fault for turn in simulator.turns] == [fault, None]


@pytest.mark.parametrize("fault", ["hang", "hang_first"])
async def test_a_client_that_leaves_a_silent_answer_is_seen_to_leave(fault: str) -> None:
    simulator = OpenAISimulator()
    simulator.queue_faults(fault)
    async with client_of(simulator) as http:
        async with http.stream("POST", "/chat/completions", json=chat(stream=True)) as answer:
            assert answer.status_code == 200
        await simulator.wait_until(lambda: simulator.turns[0].left_at_s is not None)


async def test_how_long_to_wait_is_said_in_a_header() -> None:
    simulator = OpenAISimulator()
    simulator.queue_faults("429later")
    answer = await asked(simulator, chat())
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3600")


async def test_the_prompt_can_ask_for_a_fault() -> None:
    answer = await asked(OpenAISimulator(), chat(user("[sim fault=503]")))
    assert answer.status_code == 503


async def test_faults_are_queued_and_requests_are_shown_over_http() -> None:
    simulator = OpenAISimulator()
    async with client_of(simulator) as http:
        queued = await http.post(f"{simulator.base_url}/_sim/faults", json=["503"])
        unknown = await http.post(f"{simulator.base_url}/_sim/faults", json=["flood"])
        spoilt = await http.post("/chat/completions", json=chat())
        seen = (await http.get(f"{simulator.base_url}/_sim/seen")).json()
    assert [answer.status_code for answer in (queued, unknown, spoilt)] == [200, 400, 503]
    assert seen[-1]["fault"] == "503"


async def test_the_wire_log_has_every_request_and_no_key(tmp_path: Path) -> None:
    log = tmp_path / "wire.jsonl"
    simulator = OpenAISimulator(on_ended=lambda seen: append_to(log, seen))
    await asked(simulator, chat(user("first")))
    (line,) = [parse_object(line) for line in log.read_bytes().splitlines()]
    assert get_text(line, "path") == "/v1/chat/completions"
    assert get_list(get_object(line, "body"), "messages") == [user("first")]
    assert KEY not in log.read_text()


def test_an_unknown_fault_or_wire_is_refused_with_the_known_ones() -> None:
    for option, known in (("--fault", "429later"), ("--wire", "responses")):
        told = CliRunner().invoke(main, ["simulate-openai", option, "flood"])
        assert told.exit_code == 2
        assert known in told.output
