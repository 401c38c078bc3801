"""`POST /v1/chat/completions` from the client's socket to the backend's, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import openai
import pytest
from openai.types.chat import ChatCompletion

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.protocol.prompt import DEFAULT_TEXT
from codexrelay.protocol.raw import get_list, get_text, is_object, parse_object
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes import responses_events as events
from tests.fakes.chat_client import ChatClient
from tests.fakes.relay import ask_chat, relaying
from tests.fakes.scripted_server import always_answering, serving

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.protocol.raw import Json, JsonObject
    from tests.fakes.relay import LiveRelay

_PATH: Final = "/v1/chat/completions"
_BASH: Final[JsonObject] = {
    "type": "function",
    "function": {
        "name": "bash",
        "parameters": {
            "type": "object",
            "properties": {"command": {"type": "string"}},
            "required": ["command"],
        },
    },
}
_PATCH: Final[JsonObject] = {
    "type": "custom",
    "custom": {
        "name": "apply_patch",
        "format": {
            "type": "grammar",
            "grammar": {"syntax": "lark", "definition": "start: begin"},
        },
    },
}
_CALLS: Final = [events.function("bash", "call_1"), events.custom("apply_patch", "call_1")]


async def stream(relay: LiveRelay, body: JsonObject) -> ChatClient:
    answer = await relay.post(_PATH, body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    client = ChatClient()
    client.read(answer.content)
    return client


async def whole(relay: LiveRelay, body: JsonObject) -> ChatCompletion:
    answer = await relay.post(_PATH, body | {"stream": False})
    assert answer.status_code == 200, answer.text
    return ChatCompletion.model_validate(answer.json(), strict=True)


def answered(body: JsonObject, message: dict[str, Any]) -> JsonObject:
    """Return the follow-up of `body`: the assistant's `message`, and a result for each call."""
    results: list[Json] = [
        {"role": "tool", "tool_call_id": call["id"], "content": "hi\n"}
        for call in message["tool_calls"]
    ]
    return body | {"messages": [*get_list(body, "messages"), message, *results]}


def input_of(relay: LiveRelay, number: int) -> list[JsonObject]:
    """Return the input items of the `number`-th request that the backend saw."""
    body = relay.asked[number].body
    assert is_object(body)
    return [item for item in get_list(body, "input") if is_object(item)]


def types(items: list[JsonObject]) -> list[str | None]:
    return [get_text(item, "type") for item in items]


async def test_a_tool_loop_comes_to_its_answer(tmp_path: Path) -> None:
    body = ask_chat("Run the shell command 'echo hi'", tools=[_BASH])
    async with relaying(tmp_path) as relay:
        first = await stream(relay, body)
        [call] = first.calls
        second = await stream(relay, answered(body, first.message()))
    assert first.finish_reason == "tool_calls"
    assert (call["type"], call["function"]["name"]) == ("function", "bash")
    assert parse_object(call["function"]["arguments"]) == {"command": "echo hi"}
    assert second.content == "The command printed: hi"
    assert (second.finish_reason, second.done) == ("stop", True)


async def test_parallel_calls_keep_their_index_and_their_results(tmp_path: Path) -> None:
    body = ask_chat("[sim parallel=3]", tools=[_BASH])
    async with relaying(tmp_path) as relay:
        first = await stream(relay, body)
        second = await stream(relay, answered(body, first.message()))
        assert types(input_of(relay, 1)) == [
            "message",
            "reasoning",
            *["function_call"] * 3,
            *["function_call_output"] * 3,
        ]
    assert [call["index"] for call in first.calls] == [0, 1, 2]
    assert len({call["id"] for call in first.calls}) == 3
    assert second.content == "The command printed: hi; hi; hi"


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_a_custom_tool_goes_there_and_back(tmp_path: Path, streamed: bool) -> None:
    body = ask_chat("[sim custom]", tools=[_BASH, _PATCH])
    async with relaying(tmp_path) as relay:
        if streamed:
            message: dict[str, Any] = (await stream(relay, body)).message()
            [call] = message["tool_calls"]
            assert call["type"] == "function", "no SDK knows another kind of call in chunks"
            patch = parse_object(call["function"]["arguments"])["input"]
        else:
            completion = await whole(relay, body)
            message = completion.choices[0].message.model_dump(exclude_unset=True)
            [call] = message["tool_calls"]
            assert call["type"] == "custom"
            patch = call["custom"]["input"]
        last = await stream(relay, answered(body, message))
        sent = [item for item in input_of(relay, 1) if "call_id" in item]
    assert isinstance(patch, str)
    assert patch.startswith("*** Begin Patch\n")
    assert types(sent) == ["custom_tool_call", "custom_tool_call_output"]
    assert (sent[0]["name"], sent[0]["input"]) == ("apply_patch", patch)
    assert last.content == "The command printed: hi"


