"""The model list in both shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.errors import RequestError
from codexrelay.protocol.models_list import model_object, openai_list

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

MODELS: list[JsonObject] = [
    {"slug": "first", "visibility": "list", "unknown key": [1]},
    {"slug": "hidden", "visibility": "hide"},
    {"slug": "nobody's", "visibility": "none"},
    {"slug": "plain"},
    {"visibility": "list"},
]
FIRST = {"id": "first", "object": "model", "created": 17, "owned_by": "openai"}


def test_the_openai_list_holds_what_a_person_may_choose() -> None:
    body = openai_list(MODELS, created=17)
    assert body["object"] == "list"
    assert body["data"] == [FIRST, FIRST | {"id": "plain"}]


def test_the_codex_list_is_the_catalogue_as_it_is() -> None:
    assert openai_list(MODELS, created=17)["models"] == MODELS


def test_an_empty_catalogue_is_an_empty_list() -> None:
    assert openai_list([], created=17) == {"object": "list", "data": [], "models": []}


@pytest.mark.parametrize("slug", ["first", "hidden"])
def test_one_model_can_be_asked_for_also_if_it_is_hidden(slug: str) -> None:
    assert model_object(MODELS, slug, created=17) == FIRST | {"id": slug}


def test_a_model_that_is_not_there_is_not_found() -> None:
    with pytest.raises(RequestError) as caught:
        model_object(MODELS, "gpt-none", created=17)
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    assert "gpt-none" in caught.value.message
