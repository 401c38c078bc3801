"""Which program sent a request: its name first, then its tools, then its library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.profiles import find_profiles, recognise
from codexrelay.protocol.responses_request import is_codex_shaped

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

SDK: Final = {"user-agent": "OpenAI/JS 6.26.0", "x-stainless-lang": "js"}
OPENCODE: Final = ("bash", "glob", "grep", "read", "todowrite", "webfetch", "edit", "write")


def flat(*names: str) -> JsonObject:
    return {"tools": [{"type": "function", "name": name} for name in names]}


def nested(*names: str) -> JsonObject:
    return {"tools": [{"type": "function", "function": {"name": name}} for name in names]}


def carried(*names: str) -> JsonObject:
    """Return a body as lite models get it."""
    namespace: JsonObject = {"type": "namespace", "name": "functions", **flat(*names)}
    tools: JsonObject = {"type": "additional_tools", "role": "developer", "tools": [namespace]}
    return {"input": [tools, {"role": "user", "content": "go"}]}


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"user-agent": "opencode/9.0.1 ai-sdk/x"}, "opencode"),
        ({"user-agent": "mine", "x-session-affinity": "ses_1"}, "opencode"),
        ({"user-agent": "factory-cli/9", "x-stainless-lang": "js"}, "droid"),
        ({"user-agent": "codex_exec/9.1.2 (Debian; x86_64)"}, "codex_cli"),
        ({"user-agent": "codex-tui/9"}, "codex_cli"),
        ({"originator": "codex_vscode", "user-agent": "mine"}, "codex_cli"),
        ({"x-codex-turn-metadata": "{}"}, "codex_cli"),
        ({"x-openai-internal-codex-responses-lite": "true"}, "codex_cli"),
        ({"user-agent": "pi (linux 6.1.0; x64)", "originator": "pi"}, "pi"),
        ({"user-agent": "OpenAI/Python 9.9"}, "openai_sdk"),
        ({"user-agent": "AsyncOpenAI/Python 9.9"}, "openai_sdk"),
        (SDK, "openai_sdk"),
        ({"user-agent": "curl/8"}, "generic"),
        ({}, "generic"),
    ],
)
def test_headers_name_a_program_of_any_version(headers: dict[str, str], name: str) -> None:
    assert recognise(headers, {"model": "m"}).name == name


@pytest.mark.parametrize("form", [flat, nested, carried])
@pytest.mark.parametrize(
    ("headers", "names", "name"),
    [
        ({}, ("Read", "LS", "Execute", "Grep", "Glob", "Skill"), "droid"),
        ({}, OPENCODE, "opencode"),
        ({}, ("exec_command", "write_stdin", "view_image"), "codex_cli"),
        ({}, ("exec", "wait", "request_user_input"), "codex_cli"),
        (SDK, ("read", "bash", "edit", "write", "mine"), "pi"),
        (SDK, OPENCODE, "opencode"),
        (SDK, ("read", "bash"), "openai_sdk"),
        ({"user-agent": "OpenAI/Python 3"}, ("read", "bash", "edit", "write"), "openai_sdk"),
        ({}, ("Read", "Grep", "Glob"), "generic"),
    ],
    ids=[
        "droid",
        "opencode",
        "codex",
        "codex lite",
        "pi is known by its tools alone",
        "all of pi's tools, and more that are opencode's",
        "too few of pi's",
        "pi's tools in another language",
        "too few of droid's",
    ],
)
def test_without_a_name_the_tools_tell(
    form: object, headers: dict[str, str], names: tuple[str, ...], name: str
) -> None:
    assert callable(form)
    assert recognise(headers, form(*names)).name == name


def test_the_name_beats_the_tools() -> None:
    assert recognise({"user-agent": "factory-cli/1"}, flat(*OPENCODE)).name == "droid"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"user-agent": "codex_exec/0.169.0"}, carried("exec", "wait")),
        ({"x-openai-internal-codex-responses-lite": "true"}, carried("exec", "wait")),
        ({"originator": "codex-tui"}, {"input": []}),
    ],
    ids=["lite model", "lite model by its header", "no tools at all"],
)
def test_what_codex_sends_is_codex_shaped(headers: dict[str, str], body: JsonObject) -> None:
    profile = recognise(headers, body)
    assert profile.name == "codex_cli"
    assert is_codex_shaped(body, from_codex=profile.name == "codex_cli")


def _json() -> st.SearchStrategy[Json]:
    keys = st.sampled_from(["name", "function", "custom", "type", "tools", "input", "namespace"])
    leaves = st.none() | st.booleans() | st.integers() | st.text("abs/ \ud800", max_size=3)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=20,
    )


@given(
    tools=_json(),
    items=_json(),
    headers=st.dictionaries(
        st.sampled_from(["user-agent", "originator", "x-session-affinity", "openai-platform"]),
        st.text(max_size=5) | st.just("factory-cli/1"),
    ),
)
def test_no_body_is_too_strange(tools: Json, items: Json, headers: dict[str, str]) -> None:
    for body in ({"tools": tools, "input": items}, {"tools": [tools], "messages": items}):
        profile = recognise(headers, body)
        assert profile is find_profiles()[profile.name]
        assert isinstance(profile.hints(headers, body), tuple)


def test_profiles_that_know_more_come_first() -> None:
    assert list(find_profiles())[-2:] == ["openai_sdk", "generic"]
