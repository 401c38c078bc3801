"""Fits a request to its model: how much it thinks, how much it says, and how soon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import attrs

from codexrelay.errors import RequestError
from codexrelay.protocol.model_choice import EFFORTS, SERVICE_TIERS, VERBOSITIES
from codexrelay.protocol.raw import get_list, get_text, is_object, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.protocol.model_choice import ModelChoice
    from codexrelay.protocol.raw import Json, JsonObject

_RANK: Final = {effort: rank for rank, effort in enumerate(EFFORTS)}
_NOTHING: Final[tuple[str, ...]] = ()
#: The client's protocol -> what it calls effort and verbosity.
_PARAMS: Final = {
    "responses": ("reasoning.effort", "text.verbosity"),
    "chat": ("reasoning_effort", "verbosity"),
}
#: What stands beside an effort that the request had no place for. Without a summary the backend
#: shows nothing of what the model thinks; who speaks Responses asks for that in so many words.
_BESIDE: Final[Mapping[str, JsonObject]] = {"responses": {}, "chat": {"summary": "auto"}}


@attrs.frozen(kw_only=True)
class Defaults:
    """What requests get that ask for nothing: `extra.reasoning_effort`, `extra.verbosity`."""

    effort: str | None = None
    verbosity: str | None = None


NO_DEFAULTS: Final = Defaults()


def fit(
    body: JsonObject,
    choice: ModelChoice,
    entry: JsonObject | None,
    defaults: Defaults = NO_DEFAULTS,
    *,
    spoken: Literal["responses", "chat"] = "responses",
) -> tuple[JsonObject, tuple[str, ...]]:
    """Return the body as its model takes it, and what was changed of what was asked for.

    The model's name beats the request for effort and verbosity, because agents always send their
    own; for the service tier the request beats the name. Then the effort goes down to the highest
    that the model has, or up to its lowest, and a verbosity goes if the model knows none. Each such
    change is told as `reasoning_effort=ultra->xhigh`.

    `body` itself is never changed, and is returned if nothing is.

    Args:
        body: a Responses body on its way out.
        choice: what the model's name says.
        entry: the model's entry in the catalogue; None: unknown, so only the backend knows what it
            takes, and nothing is held against it.
        defaults: for requests that ask for nothing.
        spoken: the protocol of the client, for the errors.

    Raises:
        RequestError: 400, effort or verbosity is no level at all.
    """
    effort_param, verbosity_param = _PARAMS[spoken]
    adjusted = _NOTHING
    asked = _asked(choice.effort, body, "reasoning", "effort", defaults.effort)
    if asked is not None:
        effort = asked if entry is None else _effort(asked, choice, entry, effort_param)
        body = _with(body, "reasoning", "effort", effort, beside=_BESIDE[spoken])
        if effort != asked:
            adjusted = (f"reasoning_effort={asked}->{effort}",)
    asked = _asked(choice.verbosity, body, "text", "verbosity", defaults.verbosity)
    if asked is not None:
        verbosity = asked if entry is None else _verbosity(asked, choice, entry, verbosity_param)
        body = _with(body, "text", "verbosity", verbosity, beside={})
        if verbosity != asked:
            adjusted = (*adjusted, f"verbosity={asked}->{verbosity or 'omitted'}")
    tier = body.get("service_tier")
    if tier is None:
        if choice.service_tier is not None:
            body = {**body, "service_tier": choice.service_tier}
    elif tier == "fast":
        meant = SERVICE_TIERS["fast"]
        body = {**body, "service_tier": meant}
        adjusted = (*adjusted, f"service_tier={tier}->{meant}")
    return body, adjusted


def levels(entry: JsonObject) -> tuple[str, ...]:
    """Return the efforts that a model of the catalogue has, in the catalogue's order."""
    found = (
        get_text(level, "effort")
        for level in get_list(entry, "supported_reasoning_levels")
        if is_object(level)
    )
    return tuple(effort for effort in found if effort)


def _asked(named: str | None, body: JsonObject, key: str, inner: str, default: str | None) -> Json:
    """Return what counts: the name, else `body[key][inner]`, else the default; None: nothing."""
    outer = body.get(key)
    if is_object(outer):
        given = outer.get(inner)
    elif outer is None:
        given = None
    else:  # what is no object is the backend's to refuse
        return None
    return named or (default if given is None else given)


def _with(body: JsonObject, key: str, inner: str, value: Json, *, beside: JsonObject) -> JsonObject:
    """Return `body` with `value` at `body[key][inner]`, without it where that is None.

    `beside` stands in `body[key]` too where there was no such object.
    """
    outer = body.get(key)
    if not is_object(outer):
        return body if value is None else {**body, key: {inner: value, **beside}}
    if outer.get(inner) == value:
        return body
    if value is not None:
        return {**body, key: {**outer, inner: value}}
    if rest := {k: v for k, v in outer.items() if k != inner}:
        return {**body, key: rest}
    return {k: v for k, v in body.items() if k != key}


def _effort(asked: Json, choice: ModelChoice, entry: JsonObject, param: str) -> str:
    """Return the level of the model that comes closest, from below if there is one.

    Raises:
        RequestError: 400, `asked` is no effort that anybody knows.
    """
    offered = levels(entry)
    if isinstance(asked, str):
        if asked in offered:
            return asked
        effort = asked.lower()
        if effort in offered or (effort in _RANK and not offered):
            return effort
        ranked = sorted((level for level in offered if level in _RANK), key=_RANK.__getitem__)
        if effort in _RANK and ranked:
            below = [level for level in ranked if _RANK[level] <= _RANK[effort]]
            return below[-1] if below else ranked[0]
    raise _refused("reasoning effort", asked, choice, offered or EFFORTS, param)


def _verbosity(asked: Json, choice: ModelChoice, entry: JsonObject, param: str) -> str | None:
    """Return the verbosity, None where the model knows none.

    Raises:
        RequestError: 400, `asked` is none that anybody knows.
    """
    if isinstance(asked, str) and (verbosity := asked.lower()) in VERBOSITIES:
        return None if entry.get("support_verbosity") is False else verbosity
    raise _refused("verbosity", asked, choice, VERBOSITIES, param)


def _refused(
    what: str, asked: Json, choice: ModelChoice, offered: tuple[str, ...], param: str
) -> RequestError:
    told = repr(asked) if isinstance(asked, str) else kind_of(asked)
    return RequestError(
        message=f"the {what} is {told}; the model {choice.slug!r} takes: {', '.join(offered)}",
        param=param,
        code="invalid_value",
    )
