"""The adaptation `shell_as_bash`: a call that the client cannot run becomes one that it can."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.backends.codex.settings import (
    CapabilitySettings,
    CodexBackendSettings,
    CodexSettings,
    ExtraSettings,
)
from codexrelay.config.settings import ProfilesSettings
from codexrelay.profiles import find_profiles
from codexrelay.profiles.profile import shell_as_bash
from codexrelay.protocol.call_filter import ToolCall
from codexrelay.protocol.raw import dump, get_object, parse_object
from tests.fakes.relay import relaying
from tests.fakes.simulated import events_of

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

TEXT: Final[JsonObject] = {"type": "string"}
#: As OpenCode 1.18 and pi 0.73 have it; the descriptions name the unit in the programs' own way.
MS: Final[JsonObject] = {"type": "integer", "exclusiveMinimum": 0, "description": "in milliseconds"}
S: Final[JsonObject] = {"type": "number", "description": "Timeout in seconds"}


def bash(required: tuple[str, ...] = ("command",), /, **properties: Json) -> JsonObject:
    schema: JsonObject = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"command": TEXT, **properties},
        "required": list(required),
        "additionalProperties": False,
    }
    return {"type": "function", "name": "bash", "parameters": schema}


OPENCODE: Final = bash(timeout=MS, workdir=TEXT)
PI: Final = bash(timeout=S)


def adapted(arguments: JsonObject | str, *tools: JsonObject, **more: str) -> JsonObject | None:
    """Return the arguments of the call of `bash`, None if the call was left alone."""
    text = arguments if isinstance(arguments, str) else dump(arguments).decode()
    call = ToolCall(call_id="call_1", name=more.get("name", "shell"), arguments=text)
    renamed = shell_as_bash(call, tools)
    if renamed is None:
        return None
    assert renamed.name == "bash"
    return parse_object(renamed.arguments)


@pytest.mark.parametrize(
    ("command", "script"),
    [
        ("ls -1", "ls -1"),
        (["ls", "-1"], "ls -1"),
        (["echo", "it's", "$HOME"], "echo 'it'\"'\"'s' '$HOME'"),
        (["bash", "-lc", "ls | wc -l"], "ls | wc -l"),
        (["bash", "-lc", "echo $1", "name"], "bash -lc 'echo $1' name"),
        (["bash", "-c", "a; b"], "bash -c 'a; b'"),
    ],
)
def test_the_command_becomes_one_text(command: Json, script: str) -> None:
    assert adapted({"command": command}, PI) == {"command": script}


@pytest.mark.parametrize(
    ("arguments", "tool", "became"),
    [
        (
            {"workdir": "/tmp", "timeout_ms": 1500},
            OPENCODE,
            {"command": "ls", "workdir": "/tmp", "timeout": 1500},
        ),
        (
            {"workdir": "/my work", "timeout_ms": 2000},
            PI,
            {"command": "cd -- '/my work' && ls", "timeout": 2},
        ),
        ({"timeout_ms": 1500}, PI, {"command": "ls", "timeout": 1.5}),
        ({"workdir": None, "timeout_ms": None}, PI, {"command": "ls"}),
    ],
    ids=["in its own words", "in other words", "half a second", "null says nothing"],
)
def test_the_other_arguments_are_said_in_the_words_of_the_clients_schema(
    arguments: JsonObject, tool: JsonObject, became: JsonObject
) -> None:
    assert adapted({"command": ["ls"], **arguments}, tool) == became


def test_a_strict_schema_gets_null_for_what_was_not_said() -> None:
    nullable: JsonObject = {"type": ["string", "null"]}
    tool = bash(("command", "workdir"), workdir=nullable)
    assert adapted({"command": "ls"}, tool) == {"command": "ls", "workdir": None}


NOT_UNDERSTOOD: Final = bash(workdir={"anyOf": [TEXT]})
SHELL: Final[JsonObject] = {"type": "function", "name": "shell", "parameters": {}}
LEFT_ALONE: Final[dict[str, tuple[JsonObject | str, tuple[JsonObject, ...]]]] = {
    "the client has no bash": ({"command": "ls"}, ()),
    "the client has shell itself": ({"command": "ls"}, (PI, SHELL)),
    "bash is a custom tool": ({"command": "ls"}, ({"type": "custom", "name": "bash"},)),
    "an argument that bash has not": ({"command": "ls", "justification": "why"}, (PI,)),
    "a timeout that bash has not": ({"command": "ls", "timeout_ms": 1}, (bash(),)),
    "a timeout of unknown unit": (
        {"command": "ls", "timeout_ms": 1},
        (bash(timeout={"type": "number"}),),
    ),
    "a timeout that bash does not take": ({"command": "ls", "timeout_ms": 0}, (OPENCODE,)),
    "half a millisecond": ({"command": "ls", "timeout_ms": 0.5}, (OPENCODE,)),
    "a timeout without end": ('{"command": "ls", "timeout_ms": 1e999}', (PI,)),
    "a folder that is no text": ({"command": "ls", "workdir": 1}, (OPENCODE,)),
    "a folder that is no text, for pi": ({"command": "ls", "workdir": 1}, (PI,)),
    "bash requires more": ({"command": "ls"}, (bash(("command", "description")),)),
    "a schema in words unknown here": ({"command": "ls", "workdir": "/"}, (NOT_UNDERSTOOD,)),
    "bash takes no text": (
        {"command": "ls"},
        ({"name": "bash", "parameters": {"properties": {"command": {"type": "array"}}}},),
    ),
    "no command": ({}, (PI,)),
    "an empty command": ({"command": []}, (PI,)),
    "a blank command": ({"command": ["bash", "-lc", " "]}, (PI,)),
    "a character that no program can be given": ({"command": "ls \0"}, (PI,)),
    "a folder that nothing can be called": ({"command": "ls", "workdir": "/\0"}, (PI,)),
    "a word that is no text": ({"command": ["ls", 1]}, (PI,)),
    "no JSON": ("{", (PI,)),
    "no object": ("[]", (PI,)),
}


@pytest.mark.parametrize(("arguments", "tools"), LEFT_ALONE.values(), ids=LEFT_ALONE.keys())
def test_a_call_that_cannot_be_said_whole_is_left_alone(
    arguments: JsonObject | str, tools: tuple[JsonObject, ...]
) -> None:
    assert adapted(arguments, *tools) is None


@pytest.mark.parametrize("name", ["apply_patch", "bash", "Shell", "local_shell"])
def test_no_other_tool_is_touched(name: str) -> None:
    assert adapted({"command": "ls"}, PI, name=name) is None


def test_a_custom_or_namespaced_shell_is_not_meant() -> None:
    for more in ({"custom": True}, {"namespace": "mine"}):
        call = ToolCall(call_id="c", name="shell", arguments='{"command":"ls"}', **more)  # type: ignore[arg-type]
        assert shell_as_bash(call, [PI]) is None


def test_chats_form_of_a_tool_will_do() -> None:
    nested: JsonObject = {"type": "function", "function": PI}
    assert adapted({"command": "ls"}, nested) == {"command": "ls"}


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1))
def test_a_shell_reads_the_words_as_they_were(words: list[str]) -> None:
    arguments = adapted({"command": ["printf", "%s", *words]}, PI)
    assert arguments is not None
    assert shlex.split(str(arguments["command"])) == ["printf", "%s", *words]


TEXTS: Final = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)
#: Scripts that end what stands around them, if that is not quoted.
HOSTILE: Final = (
    "} ; touch outside; {",
    "cat <<EOF\nhere\nEOF",
    "echo a \\",
    "'; touch outside; '",
    "echo done # }",
    "$(touch outside)",
)


@given(script=TEXTS.filter(str.strip) | st.sampled_from(HOSTILE), folder=TEXTS)
def test_a_script_is_one_word_of_the_line_that_changes_the_folder(script: str, folder: str) -> None:
    went = folder if folder.startswith("/") else f"./{folder}"
    for command in (script, ["bash", "-lc", script]):
        arguments = adapted({"command": command, "workdir": folder}, PI)
        assert arguments is not None
        line = str(arguments["command"])
        assert shlex.split(line) == ["cd", "--", went, "&&", "bash", "-lc", script]
        operators = shlex.shlex(line, posix=True, punctuation_chars=True)
        operators.commenters = ""
        assert [token for token in operators if set(token) <= set("();<>|&")][:1] == ["&&"]


@given(words=st.lists(TEXTS, min_size=1), folder=TEXTS)
def test_words_stay_words_behind_the_change_of_the_folder(words: list[str], folder: str) -> None:
    arguments = adapted({"command": ["printf", "%s", *words], "workdir": folder}, PI)
    assert arguments is not None
    went = folder if folder.startswith("/") else f"./{folder}"
    line = ["cd", "--", went, "&&", "printf", "%s", *words]
    assert shlex.split(str(arguments["command"])) == line


@pytest.mark.parametrize(
    "first",
    [
        *("FOO=1", "FOO+=1", "=ls", "%1", "", "if", "time", "{", "[[", ".", ":", "eval", "exec"),
        *("cd", "source", "export", "command", "builtin", "trap", "exit", "alias", "ls\0"),
    ],
)
def test_words_that_a_shell_would_not_run_as_a_program_are_left_alone(first: str) -> None:
    for more in ({}, {"workdir": "/tmp"}):
        assert adapted({"command": [first, "ls"], **more}, PI) is None


def in_bash(command: str, folder: Path, **variables: str) -> str | None:
    """Run the command there; return what it says, None if it fails."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}
    ran = subprocess.run(
        [str(BASH), "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return ran.stdout if ran.returncode == 0 else None


BASH: Final = shutil.which("bash") if sys.platform != "win32" else None
needs_bash: Final = pytest.mark.skipif(BASH is None, reason="needs bash")
#: Of bash's own commands, those that are programs as well, which mean the same.
ALSO_PROGRAMS: Final = {"[", "echo", "false", "kill", "printf", "pwd", "test", "true"}


@needs_bash
def test_every_word_of_this_machines_bash_is_known(tmp_path: Path) -> None:
    told = in_bash("compgen -bk", tmp_path)
    if told is None:
        pytest.skip("this bash cannot list its own commands")
    left_alone = {word for word in told.split() if adapted({"command": [word]}, PI) is None}
    assert left_alone == set(told.split()) - ALSO_PROGRAMS


@needs_bash
def test_nothing_runs_elsewhere_when_the_folder_is_not_there(tmp_path: Path) -> None:
    script = "false; touch here\ntouch there # done"
    arguments = adapted({"command": script, "workdir": str(tmp_path / "no where")}, PI)
    assert arguments is not None
    assert in_bash(str(arguments["command"]), tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "no where").mkdir()
    assert in_bash(str(arguments["command"]), tmp_path) == ""
    assert {path.name for path in (tmp_path / "no where").iterdir()} == {"here", "there"}


@needs_bash
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("cat <<EOF\nhere\nEOF", "here\n"),
        ("echo a \\", "a \\\n"),
        ("echo in # }", "in\n"),
        ("} ; echo outside; {", None),
        (["echo", "}", "$HOME", "; echo outside"], "} $HOME ; echo outside\n"),
    ],
)
@pytest.mark.parametrize("folder", ["below", "-", "here/.."])
def test_bash_runs_there_exactly_what_was_called(
    tmp_path: Path, folder: str, command: Json, said: str | None
) -> None:
    (tmp_path / "elsewhere" / "below").mkdir(parents=True)
    for name in ("below", "-", "here"):
        (tmp_path / name).mkdir()
    arguments = adapted({"command": command, "workdir": folder}, PI)
    assert arguments is not None
    variables = {"CDPATH": str(tmp_path / "elsewhere"), "OLDPWD": str(tmp_path / "elsewhere")}
    assert in_bash(str(arguments["command"]), tmp_path, **variables) == said
    where = adapted({"command": ["pwd"], "workdir": folder}, PI)
    assert where is not None
    told = in_bash(str(where["command"]), tmp_path, **variables)
    assert told is not None
    assert Path(told.strip()).resolve() == (tmp_path / folder).resolve()


