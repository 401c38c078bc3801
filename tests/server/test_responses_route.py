"""`POST /v1/responses` from the client's socket to the backend's, and back."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any, Final

import openai
import pytest
import trio
import zstandard
from openai.types.responses import Response

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.config.settings import ServerSettings
from codexrelay.protocol import sse
from codexrelay.protocol.hold import Hold, Output
from codexrelay.protocol.raw import dump, get_list, parse_object
from harness.simulator import Simulator
from tests.fakes import responses_events as events
from tests.fakes.recordings import Recorded, recorded_streams
from tests.fakes.relay import ask, post_bytes, relaying
from tests.fakes.scripted_server import Caller, serving
from tests.fakes.simulated import events_of, request, simulated, user
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from codexrelay.protocol.raw import Json, JsonObject
    from tests.fakes.relay import LiveRelay

_SHELL: Final[JsonObject] = {
    "type": "function",
    "name": "exec_command",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"cmd": {"type": "string"}},
        "required": ["cmd"],
        "additionalProperties": False,
    },
}
#: What the relay would add to a request that lacks it.
_COMPLETE: Final[dict[str, Any]] = {
    "instructions": "",
    "prompt_cache_key": "p-1",
    "include": ["reasoning.encrypted_content"],
}

#: In the shape of Codex CLI 0.169 with a classic model: no `instructions`, items with ids, tools of
#: every type, texts and grammar shortened.
OF_CODEX: Final = {"originator": "codex_exec"}
CODEX: Final[JsonObject] = {
    "model": "gpt-5.5",
    "stream": True,
    "input": [
        {
            "type": "message",
            "id": "msg_0a",
            "role": "developer",
            "content": [{"type": "input_text", "text": "base prompt"}],
        },
        {
            "type": "message",
            "id": "msg_0b",
            "role": "user",
            "content": [{"type": "input_text", "text": "[sim text=Grüße]"}],
            "internal_chat_message_metadata_passthrough": {"turn_id": "t", "create_time": 1.5},
        },
        {"type": "configuration_update", "reasoning": {"effort": "low"}},
    ],
    "tools": [
        _SHELL,
        {
            "type": "custom",
            "name": "apply_patch",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin"},
        },
        {"type": "namespace", "name": "image_gen", "description": "", "tools": [_SHELL]},
        {"type": "tool_search", "execution": "client"},
        {"type": "web_search", "external_web_access": False},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium"},
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "01a20317-e2c0-7991-a4e3-a316f011f49a",
    "text": {"verbosity": "low"},
    "client_metadata": {"session_id": "01a20317", "x-codex-window-id": "01a20317:0"},
}
#: The same with a lite model: no `tools` either, they ride in the input.
CODEX_LITE: Final[JsonObject] = {
    "model": "gpt-5.6-sol",
    "stream": True,
    "input": [
        {
            "type": "additional_tools",
            "id": "at_0a",
            "role": "developer",
            "tools": [
                {
                    "type": "namespace",
                    "name": "functions",
                    "description": "",
                    "tools": [{"type": "custom", "name": "exec"}, _SHELL],
                }
            ],
        },
        {
            "type": "message",
            "id": "msg_0a",
            "role": "user",
            "content": [{"type": "input_text", "text": "hello"}],
        },
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "low", "context": "all_turns"},
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "01a20317-e89a-7b70-9591-76f28084d781",
    "text": {"verbosity": "low"},
    "client_metadata": {"turn_id": "t"},
}
#: A follow-up: the call, its reasoning and its output go back, with ids as Codex gives them.
CODEX_FOLLOW_UP: Final[JsonObject] = CODEX | {
    "input": [
        *get_list(CODEX, "input"),
        {
            "type": "reasoning",
            "id": "rs_0a",
            "summary": [],
            "content": None,
            "encrypted_content": "gAAAA",
        },
        {
            "type": "function_call",
            "id": "fc_0a",
            "call_id": "call_1",
            "name": "exec_command",
            "arguments": '{ "cmd": "echo hi" }',
            "status": "completed",
        },
        {"type": "function_call_output", "id": "fco_0a", "call_id": "call_1", "output": "hi\n"},
    ]
}


# --- the answer


@pytest.mark.parametrize(
    "body",
    [
        request(user("[sim deltas=300]"), **_COMPLETE),
        request(user("hello"), tools=[_SHELL], **_COMPLETE),
        request(user("[sim parallel=3]"), tools=[_SHELL], **_COMPLETE),
        request(user("[sim refusal]"), **_COMPLETE),
        request(user("[sim incomplete]"), **_COMPLETE),
        request(user("[sim fault=failed]"), **_COMPLETE),
        request(user("[sim fault=error_event]"), **_COMPLETE),
        request(user("hello"), {"type": "compaction_trigger"}, **_COMPLETE),
    ],
    ids=[
        "text",
        "tool",
        "parallel tools",
        "refusal",
        "incomplete",
        "failed",
        "error",
        "compaction",
    ],
)
async def test_a_stream_is_the_backends_own_bytes(tmp_path: Path, body: JsonObject) -> None:
    # Simulators with the same seed and clock give the same bytes to the same request.
    async with relaying(tmp_path, Simulator(wall_clock=WallClock())) as relay:
        answer = await relay.post("/v1/responses", body)
    assert answer.status_code == 200
    async with simulated(Simulator(wall_clock=WallClock())) as direct:
        assert answer.content == (await direct.post(body)).content


@pytest.fixture
def streams_with_output() -> list[Recorded]:
    # Those that fail before any output become HTTP errors: no stream to compare.
    return [stream for stream in recorded_streams() if _gives_output(stream.body)]


async def test_recorded_streams_pass_event_for_event(
    tmp_path: Path, streams_with_output: list[Recorded]
) -> None:
    playing = b""

    async def script(caller: Caller) -> None:
        while await caller.request():
            await caller.send(_chunked(playing))

    async with (
        serving(script) as upstream,
        relaying(tmp_path, backend=CodexBackendSettings(api_base_url=upstream.url)) as relay,
    ):
        for stream in streams_with_output:
            playing = stream.body
            answer = await relay.post("/v1/responses", ask())
            before, after = list(sse.split(stream.body)), list(sse.split(answer.content))
            # The terminal event may have been completed, and nothing follows it.
            assert before[: len(after) - 1] == after[:-1], stream.name


async def test_an_answer_that_is_not_streamed_is_the_one_that_would_have_been(
    tmp_path: Path,
) -> None:
    body = request(user("[sim parallel=2]"), tools=[_SHELL], **_COMPLETE)
    async with relaying(tmp_path, Simulator(wall_clock=WallClock())) as relay:
        answer = await relay.post("/v1/responses", body | {"stream": False})
        assert relay.asked[0].body == body
    async with simulated(Simulator(wall_clock=WallClock())) as direct:
        completed = (await direct.events(body))[-1]
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == completed["response"]
    response = Response.model_validate(answer.json(), strict=True)
    assert [item.type for item in response.output] == ["reasoning", *["function_call"] * 2]
    assert response.usage is not None
    assert response.usage.total_tokens > 0


async def test_an_incomplete_answer_says_so_when_it_is_not_streamed(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.post("/v1/responses", ask("[sim incomplete]", stream=False))
    response = Response.model_validate(answer.json(), strict=True)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


async def test_the_openai_sdk_runs_a_tool_loop(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay, _sdk(relay) as client:
        conversation: list[Json] = [user("Run the shell command 'echo hi'")]
        async with client.responses.stream(
            model="gpt-5.5",
            input=conversation,  # type: ignore[arg-type]
            tools=[_SHELL],  # type: ignore[list-item]
        ) as stream:
            async for _ in stream:
                pass
            first = await stream.get_final_response()
        conversation += [item.to_dict() for item in first.output]  # type: ignore[misc]
        [call] = [item for item in first.output if item.type == "function_call"]
        conversation.append(
            {"type": "function_call_output", "call_id": call.call_id, "output": "hi\n"}
        )
        second = await client.responses.create(
            model="gpt-5.5",
            input=conversation,  # type: ignore[arg-type]
        )
    assert second.output_text == "The command printed: hi"


# --- the request


@pytest.mark.parametrize(
    "body",
    [CODEX, CODEX_LITE, CODEX_FOLLOW_UP],
    ids=["classic", "lite", "follow-up"],
)
async def test_a_request_in_codex_shape_arrives_unchanged(tmp_path: Path, body: JsonObject) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.post("/v1/responses", body, headers=OF_CODEX)
        assert relay.asked[0].body == body
    assert answer.status_code == 200, answer.text


async def test_of_another_request_only_what_the_backend_demands_is_changed(
    tmp_path: Path,
) -> None:
    kept: JsonObject = {
        "model": "gpt-5.5",
        "stream": True,
        "tools": [_SHELL, {"type": "a_tool_of_tomorrow", "x": [1, {"y": None}]}],
        "reasoning": {"effort": "high", "summary": "auto"},
        "a_field_of_tomorrow": {"deep": [1.5, "Grüße 👋", None]},
        "text": {"format": {"type": "text"}},
    }
    refused: JsonObject = {
        "max_output_tokens": 32000,
        "temperature": 0.2,
        "top_p": 0.9,
        "metadata": {"a": "b"},
        "user": "me",
        "safety_identifier": "s-1",
        "truncation": "auto",
        "prompt_cache_retention": "24h",
        "codex_capabilities": {"codex_passthrough": True},
        "store": True,
        "include": ["web_search_call.action.sources"],
    }
    items: list[Json] = [
        {"role": "system", "content": "be brief"},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "an_item_of_tomorrow", "id": "x_1", "value": {"kept": True}},
        {"role": "user", "content": "hello"},
    ]
    async with relaying(tmp_path) as relay:
        answer = await relay.post("/v1/responses", kept | refused | {"input": items})
        sent = relay.asked[0].body
    assert answer.status_code == 200, answer.text
    assert isinstance(sent, dict)
    cache_key = sent.pop("prompt_cache_key")
    assert isinstance(cache_key, str)
    assert sent == kept | {
        "input": [{"role": "developer", "content": "be brief"}, *items[2:]],
        "instructions": "",
        "store": False,
        "include": ["web_search_call.action.sources", "reasoning.encrypted_content"],
    }


async def test_a_text_as_input_becomes_one_user_message(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        await relay.post("/v1/responses", ask("hello"))
        assert get_list(_body(relay), "input") == [user("hello")]


async def test_texts_and_arguments_arrive_byte_for_byte(tmp_path: Path) -> None:
    text = "tabs\t, \u2028, \ud83d\ude00, \u0000, \\u0041, é, \u00e9".encode(
        "utf-16", "surrogatepass"
    ).decode("utf-16")
    async with relaying(tmp_path) as relay:
        await relay.post("/v1/responses", request(user(text)))
        assert get_list(_body(relay), "input") == [user(text)]


@pytest.mark.parametrize("prefix", ["/v1", "", "/backend-api/codex"])
async def test_it_is_served_below_every_prefix(tmp_path: Path, prefix: str) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.post(f"{prefix}/responses", ask())
    assert events_of(answer.content)[-1]["type"] == "response.completed"


# --- bodies


def _zstd(data: bytes) -> bytes:
    """Compress as Codex CLI does: as a stream, whose frame does not say how long it is."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(data) + compressor.flush()


