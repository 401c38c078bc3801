"""What routes use: wired once by the composition root, reached through the application."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from codexrelay.backends.codex.catalogue import Catalogue
from codexrelay.config.settings import ServerSettings
from codexrelay.relay.turn import Relay
from codexrelay.server.drain import Drain
from codexrelay.server.journal import Journal
from codexrelay.sessions.registry import SessionRegistry


@attrs.frozen(kw_only=True)
class Services:
    """Everything a route needs."""

    relay: Relay
    sessions: SessionRegistry
    catalogue: Catalogue
    journal: Journal
    settings: ServerSettings
    drain: Drain
    #: Unix seconds.
    wall_clock: Callable[[], float]
    #: Returns a new random id of 32 hexadecimal digits.
    new_id: Callable[[], str]