@given(
    arguments=st.dictionaries(
        st.sampled_from(["command", "workdir", "timeout_ms", "other"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=5,
        ),
    ),
    properties=st.dictionaries(
        st.sampled_from(["command", "workdir", "timeout"]),
        st.none() | st.fixed_dictionaries({"type": st.sampled_from(["string", "number", 7, []])}),
    ),
)
def test_no_call_and_no_schema_is_too_strange(
    arguments: dict[str, object], properties: dict[str, Json]
) -> None:
    tool: JsonObject = {"name": "bash", "parameters": {"properties": properties}}
    result = adapted(json.dumps(arguments), tool)
    assert result is None or set(result) <= set(properties)


# --- through the relay


def switched_on(*names: str) -> tuple[CodexBackendSettings, ProfilesSettings]:
    """Return the settings of somebody who wants these adaptations."""
    capabilities = CapabilitySettings(bypass_tool_call_reactor=False)
    codex = CodexSettings(default_capabilities=capabilities, tool_call_reactors=())
    backend = CodexBackendSettings(extra=ExtraSettings(codex=codex))
    return backend, ProfilesSettings(adaptations=names)


OF_OPENCODE: Final = {"user-agent": "opencode/1.18.33 ai-sdk/x", "x-session-id": "ses_1"}
ASKED: Final = "Run the shell command 'echo hi' and tell me. [sim foreign_shell=/tmp]"


@pytest.mark.parametrize(
    ("adaptations", "name", "arguments"),
    [
        (
            ("opencode.shell_as_bash",),
            "bash",
            {"command": "echo hi", "workdir": "/tmp"},
        ),
        ((), "shell", {"command": ["bash", "-lc", "echo hi"], "workdir": "/tmp"}),
        (
            ("pi.shell_as_bash",),
            "shell",
            {"command": ["bash", "-lc", "echo hi"], "workdir": "/tmp"},
        ),
    ],
    ids=["switched on", "by default", "for another program"],
)
async def test_the_client_gets_the_call_it_can_run_if_its_user_wants_that(
    tmp_path: Path, adaptations: tuple[str, ...], name: str, arguments: JsonObject
) -> None:
    backend, profiles = switched_on(*adaptations)
    body: JsonObject = {"model": "gpt-5.5", "stream": True, "tools": [OPENCODE]}
    chat_tool: JsonObject = {"type": "function", "function": {**OPENCODE}}
    async with relaying(tmp_path, backend=backend, profiles=profiles) as relay:
        responses = await relay.post(
            "/v1/responses",
            {**body, "input": [{"role": "user", "content": ASKED}]},
            headers=OF_OPENCODE,
        )
        chat = await relay.post(
            "/v1/chat/completions",
            {
                **body,
                "stream": False,
                "tools": [chat_tool],
                "messages": [{"role": "user", "content": ASKED}],
            },
            headers=OF_OPENCODE,
        )
    done = [
        get_object(event, "item")
        for event in events_of(responses.content)
        if event["type"] == "response.output_item.done"
    ]
    (call,) = [item for item in done if item["type"] == "function_call"]
    assert (call["name"], parse_object(str(call["arguments"]))) == (name, arguments)
    (called,) = chat.json()["choices"][0]["message"]["tool_calls"]
    assert called["function"]["name"] == name
    assert json.loads(called["function"]["arguments"]) == arguments


def test_only_programs_that_have_a_bash_offer_it() -> None:
    offering = {
        n for n, profile in find_profiles().items() if "shell_as_bash" in profile.adaptations
    }
    assert offering == {"opencode", "pi"}