_CODINGS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": _zstd,
}


@pytest.mark.parametrize("coding", _CODINGS)
async def test_a_compressed_body_is_understood(tmp_path: Path, coding: str) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.http.post(
            "/v1/responses",
            content=_CODINGS[coding](dump(CODEX)),
            headers={"content-encoding": coding} | OF_CODEX,
        )
        assert answer.status_code == 200, answer.text
        assert _body(relay) == CODEX
        assert relay.asked[0].header("content-encoding") is None


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_a_bomb_is_refused_without_being_expanded(tmp_path: Path, coding: str) -> None:
    server = ServerSettings(max_body_bytes=1_000_000)
    async with relaying(tmp_path, server=server) as relay:
        answer = await relay.http.post(
            "/v1/responses",
            content=_CODINGS[coding](b'{"model":"' + b"x" * 50_000_000 + b'"}'),
            headers={"content-encoding": coding},
        )
        assert relay.asked == []
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    assert "server.max_body_bytes" in answer.json()["error"]["message"]


async def test_a_coding_that_nobody_knows_is_a_415(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.http.post(
            "/v1/responses", content=b"x", headers={"content-encoding": "br"}
        )
    assert answer.status_code == 415


def _image(mib: int) -> JsonObject:
    part: Json = {
        "type": "input_image",
        "image_url": "data:image/png;base64," + "QUJD" * (mib * 2**20 // 3),
    }
    return {"type": "message", "role": "user", "content": [part]}


@pytest.mark.parametrize(
    "items",
    [[_image(16)], [user("ü" * 5000) for _ in range(1000)] + [user("hello")]],
    ids=["an image of 16 MiB", "a history of 10 MB"],
)
async def test_a_large_request_arrives_whole(tmp_path: Path, items: list[Json]) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.post("/v1/responses", ask() | {"input": items})
        assert answer.status_code == 200
        assert get_list(_body(relay), "input") == items


async def test_a_body_of_unknown_length_is_counted_too(tmp_path: Path) -> None:
    server = ServerSettings(max_body_bytes=1_000_000)
    async with relaying(tmp_path, server=server) as relay, relay.connect() as client:
        head = b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\n"
        await client.send(head + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(17):
            await client.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        status, _ = await client.receive_response()
    assert status == 413


# --- headers


async def test_the_client_gets_upstreams_limits_model_and_ids_and_a_content_type(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.post("/v1/responses", ask())
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["openai-model"] == "gpt-5.5"
    assert answer.headers["x-codex-turn-state"].startswith("sim-sim-1-")
    assert answer.headers["x-codex-primary-window-minutes"] == "300"
    assert answer.headers["x-codex-plan-type"] == "plus"
    assert answer.headers["x-oai-request-id"]
    assert "x-models-etag" not in answer.headers
    assert answer.headers["x-codexrelay-request-id"].startswith("req_")
    hop_by_hop = {"server", "cf-ray", "strict-transport-security", "x-openai-proxy-wasm"}
    assert hop_by_hop.isdisjoint(answer.headers)
    assert "set-cookie" not in answer.headers


async def test_a_whole_answer_has_upstreams_headers_too(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.post("/v1/responses", ask(stream=False))
    assert answer.headers["openai-model"] == "gpt-5.5"
    assert answer.headers["x-codex-turn-state"]


# --- signs of life


async def test_a_silent_stream_is_shown_life_until_its_budget_is_over(tmp_path: Path) -> None:
    server = ServerSettings(keep_alive_s=0.02)
    async with (
        relaying(tmp_path, server=server) as relay,
        relay.open_turn(ask("[sim fault=hang]")) as turn,
    ):
        await turn.until(b"response.output_text.delta")
        await turn.until(b": keep-alive\n\n", times=3)


async def test_a_sign_of_life_never_stands_inside_an_event(tmp_path: Path) -> None:
    stream = b"".join(
        [events.created(), events.text("Hel"), events.text("lo"), events.completed(output=[1])]
    )
    shown_life = trio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(stream))
        cut = stream.index(b'"lo"')
        await caller.send(stream[:cut])
        await shown_life.wait()
        await caller.send(stream[cut:])

    received = b""
    async with (
        serving(script) as upstream,
        relaying(
            tmp_path,
            backend=CodexBackendSettings(api_base_url=upstream.url),
            server=ServerSettings(keep_alive_s=0.02),
        ) as relay,
        relay.http.stream("POST", "/v1/responses", json=ask()) as answer,
    ):
        async for block in answer.aiter_raw():
            received += block
            if b": keep-alive" in received:
                shown_life.set()
    split = list(sse.split(received))
    assert b"".join(raw for raw in split if not raw.startswith(b":")) == stream
    assert {raw for raw in split if raw.startswith(b":")} == {b": keep-alive\n\n"}


# --- the way in


async def test_one_connection_serves_one_turn_after_the_other(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay, relay.connect() as client:
        for _ in range(3):
            await client.send(post_bytes("/v1/responses", ask(stream=False)))
            status, body = await client.receive_response()
            assert status == 200
            assert parse_object(body)["status"] == "completed"


def _gives_output(stream: bytes) -> bool:
    return isinstance(Hold(now_unix_s=0.0).feed(stream), Output)


def _body(relay: LiveRelay) -> JsonObject:
    body = relay.asked[0].body
    assert isinstance(body, dict)
    return body


def _sdk(relay: LiveRelay) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{relay.url}/v1", api_key="sk-any", max_retries=0)


def _chunked(body: bytes) -> bytes:
    """Return a whole answer in the backend's framing."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    return head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
