"""Each value of each capability has its effect on the wire, for every client and both protocols."""

from __future__ import annotations

import getpass
import os
import re
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from codexrelay.backends.codex.settings import (
    CapabilitySettings,
    CodexBackendSettings,
    CodexSettings,
    ExtraSettings,
    PromptSettings,
    RendererSettings,
    ToolSchemaSettings,
)
from codexrelay.config.loading import load
from codexrelay.config.settings import ModelsSettings, ProfilesSettings
from codexrelay.protocol.capabilities import HEADER, KEYS
from codexrelay.protocol.prompt import DEFAULT_TEXT
from codexrelay.protocol.raw import (
    JsonObject,
    dump,
    get_list,
    get_object,
    get_text,
    is_object,
    parse_object,
)
from codexrelay.protocol.relay_fields import ENVIRONMENT, ENVIRONMENT_BLOCK, NAMES
from harness.simulator import Simulator
from tests.fakes import responses_events as events
from tests.fakes.client_requests import ASK, BY_NAME, CLIENTS, SYSTEM, ClientRequest, texts_in
from tests.fakes.relay import ask, ask_chat, relaying
from tests.fakes.scripted_server import always_answering, serving
from tests.fakes.simulated import events_of

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json
    from tests.fakes.relay import LiveRelay

BUILT_INS: Final = ("shell", "apply_patch", "view_image")
TOLD: Final[JsonObject] = {
    "cwd": "/home/somebody/project",
    "approval_policy": "never",
    "network_access": False,
}
TOLD_TEXT: Final = (
    "<environment_context>\n"
    "  <cwd>/home/somebody/project</cwd>\n"
    "  <approval_policy>never</approval_policy>\n"
    "  <network_access>false</network_access>\n"
    "</environment_context>"
)
#: What no request that was rebuilt may hold.
UNKNOWN: Final[JsonObject] = {"a_field_of_tomorrow": {"x": [1, None]}}


@attrs.frozen(kw_only=True)
class Sent:
    """What became of one client's request."""

    client: ClientRequest
    #: As the client sent it, without what is for the relay.
    given: JsonObject
    status: int
    answer: bytes
    #: As the backend got it; empty if it got none.
    body: JsonObject

    @property
    def input(self) -> list[Json]:
        return get_list(self.body, "input")

    @property
    def texts(self) -> list[tuple[str, list[str]]]:
        """Role and texts of each message that the backend got."""
        return [
            (get_text(item, "role") or "", texts_in(item))
            for item in self.input
            if is_object(item) and "content" in item
        ]

    @property
    def tools(self) -> list[Json]:
        first = self.input[0] if self.input else None
        if is_object(first) and first.get("type") == "additional_tools":
            return get_list(first, "tools")
        return get_list(self.body, "tools")

    @property
    def tool_names(self) -> tuple[str | None, ...]:
        return tuple(
            get_text(tool, "name") or get_text(tool, "type")
            for tool in self.tools
            if is_object(tool)
        )

    @property
    def error(self) -> JsonObject:
        return get_object(parse_object(self.answer), "error")

    @property
    def is_chat(self) -> bool:
        return self.client.route == "openai-chat"

    @property
    def said(self) -> str:
        """The text of the answer."""
        if self.is_chat:
            return "".join(get_text(delta, "content") or "" for delta in self._deltas)
        told = [e for e in events_of(self.answer) if e["type"] == "response.output_text.delta"]
        return "".join(get_text(delta, "delta") or "" for delta in told)

    @property
    def called(self) -> list[str]:
        """The names of the tools that the answer calls."""
        if self.is_chat:
            calls = [call for delta in self._deltas for call in get_list(delta, "tool_calls")]
            found = [get_object(call, "function") for call in calls if is_object(call)]
        else:
            added = [e for e in events_of(self.answer) if e["type"].endswith("item.added")]
            items = [get_object(event, "item") for event in added]
            found = [item for item in items if str(item["type"]).endswith("_call")]
        return [name for call in found if (name := get_text(call, "name"))]

    @property
    def _deltas(self) -> list[JsonObject]:
        lines = [line for line in self.answer.split(b"\n") if line.startswith(b"data: {")]
        chunks = [parse_object(line.removeprefix(b"data: ")) for line in lines]
        choices = [choice for chunk in chunks for choice in get_list(chunk, "choices")]
        return [get_object(choice, "delta") for choice in choices if is_object(choice)]


