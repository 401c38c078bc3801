"""Each value of each capability has its effect on the wire, for every client and both protocols."""

from __future__ import annotations

import getpass
import operator
import os
import re
import socket
import tempfile
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
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
from codexrelay.profiles import find_profiles
from codexrelay.protocol.capabilities import HEADER, KEYS, Capabilities, resolve
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
from harness.simulator.accounts import some_accounts
from tests.fakes import responses_events as events
from tests.fakes.client_requests import ASK, BY_NAME, CLIENTS, SYSTEM, ClientRequest, texts_in
from tests.fakes.relay import Beside, ask, ask_chat, relaying
from tests.fakes.scripted_server import always_answering, serving
from tests.fakes.simulated import events_of
from tests.profiles.recorded import UNRECORDED, captures_of, recordings_of

if TYPE_CHECKING:
    import httpx

    from codexrelay.protocol.raw import Json
    from harness.simulator import Seen
    from tests.fakes.relay import LiveRelay
    from tests.profiles.recorded import Sent as Recorded

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
#: Fields that backends of other makes take, and ours refuses.
OF_OTHER_BACKENDS: Final = (
    *("max_output_tokens", "max_tokens", "temperature", "top_p", "metadata", "user", "truncation"),
    *("safety_identifier", "prompt_cache_retention", "context_management", "stop", "logprobs"),
    *("seed", "frequency_penalty", "presence_penalty"),
)
#: A failing batch is long, and each of its tries takes a whole relay.
WITHOUT_SHRINKING: Final = (Phase.explicit, Phase.reuse, Phase.generate)
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
    #: What was logged meanwhile.
    logged: list[MutableMapping[str, Any]] = attrs.field(factory=list)

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
    with capture_logs() as logged:
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
        logged=logged,
    )


# --- the table


def chat_is_read(sent: Sent) -> None:
    """`protocol: openai-chat`: what a Chat conversation cannot say is left out."""
    assert sent.status == 200
    assert not {"client_metadata", *UNKNOWN} & sent.body.keys()
    if not sent.is_chat:
        items = sent.input
        if sent.client.lite:  # its tools are no part of what is said
            assert items[0] == get_list(sent.given, "input")[0]
            items = items[1:]
        assert all(is_object(item) and "id" not in item for item in items)
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


def calls_are_logged(times: int) -> Callable[[Sent], None]:
    """Return a check of the built-in reactor: it writes a line for each call that it sees."""

    def check(sent: Sent) -> None:
        calls_stay_calls(sent)
        seen = [line for line in sent.logged if line["event"] == "tool call"]
        assert len(seen) == times
        assert all(line["request"] for line in seen)

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
    Row("tool_text_format", "summary", calls_are_said("[tool call ")),
    Row("tool_text_format", "default", calls_stay_calls),
    Row("tool_text_format", "inherit", calls_stay_calls),
    Row("bypass_tool_call_reactor", value=True, check=calls_are_logged(0)),
    Row("bypass_tool_call_reactor", value=False, check=calls_are_logged(1)),
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
        "extra_body": {"anything": 1, "stream": False, "cwd": "/p"},
        "input": [{"role": "user", "content": "hello"}],
    }
    async with relaying(tmp_path) as relay:
        answer = await relay.post("/v1/responses/compact", body)
        [seen] = [s for s in relay.simulator.seen if s.path.endswith("/compact")]
    assert answer.status_code == 200, answer.text
    own = {name: value for name, value in body.items() if name not in NAMES}
    assert seen.body == own | {"anything": 1}


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
        more: list[Json] = [
            {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "q"}},
            {"type": "configuration_update", "id": "cu_1"},
        ]
        items = [*get_list(lite.body, "input"), *more]
        await relay.post(lite.path, lite.with_fields(input=items), headers=lite.headers)
        passed = relay.asked[1].body
        orphan: Json = {"type": "function_call_output", "call_id": "c", "output": "x"}
        refused = await relay.post(
            lite.path, lite.with_fields(input=[*items, orphan]), headers=lite.headers
        )
        unknown = await relay.post(client.path, ask(input=[{"type": "of_tomorrow"}]))
    assert answer.status_code == 200
    assert is_object(sent)
    assert sent["instructions"] == DEFAULT_TEXT
    assert texts_in(get_list(sent, "input")[0]) == [SYSTEM]
    assert "a_field_of_tomorrow" not in sent
    assert sent["tools"] == client.body["tools"]
    assert is_object(passed)
    assert get_list(passed, "input")[0] == items[0], "its tools are where it put them"
    assert get_list(passed, "input")[-2:] == more
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input[5].call_id")
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "input[0].type")
    assert len(relay.asked) == 2


