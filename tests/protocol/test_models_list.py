"""The model list in both shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import pytest

from codexrelay.errors import RequestError
from codexrelay.protocol.model_choice import Others
from codexrelay.protocol.models_list import model_object, openai_list
from codexrelay.protocol.raw import get_list, is_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.protocol.raw import Json, JsonObject

MODELS: Final[Mapping[str, JsonObject]] = {
    "first": {
        "slug": "first",
        "visibility": "list",
        "context_window": 272_000,
        "max_context_window": 872_000,
        "input_modalities": ["text", "image"],
        "default_reasoning_level": "low",
        "supported_reasoning_levels": [{"effort": "low"}, {"effort": "high"}],
        "available_in_plans": ["plus", "pro"],
        "unknown key": [1],
    },
    "hidden": {"slug": "hidden", "visibility": "hide"},
    "nobody's": {"slug": "nobody's", "visibility": "none"},
    "plain": {"slug": "plain", "context_window": None},
}
FACTS: Final[JsonObject] = {
    "context_window": 272_000,
    "max_context_window": 872_000,
    "input_modalities": ["text", "image"],
    "reasoning_efforts": ["low", "high"],
    "default_reasoning_effort": "low",
    "plans": ["plus", "pro"],
}


def openai(name: str, **more: str) -> JsonObject:
    return {"id": name, "object": "model", "created": 17, "owned_by": "openai", **more}


def one(text: str, aliases: Mapping[str, str] | None = None) -> JsonObject:
    return model_object(MODELS, text, aliases=aliases or {}, created=17, available=["first", "x"])


def test_the_openai_list_holds_what_a_person_may_choose_and_what_is_known_of_it() -> None:
    body = openai_list(MODELS, aliases={}, created=17)
    assert body["object"] == "list"
    assert body["data"] == [openai("first") | FACTS, openai("plain")]


def test_the_codex_list_is_the_catalogue_as_it_is() -> None:
    body = openai_list(MODELS, aliases={"mine": "first"}, created=17)
    assert body["models"] == list(MODELS.values())


def test_an_empty_catalogue_is_an_empty_list() -> None:
    assert openai_list({}, aliases={}, created=17) == {"object": "list", "data": [], "models": []}


def test_aliases_are_listed_with_what_they_mean_and_hide_the_models_of_their_names() -> None:
    aliases = {
        "mine": "FIRST?reasoning_effort=high",
        "Plain": "hidden",
        "nowhere": "gpt-0",
        "broken": "first?reasoning_effort=much",
    }
    body = openai_list(MODELS, aliases=aliases, created=17)
    assert body["data"] == [
        openai("first") | FACTS,
        openai("mine", owned_by="codexrelay", means="FIRST?reasoning_effort=high") | FACTS,
        openai("Plain", owned_by="codexrelay", means="hidden"),
    ]


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("first", "first"),
        ("hidden", "hidden"),
        ("FIRST", "first"),
        ("openai-codex.2:first", "first"),
        ("openai/first", "first"),
        ("first-high", "first"),
        ("first?verbosity=low", "first"),
    ],
)
def test_one_model_can_be_asked_for_by_any_of_its_names_also_if_it_is_hidden(
    text: str, slug: str
) -> None:
    assert one(text)["id"] == slug


def test_an_alias_is_found_under_its_own_name() -> None:
    found = one("MINE", {"mine": "first"})
    assert found == openai("mine", owned_by="codexrelay", means="first") | FACTS


@pytest.mark.parametrize("text", ["gpt-none", "openai-codex:gpt-none", "mine"])
def test_a_model_that_is_not_there_is_not_found_and_those_that_are_are_named(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        one(text, {"mine": "gpt-none"})
    error = caught.value
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    for told in ("'gpt-none'", "available: first, x", "GET /v1/models", "models.aliases"):
        assert told in error.message


def test_a_wrong_parameter_is_refused_here_too() -> None:
    with pytest.raises(RequestError, match="is none of: none, minimal"):
        one("first?reasoning_effort=much")


OTHERS: Final = Others(models={"local": (), "hub": ("x",)})
ELSEWHERE: Final[Mapping[str, tuple[str, ...]]] = {"local": ("qwen3", "org/b"), "hub": ("x",)}


def plain(name: str, owner: str, **more: Json) -> JsonObject:
    return {"id": name, "object": "model", "created": 17, "owned_by": owner, **more}


def test_models_of_other_backends_and_routes_are_listed_behind_the_catalogues() -> None:
    body = openai_list(
        MODELS,
        aliases={"mine": "local:unlisted", "hub:X": "first"},
        routes={"coder": ("local:qwen3", "first")},
        others=OTHERS,
        elsewhere=ELSEWHERE,
        created=17,
    )
    assert body["data"] == [
        openai("first") | FACTS,
        openai("plain"),
        plain("local:qwen3", "local"),
        plain("local:org/b", "local"),
        plain("mine", "codexrelay", means="local:unlisted"),
        plain("hub:X", "codexrelay", means="first") | FACTS,
        plain("coder", "codexrelay", means=["local:qwen3", "first"]),
    ]
    assert body["models"] == list(MODELS.values()), "for Codex CLI alone"


def test_where_another_backend_is_the_default_codex_stands_before_its_models() -> None:
    others = attrs.evolve(OTHERS, default="local")
    body = openai_list(MODELS, aliases={}, others=others, created=17)
    data = [entry["id"] for entry in get_list(body, "data") if is_object(entry)]
    assert data == ["openai-codex:first", "openai-codex:plain"]
    told = model_object(MODELS, "openai-codex:first", aliases={}, others=others, created=17)
    assert told == openai("openai-codex:first") | FACTS


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("local:qwen3", plain("local:qwen3", "local")),
        ("LOCAL/org/b", plain("local:org/b", "local")),
        ("x", plain("hub:x", "hub")),
        ("Mine", plain("mine", "codexrelay", means="local:unlisted")),
        ("CODER", plain("coder", "codexrelay", means=["local:qwen3", "first"])),
        ("first", openai("first") | FACTS),
    ],
)
def test_one_model_of_another_backend_or_a_route_is_told(text: str, told: JsonObject) -> None:
    assert told == model_object(
        MODELS,
        text,
        aliases={"mine": "local:unlisted"},
        routes={"coder": ("local:qwen3", "first")},
        others=OTHERS,
        elsewhere=ELSEWHERE,
        created=17,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("local:qwen", "The backend local lists no model 'qwen'; it lists: local:qwen3, local:org"),
        ("hub:first", "The backend hub lists no model 'first'; it lists: hub:x."),
        ("qwen3", "The model 'qwen3' does not exist"),
    ],
)
def test_a_model_that_another_backend_does_not_list_is_not_found(text: str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        model_object(MODELS, text, aliases={}, others=OTHERS, elsewhere=ELSEWHERE, created=17)
    assert caught.value.message.startswith(words)
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