async def send(
    relay: LiveRelay, client: ClientRequest, capabilities: JsonObject, **fields: Json
) -> Sent:
    body = client.with_fields(**fields)
    before = len(relay.asked)
    answer = await relay.post(
        client.path, body | {"codex_capabilities": capabilities}, headers=client.headers
    )
    asked = relay.asked[before:]
    seen = asked[0].body if asked else {}
    assert is_object(seen)
    return Sent(
        client=client,
        given={name: value for name, value in body.items() if name not in NAMES},
        status=answer.status_code,
        answer=answer.content,
        body=seen,
    )


# --- the table


def chat_is_read(sent: Sent) -> None:
    """`protocol: openai-chat`: what a Chat conversation cannot say is left out, or refused."""
    if sent.client.lite:
        assert (sent.status, sent.error["param"]) == (400, "input[0].type")
        assert "openai-responses" in str(sent.error["message"])
        assert sent.body == {}
        return
    assert sent.status == 200
    assert not {"client_metadata", *UNKNOWN} & sent.body.keys()
    if not sent.is_chat:
        assert all(is_object(item) and "id" not in item for item in sent.input)
    else:
        assert "beside" not in str(sent.body)


def responses_are_read(sent: Sent) -> None:
    """`protocol: openai-responses`: fields of Responses count, on Chat too."""
    assert sent.status == 200
    if sent.is_chat:
        assert sent.body["client_metadata"] == {"from": "beside"}
        assert sent.body["reasoning"] == {
            **({"effort": "medium"} if "reasoning_effort" in sent.given else {}),
            "summary": "detailed",
        }
        assert ("developer", ["beside"]) in sent.texts
    else:
        assert sent.body["client_metadata"] == {"from": "beside"}
        assert sent.body.keys() >= UNKNOWN.keys()


def passes(sent: Sent) -> None:
    """`codex_passthrough: true`: a Responses body goes out as it came, but for the closed list."""
    assert sent.status == 200
    if sent.is_chat:
        assert not UNKNOWN.keys() & sent.body.keys()
        return
    items: list[Json] = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": ASK}]}
    ]
    given = {"input": items} if isinstance(sent.given["input"], str) else {}
    refused = {"max_output_tokens", "safety_identifier"}
    kept = {name: value for name, value in sent.given.items() if name not in refused} | given
    added = sent.body.keys() - kept.keys()
    assert {name: sent.body[name] for name in kept} == kept
    assert added <= {"instructions", "store", "include", "prompt_cache_key"}
    assert sent.body.get("instructions", "") == sent.given.get("instructions", "")


def is_rebuilt(sent: Sent) -> None:
    """`codex_passthrough: false`: only known fields go out, and the modes act."""
    assert sent.status == 200
    assert not UNKNOWN.keys() & sent.body.keys()
    if sent.client.codex and not sent.is_chat:
        assert "instructions" not in sent.body, "absent stays absent"
        assert sent.input == get_list(sent.given, "input")
    else:
        assert sent.body["instructions"] == DEFAULT_TEXT


def default_text_leads(sent: Sent) -> None:
    assert sent.status == 200
    if sent.client.codex:
        assert "instructions" not in sent.body
        return
    assert sent.body["instructions"] == DEFAULT_TEXT
    assert sent.texts[0] == ("developer", [SYSTEM]), "at the head, unchanged"
    assert sum(texts == [SYSTEM] for _, texts in sent.texts) == 1


def both_texts_lead(sent: Sent) -> None:
    assert sent.status == 200
    if sent.client.codex:
        assert "instructions" not in sent.body
    elif sent.client.system:
        assert sent.body["instructions"] == f"{DEFAULT_TEXT}\n\n{SYSTEM}"
        assert "developer" not in dict(sent.texts)
    else:  # a developer message is input: it stays where it is
        assert sent.body["instructions"] == DEFAULT_TEXT
        assert sent.texts[0] == ("developer", [SYSTEM])


def own_text_leads(sent: Sent) -> None:
    assert sent.status == 200
    if sent.client.codex:
        assert "instructions" not in sent.body
    elif sent.client.system:
        assert sent.body["instructions"] == SYSTEM
        assert "developer" not in dict(sent.texts)
    else:
        assert sent.body["instructions"] == DEFAULT_TEXT, "rather than none"
        assert sent.texts[0] == ("developer", [SYSTEM])


def own_tools_are_offered(sent: Sent) -> None:
    assert sent.status == 200
    assert sent.tool_names == sent.client.tools


def all_tools_are_offered(sent: Sent) -> None:
    assert sent.status == 200
    free = tuple(name for name in BUILT_INS if name not in sent.client.tools)
    assert sent.tool_names == (*free, *sent.client.tools)
    assert ("tools" in sent.body) is not sent.client.lite


