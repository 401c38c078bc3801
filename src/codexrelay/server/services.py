"""What routes use: wired once by the composition root, reached through the application."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from codexrelay.backends.codex.catalogue import Catalogue, Models
from codexrelay.compaction.compress import Compressor
from codexrelay.config.settings import ServerSettings, Settings
from codexrelay.relay.turn import Relay
from codexrelay.server.drain import Drain
from codexrelay.server.journal import Journal
from codexrelay.server.metrics import Totals
from codexrelay.server.model_names import ModelNames
from codexrelay.server.notices import Notices
from codexrelay.server.policy import Policies, Policy
from codexrelay.sessions.registry import SessionRegistry


@attrs.define(eq=False)
class Current:
    """The configuration as it is now. Read it when it is needed: it may change between requests."""

    settings: Settings


@attrs.frozen(kw_only=True)
class Services:
    """Everything a route needs."""

    relay: Relay
    sessions: SessionRegistry
    catalogue: Catalogue
    journal: Journal
    current: Current
    drain: Drain
    #: Unix seconds.
    wall_clock: Callable[[], float]
    #: Returns a new random id of 32 hexadecimal digits.
    new_id: Callable[[], str]
    notices: Notices = attrs.field(factory=Notices)
    totals: Totals = attrs.field(factory=Totals)
    #: Shared by all sessions: what it remembers is bounded once.
    compressor: Compressor = attrs.field(factory=Compressor)
    #: For long histories, which are compacted one at a time.
    compacting: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1))
    _policies: Policies = attrs.field(factory=Policies, init=False)
    _names: ModelNames = attrs.field(factory=ModelNames, init=False)

    @property
    def settings(self) -> ServerSettings:
        """What the configuration says of the side that clients see, now."""
        return self.current.settings.server

    def policy(self, instance: str | None) -> Policy:
        """Return what it says of requests to an instance, now; None: to any."""
        return self._policies.of(self.current.settings, instance)

    def names_by(self, models: Models) -> ModelNames:
        """Return what names of models mean, by the configuration as it is now and these models."""
        return self._names.by(self.current.settings, models)
