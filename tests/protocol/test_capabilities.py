"""Capabilities come from several places; the last one to speak of a key is heard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args, get_origin, get_type_hints

import attrs
import pytest

from codexrelay.backends.codex.settings import CapabilitySettings
from codexrelay.errors import RequestError
from codexrelay.protocol.capabilities import (
    KEYS,
    Capabilities,
    read_header,
    read_object,
    read_parameters,
    resolve,
)

if TYPE_CHECKING:
    from codexrelay.protocol.capabilities import Dialect, Given, TextFormat
    from codexrelay.protocol.raw import Json


def test_with_nothing_given_the_route_decides() -> None:
    assert resolve("openai-chat", ()) == Capabilities(
        protocol="openai-chat",
        codex_passthrough=False,
        prompt_mode="codex_default",
        tool_schema_mode="custom_only",
        tool_text_format="none",
        bypass_tool_call_reactor=True,
        include_environment_context=False,
    )
    assert resolve("openai-responses", ()) == attrs.evolve(
        resolve("openai-chat", ()), protocol="openai-responses", codex_passthrough=True
    )


@pytest.mark.parametrize("route", ["openai-chat", "openai-responses"])
@pytest.mark.parametrize(
    ("given", "passes"),
    [
        ({"protocol": "openai-chat"}, False),
        ({"protocol": "openai-responses"}, True),
        ({"protocol": "openai-chat", "codex_passthrough": True}, True),
        ({"protocol": "openai-responses", "codex_passthrough": False}, False),
    ],
)
def test_passthrough_follows_the_protocol_unless_it_is_given(
    route: Dialect, given: Given, passes: bool
) -> None:
    found = resolve(route, (given,))
    assert (found.protocol, found.codex_passthrough) == (given["protocol"], passes)


def test_a_later_layer_wins_key_by_key() -> None:
    layers: list[Given] = [
        {"prompt_mode": "merge_custom", "tool_schema_mode": "merge_custom"},
        {},
        {"prompt_mode": "custom_only"},
    ]
    found = resolve("openai-chat", layers)
    assert (found.prompt_mode, found.tool_schema_mode) == ("custom_only", "merge_custom")


@pytest.mark.parametrize(
    ("word", "default", "meant"),
    [
        ("xml", "none", "xml"),
        ("codex_xml", "none", "xml"),
        ("default", "markdown", "markdown"),
        ("inherit", "summary", "summary"),
        ("default", "none", "none"),
        ("none", "xml", "none"),
    ],
)
def test_a_text_format_may_be_called_by_other_names(
    word: str, default: TextFormat, meant: str
) -> None:
    given = read_object({"tool_text_format": word}, "codex_capabilities")
    found = resolve("openai-chat", (given,), default_text_format=default)
    assert found.tool_text_format == meant


def test_the_settings_know_the_same_keys_and_words() -> None:
    hints = get_type_hints(CapabilitySettings)
    assert list(hints) == list(KEYS) == [f.name for f in FIELDS]
    for key, hint in hints.items():
        words = [
            word
            for member in get_args(hint)
            if get_origin(member) is Literal
            for word in get_args(member)
        ]
        assert sorted(words) == sorted(KEYS[key]), key


FIELDS = attrs.fields(Capabilities)


@pytest.mark.parametrize(
    ("value", "param", "told"),
    [
        ({"prompt_mod": "x"}, "c.prompt_mod", "prompt_mode, tool_schema_mode"),
        ({"prompt_mode": "x"}, "c.prompt_mode", "codex_default, merge_custom or custom_only"),
        ({"prompt_mode": True}, "c.prompt_mode", "not a boolean"),
        ({"prompt_mode": ["custom_only"]}, "c.prompt_mode", "not an array"),
        ({"codex_passthrough": "yes"}, "c.codex_passthrough", "true or false, not 'yes'"),
        ({"codex_passthrough": 1}, "c.codex_passthrough", "true or false, not a number"),
        ([], "c", "must be an object, not an array"),
        ("prompt_mode=x", "c", "must be an object, not a string"),
    ],
)
def test_what_an_object_cannot_give_is_named_with_its_path(
    value: Json, param: str, told: str
) -> None:
    with pytest.raises(RequestError) as caught:
        read_object(value, "c")
    assert (caught.value.status, caught.value.param) == (400, param)
    assert told in caught.value.message


def test_null_gives_nothing() -> None:
    assert read_object(None, "c") == {}
    assert read_object({"prompt_mode": None, "codex_passthrough": True}, "c") == {
        "codex_passthrough": True
    }


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("", {}),
        (" , ", {}),
        ("prompt_mode=custom_only", {"prompt_mode": "custom_only"}),
        (
            " prompt_mode = merge_custom ,tool_text_format=codex_xml, codex_passthrough=ON",
            {
                "prompt_mode": "merge_custom",
                "tool_text_format": "xml",
                "codex_passthrough": True,
            },
        ),
        ("codex_passthrough=0", {"codex_passthrough": False}),
        ("prompt_mode=merge_custom, prompt_mode=custom_only", {"prompt_mode": "custom_only"}),
        ('{"codex_passthrough": true}', {"codex_passthrough": True}),
        (' {"prompt_mode": null}', {}),
    ],
)
def test_a_header_gives_pairs_or_an_object(text: str, given: Given) -> None:
    assert read_header(text) == given


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ("custom_only", ""),
        ("prompt_mode=", ".prompt_mode"),
        ("prompt_mode=x", ".prompt_mode"),
        ("codex_passthrough=maybe", ".codex_passthrough"),
        ("x=1", ".x"),
        ("{", ""),
        ("{} {}", ""),
        ('{"x": 1}', ".x"),
    ],
)
def test_what_a_header_cannot_give_is_refused(text: str, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_header(text)
    assert caught.value.param == f"x-codexrelay-capabilities{param}"


def test_parameters_of_a_models_name_are_words_too() -> None:
    pairs = {"codex_passthrough": "no", "prompt_mode": "custom_only"}
    assert read_parameters(pairs) == {"codex_passthrough": False, "prompt_mode": "custom_only"}
    with pytest.raises(RequestError) as caught:
        read_parameters({"prompt_mode": "x"})
    assert caught.value.param == "model"
    assert "codex_default, merge_custom or custom_only" in caught.value.message


@pytest.mark.parametrize(
    "given",
    [{"x" * 5000: 1}, {"prompt_mode": "x" * 5000}],
    ids=["key", "value"],
)
def test_of_long_nonsense_only_the_beginning_is_told(given: dict[str, Json]) -> None:
    with pytest.raises(RequestError) as caught:
        read_object(given, "codex_capabilities")
    assert "x" * 100 + "…" in caught.value.message
    assert len(caught.value.message) < 500
    assert len(caught.value.param or "") < 100


def test_a_path_that_ends_in_the_key_does_not_name_it_twice() -> None:
    with pytest.raises(RequestError) as caught:
        read_object({"prompt_mode": "x"}, "codex_capabilities")
    assert caught.value.message.startswith("`codex_capabilities.prompt_mode` must be")
