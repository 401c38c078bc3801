"""What a client asks for by the name of a model: which one, of which instance, and how it thinks.

A name is an instance (see `model_id`), a model or an alias of one, and parameters:
`openai-codex.2:gpt-5.5?reasoning_effort=high&verbosity=low`. `gpt-5.5-high` is the same model with
that effort, where no model has the whole as its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import attrs

from codexrelay.errors import RequestError
from codexrelay.protocol import capabilities
from codexrelay.protocol.model_id import FAMILY, read_model_id

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

#: From the least thinking to the most (wire notes 2.3 and 5). A model has some of them.
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra")
VERBOSITIES: Final = ("low", "medium", "high")
#: What a client may write -> what the backend knows (wire notes 2.3).
SERVICE_TIERS: Final = {
    "auto": "auto",
    "default": "default",
    "flex": "flex",
    "priority": "priority",
    "fast": "priority",
}
_EFFORT: Final = "reasoning_effort"
_VERBOSITY: Final = "verbosity"
_TIER: Final = "service_tier"
#: Parameter -> its values.
_VALUES: Final = {_EFFORT: EFFORTS, _VERBOSITY: VERBOSITIES, _TIER: tuple(SERVICE_TIERS)}


@attrs.frozen(kw_only=True)
class ModelChoice:
    """A model's name, read. What it does not say is None."""

    #: Canonical name of the instance, the family's for any of them.
    instance: str | None = None
    #: As the backend spells it; of a model that the catalogue does not have, as it came.
    slug: str
    #: One of `EFFORTS`, which the model need not have.
    effort: str | None = None
    verbosity: str | None = None
    #: As the backend calls it.
    service_tier: str | None = None
    #: By the keys of `capabilities`; the values are not looked at here.
    capabilities: Mapping[str, str] = attrs.field(factory=dict)


def choose(text: str, *, aliases: Mapping[str, str], known: Collection[str]) -> ModelChoice:
    """Read the name of a model.

    Case does not matter, neither of aliases nor of models. An alias may stand behind an instance,
    and before parameters, which then beat its own; so does a single instance that is written before
    it. What an alias means is no alias again.

    Args:
        text: as the client wrote it.
        aliases: alias -> name of a model; they beat models that are called the same.
        known: slugs of the catalogue, as the backend spells them.

    Raises:
        RequestError: 400, a parameter is unknown or has no such value.
    """
    name, _, query = text.partition("?")
    parameters = _parameters(query) if query else {}
    model = read_model_id(name)
    instance, slug, effort = model.instance, model.slug, None
    # The whole name first: an alias may look as if it had a prefix.
    whole = _find(name, aliases)
    alias = whole or (_find(slug, aliases) if slug != name else None)
    if alias is None and _find(slug, known) is None:
        slug, effort = _without_effort(slug, aliases, known)
        alias = _find(slug, aliases)
    if alias is None:
        return _choice(instance, _find(slug, known) or slug, effort, parameters)
    if whole is not None:
        instance = None
    try:
        meant = choose(aliases[alias], aliases={}, known=known)
    except RequestError as error:
        told = f"{error.message} (models.aliases: {alias!r} is {aliases[alias]!r})"
        raise attrs.evolve(error, message=told) from None
    return _beaten(meant, by=_choice(instance, meant.slug, effort, parameters))


def _parameters(query: str) -> dict[str, str]:
    """Return the parameters, of repeated ones the last."""
    parameters: dict[str, str] = {}
    for pair in query.split("&"):
        if not pair:
            continue
        key, _, value = (unquote(part).strip() for part in pair.partition("="))
        if key in _VALUES:
            value = _one_of(_VALUES[key], key, value)
        elif key not in capabilities.KEYS:
            raise _refused(
                f"a model has no parameter {key!r}; there are: "
                f"{', '.join((*_VALUES, *capabilities.KEYS))}"
            )
        parameters[key] = value
    return parameters


def _one_of(allowed: tuple[str, ...], key: str, value: str) -> str:
    if (found := value.lower()) in allowed:
        return found
    raise _refused(f"the model's {key} {value!r} is none of: {', '.join(allowed)}")


def _refused(message: str) -> RequestError:
    return RequestError(message=message, param="model", code="invalid_model_parameter")


def _find(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that is `name` in any case."""
    if name in names:
        return name
    lower = name.lower()
    return next((each for each in names if each.lower() == lower), None)


def _without_effort(
    name: str, aliases: Iterable[str], known: Iterable[str]
) -> tuple[str, str | None]:
    """Take the effort off a name whose rest is a model or an alias."""
    rest, _, effort = name.rpartition("-")
    is_effort = effort.lower() in EFFORTS
    if is_effort and (_find(rest, aliases) or _find(rest, known)):
        return rest, effort.lower()
    return name, None


def _choice(
    instance: str | None, slug: str, effort: str | None, parameters: Mapping[str, str]
) -> ModelChoice:
    tier = parameters.get(_TIER)
    return ModelChoice(
        instance=instance,
        slug=slug,
        effort=parameters.get(_EFFORT, effort),
        verbosity=parameters.get(_VERBOSITY),
        service_tier=None if tier is None else SERVICE_TIERS[tier],
        capabilities={k: v for k, v in parameters.items() if k not in _VALUES},
    )


def _beaten(meant: ModelChoice, *, by: ModelChoice) -> ModelChoice:
    """Return what an alias means, but for what is written beside it."""
    instance = meant.instance if by.instance in (None, FAMILY) else by.instance
    return ModelChoice(
        instance=instance or by.instance,
        slug=meant.slug,
        effort=by.effort or meant.effort,
        verbosity=by.verbosity or meant.verbosity,
        service_tier=by.service_tier or meant.service_tier,
        capabilities={**meant.capabilities, **by.capabilities},
    )
