"""Which plans have a model: from the backend's own catalogue, asked for only where it matters."""

from __future__ import annotations

import attrs

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
        """The plans that offer the model; None: not known."""
        # Where all accounts have one plan, there is nothing to choose, and nothing is asked.
        plans = {account.plan_type for _, account in self._instances.accounts()}
        if len(plans) > 1:
            self._catalogue.want()
        return None if self._model is None else self._catalogue.plans_offering(self._model)

    async def learn(self) -> None:
        """Ask the backend for its catalogue, unless its last one is fresh."""
        await self._catalogue.models()
