"""What a request says to the relay is read, and taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.errors import RequestError
from codexrelay.protocol.relay_fields import NAMES, split

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject


def test_a_body_that_says_nothing_is_returned_itself() -> None:
    body: JsonObject = {"model": "m", "input": "hi"}
    rest, said = split(body)
    assert rest is body
    assert (said.capabilities, said.system_prompt, said.environment) == ((), (), {})


def test_everything_for_the_relay_is_taken_out_and_nothing_else() -> None:
    body: JsonObject = {"a": 1, "model": "m", **dict.fromkeys(NAMES)}
    rest, _ = split(body)
    assert rest == {"a": 1, "model": "m"}
    assert body.keys() >= NAMES, "the client's object is left alone"


def test_the_top_level_beats_the_literal_extra_body() -> None:
    _, said = split(
        {
            "codex_capabilities": {"prompt_mode": "custom_only"},
            "codex_system_prompt": "top",
            "cwd": "/top",
            "extra_body": {
                "codex_capabilities": {"prompt_mode": "merge_custom", "codex_passthrough": False},
                "codex_system_prompt": "inner",
                "cwd": "/inner",
                "shell": "zsh",
            },
        }
    )
    assert said.capabilities == (
        {"prompt_mode": "merge_custom", "codex_passthrough": False},
        {"prompt_mode": "custom_only"},
    )
    assert said.system_prompt == ("top",)
    assert said.environment == {"cwd": "/top", "shell": "zsh"}


@pytest.mark.parametrize(
    ("value", "sections"),
    [("one", ("one",)), (["one", "", "two"], ("one", "two")), ("", ()), ([], ()), (None, ())],
)
def test_a_system_prompt_is_text_or_texts(value: Json, sections: tuple[str, ...]) -> None:
    assert split({"codex_system_prompt": value})[1].system_prompt == sections


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"extra_body": "x"}, "extra_body"),
        ({"extra_body": {"codex_capabilities": []}}, "extra_body.codex_capabilities"),
        ({"extra_body": {"codex_capabilities": {"x": 1}}}, "extra_body.codex_capabilities.x"),
        ({"codex_capabilities": {"x": 1}}, "codex_capabilities.x"),
        ({"codex_system_prompt": 1}, "codex_system_prompt"),
        ({"codex_environment_context": False}, "codex_environment_context"),
        ({"extra_body": {"codex_environment_context": 1}}, "extra_body.codex_environment_context"),
        ({"extra_body": {"codex_system_prompt": [1]}}, "extra_body.codex_system_prompt"),
    ],
)
def test_what_is_malformed_is_named_with_its_path(body: JsonObject, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        split(body)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_what_else_a_literal_extra_body_holds_is_put_at_the_top_level() -> None:
    body: JsonObject = {
        "model": "m",
        "text": {"format": {"type": "text"}, "verbosity": None},
        "store": False,
        "stop": None,
        "extra_body": {
            "model": "another",
            "text": {"format": {"type": "json_object", "name": "n"}, "verbosity": "low"},
            "store": False,
            "stop": "now",
            "prompt_cache_key": "k",
            "cwd": "/p",
        },
    }
    before = repr(body)
    rest, said = split(body)
    assert rest == {
        "model": "m",
        "text": {"format": {"type": "text", "name": "n"}, "verbosity": "low"},
        "store": False,
        "stop": "now",
        "prompt_cache_key": "k",
    }
    assert said.merged == ("text", "stop", "prompt_cache_key")
    assert said.changes[0] == "text: with that of extra_body"
    assert repr(body) == before, "the client's object is left alone"


def test_a_wrong_section_of_a_system_prompt_is_told_as_it_is() -> None:
    with pytest.raises(RequestError, match="not an array with a number in it"):
        split({"codex_system_prompt": ["a", 1]})