def built_in_tools_are_offered(sent: Sent) -> None:
    assert sent.status == 200
    assert sent.tool_names == BUILT_INS
    assert ("tools" in sent.body) is not sent.client.lite


def calls_stay_calls(sent: Sent) -> None:
    assert len(sent.called) == 1
    assert "echo" not in sent.said


def calls_are_said(mark: str) -> Callable[[Sent], None]:
    def check(sent: Sent) -> None:
        assert sent.status == 200
        assert not sent.called
        assert "echo hi" in sent.said
        assert mark in sent.said

    return check


def environment_is_not_told(sent: Sent) -> None:
    assert sent.status == 200
    assert "somebody" not in str(sent.body)
    assert not NAMES & sent.body.keys()


def environment_is_told(sent: Sent) -> None:
    assert sent.status == 200
    told = [index for index, (_, texts) in enumerate(sent.texts) if texts == [TOLD_TEXT]]
    roles = [role for role, _ in sent.texts]
    assert told == [roles.index("user")], "once, behind what leads the conversation"
    assert not NAMES & sent.body.keys()


BESIDE: Final[JsonObject] = {
    "instructions": "beside",
    "client_metadata": {"from": "beside"},
    "reasoning": {"summary": "detailed"},
}
REBUILT: Final[JsonObject] = {"codex_passthrough": False}


@attrs.frozen
class Row:
    key: str
    value: str | bool
    check: Callable[[Sent], None]
    #: Further capabilities, and fields of the body.
    more: JsonObject = attrs.field(factory=dict)
    fields: JsonObject = attrs.field(factory=dict)


ROWS: Final = (
    Row("protocol", "openai-chat", chat_is_read, {}, UNKNOWN | {"metadata": {"x": "beside"}}),
    Row("protocol", "openai-responses", responses_are_read, {}, UNKNOWN | BESIDE),
    Row("codex_passthrough", value=True, check=passes, fields=UNKNOWN),
    Row("codex_passthrough", value=False, check=is_rebuilt, fields=UNKNOWN),
    Row("prompt_mode", "codex_default", default_text_leads, REBUILT),
    Row("prompt_mode", "merge_custom", both_texts_lead, REBUILT),
    Row("prompt_mode", "custom_only", own_text_leads, REBUILT),
    Row("tool_schema_mode", "custom_only", own_tools_are_offered, REBUILT),
    Row("tool_schema_mode", "merge_custom", all_tools_are_offered, REBUILT),
    Row("tool_schema_mode", "codex_default", built_in_tools_are_offered, REBUILT),
    Row("tool_text_format", "none", calls_stay_calls),
    Row("tool_text_format", "xml", calls_are_said("<tool_call call_id=")),
    Row("tool_text_format", "codex_xml", calls_are_said("<tool_call call_id=")),
    Row("tool_text_format", "markdown", calls_are_said("```")),
    Row("tool_text_format", "summary", calls_are_said("")),
    Row("tool_text_format", "default", calls_stay_calls),
    Row("tool_text_format", "inherit", calls_stay_calls),
    Row("bypass_tool_call_reactor", value=True, check=calls_stay_calls),
    Row("bypass_tool_call_reactor", value=False, check=calls_stay_calls),
    Row("include_environment_context", value=True, check=environment_is_told, fields=TOLD),
    Row("include_environment_context", value=False, check=environment_is_not_told, fields=TOLD),
)


def test_the_table_has_every_value() -> None:
    values = {(key, value) for key, words in KEYS.items() for value in words or (True, False)}
    assert {(row.key, row.value) for row in ROWS} == values
    assert {client.route for client in CLIENTS} == {"openai-chat", "openai-responses"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.key}={row.value}")
async def test_a_value_has_its_effect_for_every_client(tmp_path: Path, row: Row) -> None:
    async with relaying(tmp_path) as relay:
        for client in CLIENTS:
            sent = await send(relay, client, {row.key: row.value} | row.more, **row.fields)
            try:
                row.check(sent)
            except AssertionError as error:
                error.add_note(f"{client.name}: {sent.status} {sent.answer[:600]!r} {sent.body}")
                raise


@pytest.mark.parametrize("bypass", [True, False])
async def test_a_reactor_sees_calls_only_where_they_do_not_bypass_it(
    tmp_path: Path, bypass: bool
) -> None:
    async with relaying(tmp_path) as relay:
        for client in CLIENTS:
            with capture_logs() as logged:
                sent = await send(relay, client, {"bypass_tool_call_reactor": bypass})
            assert sent.called
            seen = [line for line in logged if line["event"] == "tool call"]
            assert len(seen) == (0 if bypass else 1), client.name


