"""Requests in the shape of the five client programs: their fields and headers, our own words.

Shapes as measured: OpenCode 1.18, Droid 0.225, Codex CLI 0.169, pi 0.73, the openai SDK 3.54.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.capabilities import Dialect
from codexrelay.protocol.raw import JsonObject, get_list, is_object

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json

#: What the clients' system text is here: none of its letters may be lost.
SYSTEM: Final = "Odpowiadaj po polsku — zażółć gęślą jaźń → 日本語 🎯\u2028\tok…  "
ASK: Final = "Run the shell command 'echo hi' and tell me what it printed."
_COMMAND: Final[JsonObject] = {
    "type": "object",
    "properties": {"command": {"type": "string"}},
    "required": ["command"],
    "additionalProperties": False,
}
_EXEC: Final[JsonObject] = {
    "type": "object",
    "properties": {"cmd": {"type": "string"}},
    "required": ["cmd"],
    "additionalProperties": False,
}


@attrs.frozen(kw_only=True)
class ClientRequest:
    """One request of one program."""

    name: str
    route: Dialect
    headers: dict[str, str]
    body: JsonObject
    #: The system text that `prompt_mode` speaks of; empty where its prompt is a developer message.
    system: str = ""
    #: Names of its tools, in order.
    tools: tuple[str, ...]
    #: It is written by Codex CLI, whose requests need no help.
    codex: bool = False
    #: Its tools ride in an item of the input.
    lite: bool = False

    @property
    def path(self) -> str:
        """Where it is sent."""
        return "/v1/chat/completions" if self.route == "openai-chat" else "/v1/responses"

    def with_fields(self, **fields: Json) -> JsonObject:
        """Return its body with further fields. None of its values is shared."""
        return copy.deepcopy(self.body) | fields


def _chat_tool(name: str, parameters: JsonObject = _COMMAND) -> JsonObject:
    function: JsonObject = {"name": name, "description": f"{name}!", "parameters": parameters}
    return {"type": "function", "function": function}


def _tool(name: str, parameters: JsonObject = _COMMAND, **more: Json) -> JsonObject:
    tool: JsonObject = {"type": "function", "name": name, "parameters": parameters}
    return tool | more


def _message(role: str, text: str, **more: Json) -> JsonObject:
    kind = "output_text" if role == "assistant" else "input_text"
    content: list[Json] = [{"type": kind, "text": text}]
    return {"type": "message", "role": role, "content": content} | more


def _short(role: str, text: str) -> JsonObject:
    return {"role": role, "content": [{"type": "input_text", "text": text}]}


_OPENCODE_HEADERS: Final = {
    "user-agent": "opencode/1.18.33 ai-sdk/provider-utils/4.0.23 runtime/bun/1.3.14",
    "x-session-affinity": "ses_dfcf",
    "x-session-id": "ses_dfcf",
}
_DROID_HEADERS: Final = {
    "user-agent": "factory-cli/0.225.2",
    "x-stainless-lang": "js",
    "x-stainless-package-version": "6.25.0",
}
_PI_HEADERS: Final = {
    "user-agent": "OpenAI/JS 6.26.0",
    "x-stainless-lang": "js",
    "x-stainless-package-version": "6.26.0",
}
_SDK_HEADERS: Final = {
    "user-agent": "OpenAI/Python 3.54.0",
    "x-stainless-lang": "python",
    "x-stainless-package-version": "3.54.0",
}
_CODEX_HEADERS: Final = {
    "user-agent": "codex_exec/0.169.0 (Debian 12.0.0; x86_64) dumb (codex_exec; 0.169.0)",
    "originator": "codex_exec",
    "session-id": "01a20317-e2c0",
    "thread-id": "01a20317-e2c0",
}
_USAGE: Final[JsonObject] = {"include_usage": True}
_ENCRYPTED: Final[list[Json]] = ["reasoning.encrypted_content"]

CLIENTS: Final = (
    ClientRequest(
        name="opencode chat",
        route="openai-chat",
        headers=_OPENCODE_HEADERS,
        system=SYSTEM,
        tools=("apply_patch", "bash", "read"),
        body={
            "model": "gpt-5.4",
            "max_tokens": 32000,
            "reasoning_effort": "medium",
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": f'"{ASK}"'},
            ],
            "tools": [_chat_tool("apply_patch"), _chat_tool("bash"), _chat_tool("read")],
            "tool_choice": "auto",
            "stream": True,
            "stream_options": _USAGE,
        },
    ),
    ClientRequest(
        name="opencode responses",
        route="openai-responses",
        headers=_OPENCODE_HEADERS,
        tools=("apply_patch", "bash", "read"),
        body={
            "model": "gpt-5.4",
            "input": [{"role": "developer", "content": SYSTEM}, _short("user", f'"{ASK}"')],
            "max_output_tokens": 32000,
            "text": {"verbosity": "low"},
            "store": False,
            "include": _ENCRYPTED,
            "prompt_cache_key": "ses_dfcf",
            "reasoning": {"effort": "medium", "summary": "auto"},
            "tools": [_tool(name, strict=False) for name in ("apply_patch", "bash", "read")],
            "tool_choice": "auto",
            "stream": True,
        },
    ),
    ClientRequest(
        name="droid chat",
        route="openai-chat",
        headers=_DROID_HEADERS,
        system=SYSTEM,
        tools=("Read", "LS", "Execute", "Grep", "Glob"),
        body={
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": [{"type": "text", "text": "<reminder>"}]},
                {"role": "user", "content": ASK},
            ],
            "model": "gpt-5.5",
            "tools": [_chat_tool(name) for name in ("Read", "LS", "Execute", "Grep", "Glob")],
            "stream": True,
            "stream_options": _USAGE,
            "max_tokens": 32000,
            "temperature": 1,
        },
    ),
    ClientRequest(
        name="droid responses",
        route="openai-responses",
        headers=_DROID_HEADERS,
        system=SYSTEM,
        tools=("Read", "LS", "Execute", "Grep", "Glob"),
        body={
            "model": "gpt-5.4",
            "input": [_short("user", "<reminder>"), _short("user", ASK)],
            "store": False,
            "tools": [_tool(name) for name in ("Read", "LS", "Execute", "Grep", "Glob")],
            "instructions": SYSTEM,
            "stream": True,
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "include": _ENCRYPTED,
            "reasoning": {"effort": "high", "summary": "auto"},
            "prompt_cache_key": "0b71ccc7-d0d7",
            "text": {"verbosity": "low"},
            "safety_identifier": "0b71ccc7-d0d7",
        },
    ),
    ClientRequest(
        name="codex classic",
        route="openai-responses",
        headers=_CODEX_HEADERS,
        tools=("exec_command", "apply_patch", "web_search"),
        codex=True,
        body={
            "model": "gpt-5.5",
            "stream": True,
            "input": [
                _message("developer", SYSTEM, id="msg_0a"),
                _message("user", ASK, id="msg_0b"),
            ],
            "tools": [
                _tool("exec_command", _EXEC, strict=False),
                {
                    "type": "custom",
                    "name": "apply_patch",
                    "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin"},
                },
                {"type": "web_search", "external_web_access": False},
            ],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "reasoning": {"effort": "medium"},
            "store": False,
            "include": _ENCRYPTED,
            "prompt_cache_key": "01a20317-e2c0",
            "text": {"verbosity": "low"},
            "client_metadata": {"session_id": "01a20317-e2c0", "turn_id": "t"},
        },
    ),
    ClientRequest(
        name="codex lite",
        route="openai-responses",
        headers=_CODEX_HEADERS | {"x-openai-internal-codex-responses-lite": "true"},
        tools=("functions",),
        codex=True,
        lite=True,
        body={
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
                            "tools": [{"type": "custom", "name": "exec"}],
                        }
                    ],
                },
                _message("developer", SYSTEM, id="msg_0a"),
                _message("user", ASK, id="msg_0b"),
            ],
            "tool_choice": "auto",
            "parallel_tool_calls": False,
            "reasoning": {"effort": "low", "context": "all_turns"},
            "store": False,
            "include": _ENCRYPTED,
            "prompt_cache_key": "01a20317-e2c0",
            "text": {"verbosity": "low"},
            "client_metadata": {"session_id": "01a20317-e2c0", "turn_id": "t"},
        },
    ),
    ClientRequest(
        name="pi chat",
        route="openai-chat",
        headers=_PI_HEADERS,
        tools=("read", "bash", "edit", "write"),
        body={
            "model": "gpt-5.4",
            "messages": [
                {"role": "developer", "content": SYSTEM},
                {"role": "user", "content": [{"type": "text", "text": ASK}]},
            ],
            "stream": True,
            "stream_options": _USAGE,
            "store": False,
            "max_completion_tokens": 32000,
            "tools": [_chat_tool(name) for name in ("read", "bash", "edit", "write")],
            "reasoning_effort": "medium",
        },
    ),
    ClientRequest(
        name="pi responses",
        route="openai-responses",
        headers=_PI_HEADERS | {"session_id": "01a2030a-0475"},
        tools=("read", "bash", "edit", "write"),
        body={
            "model": "gpt-5.4",
            "input": [{"role": "developer", "content": SYSTEM}, _short("user", ASK)],
            "stream": True,
            "prompt_cache_key": "01a2030a-0475",
            "store": False,
            "max_output_tokens": 32000,
            "tools": [_tool(name) for name in ("read", "bash", "edit", "write")],
            "reasoning": {"effort": "medium", "summary": "auto"},
            "include": _ENCRYPTED,
        },
    ),
    ClientRequest(
        name="sdk chat",
        route="openai-chat",
        headers=_SDK_HEADERS,
        system=SYSTEM,
        tools=("bash",),
        body={
            "model": "gpt-5.4",
            "stream": True,
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": ASK},
            ],
            "stream_options": _USAGE,
            "tools": [_chat_tool("bash")],
        },
    ),
    ClientRequest(
        name="sdk responses",
        route="openai-responses",
        headers=_SDK_HEADERS,
        system=SYSTEM,
        tools=("bash",),
        body={
            "model": "gpt-5.4",
            "stream": True,
            "instructions": SYSTEM,
            "input": ASK,
            "tools": [_tool("bash")],
        },
    ),
)
BY_NAME: Final = {client.name: client for client in CLIENTS}


def texts_in(item: Json) -> list[str]:
    """Return the texts of an input item."""
    if not is_object(item):
        return []
    content = item.get("content")
    if isinstance(content, str):
        return [content]
    parts = get_list(item, "content")
    return [str(part["text"]) for part in parts if is_object(part) and "text" in part]
