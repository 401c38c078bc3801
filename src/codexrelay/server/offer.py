"""Which plans have a model: from the backend's own catalogue, asked for only where it matters."""

from __future__ import annotations

import attrs

from codexrelay.accounts.standing import plan_of, plans_of
from codexrelay.backends.codex.catalogue import Catalogue
from codexrelay.backends.codex.listing import plans_in
from codexrelay.protocol.models_list import is_listed
from codexrelay.relay.instances import Instances


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
        accounts = [account for _, account in self._instances.accounts()]
        # Where all accounts have one plan, there is nothing to choose, and nothing is asked.
        if len({plan_of(account) for account in accounts}) > 1:
            self._catalogue.want()
        offering = None if self._model is None else self._catalogue.plans_offering(self._model)
        if not offering:
            return offering
        ours = {plan for account in accounts for plan in plans_of(account)}
        return offering | (ours - self._catalogue.named_plans)

    @property
    def available(self) -> tuple[str, ...]:
        """The models that one of our accounts may have, as far as it is known."""
        return available(self._catalogue, self._instances)

    async def learn(self) -> None:
        """Ask the backend for its catalogue, unless its last one is fresh."""
        await self._catalogue.refreshed()


def available(catalogue: Catalogue, instances: Instances) -> tuple[str, ...]:
    """Return the models that a person may choose, less those that none of our plans has."""
    ours = {plan for _, account in instances.accounts() for plan in plans_of(account)}
    # A plan that the catalogue does not know may have all of them.
    every = not ours or bool(ours - catalogue.named_plans)
    return tuple(
        slug
        for slug, entry in catalogue.now.by_slug.items()
        if is_listed(entry)
        and (every or (offering := plans_in(entry)) is None or not offering.isdisjoint(ours))
    )
