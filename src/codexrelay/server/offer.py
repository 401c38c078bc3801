"""Which plans have a model: from the backend's own catalogue, asked for only where it matters."""

from __future__ import annotations

import attrs

from codexrelay.accounts.standing import plan_of, plans_of
from codexrelay.backends.codex.catalogue import Catalogue
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

    async def learn(self) -> None:
        """Ask the backend for its catalogue, unless its last one is fresh."""
        await self._catalogue.models()