#: What the recorded users call models.
OWN_NAMES: Final = ("relay-model",)


def everything_recorded() -> list[Recorded]:
    return [
        sent
        for profile in find_profiles()
        if profile not in UNRECORDED
        for sent in recordings_of(profile)
    ]


def everything_captured() -> list[Recorded]:
    return [
        sent
        for profile in find_profiles()
        if profile not in UNRECORDED
        for sent in captures_of(profile)
    ]


@pytest.mark.parametrize("found", [everything_recorded, everything_captured])
@pytest.mark.parametrize("text", [PROFILE_A, PROFILE_B], ids=["A", "B"])
async def test_whatever_real_programs_have_sent_is_served_under_both_profiles(
    tmp_path: Path, text: str, found: Callable[[], list[Recorded]]
) -> None:
    backend = codex(default_capabilities=loaded(tmp_path, text).extra.codex.default_capabilities)
    own = {"host", "content-length", "content-encoding", "authorization", "accept-encoding"}
    models = ModelsSettings(aliases=dict.fromkeys(OWN_NAMES, "gpt-5.5"))
    async with relaying(tmp_path, backend=backend, models=models) as relay:
        for sent in found():
            path = "/v1/responses" if "/responses" in sent.path else "/v1/chat/completions"
            headers = {name: value for name, value in sent.lower.items() if name not in own}
            answer = await relay.post(path, sent.body, headers=headers)
            assert answer.status_code == 200, (sent.name, answer.text)
        assert relay.asked


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


@pytest.mark.parametrize(
    ("path", "asked", "told"),
    [
        ("responses", {"prompt_mode": "merge_custom"}, "prompt_mode: merge_custom change"),
        (
            "responses",
            {"prompt_mode": "custom_only", "tool_schema_mode": "codex_default"},
            "prompt_mode: custom_only and tool_schema_mode: codex_default change",
        ),
        ("responses", {"prompt_mode": "codex_default"}, None),
        ("responses", {"tool_schema_mode": "merge_custom", "codex_passthrough": False}, None),
        ("chat/completions", {"prompt_mode": "custom_only", "codex_passthrough": True}, None),
    ],
)
async def test_that_passthrough_makes_modes_moot_is_said_once_for_each_session(
    tmp_path: Path, path: str, asked: JsonObject, told: str | None
) -> None:
    body = (ask_chat if "chat" in path else ask)(codex_capabilities=asked)
    with capture_logs() as logged:
        async with relaying(tmp_path) as relay:
            for session in ("ses_1", "ses_1", "ses_2"):
                await relay.post(f"/v1/{path}", body, headers={"x-session-id": session})
    lines = [line["event"] for line in logged if "codex_passthrough" in line["event"]]
    assert len(lines) == (0 if told is None else 2)
    assert all(told is not None and told in line for line in lines)