@pytest.mark.parametrize("mode", ["merge_custom", "codex_default"])
async def test_in_passthrough_neither_tools_nor_texts_are_touched(
    tmp_path: Path, mode: str
) -> None:
    asked: JsonObject = {"codex_passthrough": True, "tool_schema_mode": mode, "prompt_mode": mode}
    async with relaying(tmp_path) as relay:
        for client in CLIENTS:
            if client.route == "openai-responses":
                passes(await send(relay, client, asked))


# --- who wins


def codex(**more: object) -> CodexBackendSettings:
    """Return the settings of a backend with these fields of `extra.codex`."""
    return CodexBackendSettings(extra=ExtraSettings(codex=CodexSettings(**more)))  # type: ignore[arg-type]


#: Sets `prompt_mode` in one place each, lowest first: what is asked for, and how it is told apart.
MODES: Final = ("codex_default", "merge_custom", "custom_only")


def mode_of(sent: JsonObject) -> str:
    text = str(sent["instructions"])
    if SYSTEM not in text:
        return "codex_default"
    return "merge_custom" if DEFAULT_TEXT in text else "custom_only"


@pytest.mark.parametrize(
    ("places", "mode"),
    [
        ({"defaults": "merge_custom"}, "merge_custom"),
        ({"defaults": "merge_custom", "agent": "custom_only"}, "custom_only"),
        ({"agent": "custom_only", "name": "merge_custom"}, "merge_custom"),
        ({"name": "custom_only", "header": "merge_custom"}, "merge_custom"),
        ({"header": "custom_only", "literal": "merge_custom"}, "merge_custom"),
        ({"literal": "custom_only", "top": "merge_custom"}, "merge_custom"),
        ({"header": "custom_only", "top": "merge_custom"}, "merge_custom"),
        ({"defaults": "custom_only", "top": "codex_default"}, "codex_default"),
    ],
    ids=lambda value: " < ".join(value) if isinstance(value, dict) else value,
)
async def test_the_place_nearest_to_the_request_wins(
    tmp_path: Path, places: dict[str, str], mode: str
) -> None:
    backend = codex(
        default_capabilities=CapabilitySettings(prompt_mode=places.get("defaults")),  # type: ignore[arg-type]
        agent_capabilities={"OpenAI-SDK": {"prompt_mode": places["agent"]}}
        if "agent" in places
        else {},
    )
    client = BY_NAME["sdk chat"]
    body, headers = client.with_fields(), dict(client.headers)
    if "name" in places:
        body["model"] = f"openai-codex:gpt-5.4?prompt_mode={places['name']}"
    if "header" in places:
        headers[HEADER] = f"prompt_mode={places['header']}"
    if "literal" in places:
        body["extra_body"] = {"codex_capabilities": {"prompt_mode": places["literal"]}}
    if "top" in places:
        body["codex_capabilities"] = {"prompt_mode": places["top"]}
    async with relaying(tmp_path, backend=backend) as relay:
        answer = await relay.post(client.path, body, headers=headers)
        sent = relay.asked[0].body
    assert answer.status_code == 200, answer.text
    assert is_object(sent)
    assert mode_of(sent) == mode
    assert sent["model"] == "gpt-5.4"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_the_three_places_of_a_request_are_heard_key_by_key(
    tmp_path: Path, path: str
) -> None:
    body = (ask_chat if "chat" in path else ask)("hello", cwd="/p", tools=[])
    body |= {
        "codex_capabilities": {"prompt_mode": "custom_only"},
        "extra_body": {
            "codex_capabilities": {"prompt_mode": "merge_custom", "codex_passthrough": False},
            "codex_system_prompt": "Mine.",
        },
    }
    header = '{"include_environment_context": true, "codex_passthrough": true}'
    async with relaying(tmp_path) as relay:
        answer = await relay.post(path, body, headers={HEADER: header})
        sent = relay.asked[0].body
    assert answer.status_code == 200, answer.text
    assert is_object(sent)
    assert sent["instructions"] == "Mine."
    assert texts_in(get_list(sent, "input")[0]) == [
        "<environment_context>\n  <cwd>/p</cwd>\n</environment_context>"
    ]
    assert not NAMES & sent.keys()


