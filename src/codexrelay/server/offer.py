"""Which models can be had, and which plans have one: from the backend's own catalogue.

It is asked for only where it matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from codexrelay.backends.codex.catalogue import Catalogue
from codexrelay.backends.codex.listing import plans_in
from codexrelay.errors import RequestError
from codexrelay.protocol.model_choice import NO_OTHERS, Others, choose_all
from codexrelay.protocol.model_id import FAMILY
from codexrelay.protocol.models_list import is_listed
from codexrelay.relay.instances import Instances

if TYPE_CHECKING:
    from collections.abc import Collection

    from codexrelay.config.settings import ModelsSettings
    from codexrelay.protocol.model_choice import ModelChoice
    from codexrelay.protocol.raw import JsonObject


@attrs.frozen
class ModelOffer:
    """See `climb.Offer`."""

    _catalogue: Catalogue
    _instances: Instances
    _model: str | None

    @property
    def plans(self) -> frozenset[str] | None:
        """The plans that may offer the model; None: not known.

        Among them are plans of our accounts of which the catalogue says nothing at all: a name that
        it does not know (a new plan, an old claim) must not cost an account its turns.
        """
        # Where all accounts have one plan, there is nothing to choose, and nothing is asked.
        if len(self._instances.plans) > 1:
            self._catalogue.want()
        offering = None if self._model is None else self._catalogue.plans_offering(self._model)
        if not offering:
            return offering
        return offering | (self._instances.possible_plans - self._catalogue.named_plans)

    @property
    def available(self) -> tuple[str, ...]:
        """The models that one of our accounts may have, as far as it is known."""
        return available(self._catalogue, self._instances)

    async def learn(self) -> None:
        """Ask the backend for its catalogue, unless its last one is fresh."""
        await self._catalogue.refreshed()


def offered(catalogue: Catalogue, instances: Instances) -> dict[str, JsonObject]:
    """Return the models, less those that none of our plans has by the backend's own word."""
    ours = instances.possible_plans
    # A plan that the catalogue does not know may have all of them.
    every = not ours or bool(ours - catalogue.named_plans)
    return {
        slug: entry
        for slug, entry in catalogue.now.by_slug.items()
        if every or (offering := plans_in(entry)) is None or not offering.isdisjoint(ours)
    }


def available(catalogue: Catalogue, instances: Instances) -> tuple[str, ...]:
    """Return the models that a person may choose, less those that none of our plans has."""
    return tuple(s for s, entry in offered(catalogue, instances).items() if is_listed(entry))


def reaches_nothing(
    name: str,
    *,
    models: ModelsSettings,
    known: Collection[str],
    instances: Collection[str],
    others: Others = NO_OTHERS,
) -> str | None:
    """Say why nobody who asks for an alias or a route can be served; None: somebody may be.

    A model that is in no list may be served all the same.

    Args:
        name: one of the aliases or routes of `models`.
        models: what the configuration says of names.
        known: slugs of the catalogue.
        instances: names of the configured ones.
        others: the backends of other kinds.
    """
    aliases, routes = models.aliases, models.routes
    try:
        choices = choose_all(name, aliases=aliases, routes=routes, known=known, others=others)
    except RequestError as error:
        return error.message
    whys = [_why_nobody(each, (*aliases, *routes), known, instances, others) for each in choices]
    return None if None in whys else whys[0]


def _why_nobody(
    choice: ModelChoice,
    named: Collection[str],
    known: Collection[str],
    instances: Collection[str],
    others: Others,
) -> str | None:
    if choice.instance in others.models:
        return None
    if choice.instance not in (None, FAMILY, f"{FAMILY}.1", *instances):
        return f"no backend is called {choice.instance!r}"
    if choice.slug not in known and choice.slug.lower() in map(str.lower, named):
        return f"{choice.slug!r} is no model but an alias, and an alias cannot mean another one"
    return None