async def test_the_usage_comes_last_when_it_was_asked_for(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        told = await stream(relay, ask_chat(stream_options={"include_usage": True}))
        untold = await stream(relay, ask_chat())
        completion = await whole(relay, ask_chat())
    [chunk] = told.usage_chunks
    assert chunk is told.chunks[-1]
    assert chunk.usage is not None
    assert chunk.usage.prompt_tokens > 0
    assert chunk.usage.prompt_tokens_details is not None
    assert chunk.usage.completion_tokens_details is not None
    assert completion.usage is not None
    assert completion.usage.completion_tokens == chunk.usage.completion_tokens
    assert untold.usage_chunks == []
    assert told.done
    assert untold.done


async def test_the_chunks_of_an_answer_share_one_identity(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        answer = await stream(relay, ask_chat())
    assert answer.deltas[0]["role"] == "assistant"
    assert len({(c.id, c.created, c.model, c.system_fingerprint) for c in answer.chunks}) == 1
    assert answer.chunks[0].model == "gpt-5.5"


async def test_whole_and_streamed_answers_say_the_same(tmp_path: Path) -> None:
    body = ask_chat("Run the shell command 'echo hi'", tools=[_BASH])
    async with relaying(tmp_path) as relay:
        completion = await whole(relay, body)
        streamed = await stream(relay, body)
    choice = completion.choices[0]
    assert choice.finish_reason == streamed.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    [call] = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.to_dict() == streamed.calls[0]["function"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[sim incomplete]", "length"), ("hello", "stop"), ("[sim refusal]", "stop")],
    ids=["incomplete", "complete", "refusal"],
)
async def test_the_finish_reason_is_that_of_the_true_ending(
    tmp_path: Path, text: str, reason: str
) -> None:
    async with relaying(tmp_path) as relay:
        answer = await stream(relay, ask_chat(text))
        completion = await whole(relay, ask_chat(text))
    assert answer.finish_reasons == [reason]
    assert completion.choices[0].finish_reason == reason
    message = completion.choices[0].message
    assert (message.content, message.refusal) == (answer.content, answer.joined("refusal"))


@pytest.mark.parametrize("item", _CALLS, ids=["function", "custom"])
async def test_a_half_written_call_is_never_closed_as_if_it_were_whole(
    tmp_path: Path, item: dict[str, Any]
) -> None:
    is_custom = item["type"] == "custom_tool_call"
    piece = events.raw_input("*** Beg", 0) if is_custom else events.arguments('{"comm', 0)
    half = events.created() + events.added(0, **item) + piece
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(half)
    body = ask_chat(tools=[_BASH, _PATCH])
    async with (
        serving(always_answering(head + half)) as upstream,
        relaying(tmp_path, backend=CodexBackendSettings(api_base_url=upstream.url)) as relay,
    ):
        answer = await stream(relay, body)
        whole_answer = await relay.post(_PATH, body | {"stream": False})
    [call] = answer.calls
    assert not call["function"]["arguments"].endswith("}")
    assert answer.finish_reasons == []
    assert answer.error is not None
    assert answer.error["code"] == "upstream_stream_incomplete"
    assert whole_answer.status_code == 502


async def test_an_orphaned_tool_result_is_named(tmp_path: Path) -> None:
    orphan: list[Json] = [
        {"role": "user", "content": "hello"},
        {"role": "tool", "tool_call_id": "call_lost", "content": "hi"},
    ]
    async with relaying(tmp_path) as relay:
        answer = await relay.post(_PATH, ask_chat() | {"messages": orphan})
        assert relay.asked == []
    assert answer.status_code == 400
    assert "'call_lost'" in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == "messages[1].tool_call_id"


async def test_what_the_backend_does_not_know_is_left_out(tmp_path: Path) -> None:
    extra: JsonObject = {
        "temperature": 1,
        "max_tokens": 32000,
        "max_completion_tokens": 32000,
        "stop": ["x"],
        "seed": 1,
        "user": "me",
        "n": 1,
        "logprobs": False,
        "codex_capabilities": {"prompt_mode": "codex_default"},
        "reasoning_effort": "low",
        "parallel_tool_calls": False,
    }
    async with relaying(tmp_path) as relay:
        await stream(relay, ask_chat() | extra)
        sent = relay.asked[0].body
    assert is_object(sent)
    assert isinstance(sent.pop("prompt_cache_key"), str)
    assert sent == {
        "model": "gpt-5.5",
        "instructions": DEFAULT_TEXT,
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "hello"}],
            }
        ],
        "reasoning": {"effort": "low", "summary": "auto"},
        "parallel_tool_calls": False,
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
    }


@pytest.mark.parametrize("prefix", ["/v1", "", "/backend-api/codex"])
async def test_it_is_served_below_every_prefix(tmp_path: Path, prefix: str) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.post(f"{prefix}/chat/completions", ask_chat(stream=False))
    assert answer.status_code == 200


