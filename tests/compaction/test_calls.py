"""What kind of tool was called, and what its result is a result of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.compaction.calls import Call, category_of, resource_of
from tests.compaction.written import call

if TYPE_CHECKING:
    import random

    from codexrelay.protocol.raw import Json, JsonObject


def identity(name: str, arguments: Json) -> str:
    resource = resource_of(call(name, arguments))
    assert resource is not None
    return resource.identity


def label(name: str, arguments: Json) -> str:
    resource = resource_of(call(name, arguments))
    assert resource is not None
    return resource.label


@pytest.mark.parametrize(
    ("category", "tools"),
    [
        ("file_read", "read Read read_file readFile read-file mcp__files__read_text_file"),
        (
            "file_write",
            "edit Edit MultiEdit write Write Create apply_patch write_file create_file str_replace",
        ),
        ("view_file", "view view_file view_image"),
        (
            "command_execution",
            "bash Bash shell local_shell exec exec_command Execute execute_command run_command"
            " run_shell_command run_terminal_cmd container.exec write_stdin",
        ),
        (
            "search",
            "grep Grep glob Glob search_files codebase_search web_search webfetch WebFetch"
            " tool_search",
        ),
        ("list_directory", "list ls LS list_dir list_directory list_files"),
        ("test_execution", "run_tests runTests pytest"),
        (
            "other",
            "todowrite update_plan task skill Skill get_goal spawn_agent request_user_input"
            " mcp__tracker__create_ticket",
        ),
    ],
)
def test_a_tool_is_known_by_its_name(category: str, tools: str) -> None:
    assert {tool: category_of(call(tool)) for tool in tools.split()} == dict.fromkeys(
        tools.split(), category
    )


@pytest.mark.parametrize(
    ("name", "arguments", "category"),
    [
        ("bash", {"command": "pytest -q"}, "test_execution"),
        ("Execute", {"command": "npm test", "riskLevel": "low"}, "test_execution"),
        ("exec_command", {"cmd": "cd app && cargo test --lib"}, "test_execution"),
        ("shell", {"command": ["bash", "-lc", "go test ./..."]}, "test_execution"),
        ("shell", {"command": ["pytest", "-q"]}, "test_execution"),
        ("local_shell", {"type": "exec", "command": ["npm", "test"]}, "test_execution"),
        ("shell", {"commands": ["cd app", "pytest -q"]}, "test_execution"),
        (
            "exec",
            'const r = await tools.exec_command({"cmd":"pytest -q"}); text(r);',
            "test_execution",
        ),
        ("exec", "const r = await tools.exec_command({cmd: `ls`}); text(r);", "command_execution"),
        ("exec", 'text(await tools.apply_patch("*** Begin Patch"));', "file_write"),
        ("bash", {"command": "cat a.py"}, "command_execution"),
        ("bash", {"command": "sed -n 1,20p a.py"}, "command_execution"),
        ("bash", {"command": "rg pytest src"}, "command_execution"),
        ("shell", {"command": ["apply_patch", "*** Begin Patch"]}, "file_write"),
        ("exec_command", {"cmd": "apply_patch <<'EOF'\n*** Begin Patch"}, "file_write"),
        ("bash", {}, "command_execution"),
        ("bash", "no json", "command_execution"),
        ("str_replace_editor", {"command": "view", "path": "a"}, "view_file"),
        ("str_replace_editor", {"command": "create", "path": "a"}, "file_write"),
    ],
)
def test_a_tool_that_can_do_several_things_is_known_by_its_arguments(
    name: str, arguments: Json, category: str
) -> None:
    assert category_of(call(name, arguments)) == category


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("bash", {"command": "cat a.py"}, {"command": "cat b.py"}),
        ("bash", {"command": "git status"}, {"command": "git diff HEAD~1"}),
        ("Execute", {"command": "npm install"}, {"command": "npm test"}),
        ("Grep", {"pattern": "x", "path": "/p"}, {"pattern": "y", "path": "/p"}),
        ("bash", {"command": "ls"}, {"command": "ls", "workdir": "/other"}),
        ("bash", {"command": "ls", "timeout": 1}, {"command": "ls", "timeout": 2}),
        ("shell", {"command": ["ls", "a b"]}, {"command": ["ls", "a", "b"]}),
        ("Glob", {"patterns": ["*.py"]}, {"patterns": ["*.py", "*.md"]}),
        ("LS", {"directory_path": "/a"}, {"directory_path": "/b"}),
        ("read", {"filePath": "/a"}, {"filePath": "/a", "offset": 10}),
        ("webfetch", {"url": "http://a"}, {"url": "http://b"}),
        ("skill", {"name": "1"}, {"name": 1}),
        ("skill", {"name": True}, {"name": 1}),
        ("skill", {"name": {"a": None}}, {"name": {}}),
        ("task_list", {"description": "a"}, {"description": "b"}),
        ("bash", '{"command": "ls', '{"command": "ls -a'),
    ],
)
def test_calls_of_different_arguments_are_of_different_resources(
    name: str, one: Json, other: Json
) -> None:
    assert identity(name, one) != identity(name, other)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("grep", {"pattern": "x", "path": "p"}, {"path": "p", "pattern": "x"}),
        ("grep", {"pattern": "x", "path": None}, {"pattern": "x"}),
        ("read", {"filePath": "a", "offset": 10}, {"filePath": "a", "offset": 10.0}),
        ("get_goal", {}, None),
        ("get_goal", {}, ""),
        (
            "Execute",
            {"command": "ls", "summary": "Look", "riskLevelReason": "reads", "riskLevel": "low"},
            {"command": "ls", "summary": "Once more", "riskLevelReason": "-", "riskLevel": "high"},
        ),
        ("bash", {"command": "ls", "description": "Lists"}, {"command": "ls"}),
        ("exec_command", {"cmd": "ls", "justification": "May I?"}, {"cmd": "ls"}),
    ],
)
def test_calls_that_differ_in_writing_only_are_of_the_same_resource(
    name: str, one: Json, other: Json
) -> None:
    first = resource_of(Call(id="1", name=name, arguments=one))
    second = resource_of(Call(id="2", name=name, arguments=other))
    assert first is not None
    assert second is not None
    assert first.identity == second.identity


def test_equal_arguments_of_different_tools_are_of_different_resources() -> None:
    assert identity("read", {"path": "a"}) != identity("Read", {"path": "a"})
    spaced = resource_of(Call(id="1", name="find", arguments={}, namespace="crm"))
    assert spaced is not None
    assert spaced.identity != identity("find", {})


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("edit", {"path": "a"}),
        ("apply_patch", "*** Begin Patch"),
        ("write", {"path": "a", "content": "b"}),
        ("shell", {"command": ["apply_patch", "*** Begin Patch"]}),
        ("write_stdin", {"session_id": 1, "chars": ""}),
        ("wait", {"cell_id": "1"}),
        ("exec", "text(await tools.write_stdin({session_id: 1}))"),
        ("task", {"prompt": "Look"}),
        ("request_user_input", {"questions": []}),
        ("", {}),
    ],
)
def test_what_no_later_result_can_replace_is_of_no_resource(name: str, arguments: Json) -> None:
    assert resource_of(Call(id="1", name=name, arguments=arguments)) is None


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("read", {"filePath": "/a.py"}, "read /a.py"),
        (
            "Read",
            {"limit": 50, "file_path": "/a.py", "offset": 10},
            "Read /a.py (offset 10, limit 50)",
        ),
        ("view", {"path": "/a.py", "view_range": [1, 20]}, "view /a.py (view_range 1, 20)"),
        ("bash", {"command": "git diff\n  HEAD~1", "timeout": 5}, "bash git diff HEAD~1"),
        ("shell", {"command": ["bash", "-lc", "cat a.py"]}, "shell cat a.py"),
        ("exec_command", {"cmd": "ls -la"}, "exec_command ls -la"),
        ("Grep", {"pattern": "x", "path": "src"}, "Grep x in src"),
        ("Glob", {"patterns": ["*.py", "*.md"], "folder": "src"}, "Glob *.py, *.md in src"),
        ("LS", {"directory_path": "/home"}, "LS /home"),
        ("list", {}, "list"),
        ("skill", {"name": "deploy"}, 'skill {"name":"deploy"}'),
        ("exec", "text(1)\x1b[0m;", "exec text(1) [0m;"),
    ],
)
def test_a_label_names_path_and_range_command_query_or_directory(
    name: str, arguments: Json, expected: str
) -> None:
    assert label(name, arguments) == expected


def test_a_long_label_is_cut_in_its_middle_and_keeps_the_range() -> None:
    told = label("read", {"filePath": "/deep" * 100 + "/a.py", "offset": 7, "limit": 9})
    assert told.endswith("/a.py (offset 7, limit 9)")
    assert "…" in told


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["command", "path", "pattern", "offset", "lines", "commands", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(name=st.sampled_from(["bash", "read", "grep", "ls", "exec", "x", "\ud83d"]), given_=anything)
def test_no_arguments_are_too_odd_for_a_label_on_one_short_line(name: str, given_: Json) -> None:
    resource = resource_of(Call(id="1", name=name, arguments=given_))
    if resource is not None:
        told = resource.label
        assert len(told) <= 200
        assert told.splitlines() == [told]
        told.encode()


def test_arguments_nested_beyond_all_measure_are_no_resource_or_one() -> None:
    deep: Json = 1
    for _ in range(5_000):
        deep = [deep]
    nested: JsonObject = {"pattern": deep}
    assert resource_of(Call(id="1", name="grep", arguments=nested)) is None
    assert category_of(Call(id="1", name="grep", arguments=nested)) == "search"


@given(
    arguments=st.dictionaries(
        st.sampled_from("abcdef"), st.integers(0, 9) | st.text(max_size=3) | st.none(), max_size=5
    ),
    order=st.randoms(use_true_random=False),
)
def test_the_order_of_arguments_is_nothing(arguments: JsonObject, order: random.Random) -> None:
    keys = list(arguments)
    order.shuffle(keys)
    turned: JsonObject = {key: arguments[key] for key in keys}
    assert identity("x", json.loads(json.dumps(turned))) == identity("x", arguments)