@pytest.mark.parametrize(
    ("fields", "header", "param"),
    [
        ({"codex_capabilities": {"prompt_mod": "x"}}, None, "codex_capabilities.prompt_mod"),
        ({"codex_capabilities": {"prompt_mode": "x"}}, None, "codex_capabilities.prompt_mode"),
        (
            {"extra_body": {"codex_capabilities": {"protocol": 1}}},
            None,
            "extra_body.codex_capabilities.protocol",
        ),
        ({}, "prompt_mode=x", f"{HEADER}.prompt_mode"),
        ({}, "{}x", HEADER),
        ({"model": "gpt-5.5?prompt_mode=x"}, None, "model"),
    ],
)
@pytest.mark.parametrize("path", ["chat/completions", "responses", "responses/compact"])
async def test_what_is_no_capability_is_refused_and_named(
    tmp_path: Path, path: str, fields: JsonObject, header: str | None, param: str
) -> None:
    body = (ask_chat if "chat" in path else ask)() | fields
    async with relaying(tmp_path) as relay:
        answer = await relay.post(f"/v1/{path}", body, headers={HEADER: header} if header else None)
        asked = relay.asked
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (
        400,
        "invalid_request_error",
        param,
    )
    assert asked == []


async def test_nothing_for_the_relay_is_sent_with_a_compaction(tmp_path: Path) -> None:
    body = ask("hello", **dict.fromkeys(ENVIRONMENT, "x")) | {
        "codex_capabilities": {"include_environment_context": True, "prompt_mode": "custom_only"},
        "codex_system_prompt": "Mine.",
        "extra_body": {"anything": 1},
        "input": [{"role": "user", "content": "hello"}],
    }
    async with relaying(tmp_path) as relay:
        answer = await relay.post("/v1/responses/compact", body)
        [seen] = [s for s in relay.simulator.seen if s.path.endswith("/compact")]
    assert answer.status_code == 200, answer.text
    assert seen.body == {name: value for name, value in body.items() if name not in NAMES}


# --- the two profiles of the owner's document

PROFILE_A: Final = """
backends:
  openai_codex:
    timeout: 120
    extra:
      codex:
        default_capabilities:
          protocol: openai-chat
          codex_passthrough: false
          prompt_mode: codex_default
          tool_schema_mode: custom_only
          tool_text_format: none
          bypass_tool_call_reactor: true
          include_environment_context: false
"""
PROFILE_B: Final = PROFILE_A.replace("openai-chat", "openai-responses").replace(
    "codex_passthrough: false", "codex_passthrough: true"
)


def loaded(folder: Path, text: str) -> CodexBackendSettings:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load(config_path=path, environ={}, flags={}).settings.backends.openai_codex


@pytest.mark.parametrize("text", [PROFILE_A, PROFILE_B], ids=["A", "B"])
async def test_a_profile_loads_as_printed_and_changes_nothing_on_its_own_route(
    tmp_path: Path, text: str
) -> None:
    route = "openai-chat" if text is PROFILE_A else "openai-responses"
    own = loaded(tmp_path, text).extra.codex.default_capabilities
    backend = codex(default_capabilities=own)
    async with (
        relaying(tmp_path / "a") as plain,
        relaying(tmp_path / "b", backend=backend) as with_,
    ):
        for client in CLIENTS:
            if client.route == route:
                for relay in (plain, with_):
                    answer = await relay.post(
                        client.path, client.with_fields(), headers=client.headers
                    )
                    assert answer.status_code == 200
        assert [seen.body for seen in plain.asked] == [seen.body for seen in with_.asked]
        assert plain.asked


async def test_profile_a_reads_a_responses_request_as_a_conversation(tmp_path: Path) -> None:
    backend = codex(
        default_capabilities=loaded(tmp_path, PROFILE_A).extra.codex.default_capabilities
    )
    async with relaying(tmp_path, backend=backend) as relay:
        client = BY_NAME["droid responses"]
        answer = await relay.post(client.path, client.with_fields(**UNKNOWN))
        sent = relay.asked[0].body
        lite = BY_NAME["codex lite"]
        refused = await relay.post(lite.path, lite.with_fields())
    assert answer.status_code == 200
    assert is_object(sent)
    assert sent["instructions"] == DEFAULT_TEXT
    assert texts_in(get_list(sent, "input")[0]) == [SYSTEM]
    assert "a_field_of_tomorrow" not in sent
    assert sent["tools"] == client.body["tools"]
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input[0].type")


