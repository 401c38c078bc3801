"""The model list as clients want it: OpenAI's shape and Codex CLI's, in one body.

OpenAI clients read `data`; Codex CLI decodes `models`, its own catalogue entries, and complains
about a body without them (measured, Codex CLI 0.169). Neither minds the other's key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.errors import RequestError
from codexrelay.protocol.fit import levels
from codexrelay.protocol.model_choice import NO_OTHERS, Others, choose
from codexrelay.protocol.model_id import FAMILY
from codexrelay.protocol.raw import get_list, get_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from codexrelay.protocol.raw import Json, JsonObject

#: Who is told to own a model, and an alias.
_OWNER: Final = "openai"
_ALIASED_BY: Final = "codexrelay"
_NOTHING: Final[Mapping[str, Sequence[str]]] = {}
#: Key of an entry of ours -> key of the catalogue's entry. What that does not have, ours has not.
_FACTS: Final = {
    "context_window": "context_window",
    "max_context_window": "max_context_window",
    "input_modalities": "input_modalities",
    "default_reasoning_effort": "default_reasoning_level",
}


def openai_list(
    by_slug: Mapping[str, JsonObject],
    *,
    aliases: Mapping[str, str],
    created: int,
    routes: Mapping[str, Sequence[str]] = _NOTHING,
    others: Others = NO_OTHERS,
    elsewhere: Mapping[str, Sequence[str]] = _NOTHING,
) -> JsonObject:
    """Return the body of `GET /v1/models`.

    `by_slug` are catalogue entries and are passed on as they are, hidden ones too: Codex CLI looks
    up what it needs for reviews among them. `data` holds what a person may choose: the others, the
    models of other backends with the backend before the name, and the aliases and routes, which
    stand for models of the same name. `created` is in Unix seconds; nobody knows such a date.

    Args:
        by_slug: the catalogue.
        aliases: alias -> what it means.
        created: see above.
        routes: name -> what it means, in order.
        others: the backends of other kinds.
        elsewhere: name of each of them -> its models.
    """
    taken = {name.lower() for name in (*aliases, *routes)}
    names: list[str] = [slug for slug, entry in by_slug.items() if is_listed(entry)]
    told = [_model(_id_of(slug, others), by_slug[slug], created=created) for slug in names]
    told += [
        _elsewhere(name, model, created=created)
        for name, models in elsewhere.items()
        for model in models
    ]
    data: list[Json] = [each for each in told if str(each["id"]).lower() not in taken]
    for alias in (*aliases, *routes):
        try:
            data.append(
                model_object(
                    by_slug, alias, aliases=aliases, routes=routes, others=others, created=created
                )
            )
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
    routes: Mapping[str, Sequence[str]] = _NOTHING,
    others: Others = NO_OTHERS,
    elsewhere: Mapping[str, Sequence[str]] = _NOTHING,
) -> JsonObject:
    """Return the body of `GET /v1/models/{text}`: of a model by any of its names, or of an alias.

    A hidden model can be asked for. `available` are the names that an error offers; the rest is as
    for `openai_list`.

    Raises:
        RequestError: 404, there is no such model; 400, the name has a wrong parameter.
    """
    if (route := _written(text, routes)) is not None:
        return _own(route, {}, means=[*routes[route]], created=created)
    alias = _written(text, aliases)
    choice = choose(text, aliases=aliases, known=by_slug, others=others)
    backend = choice.instance
    if backend is not None and backend in others.models:
        if alias is not None:
            return _own(alias, {}, means=aliases[alias], created=created)
        listed = elsewhere.get(backend, ())
        if choice.slug not in listed:
            raise _unlisted(backend, choice.slug, listed)
        return _elsewhere(backend, choice.slug, created=created)
    entry = by_slug.get(choice.slug)
    if entry is None:
        raise unknown_model(choice.slug, available, status=404)
    if alias is None:
        return _model(_id_of(choice.slug, others), entry, created=created)
    return _own(alias, entry, means=aliases[alias], created=created)


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


def _id_of(slug: str, others: Others) -> str:
    """Return the name by which a client reaches a model of the catalogue."""
    return f"{FAMILY}:{slug}" if others.default in others.models else slug


def _written(text: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that is `text` in any case, without parameters."""
    return next((name for name in names if name.lower() == text.lower()), None)


def _unlisted(backend: str, model: str, listed: Iterable[str]) -> RequestError:
    names = ", ".join(f"{backend}:{name}" for name in listed)
    return RequestError(
        message=f"The backend {backend} lists no model {model!r}; it lists: {names or 'none'}. "
        "It is asked nevertheless when a turn names the model.",
        param="model",
        code="model_not_found",
        status=404,
    )


def _elsewhere(backend: str, model: str, *, created: int) -> JsonObject:
    """Return the entry of another backend's model, of which no more is known than its name."""
    name = f"{backend}:{model}"
    return {"id": name, "object": "model", "created": created, "owned_by": backend}


def _own(name: str, entry: JsonObject, *, means: Json, created: int) -> JsonObject:
    """Return the entry of an alias or a route, with what is known of the model."""
    told = _model(name, entry, created=created)
    return told | {"owned_by": _ALIASED_BY, "means": means}


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
