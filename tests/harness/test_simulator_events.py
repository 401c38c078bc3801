"""The simulator's streams: valid for the OpenAI SDK, and shaped as the recorded ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

import pytest
import trio
from openai.types.responses import ResponseStreamEvent

from codexrelay.protocol.raw import dump, is_object, parse_object
from harness.simulator import Simulator
from tests.fakes.simulated import request, simulated, user

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

_MODELS: Final = {
    get_args(model.model_fields["type"].annotation)[0]: model
    for model in get_args(get_args(ResponseStreamEvent)[0])
}
#: The keys of a recorded `response` object, in their order.
# fmt: off
_RESPONSE_KEYS: Final = [
    "id", "object", "created_at", "status", "background", "completed_at", "error",
    "frequency_penalty", "incomplete_details", "instructions", "max_output_tokens",
    "max_tool_calls", "model", "moderation", "output", "parallel_tool_calls", "presence_penalty",
    "previous_response_id", "prompt_cache_key", "prompt_cache_retention", "reasoning",
    "safety_identifier", "service_tier", "store", "temperature", "text", "tool_choice",
    "tool_usage", "tools", "top_logprobs", "top_p", "truncation", "usage", "user", "metadata",
]
# fmt: on
_BASH: Final[JsonObject] = {
    "type": "function",
    "name": "bash",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
    },
}
_PATCH: Final[JsonObject] = {
    "type": "custom",
    "name": "apply_patch",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
_TOOLS: Final[list[Json]] = [_BASH, _PATCH]

_CALLED: Final[tuple[JsonObject, ...]] = (
    user("go"),
    {"type": "function_call", "call_id": "call_1", "name": "bash", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "hi\n"},
)

REQUESTS: Final = {
    "text": request(user("hello")),
    "settings": request(
        user("hello"),
        instructions="Be brief.",
        prompt_cache_key="key",
        reasoning={"effort": "high", "summary": "auto"},
        text={"verbosity": "low"},
        parallel_tool_calls=False,
    ),
    "tool call": request(user("go"), tools=_TOOLS),
    "two tool calls": request(user("[sim parallel=2] go"), tools=_TOOLS),
    "custom tool call": request(user("[sim custom] go"), tools=_TOOLS),
    "after a tool call": request(*_CALLED, tools=_TOOLS),
    "ordered text": request(user("[sim text=Grüße, 世界]"), tools=_TOOLS),
    "many deltas": request(user("[sim deltas=50]")),
    "refusal": request(user("[sim refusal]")),
    "incomplete": request(user("[sim incomplete]")),
    "compaction": request(*_CALLED, {"type": "compaction_trigger"}, tools=_TOOLS),
    "failed": request(user("[sim fault=failed]")),
}


@pytest.fixture(scope="module")
def streams() -> dict[str, list[JsonObject]]:
    """All streams, asked for once."""

    async def ask() -> dict[str, list[JsonObject]]:
        async with simulated(Simulator()) as client:
            return {name: await client.events(body) for name, body in REQUESTS.items()}

    return trio.run(ask)


@pytest.fixture(params=REQUESTS)
def events(
    request: pytest.FixtureRequest, streams: dict[str, list[JsonObject]]
) -> list[JsonObject]:
    return streams[request.param]


def test_every_event_validates_against_the_sdk(events: list[JsonObject]) -> None:
    for event in events:
        _MODELS[event["type"]].model_validate(event)


def test_sequence_numbers_count_from_0_without_a_gap(events: list[JsonObject]) -> None:
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


def test_type_stands_first_and_the_other_keys_are_sorted(events: list[JsonObject]) -> None:
    for event in events:
        first, *others = event
        assert first == "type"
        assert others == sorted(others)


def test_a_delta_and_its_obfuscation_fill_blocks_of_16_characters(
    events: list[JsonObject],
) -> None:
    for event in events:
        if str(event["type"]).endswith(".delta"):
            assert (len(str(event["delta"])) + len(str(event["obfuscation"]))) % 16 == 0
        else:
            assert "obfuscation" not in event


def test_the_stream_begins_with_the_handshake_and_ends_with_its_only_terminal_event(
    events: list[JsonObject],
) -> None:
    names = [event["type"] for event in events]
    assert names[:2] == ["response.created", "response.in_progress"]
    terminal = {"response.completed", "response.incomplete", "response.failed"}
    assert [name in terminal for name in names] == [False] * (len(names) - 1) + [True]


def test_response_objects_have_the_recorded_keys_and_one_id(events: list[JsonObject]) -> None:
    responses = [response for event in events if is_object(response := event.get("response"))]
    assert {tuple(response) for response in responses} == {tuple(_RESPONSE_KEYS)}
    assert len({response["id"] for response in responses}) == 1


def test_the_terminal_output_is_what_the_item_events_said(events: list[JsonObject]) -> None:
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    response = events[-1]["response"]
    assert isinstance(response, dict)
    if response["status"] != "failed":
        assert response["output"] == done
        assert response["usage"]


async def test_the_deltas_of_a_text_are_the_text() -> None:
    async with simulated(Simulator()) as client:
        events = await client.events(request(user("[sim text=Grüße, 世界 und mehr]")))
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert len(deltas) > 1
    assert "".join(map(str, deltas)) == "Grüße, 世界 und mehr"


async def test_the_number_of_deltas_can_be_ordered() -> None:
    async with simulated(Simulator()) as client:
        events = await client.events(request(user("[sim deltas=50]")))
    assert [event["type"] for event in events].count("response.output_text.delta") == 50


async def test_a_stream_is_written_in_the_backends_framing() -> None:
    async with simulated(Simulator()) as client:
        answer = await client.post(request(user("hello")))
    blocks = answer.content.split(b"\n\n")
    assert blocks.pop() == b""
    for block in blocks:
        event = parse_object(block.partition(b"\ndata: ")[2])
        assert block == b"event: %s\ndata: %s" % (str(event["type"]).encode(), dump(event))


async def test_headers_are_those_of_a_real_stream_and_name_no_content_type() -> None:
    async with simulated(Simulator()) as client:
        answer = await client.post(request(user("hello")))
    codex = {name for name in answer.headers if name.startswith("x-codex-")}
    assert "content-type" not in answer.headers
    assert len(codex - {"x-codex-turn-state"}) == 14
    assert answer.headers["openai-model"] == "gpt-5.5"
    assert answer.headers["x-codex-turn-state"]
    assert answer.headers["x-models-etag"]
    assert answer.headers["x-oai-request-id"]


async def test_a_turn_state_that_is_sent_back_is_kept() -> None:
    async with simulated(Simulator()) as client:
        answer = await client.http.post(
            client.simulator.api_base_url + "/responses",
            json=request(user("hello")),
            headers=client.headers | {"x-codex-turn-state": "opaque"},
        )
    assert answer.headers["x-codex-turn-state"] == "opaque"