async def test_profile_b_lets_a_chat_request_speak_responses(tmp_path: Path) -> None:
    backend = codex(
        default_capabilities=loaded(tmp_path, PROFILE_B).extra.codex.default_capabilities
    )
    body: JsonObject = {
        "model": "gpt-5.5",
        "instructions": SYSTEM,
        "input": [{"role": "user", "content": "hello"}],
        "text": {"verbosity": "low"},
    }
    async with relaying(tmp_path, backend=backend) as relay:
        answer = await relay.post("/v1/chat/completions", body)
        sent = relay.asked[0].body
        both = await relay.post("/v1/chat/completions", body | ask_chat())
    assert answer.status_code == 200, answer.text
    assert answer.json()["object"] == "chat.completion"
    assert is_object(sent)
    assert sent["instructions"] == DEFAULT_TEXT
    assert texts_in(get_list(sent, "input")[0]) == [SYSTEM]
    assert get_list(sent, "input")[1:] == body["input"]
    assert sent["text"] == {"verbosity": "low"}
    assert (both.status_code, both.json()["error"]["param"]) == (400, "input")


async def test_the_example_of_the_document_is_served(tmp_path: Path) -> None:
    body: JsonObject = {
        "model": "openai-codex:gpt-5.1-codex",
        "messages": [{"role": "user", "content": "Hello"}],
        "tools": [{"type": "function", "function": {"name": "my_tool", "parameters": {}}}],
        "extra_body": {
            "codex_capabilities": {
                "tool_schema_mode": "custom_only",
                "bypass_tool_call_reactor": True,
                "include_environment_context": False,
            }
        },
    }
    aliases = ModelsSettings(aliases={"gpt-5.1-codex": "gpt-5.5"})
    async with relaying(tmp_path, models=aliases) as relay:
        answer = await relay.post("/v1/chat/completions", body)
        sent = relay.asked[0].body
    assert answer.status_code == 200, answer.text
    assert is_object(sent)
    assert sent["tools"] == [{"type": "function", "name": "my_tool", "parameters": {}}]


# --- what stays


async def test_the_prefix_of_a_session_is_the_same_from_turn_to_turn(tmp_path: Path) -> None:
    asked: JsonObject = {
        "prompt_mode": "codex_default",
        "tool_schema_mode": "merge_custom",
        "include_environment_context": True,
        "codex_passthrough": False,
    }
    async with relaying(tmp_path) as relay:
        for client in CLIENTS:
            body = client.with_fields(codex_capabilities=asked, **TOLD)
            key = "messages" if client.route == "openai-chat" else "input"
            history = get_list(body, key) or [{"role": "user", "content": ASK}]
            for turn in ("one", "two"):
                await relay.post(client.path, body | {key: history}, headers=client.headers)
                more: list[Json] = [
                    {"role": "assistant", "content": turn},
                    {"role": "user", "content": f"[sim text={turn}] and now?"},
                ]
                history = [*history, *more]
            first, second = (seen.body for seen in relay.asked[-2:])
            assert is_object(first), client.name
            assert is_object(second)
            length = len(get_list(first, "input"))
            for name in ("instructions", "tools", "prompt_cache_key"):
                assert dump(first.get(name)) == dump(second.get(name)), client.name
            assert dump(get_list(second, "input")[:length]) == dump(first["input"]), client.name


async def test_nothing_of_the_relays_own_environment_is_told(tmp_path: Path) -> None:
    own = {os.getcwd(), socket.gethostname(), getpass.getuser(), os.environ.get("SHELL", "")}
    async with relaying(tmp_path) as relay:
        for client in CLIENTS:
            for mode in ("merge_custom", "custom_only"):
                asked: JsonObject = {
                    "include_environment_context": True,
                    "tool_schema_mode": "merge_custom",
                    "prompt_mode": mode,
                    "codex_passthrough": False,
                }
                sent = await send(relay, client, asked, shell="")
                assert sent.status == 200
                assert "environment_context" not in str(sent.body), "nothing said, nothing told"
        for seen in relay.asked:
            wire = dump(seen.body).decode() + repr(
                [(name, value) for name, value in seen.headers if name != "host"]
            )
            for word in filter(None, own):
                assert not re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w.-])", wire), word


async def test_that_client_tools_are_left_out_is_said_once_for_each_session(
    tmp_path: Path,
) -> None:
    client = BY_NAME["opencode chat"]
    with capture_logs() as logged:
        async with relaying(tmp_path) as relay:
            for session in ("ses_1", "ses_1", "ses_2"):
                body = client.with_fields(codex_capabilities={"tool_schema_mode": "codex_default"})
                headers = client.headers | {"x-session-id": session}
                await relay.post(client.path, body, headers=headers)
    told = [line for line in logged if "the client's tools are left out" in line["event"]]
    assert [line["tools"] for line in told] == ["apply_patch, bash, read"] * 2


