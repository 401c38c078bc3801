"""What a client asks for by the name of a model: which one, of which backend, and how it thinks.

A name is a backend (see `model_id`), a model or an alias of one, and parameters:
`openai-codex.2:gpt-5.5?reasoning_effort=high&verbosity=low`. `gpt-5.5-high` is the same model with
that effort, where no model has the whole as its name. A route stands for several models, in order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import attrs

from codexrelay.errors import RequestError
from codexrelay.protocol import capabilities
from codexrelay.protocol.model_id import FAMILY, ModelId, read_model_id

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    #: Canonical name of the instance, or of another backend; the family's, or None, for any
    #: instance.
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


@attrs.frozen(kw_only=True)
class Others:
    """What names of models may say of backends of other kinds."""

    #: Canonical name of each -> the names of its models that the configuration gives.
    models: Mapping[str, Collection[str]] = attrs.field(factory=dict)
    #: Canonical name of the backend of models whose name says none; it may be of the family.
    default: str = FAMILY

    def listing(self, model: str) -> str | None:
        """Return the first that has a model of exactly this name."""
        return next((name for name, models in self.models.items() if model in models), None)


NO_OTHERS: Final = Others()


def choose(
    text: str, *, aliases: Mapping[str, str], known: Collection[str], others: Others = NO_OTHERS
) -> ModelChoice:
    """Read the name of a model.

    Case does not matter, neither of aliases nor of models of the catalogue. An alias may stand
    behind an instance of the family, if it means a model of it, and before parameters, which then
    beat its own; so does a single instance that is written before it. What an alias means is no
    alias again.

    A model of a backend of another kind is taken as it is written: nobody here knows its names. One
    without a backend before it is of the first that lists it, unless the catalogue has it; else of
    the default backend.

    Args:
        text: as the client wrote it.
        aliases: alias -> name of a model; they beat models that are called the same.
        known: slugs of the catalogue, as the backend spells them.
        others: the backends of other kinds.

    Raises:
        RequestError: 400, a parameter is unknown or has no such value.
    """
    name, _, query = text.partition("?")
    parameters = _parameters(query) if query else {}
    # The whole name first: an alias may look as if it had a prefix.
    if (alias := _find(name, aliases)) is not None:
        meant = _meant(aliases[alias], f"aliases: {alias!r}", known, others)
        return _beaten(meant, by=_choice(None, meant.slug, None, parameters))
    model = read_model_id(name, others.models)
    owner = model.instance
    if owner is None and _find(name, known) is None:
        owner = others.listing(name)
    if owner in others.models:
        return _choice(owner, model.slug, None, parameters)
    return _choose_in_family(model, parameters, aliases=aliases, known=known, others=others)


def _choose_in_family(
    model: ModelId,
    parameters: Mapping[str, str],
    *,
    aliases: Mapping[str, str],
    known: Collection[str],
    others: Others,
) -> ModelChoice:
    """Read a name that says an instance of the family, or nothing of any backend."""
    instance, slug, effort = model.instance, model.slug, None
    alias = _find(slug, aliases)
    if alias is None and _find(slug, known) is None:
        slug, effort = _without_effort(slug, aliases, known)
        alias = _find(slug, aliases)
    if alias is not None:
        among = others if instance is None else attrs.evolve(others, default=FAMILY)
        meant = _meant(aliases[alias], f"aliases: {alias!r}", known, among)
        if instance is None or meant.instance not in others.models:
            return _beaten(meant, by=_choice(instance, meant.slug, effort, parameters))
        # Behind a name of the family there are no aliases of models elsewhere.
        rest = {each: means for each, means in aliases.items() if each != alias}
        return _choose_in_family(model, parameters, aliases=rest, known=known, others=others)
    if instance is None and others.default in others.models:
        return _choice(others.default, model.slug, None, parameters)
    if instance is None and others.default != FAMILY:
        instance = others.default
    return _choice(instance, _find(slug, known) or slug, effort, parameters)


def choose_all(
    text: str,
    *,
    aliases: Mapping[str, str],
    routes: Mapping[str, Collection[str]],
    known: Collection[str],
    others: Others = NO_OTHERS,
) -> tuple[ModelChoice, ...]:
    """Read the name of a model or of a route; see `choose`.

    Usually there is one choice; a route gives several, in the order in which they are to be tried.
    Parameters behind its name, and an effort at its end, are for all of them and beat their own.

    Args:
        text: as the client wrote it.
        aliases: as for `choose`.
        routes: name -> names of models. What is one is no alias and no route again.
        known: as for `choose`.
        others: as for `choose`.

    Raises:
        RequestError: 400, a parameter is unknown or has no such value.
    """
    name, _, query = text.partition("?")
    route, effort = _find(name, routes), None
    if route is None and not (
        _find(name, aliases) or _find(name, known) or others.listing(name) is not None
    ):
        rest, effort = _without_effort(name, routes, ())
        route = None if effort is None else _find(rest, routes)
    if route is None:
        return (choose(text, aliases=aliases, known=known, others=others),)
    parameters = _parameters(query) if query else {}
    meant = (_meant(each, f"routes: {route!r}", known, others) for each in routes[route])
    return tuple(_beaten(each, by=_choice(None, each.slug, effort, parameters)) for each in meant)


def _meant(text: str, named: str, known: Collection[str], others: Others) -> ModelChoice:
    """Read what an alias or a route means; `named` says which, for the error."""
    try:
        return choose(text, aliases={}, known=known, others=others)
    except RequestError as error:
        told = f"{error.message} (models.{named} is {text!r})"
        raise attrs.evolve(error, message=told) from None


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
