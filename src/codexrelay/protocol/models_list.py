"""The model list as clients want it: OpenAI's shape and Codex CLI's, in one body.

OpenAI clients read `data`; Codex CLI decodes `models`, its own catalogue entries, and complains
about a body without them (measured, Codex CLI 0.169). Neither minds the other's key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.errors import RequestError
from codexrelay.protocol.fit import levels
from codexrelay.protocol.model_choice import choose
from codexrelay.protocol.raw import get_list, get_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from codexrelay.protocol.raw import Json, JsonObject

#: Who is told to own a model, and an alias.
_OWNER: Final = "openai"
_ALIASED_BY: Final = "codexrelay"
#: Key of an entry of ours -> key of the catalogue's entry. What that does not have, ours has not.
_FACTS: Final = {
    "context_window": "context_window",
    "max_context_window": "max_context_window",
    "input_modalities": "input_modalities",
    "default_reasoning_effort": "default_reasoning_level",
}


def openai_list(
    by_slug: Mapping[str, JsonObject], *, aliases: Mapping[str, str], created: int
) -> JsonObject:
    """Return the body of `GET /v1/models`.

    `by_slug` are catalogue entries and are passed on as they are, hidden ones too: Codex CLI looks
    up what it needs for reviews among them. `data` holds what a person may choose: the others, and
    the aliases, which stand for models of the same name. `created` is in Unix seconds; the
    catalogue knows no such date.
    """
    taken = {alias.lower() for alias in aliases}
    data: list[Json] = [
        _model(slug, entry, created=created)
        for slug, entry in by_slug.items()
        if is_listed(entry) and slug.lower() not in taken
    ]
    for alias in aliases:
        try:
            data.append(model_object(by_slug, alias, aliases=aliases, created=created))
        except RequestError:  # it means nothing that there is; whoever asks for it is told so
            continue
    return {"object": "list", "data": data, "models": list(by_slug.values())}


def model_object(
    by_slug: Mapping[str, JsonObject],
    text: str,
    *,
    aliases: Mapping[str, str],
    created: int,
    available: Iterable[str] = (),
) -> JsonObject:
    """Return the body of `GET /v1/models/{text}`: of a model by any of its names, or of an alias.

    A hidden model can be asked for. `available` are the names that an error offers.

    Raises:
        RequestError: 404, the catalogue has no such model; 400, the name has a wrong parameter.
    """
    choice = choose(text, aliases=aliases, known=by_slug)
    entry = by_slug.get(choice.slug)
    if entry is None:
        raise unknown_model(choice.slug, available, status=404)
    alias = next((name for name in aliases if name.lower() == text.lower()), None)
    if alias is None:
        return _model(choice.slug, entry, created=created)
    told = _model(alias, entry, created=created)
    return told | {"owned_by": _ALIASED_BY, "means": aliases[alias]}


def unknown_model(slug: str, available: Iterable[str], *, status: int = 400) -> RequestError:
    """Return the error for a model that the catalogue does not have."""
    names = ", ".join(available)
    return RequestError(
        message=f"The model {slug!r} does not exist; available: {names or 'none'}. "
        "GET /v1/models lists them, and models.aliases can give one of them this name.",
        param="model",
        code="model_not_found",
        status=status,
    )


def is_listed(entry: JsonObject) -> bool:
    """Tell whether a person may choose the model."""
    return get_text(entry, "visibility") in (None, "list")


def _model(name: str, entry: JsonObject, *, created: int) -> JsonObject:
    told: JsonObject = {"id": name, "object": "model", "created": created, "owned_by": _OWNER}
    for ours, theirs in _FACTS.items():
        if entry.get(theirs) is not None:
            told[ours] = entry[theirs]
    if efforts := levels(entry):
        told["reasoning_efforts"] = list(efforts)
    if plans := get_list(entry, "available_in_plans"):
        told["plans"] = plans
    return told