@pytest.mark.parametrize("path", ["chat/completions", "responses", "responses/compact"])
async def test_a_literal_extra_body_means_what_an_sdks_means(tmp_path: Path, path: str) -> None:
    body = (ask_chat if "chat" in path else ask)(
        extra_body={
            "prompt_cache_key": "mine",
            "service_tier": "flex",
            "parallel_tool_calls": False,
            "codex_system_prompt": "Mine.",
        },
        service_tier="priority",
    )
    if "chat" not in path:
        body |= {"text": {"format": {"type": "text"}}, "input": [{"role": "user", "content": "x"}]}
        get_object(body, "extra_body")["text"] = {"verbosity": "low"}
        get_object(body, "extra_body")["reasoning"] = {"effort": "high"}
    else:
        get_object(body, "extra_body").update(verbosity="low", reasoning_effort="high")
    async with relaying(tmp_path) as relay:
        answer = await relay.post(f"/v1/{path}", body)
        [seen] = [seen for seen in relay.simulator.seen if "/responses" in seen.path]
    assert answer.status_code == 200, answer.text
    sent = seen.body
    assert is_object(sent)
    assert sent["prompt_cache_key"] == "mine"
    assert seen.header("session-id") == "mine"
    assert sent["service_tier"] == "priority", "the top level wins"
    assert sent["parallel_tool_calls"] is False
    assert get_object(sent, "reasoning")["effort"] == "high"
    text = {} if "chat" in path else {"format": {"type": "text"}}
    assert sent["text"] == {"verbosity": "low"} | text


# --- the model's name


@pytest.mark.parametrize(
    "asked", ["gpt-5.5?reasoning_effort=high", "openai-codex:gpt-5.5", "my model", "gpt-5.5"]
)
@pytest.mark.parametrize("path", ["responses", "responses/compact"])
async def test_the_clients_name_of_the_model_stays_here(
    tmp_path: Path, path: str, asked: str
) -> None:
    metadata = f'{{"turn_id": "my model",  "model": "{asked}", "note":"gpt-5.5?x"}}'
    body = ask(
        model=asked,
        input=[{"role": "user", "content": f"I use {asked}."}],
        client_metadata={"x-codex-turn-metadata": metadata, "turn_id": "t"},
    )
    headers = {
        "x-codex-routing-hint": f"model={asked}; tier=1",
        "x-codex-turn-metadata": metadata,
        "originator": "codex_exec",
    }
    models = ModelsSettings(aliases={"my model": "gpt-5.5"})
    async with relaying(tmp_path, models=models) as relay:
        answer = await relay.post(f"/v1/{path}", body, headers=headers)
        [seen] = [seen for seen in relay.simulator.seen if "/responses" in seen.path]
    assert answer.status_code == 200, answer.text
    told = '{"turn_id": "my model",  "model": "gpt-5.5", "note":"gpt-5.5?x"}'
    assert seen.header("x-codex-routing-hint") == "model=gpt-5.5; tier=1"
    assert seen.header("x-codex-turn-metadata") == told
    assert is_object(seen.body)
    assert seen.body["client_metadata"] == {"x-codex-turn-metadata": told, "turn_id": "t"}
    assert f"I use {asked}." in str(seen.body["input"]), "what is said is nobody's to change"


# --- instances


@pytest.mark.parametrize(
    ("model", "mode"),
    [
        ("gpt-5.4", "merge_custom"),
        ("openai-codex:gpt-5.4", "merge_custom"),
        ("openai-codex.2:gpt-5.4", "custom_only"),
    ],
)
async def test_the_prefix_of_a_model_chooses_the_capabilities_of_its_block(
    tmp_path: Path, model: str, mode: str
) -> None:
    first = codex(default_capabilities=CapabilitySettings(prompt_mode="merge_custom"))
    second = codex(default_capabilities=CapabilitySettings(prompt_mode="custom_only"))
    client = BY_NAME["sdk chat"]
    beside = (Beside(accounts={"b": "sim-2"}, settings=second),)
    simulator = Simulator(accounts=some_accounts(2))
    async with relaying(
        tmp_path, simulator, backend=first, accounts={"a": "sim-1"}, beside=beside
    ) as relay:
        answer = await relay.post(
            client.path, client.with_fields(model=model), headers=client.headers
        )
        [seen] = relay.asked
    assert answer.status_code == 200, answer.text
    assert is_object(seen.body)
    assert mode_of(seen.body) == mode
    if ".2:" in model:
        assert seen.account == "sim-2"


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