async def test_what_a_user_should_know_is_said_once_for_each_session(tmp_path: Path) -> None:
    client = BY_NAME["droid chat"]
    headers = client.headers | {"openai-platform": "org-1"}
    with capture_logs() as logged:
        async with relaying(tmp_path) as relay:
            for _ in range(2):
                await relay.post(client.path, client.with_fields(), headers=headers)
    hints = [line for line in logged if "models.aliases" in line["event"]]
    assert len(hints) == 1


# --- settings


async def test_texts_and_tools_of_the_configuration_are_used(tmp_path: Path) -> None:
    backend = codex(
        prompt=PromptSettings(template="Mine.", prepend=("First.",), append=("Last.",)),
        tool_schema=ToolSchemaSettings(
            base_tools=({"type": "function", "name": "run"},),
            custom_tools=(
                {"type": "function", "name": "bash"},
                {"type": "function", "name": "more"},
            ),
        ),
        renderer=RendererSettings(default="markdown"),
    )
    client = BY_NAME["sdk chat"]
    async with relaying(tmp_path, backend=backend) as relay:
        asked: JsonObject = {"tool_schema_mode": "merge_custom", "tool_text_format": "inherit"}
        sent = await send(relay, client, asked)
    assert sent.body["instructions"] == "First.\n\nMine.\n\nLast."
    assert sent.tool_names == ("run", "bash", "more")
    assert get_list(sent.body, "tools")[1] == {
        "type": "function",
        "name": "bash",
        "description": "bash!",
        "parameters": get_object(sent.tools[1], "parameters"),
    }
    calls_are_said("```")(sent)