# --- encrypted reasoning


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_the_thoughts_before_a_call_go_back_with_its_result(
    tmp_path: Path, streamed: bool
) -> None:
    body = ask_chat("Run the shell command 'echo hi'", tools=[_BASH])
    async with relaying(tmp_path) as relay:
        message = (
            (await stream(relay, body)).message()
            if streamed
            else (await whole(relay, body)).choices[0].message.to_dict()
        )
        await stream(relay, answered(body, message))
        items = input_of(relay, 1)
    assert types(items) == ["message", "reasoning", "function_call", "function_call_output"]
    assert str(items[1]["encrypted_content"]).startswith("gAAAA")


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_the_thoughts_before_a_call_in_words_go_back_with_its_result(
    tmp_path: Path, streamed: bool
) -> None:
    as_text: JsonObject = {"codex_capabilities": {"tool_text_format": "xml"}}
    asked = "Run the shell command 'echo hi'"
    async with relaying(tmp_path) as relay:
        plain = ask_chat(asked, tools=[_BASH])
        await stream(relay, answered(plain, (await stream(relay, plain)).message()))
        body = {**ask_chat(asked, tools=[_BASH]), **as_text}
        if streamed:
            content = (await stream(relay, body)).content or ""
        else:
            content = (await whole(relay, body)).choices[0].message.content or ""
        found = re.search(r'call_id="([^"]+)"', content)
        assert found is not None
        result = f'<tool_result call_id="{found[1]}">\nhi\n</tool_result>'
        more: list[Json] = [
            {"role": "assistant", "content": content},
            {"role": "user", "content": result},
        ]
        body = body | {"messages": [*get_list(body, "messages"), *more]}
        await stream(relay, body)
        native, in_words = input_of(relay, 1), input_of(relay, 3)
    assert types(in_words) == types(native)
    assert types(in_words) == ["message", "reasoning", "function_call", "function_call_output"]
    assert str(in_words[1]["encrypted_content"]).startswith("gAAAA")
    assert in_words[2]["call_id"] == found[1]


async def test_the_thoughts_are_kept_through_a_longer_loop(tmp_path: Path) -> None:
    body = ask_chat("Run the shell command 'echo hi'", tools=[_BASH])
    async with relaying(tmp_path) as relay:
        first = await stream(relay, body)
        body = answered(body, first.message())
        second = await stream(relay, body)
        more: list[Json] = [
            {"role": "assistant", "content": second.content},
            {"role": "user", "content": "Run the shell command 'echo ho'"},
        ]
        body = body | {"messages": [*get_list(body, "messages"), *more]}
        third = await stream(relay, body)
        await stream(relay, answered(body, third.message()))
        kinds = [kind for kind in types(input_of(relay, 3)) if kind != "message"]
    assert kinds == ["reasoning", "function_call", "function_call_output"] * 2


async def test_thoughts_stay_with_the_account_that_can_read_them(tmp_path: Path) -> None:
    body = ask_chat("Run the shell command 'echo hi'", tools=[_BASH])
    simulator = Simulator(accounts=some_accounts(2))
    async with relaying(tmp_path, simulator) as relay:
        first = await stream(relay, body)
        followed = [await stream(relay, answered(body, first.message())) for _ in range(2)]
        thinker = relay.asked[0].account
        assert thinker is not None
        assert [seen.account for seen in relay.asked] == [thinker] * 3, "it is preferred"
        simulator.limit(thinker)
        moved = await stream(relay, answered(body, first.message()))
        refused, served = relay.asked[3:]
        assert (refused.account, refused.status) == (thinker, 429)
        assert served.account not in (None, thinker)
        assert "reasoning" in types(input_of(relay, 3))
        assert types(input_of(relay, 4)) == ["message", "function_call", "function_call_output"]
    assert {answer.content for answer in (*followed, moved)} == {"The command printed: hi"}


async def test_thoughts_are_those_of_the_same_conversation_only(tmp_path: Path) -> None:
    body = ask_chat("Run the shell command 'echo hi'", tools=[_BASH])
    async with relaying(tmp_path) as relay:
        first = await stream(relay, body)
        follow_up = answered(body, first.message())
        await relay.post(_PATH, follow_up, headers={"x-session-id": "another"})
        assert "reasoning" not in types(input_of(relay, 1))


async def test_the_openai_sdk_runs_a_tool_loop(tmp_path: Path) -> None:
    body = ask_chat("Run the shell command 'echo hi'", tools=[_BASH], stream=False)
    async with relaying(tmp_path) as relay:
        client = openai.AsyncOpenAI(base_url=f"{relay.url}/v1", api_key="sk-any", max_retries=0)
        async with client:
            first = await client.chat.completions.create(**body)  # type: ignore[call-overload]
            follow_up = answered(body, first.choices[0].message.to_dict())
            second = await client.chat.completions.create(**follow_up)  # type: ignore[call-overload]
    assert second.choices[0].message.content == "The command printed: hi"