@pytest.mark.parametrize("inside", [False, True], ids=["carried", "in a namespace"])
async def test_an_adaptation_finds_tools_that_ride_in_the_input(
    tmp_path: Path, inside: bool
) -> None:
    [bash] = get_list(BY_NAME["sdk responses"].body, "tools")
    space: JsonObject = {"type": "namespace", "name": "functions", "tools": [bash]}
    items: list[Json] = [
        {"type": "additional_tools", "role": "developer", "tools": [space if inside else bash]},
        {"role": "user", "content": ASK},
    ]
    call = events.call(0, events.function("shell", "call_1"), '{"command":["ls","-l"]}')
    stream = events.created() + call + events.completed()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(stream)
    client = BY_NAME["opencode responses"]
    body = ask(input=items, codex_capabilities={"bypass_tool_call_reactor": False})
    async with (
        serving(always_answering(head + stream)) as upstream,
        relaying(
            tmp_path,
            backend=CodexBackendSettings(api_base_url=upstream.url),
            profiles=ProfilesSettings(adaptations=("opencode.shell_as_bash",)),
        ) as relay,
    ):
        answer = await relay.post(client.path, body, headers=client.headers)
    sent = Sent(client=client, given={}, status=200, answer=answer.content, body={})
    # A tool of a namespace is called with it, which a plain call of `shell` says nothing of.
    assert sent.called == ["shell" if inside else "bash"]


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


@pytest.mark.parametrize("path", ["chat/completions", "responses", "responses/compact"])
async def test_fast_is_priority_and_said_so_on_every_route(tmp_path: Path, path: str) -> None:
    body = (ask_chat if "chat" in path else ask)(service_tier="fast")
    if "chat" not in path:
        body["input"] = [{"role": "user", "content": "hello"}]
    async with relaying(tmp_path) as relay:
        answer = await relay.post(f"/v1/{path}", body)
        [seen] = [seen for seen in relay.simulator.seen if "/responses" in seen.path]
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-codexrelay-adjusted"] == "service_tier=fast->priority"
    assert is_object(seen.body)
    assert seen.body["service_tier"] == "priority"


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