async def test_settings_are_read_for_each_request(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        await relay.post("/v1/chat/completions", ask_chat())
        current = relay.services.current
        before = current.settings
        backend = attrs.evolve(
            before.backends.openai_codex,
            extra=codex(prompt=PromptSettings(template="New.")).extra,
        )
        current.settings = attrs.evolve(
            before, backends=attrs.evolve(before.backends, openai_codex=backend)
        )
        await relay.post("/v1/chat/completions", ask_chat())
        texts = [seen.body["instructions"] for seen in relay.asked if is_object(seen.body)]
    assert texts == [DEFAULT_TEXT, "New."]


# --- adaptations


@pytest.mark.parametrize(
    ("switched_on", "bypass", "name"),
    [
        (("opencode.shell_as_bash",), False, "bash"),
        (("OpenCode.shell-as-bash",), False, "bash"),
        (("pi.shell_as_bash",), False, "shell"),
        ((), False, "shell"),
        (("opencode.shell_as_bash",), True, "shell"),
    ],
)
async def test_an_adaptation_acts_where_it_is_switched_on_and_calls_are_not_bypassed(
    tmp_path: Path, switched_on: tuple[str, ...], bypass: bool, name: str
) -> None:
    client = BY_NAME["opencode chat"]
    # Whatever it was offered, the model calls what it knows from elsewhere.
    call = events.call(0, events.function("shell", "call_1"), '{"command":["ls","-l"]}')
    stream = events.created() + call + events.completed()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(stream)
    body = client.with_fields(codex_capabilities={"bypass_tool_call_reactor": bypass})
    async with (
        serving(always_answering(head + stream)) as upstream,
        relaying(
            tmp_path,
            backend=CodexBackendSettings(api_base_url=upstream.url),
            profiles=ProfilesSettings(adaptations=switched_on),
        ) as relay,
    ):
        answer = await relay.post(client.path, body, headers=client.headers)
    sent = Sent(client=client, given={}, status=200, answer=answer.content, body={})
    assert sent.called == [name]
    assert (b'\\"ls -l\\"' in answer.content) is (name == "bash")


# --- text for calls


@pytest.mark.parametrize("name", ["sdk chat", "sdk responses"])
@pytest.mark.parametrize("passthrough", [True, False])
async def test_two_calls_in_words_come_back_as_the_calls_they_were(
    tmp_path: Path, name: str, passthrough: bool
) -> None:
    client = BY_NAME[name]
    asked: JsonObject = {"tool_text_format": "xml", "codex_passthrough": passthrough}
    key = "messages" if client.route == "openai-chat" else "input"
    history: list[Json] = [{"role": "user", "content": "[sim parallel=2] go"}]
    async with relaying(tmp_path) as relay:
        first = await send(relay, client, asked, **{key: history})
        ids = re.findall(r'<tool_call call_id="([^"]+)" name="bash">', first.said)
        results = "\n".join(
            f'<tool_result call_id="{call_id}">\nhi\n</tool_result>' for call_id in ids
        )
        history += [
            {"role": "assistant", "content": first.said},
            {"role": "user", "content": results},
        ]
        second = await send(relay, client, asked, **{key: history})
    calls = [item for item in second.input if is_object(item) and "call_id" in item]
    assert len(ids) == 2
    assert [call["call_id"] for call in calls] == [*ids, *ids]
    assert [call["type"] for call in calls] == [
        *["function_call"] * 2,
        *["function_call_output"] * 2,
    ]
    assert [parse_object(str(call["arguments"])) for call in calls[:2]] == [
        {"command": "echo hi"},
        {"command": "echo hi"},
    ]
    assert [call["output"] for call in calls[2:]] == ["hi", "hi"]
    assert second.said == "The command printed: hi; hi"


# --- adjusted


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("path", ["chat/completions", "responses", "responses/compact"])
async def test_what_was_adjusted_is_told_in_a_header(
    tmp_path: Path, path: str, stream: bool
) -> None:
    body = (ask_chat if "chat" in path else ask)() | {"stream": stream}
    body["model"] = "gpt-5.5?reasoning_effort=ultra"
    if "compact" in path:
        body["input"] = [{"role": "user", "content": "hello"}]
        del body["stream"]
    async with relaying(tmp_path) as relay:
        answer = await relay.post(f"/v1/{path}", body)
        [sent] = [seen.body for seen in relay.simulator.seen if "/responses" in seen.path]
        plain = await relay.post(f"/v1/{path}", body | {"model": "gpt-5.5"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-codexrelay-adjusted"] == "reasoning_effort=ultra->xhigh"
    assert is_object(sent)
    assert get_object(sent, "reasoning")["effort"] == "xhigh"
    assert "x-codexrelay-adjusted" not in plain.headers


# --- refusals


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_a_refusal_of_the_instructions_names_prompt_mode(tmp_path: Path, path: str) -> None:
    text = "[sim fault=400]"
    body = (ask_chat if "chat" in path else ask)(text)
    async with relaying(tmp_path) as relay:
        answer = await relay.post(path, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "instructions")
    assert error["message"].startswith("Instructions are not valid: ")
    assert "prompt_mode" in error["message"]


# --- anything may come

words = st.text(max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
given_capabilities = st.fixed_dictionaries(
    {}, optional={key: st.sampled_from(allowed or (True, False)) for key, allowed in KEYS.items()}
)
#: Names that mean something to one of the two protocols or to the relay, and others.
names = st.sampled_from(
    [
        *sorted(NAMES - {"codex_capabilities", "extra_body"}),
        *("instructions", "input", "messages", "tools", "tool_choice", "reasoning", "text"),
        *("include", "client_metadata", "metadata", "user", "previous_response_id", "store"),
        *("functions", "response_format", "stream_options", "x_unknown", "prompt_cache_key"),
    ]
)
extra_bodies = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "codex_capabilities": given_capabilities,
        "codex_system_prompt": words,
        ENVIRONMENT_BLOCK: words,
        "other": values,
    },
)
requests = st.fixed_dictionaries(
    {
        "client": st.sampled_from(CLIENTS),
        "capabilities": given_capabilities,
        "extra_body": extra_bodies,
        "fields": st.dictionaries(names, values, max_size=3),
    }
)


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(batch=st.lists(requests, min_size=12, max_size=24))
def test_whatever_is_asked_there_is_an_answer_or_a_clean_400(batch: list[JsonObject]) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with relaying(Path(folder), Simulator()) as relay:
                for asked in batch:
                    await check(relay, **asked)

    async def check(
        relay: LiveRelay,
        client: ClientRequest,
        capabilities: JsonObject,
        extra_body: Json,
        fields: JsonObject,
    ) -> None:
        before = len(relay.asked)
        body = client.with_fields(**fields)
        body |= {"codex_capabilities": capabilities, "extra_body": extra_body}
        answer = await relay.post(client.path, body, headers=client.headers)
        seen = [asked.body for asked in relay.asked[before:]]
        if answer.status_code != 200:
            assert answer.status_code == 400, (answer.text, body)
            error = answer.json()["error"]
            assert error["type"] == "invalid_request_error"
            assert error["message"]
        for sent in seen:
            assert is_object(sent)
            assert not NAMES & sent.keys(), body

    trio.run(main)
