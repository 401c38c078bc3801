"""The YAML file: what no text in it can do to who reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.config import load
from codexrelay.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_CODEX = "backends: {openai_codex: {%s}}"
_TOOLS = "backends: {openai_codex: {extra: {codex: {tool_schema: {custom_tools: %s}}}}}"
_OAUTH = "backends: {openai_codex: {extra: {codex: {managed_oauth: {%s}}}}}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.yaml"


def problems_of(file: Path, text: str) -> list[str]:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(config_path=file, environ={}, flags={})
    return [str(problem).replace(str(file), "c.yaml") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("!!timestamp foo", "is no plain YAML value"),
        ('!!int ""', "is no plain YAML value"),
        ('!!float ""', "is no plain YAML value"),
        ("!!bool foo", "is no plain YAML value"),
        ("!!binary x", "is no plain YAML value"),
        ("!secret x", "is no plain YAML value"),
        ("2026-13-45", "is no plain YAML value"),
        ("9" * 5000, "is no plain YAML value"),
        ("0x" + "f" * 5000, "must be a whole number, not a number of many digits"),
        ("9" * 400, "must be a whole number, not a number of many digits"),
        ("12:30", "is a number that YAML reads as another one than it looks"),
        ("1:30.5", "is a number that YAML reads as another one than it looks"),
        ("010", "is a number that YAML reads as another one than it looks"),
        ('"\\ud800"', "holds half of a character"),
        ("&a [*a]", "holds itself"),
        ("[{a: 1, a: 2}]", "has a key twice in one of its mappings (line 2)"),
    ],
)
def test_an_odd_value_is_a_problem_at_its_key(file: Path, value: str, what: str) -> None:
    (problem,) = problems_of(file, f"server:\n  port: {value}\n")
    assert problem.startswith(f"server.port (c.yaml:2): {what}")


@pytest.mark.parametrize("value", ["0", "1_000", "0x3E8", "0b11", "1000"])
def test_numbers_that_look_as_they_are_read_are_taken(file: Path, value: str) -> None:
    file.write_text(f"server: {{port: {value}}}")
    assert load(config_path=file, environ={}, flags={}).settings.server.port == int(value, 0)


@pytest.mark.parametrize("escape", ["\\U00110000", "\\UFFFFFFFF"])
def test_an_escape_that_stands_for_no_character_is_a_problem(file: Path, escape: str) -> None:
    (problem,) = problems_of(file, f'server:\n  host: "{escape}"\n')
    assert problem == "c.yaml:2: is not valid YAML: an escape in it stands for no character"


@pytest.mark.parametrize(
    "text",
    ["[" * 1200, "{" * 1200, _TOOLS % ("[" * 200 + "]" * 200)],
    ids=["lists", "mappings", "lists that end"],
)
def test_what_is_nested_without_end_is_a_problem(file: Path, text: str) -> None:
    assert problems_of(file, text) == ["c.yaml: is nested too deeply, beyond 100 levels"]


def test_links_cannot_make_a_small_file_large(file: Path) -> None:
    levels = [
        "&a0 [x, x, x, x, x, x, x, x, x, x]",
        *(f"&a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 12)),
    ]
    (problem,) = problems_of(file, _TOOLS % f"[{', '.join(levels)}]")
    assert problem == "c.yaml: has more than 100000 values, counted where links repeat them"


def test_a_link_may_repeat_a_value(file: Path) -> None:
    file.write_text("server: {allowed_hosts: &h [a.test]}\nprofiles: {adaptations: []}\n")
    load(config_path=file, environ={}, flags={})
    file.write_text(_TOOLS % "[{type: web, a: &a {b: [1]}, c: *a}]")
    load(config_path=file, environ={}, flags={})


@pytest.mark.parametrize(
    "text",
    [
        _CODEX % 'auth_path: "a\\0b", ca_file: null',
        _CODEX % 'ca_file: "a\\0b"',
        _OAUTH % 'storage_path: "a\\0b"',
    ],
)
def test_no_path_has_a_nul_in_it(file: Path, text: str) -> None:
    (problem,) = problems_of(file, text)
    assert problem.endswith("(c.yaml:1): no path has a character 0 in it")


@pytest.mark.parametrize("text", ['{"a\\ud800": 1}', 'models: {aliases: {"a\\ud800": gpt-5.5}}'])
def test_a_name_that_is_half_a_character_is_a_problem_that_can_be_written(
    file: Path, text: str
) -> None:
    (problem,) = problems_of(file, text)
    assert "has a key that holds half of a character" in problem
    problem.encode()


def test_a_profile_that_does_not_exist_is_a_problem_though_nothing_is_said_of_it(
    file: Path,
) -> None:
    (problem,) = problems_of(
        file, "backends: {openai_codex: {extra: {codex: {agent_capabilities: {foo: {}}}}}}"
    )
    assert "agent_capabilities.foo (c.yaml:1): there is no profile foo" in problem


def test_a_profile_may_have_nothing_said_of_it(file: Path) -> None:
    file.write_text("backends: {openai_codex: {extra: {codex: {agent_capabilities: {pi: {}}}}}}")
    load(config_path=file, environ={}, flags={})