#: Nothing but what is for the relay alone holds it.
SECRET: Final = "s3cr3t"
words = st.text(max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
given_capabilities = st.fixed_dictionaries(
    {}, optional={key: st.sampled_from(allowed or (True, False)) for key, allowed in KEYS.items()}
)
for_the_relay: st.SearchStrategy[JsonObject] = st.fixed_dictionaries(
    {},
    optional={
        "codex_capabilities": given_capabilities,
        "codex_system_prompt": st.sampled_from([SECRET, [SECRET, f"more {SECRET}"]]),
        ENVIRONMENT_BLOCK: st.just(SECRET),
        **dict.fromkeys(ENVIRONMENT, st.just(SECRET)),
    },
)
#: What passes as it came and the backend would refuse is left out: it is not the relay's to judge.
names = st.sampled_from(
    [
        *("instructions", "input", "tools", "tool_choice", "reasoning", "text", "include"),
        *("client_metadata", "previous_response_id", "store", "stream_options", "x_unknown"),
        *("prompt_cache_key", "service_tier", "background", *OF_OTHER_BACKENDS),
    ]
)
fields = st.dictionaries(names, values, max_size=3)
requests = st.fixed_dictionaries(
    {
        "client": st.sampled_from(CLIENTS),
        "fields": fields,
        "top": for_the_relay,
        "extra": st.none() | st.builds(operator.or_, fields, for_the_relay),
        "header": st.none() | given_capabilities,
        "name": given_capabilities,
        "compact": st.sampled_from([False, False, True]),
    }
)
#: What the backend gets of a request that is built from what is known of it.
KNOWN: Final = {
    *("model", "instructions", "input", "tools", "tool_choice", "parallel_tool_calls", "reasoning"),
    *("store", "stream", "include", "prompt_cache_key", "text", "service_tier"),
}


@attrs.frozen(kw_only=True)
class Anything:
    """One request that says whatever may be said to the relay, wherever that may stand."""

    client: ClientRequest
    fields: JsonObject
    top: JsonObject
    extra: JsonObject | None
    header: JsonObject | None
    name: JsonObject
    compact: bool

    @property
    def is_compact(self) -> bool:
        return self.compact and self.client.route == "openai-responses"

    @property
    def path(self) -> str:
        return f"{self.client.path}/compact" if self.is_compact else self.client.path

    @property
    def body(self) -> JsonObject:
        body = self.client.with_fields(**self.fields)
        extra = self.extra
        if self.is_compact:  # it goes out as it came, so it must be one that the backend takes
            body = {"model": body["model"], "input": [{"role": "user", "content": ASK}]}
            extra = {k: v for k, v in (self.extra or {}).items() if k in NAMES}
        if self.name:
            pairs = (f"{key}={_word(value)}" for key, value in self.name.items())
            body["model"] = f"{body['model']}?{'&'.join(pairs)}"
        return body | self.top | {"extra_body": extra}

    @property
    def headers(self) -> dict[str, str]:
        metadata = dump({"model": self.body["model"]}).decode("ascii")
        more = {"x-codex-turn-metadata": metadata} if self.client.codex else {}
        if self.header is not None:
            pairs = (f"{key}={_word(value)}" for key, value in self.header.items())
            more[HEADER] = ", ".join(pairs)
        return self.client.headers | more

    @property
    def asked(self) -> Capabilities:
        layers = (self.name, self.header, (self.extra or {}).get("codex_capabilities"))
        given = [each for each in (*layers, self.top.get("codex_capabilities")) if is_object(each)]
        return resolve(self.client.route, given)  # type: ignore[arg-type]

    @property
    def tells(self) -> bool:
        """Whether the secret is meant to reach the model."""
        said = self.top.keys() | (self.extra or {}).keys()
        told = self.asked.include_environment_context and bool(
            {ENVIRONMENT_BLOCK, *ENVIRONMENT} & said
        )
        return not self.is_compact and ("codex_system_prompt" in said or told)


def _word(value: Json) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_refused(answer: httpx.Response, seen: list[Seen]) -> None:
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert not seen, "what is refused is refused here: nothing was sent for the backend to refuse"


def check_sent(anything: Anything, seen: Seen) -> None:
    sent = seen.body
    assert is_object(sent)
    assert not NAMES & sent.keys()
    if anything.client.route == "openai-chat" or not (
        anything.asked.codex_passthrough or anything.is_compact
    ):
        as_responses = anything.asked.protocol == "openai-responses"
        beside = {"client_metadata", "stream_options"} if as_responses else set()
        assert sent.keys() <= KNOWN | beside
    told = {key: sent.pop(key) for key in ("instructions", "input") if key in sent}
    assert (SECRET in repr(told)) is anything.tells, "told where it is wanted, and only there"
    headers = [pair for pair in seen.headers if pair[0] != "host"]
    wire = dump(sent).decode() + repr(headers)
    for word in (SECRET, "codexrelay", *KEYS, *NAMES - {"shell"}):
        if word not in ("protocol", "cwd"):  # these may stand in any word
            assert word not in wire, word
    assert f'"model":"{anything.client.body["model"]}"' in dump(sent).decode()


@settings(
    max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), phases=WITHOUT_SHRINKING
)
@given(batch=st.lists(st.builds(lambda asked: Anything(**asked), requests), min_size=30))
def test_whatever_is_asked_there_is_an_answer_or_a_clean_400(batch: list[Anything]) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with relaying(Path(folder), Simulator()) as relay:
                for anything in batch:
                    await check(relay, anything)

    async def check(relay: LiveRelay, anything: Anything) -> None:
        before = len(relay.simulator.seen)
        answer = await relay.post(anything.path, anything.body, headers=anything.headers)
        seen = [s for s in relay.simulator.seen[before:] if "/responses" in s.path]
        try:
            if answer.status_code == 200:
                [one] = seen
                check_sent(anything, one)
            else:
                check_refused(answer, seen)
        except AssertionError as error:
            error.add_note(f"{anything.path} {anything.body} {anything.headers} {answer.text}")
            raise

    trio.run(main)
